//! What a process does to itself before it becomes another program; each test in a process or thread of its own.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use sys::exec::Program;
use sys::seccomp::Instruction;

const CHILD: &str = "SYS_TEST_CHILD";

fn c_strings(words: &[&str]) -> Vec<CString> {
    words.iter().map(|word| CString::new(*word).unwrap()).collect()
}

/// Runs this very test again in a child that has `CHILD` set; gives what it printed.
fn again(test: &str) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

/// The first candidate is not there, the second is a directory, the third is executed.
#[test]
fn a_program_is_searched_and_starts_with_plain_signals_and_no_descriptors() {
    if std::env::var_os(CHILD).is_none() {
        let text = again("a_program_is_searched_and_starts_with_plain_signals_and_no_descriptors");
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {text}")).trim().to_owned()
        };
        assert!(text.lines().any(|line| line == "argument one two"), "{text}");
        assert_eq!(value("MARK="), "seen");
        for set in ["SigBlk:", "SigIgn:"] {
            // 32 and 33 are the C library's own.
            let bits = u64::from_str_radix(&value(set), 16).unwrap() & !(3 << 31);
            assert_eq!(bits, 0, "{set} {text}");
        }
        // Standard input, output and error, and what the shell has open to read the directory.
        let open: Vec<u32> = value("OPEN=").split(' ').map(|fd| fd.parse().unwrap()).collect();
        assert_eq!(open.iter().filter(|fd| **fd >= 700).count(), 0, "{open:?}");
        return;
    }
    let kept = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
    // SAFETY: 700 and 701 are this process's own numbers, which nothing else uses.
    let copies = [700, 701].map(|to| unsafe { libc::dup2(kept.as_raw_fd(), to) });
    assert_eq!(copies, [700, 701]);
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    sys::process::SignalFd::new(&[rustix::process::Signal::TERM]).unwrap();

    sys::process::cloexec_from(3).unwrap();
    // SAFETY: dup2 made the descriptor above, and nothing has closed it.
    let marked = unsafe { BorrowedFd::borrow_raw(700) };
    assert!(rustix::io::fcntl_getfd(marked).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    sys::process::reset_signals().unwrap();
    let script = "echo; echo argument $*; echo MARK=$MARK; cat /proc/self/status; \
        cd /proc/self/fd; echo OPEN= *";
    let program = Program::new(
        c_strings(&["/nonexistent/sh", "/proc", "/bin/sh"]),
        c_strings(&["sh", "-c", script, "sh", "one", "two"]),
        c_strings(&["MARK=seen", "PATH=/usr/bin:/bin"]),
    );
    panic!("{:?}", program.exec());
}

#[test]
fn loopback_answers_once_it_is_up() {
    std::thread::spawn(|| {
        // SAFETY: only this thread's network namespace changes; no descriptor is closed.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        let connect = |port| std::net::TcpStream::connect(("127.0.0.1", port));
        assert_eq!(connect(1).unwrap_err().kind(), std::io::ErrorKind::NetworkUnreachable);
        sys::net::loopback_up().unwrap();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        connect(listener.local_addr().unwrap().port()).unwrap();
    })
    .join()
    .unwrap();
}

/// A program that answers `number` with `errno`, and lets all else pass.
fn refuse(number: i64, errno: Errno) -> [Instruction; 4] {
    let instruction = |code: u32, jt, jf, k| Instruction { code: code as u16, jt, jf, k };
    let number = u32::try_from(number).unwrap();
    let answer = libc::SECCOMP_RET_ERRNO | errno.raw_os_error() as u32;
    [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // the call's number
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, answer),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[test]
fn a_filter_holds_for_its_thread() {
    let root = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
    let open = || sys::below::open(&root, c"proc", OFlags::PATH).map(drop);
    std::thread::scope(|scope| {
        let filtered = scope.spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            sys::seccomp::install(&refuse(libc::SYS_openat2, Errno::NOSYS)).unwrap();
            open()
        });
        assert_eq!(filtered.join().unwrap(), Err(Errno::NOSYS));
    });
    assert_eq!(open(), Ok(()));
}

#[test]
fn a_program_that_the_kernel_refuses() {
    std::thread::spawn(|| {
        rustix::thread::set_no_new_privs(true).unwrap();
        let allow = refuse(0, Errno::PERM)[3];
        assert_eq!(sys::seccomp::install(&[]), Err(Errno::INVAL));
        assert_eq!(sys::seccomp::install(&vec![allow; 4097]), Err(Errno::INVAL));
        // One that does not end with an answer.
        assert_eq!(sys::seccomp::install(&refuse(0, Errno::PERM)[..1]), Err(Errno::INVAL));
    })
    .join()
    .unwrap();
}
