//! The start and the end of a program, without what Rust's runtime does around `main` and a program that
//! lives for a millisecond has no use for.

use std::io::Write as _;
use std::mem::forget;
use std::panic;
use std::process::abort;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The status of a program that panicked, as Rust's runtime has it.
const PANICKED: u8 = 101;

/// Makes a function the program's `main`, by [`program::run`]:
///
/// ```text
/// #![cfg_attr(all(target_env = "gnu", not(test)), no_main)]
/// #![forbid(unsafe_code)]
///
/// sys::main!(program);
///
/// fn program() -> u8 {
///     0
/// }
/// ```
///
/// With other C libraries than glibc Rust's runtime stays, since it makes the arguments known to [`std::env::args_os`]; with
/// glibc they are known before `main`. The program's own unit tests have a `main` of the harness.
///
/// [`program::run`]: crate::program::run
#[macro_export]
macro_rules! main {
    ($program:path) => {
        // SAFETY: this is the `main` that the C library calls, once, and the one symbol of this name: the linker refuses a
        // second. It may leave its parameters out, does not return, and does not unwind, since `run` lets no panic through.
        #[cfg(all(target_env = "gnu", not(test)))]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> ::core::ffi::c_int {
            $crate::program::run($program)
        }

        #[cfg(not(all(target_env = "gnu", not(test))))]
        fn main() {
            $crate::program::run($program)
        }
    };
}

/// Runs a program, as [`main!`](crate::main) has it done.
///
/// As Rust's runtime: of standard input, output and error each that is closed is `/dev/null` (else the first file that is
/// opened would be it, get what is printed, and go on to programs that are started); SIGPIPE is ignored, so that a write to
/// who has gone is an error; a panic gives the status 101; standard output is written out at the end.
///
/// Other than there, the end is [`exit_now`]; a stack overflow ends the process by SIGSEGV without a word, since nobody looks
/// where the stack lies (in `/proc/self/maps`) and makes another one for the word; and a panic has no name for the main
/// thread.
pub fn run(program: fn() -> u8) -> ! {
    hold_standard();
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let status = panic::catch_unwind(program).unwrap_or(PANICKED);
    // Where it cannot be written, there is nobody to tell: who wants to know has flushed it before.
    let _ = std::io::stdout().flush();
    exit_now(status)
}

/// Opens `/dev/null` in the place of standard input, output or error that is closed.
fn hold_standard() {
    let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut fds = standard.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let looked = loop {
        match poll(&mut fds, Some(&at_once)) {
            Err(Errno::INTR) => {}
            other => break other,
        }
    };
    for (fd, polled) in standard.iter().zip(&fds) {
        // What is open for its place alone (O_PATH) is said to be none, too. And short of memory, or where RLIMIT_NOFILE is
        // below 3, nothing is said.
        let asked = looked.is_err() || polled.revents().contains(PollFlags::NVAL);
        let closed = asked && rustix::io::fcntl_getfd(fd) == Err(Errno::BADF);
        if closed {
            // The lowest number that is free: this one.
            match rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty()) {
                Ok(null) => forget(null),
                // Whoever went on would not know what it writes to.
                Err(_) => abort(),
            }
        }
    }
}

/// Ends the process at once (_exit(2)) with all its threads. Nothing is dropped, nothing that was left to the end of the
/// process is done (atexit(3), destructors of threads' own values), and what stands in buffers is lost. Locks, descriptors
/// and memory go with the process, as they would if it were killed.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: the kernel takes the process away; no code of it runs any more.
    unsafe { libc::_exit(status.into()) }
}
