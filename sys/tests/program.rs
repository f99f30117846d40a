//! The start and the end that `sys::program::run` gives a program, each in a process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

const CHILD: &str = "SYS_TEST_CHILD";
/// The lowest number that was free.
static NEXT: AtomicI32 = AtomicI32::new(0);

/// Runs this very test again in a child that has `CHILD` set to `what`: how it ended, and what it printed.
fn again(test: &str, what: &str) -> (ExitStatus, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--quiet"]).env(CHILD, what);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (child.wait().unwrap(), text)
}

/// What a child is to do.
fn asked() -> Option<String> {
    std::env::var(CHILD).ok()
}

#[test]
fn the_status_is_the_programs_and_its_output_is_whole() {
    const TEST: &str = "the_status_is_the_programs_and_its_output_is_whole";
    if asked().is_some() {
        sys::program::run(|| {
            print_words("half a ");
            print_words("line");
            42
        });
    }
    let (status, text) = again(TEST, "print");
    assert_eq!(status.code(), Some(42), "{text}");
    assert!(text.ends_with("half a line"), "{text}");
}

/// In the buffer of standard output, which keeps what is no whole line.
fn print_words(words: &str) {
    std::io::stdout().write_all(words.as_bytes()).unwrap();
}

#[test]
fn a_panic_is_told_and_gives_101() {
    if asked().is_some() {
        sys::program::run(|| {
            print_words("before ");
            panic!("on purpose")
        });
    }
    let (status, text) = again("a_panic_is_told_and_gives_101", "panic");
    assert_eq!(status.code(), Some(101), "{text}");
    assert!(text.contains("on purpose") && text.contains("before "), "{text}");
}

extern "C" fn at_exit() {
    let _ = rustix::io::write(rustix::stdio::stdout(), b"at exit");
}

#[test]
fn nothing_is_done_after_the_end() {
    match asked().as_deref() {
        Some("at once") => sys::program::run(|| {
            leave_something_to_do();
            0
        }),
        Some(_) => {
            leave_something_to_do();
            // SAFETY: what runs then writes a line and no more.
            unsafe { libc::exit(0) }
        }
        None => {}
    }
    let (status, text) = again("nothing_is_done_after_the_end", "at once");
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(!text.contains("at exit"), "{text}");
    // It is something that would be seen.
    let (_, text) = again("nothing_is_done_after_the_end", "by exit(3)");
    assert!(text.contains("at exit"), "{text}");
}

fn leave_something_to_do() {
    // SAFETY: the function takes nothing and does not unwind.
    assert_eq!(unsafe { libc::atexit(at_exit) }, 0);
}

/// Whether SIGPIPE is ignored.
fn ignores_sigpipe() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & 1 << (libc::SIGPIPE - 1) != 0
}

#[test]
fn a_write_to_who_has_gone_is_an_error() {
    if asked().is_some() {
        // SAFETY: the default action runs no code.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        assert!(!ignores_sigpipe());
        sys::program::run(|| {
            let (read, write) = rustix::pipe::pipe().unwrap();
            drop(read);
            let written = rustix::io::write(write, b"x");
            u8::from(!(ignores_sigpipe() && written == Err(Errno::PIPE)))
        });
    }
    let (status, text) = again("a_write_to_who_has_gone_is_an_error", "write");
    assert_eq!((status.code(), status.signal()), (Some(0), None), "{text}");
}

fn few(current: u64) -> Rlimit {
    Rlimit { current: Some(current), maximum: Some(100) }
}

/// poll(2) says of it what it says of one that is closed.
#[test]
fn what_is_open_for_its_place_alone_stays() {
    if asked().is_some() {
        let root = rustix::fs::open("/", OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        rustix::stdio::dup2_stdin(&root).unwrap();
        drop(root);
        // Nothing was opened besides.
        NEXT.store(File::open("/").unwrap().as_raw_fd(), Relaxed);
        sys::program::run(|| {
            let place = std::fs::read_link("/proc/self/fd/0").unwrap();
            let next = File::open("/").unwrap().as_raw_fd();
            u8::from(place.to_str() != Some("/") || next != NEXT.load(Relaxed))
        });
    }
    let (status, text) = again("what_is_open_for_its_place_alone_stays", "path");
    assert_eq!(status.code(), Some(0), "{text}");
}

/// Whether those of the first three whose digits are in the text are the null device, for both ways, and what is opened
/// next lies behind the three.
fn held(closed: &str) -> bool {
    let null = rustix::fs::stat("/dev/null").unwrap().st_rdev;
    let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let held = standard.iter().zip(["0", "1", "2"]).all(|(fd, digit)| {
        let is_null = rustix::fs::fstat(fd).unwrap().st_rdev == null;
        is_null == closed.contains(digit)
            && (!is_null || rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::RDWR))
    });
    held && File::open("/").unwrap().as_raw_fd() > 2
}

#[test]
fn what_is_closed_of_the_first_three_is_the_null_device() {
    const TEST: &str = "what_is_closed_of_the_first_three_is_the_null_device";
    if let Some(what) = asked() {
        for number in what.chars().filter_map(|digit| digit.to_digit(10)) {
            // SAFETY: nothing of this process owns it, and what the harness prints may go elsewhere.
            assert_eq!(unsafe { libc::close(number as i32) }, 0);
        }
        if what.contains("few") {
            // poll(2) of more than may be open is refused.
            setrlimit(Resource::Nofile, few(2)).unwrap();
            sys::program::run(|| {
                setrlimit(Resource::Nofile, few(100)).unwrap();
                u8::from(!held(&asked().unwrap()))
            });
        }
        if what.contains("none") {
            setrlimit(Resource::Nofile, few(0)).unwrap();
        }
        sys::program::run(|| u8::from(!held(&asked().unwrap())));
    }
    for closed in ["", "0", "1", "2", "01", "02", "12", "012", "few", "few 0", "few 01"] {
        let (status, text) = again(TEST, closed);
        assert_eq!(status.code(), Some(0), "{closed}: {text}");
    }
    // What cannot be held ends before anything is opened in its place.
    for closed in ["none 0", "few 2"] {
        let (status, text) = again(TEST, closed);
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{closed}: {text}");
    }
}
