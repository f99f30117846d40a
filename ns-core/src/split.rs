//! A second process that goes on with this program's memory.

use rustix::process::Pid;

use crate::Error;

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
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(|error| Error::System {
            op: "counting the program's threads in /proc/self/task",
            errno: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
        })?
        .count();
    if threads != 1 {
        return Err(Error::Threads { threads });
    }
    // SAFETY: the process has one thread, counted above, and only this one could start another
    // meanwhile. So no lock is held by a thread that the copy would lack, and the copy may do all
    // that the original may (fork(2), "Notes").
    match unsafe { libc::fork() } {
        -1 => Err(Error::System {
            op: "making a second process (fork)",
            errno: crate::spawn::last_errno(),
        }),
        0 => {
            let guard = crate::spawn::ExitGuard(101);
            // Fails only for the leader of a process group, which a new process is not.
            let _ = rustix::process::setsid();
            let status = body();
            std::mem::forget(guard);
            crate::spawn::exit_now(status)
        }
        pid => Pid::from_raw(pid).ok_or(Error::Protocol { bytes: 0 }),
    }
}
