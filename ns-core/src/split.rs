//! A second process that goes on with this program's memory.

use std::time::{Duration, Instant};

use rustix::process::Pid;
use sys::program::exit_now;

use crate::Error;

/// How long threads that have ended may still be listed: join returns while the kernel takes them down.
const ENDING: Duration = Duration::from_secs(1);

/// Goes on in a second process, a copy of this one in a session of its own (fork(2), setsid(2)), that
/// runs `body` and ends with the status which that returns. The caller gets its number.
///
/// It shares no thread's lock, since only a program with a single thread may do this, so `body` may
/// do anything. Descriptors are shared with the caller: close what the copy must not keep. Nothing
/// is executed, so start-up costs nothing and most memory stays shared.
///
/// # Errors
/// The program has more threads than one ([`Error::Threads`]); a limit on processes is reached.
pub fn split(body: impl FnOnce() -> u8) -> Result<Pid, Error> {
    let start = Instant::now();
    loop {
        match threads()? {
            1 => break,
            threads if start.elapsed() > ENDING => return Err(Error::Threads { threads }),
            _ => std::thread::sleep(Duration::from_micros(100)),
        }
    }
    // SAFETY: the process has one thread, counted above, and only this one could start another
    // meanwhile. So no lock is held by a thread that the copy would lack, and the copy may do all
    // that the original may (fork(2), "Notes").
    match unsafe { libc::fork() } {
        -1 => Err(Error::System {
            op: "making a second process (fork)",
            errno: sys::process::last_errno(),
        }),
        0 => {
            let guard = crate::spawn::ExitGuard(101);
            // Fails only for the leader of a process group, which a new process is not.
            let _ = rustix::process::setsid();
            let status = body();
            std::mem::forget(guard);
            exit_now(status)
        }
        pid => Pid::from_raw(pid).ok_or(Error::Protocol { bytes: 0 }),
    }
}

fn threads() -> Result<usize, Error> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(|error| Error::System {
        op: "counting the program's threads in /proc/self/task",
        errno: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
    })?;
    Ok(tasks.count())
}
