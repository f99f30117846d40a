//! A container's first process, as another process of the host finds it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::{Error, State};

/// A running container's first process, by descriptor.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

impl Target {
    /// The process that `state` names, if it is still that one and has not ended.
    pub(crate) fn of(state: &State) -> Result<Option<Target>, Error> {
        let Some(pid) = Pid::from_raw(state.pid) else { return Ok(None) };
        let found = sys::process::find(pid, state.pid_start).map_err(|errno| {
            Error::system("open the process", format!("/proc/{}", state.pid), errno)
        })?;
        Ok(found.map(|pidfd| Target { pid, pidfd }))
    }

    /// Sends a signal; `false` when it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool, Error> {
        send(self.pidfd.as_fd(), signal)
    }

    /// Waits for its end, at most so long; whether it has ended.
    pub(crate) fn wait(&self, limit: Duration) -> Result<bool, Error> {
        ended(self.pidfd.as_fd(), limit)
    }
}

/// Sends a process a signal; `false` when it has ended.
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<bool, Error> {
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(errno) => Err(Error::system("send a signal to", "the container's process", errno)),
    }
}

/// Whether the process ends within `limit`.
pub(crate) fn ended(pidfd: BorrowedFd<'_>, limit: Duration) -> Result<bool, Error> {
    sys::process::ended(pidfd, limit)
        .map_err(|errno| Error::system("wait for", "the container's process", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_with_its_number() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let start = sys::process::start_time(pid).unwrap().unwrap();
        let state = |pid_start| State { pid: child.id() as i32, pid_start, ..State::default() };
        assert!(Target::of(&state(start + 1)).unwrap().is_none());
        let target = Target::of(&state(start)).unwrap().unwrap();
        let state = state(start);
        assert!(!target.wait(Duration::ZERO).unwrap());
        assert!(target.signal(Signal::KILL).unwrap());
        assert!(target.wait(Duration::from_secs(10)).unwrap());
        assert!(Target::of(&state).unwrap().is_none(), "it has ended, though nobody waited for it");
        child.wait().unwrap();
        assert!(!target.signal(Signal::TERM).unwrap());
        assert!(Target::of(&State::default()).unwrap().is_none());
    }
}
