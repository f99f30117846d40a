//! What needs a program with a single thread: this test has no harness.

use ns_core::{Exit, Spawn};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::WaitOptions;

fn main() {
    a_panic_stays_in_the_child();
    a_second_process_may_do_all();
    threads_that_were_joined_do_not_count();
}

/// With threads the panic's own output could wait for a lock that one of them held at the clone.
fn a_panic_stays_in_the_child() {
    let child = Spawn::new().spawn(|_| panic!("on purpose")).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Status(101));
}

fn a_second_process_may_do_all() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let parent = rustix::process::getpid();
    let pid = ns_core::split(|| {
        // All that a program may do, the heap and threads included.
        let text = std::thread::spawn(|| "from the second process".to_owned()).join().unwrap();
        let own = rustix::process::getsid(None) == Ok(rustix::process::getpid());
        if rustix::process::getppid() != Some(parent) || !own {
            return 1;
        }
        rustix::io::write(&write, text.as_bytes()).map_or(2, |_| 42)
    })
    .unwrap();
    drop(write);
    let mut bytes = [0; 64];
    let count = rustix::io::read(&read, &mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"from the second process");
    let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(42));
}

/// The kernel lists a thread for a moment longer than join waits.
fn threads_that_were_joined_do_not_count() {
    for _ in 0..300 {
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| {})).collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let pid = ns_core::split(|| 0).unwrap();
        rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    }
}
