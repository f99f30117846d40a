//! The end of containers on record: signals, and delete.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::home::Lock;
use crate::hooks::Hooks;
use crate::{Error, Home, Recorded, Status};

/// How long a process that was killed may take to end: it may wait for a disk.
const ENDING: Duration = Duration::from_secs(10);
/// How long `delete` waits for a process that runs: who has seen a program's last word calls it while that one still exits.
const LAST_MOMENTS: Duration = Duration::from_millis(500);

impl Recorded {
    /// Whether its first process is there: signal 0 of kill(2).
    ///
    /// # Errors
    /// It has stopped ([`Error::Refused`]).
    pub fn has_process(&self) -> Result<(), Error> {
        match self.process()? {
            Some(_) => Ok(()),
            None => Err(self.refuse("container not running", Status::Stopped)),
        }
    }

    /// Sends its first process a signal. Without a PID namespace of its own that process is no init whose end is that of
    /// all: SIGKILL is sent to each of its processes then, also when the first one has ended (as runc 1.2).
    ///
    /// # Errors
    /// It has stopped ([`Error::Refused`]); the signal may not be sent.
    pub fn kill(&self, signal: Signal) -> Result<(), Error> {
        let stopped = || self.refuse("container not running", Status::Stopped);
        let had_process = self.record.pid != 0;
        if had_process
            && signal == Signal::KILL
            && self.record.shares_processes
            && let Some(group) = self.group()?
            && group.is_populated()?
        {
            return Ok(group.kill_all()?);
        }
        let (_, pidfd) = self.process()?.ok_or_else(stopped)?;
        match send(pidfd.as_fd(), signal)? {
            true => Ok(()),
            false => Err(stopped()),
        }
    }

    /// Removes the container `id` of `home` and all that belongs to it. `force` ends what runs, and does
    /// not mind one that is not there. Its `poststop` hooks are run then; what failed of them, or of
    /// systemd's part, is a sentence in what it returns.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; it runs and goes on ([`Error::Refused`]); its process does not end.
    pub fn delete(home: &Home, id: &str, force: bool) -> Result<Vec<String>, Error> {
        match Self::open(home, id) {
            Ok(container) => container.remove(home, force),
            Err(Error::NoSuchContainer { .. }) if force => {
                remove_rest(home, id).map(|()| Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Recorded::delete`], of a container that the caller has at hand.
    ///
    /// # Errors
    /// As there.
    pub fn remove(self, home: &Home, force: bool) -> Result<Vec<String>, Error> {
        if force {
            // Before the lock, which its creator may have for long.
            self.end()?;
        }
        let (mut container, lock) = match Self::open_locked(home, self.id()) {
            Err(Error::NoSuchContainer { .. }) if force => return Ok(Vec::new()),
            locked => locked?,
        };
        container.hierarchies = self.hierarchies;
        match container.status_locked(&lock)? {
            Status::Stopped | Status::Created => {}
            _ if force => {}
            Status::Running if container.ends_by_itself()? => {}
            status => {
                return Err(container.refuse("cannot delete container that is not stopped", status));
            }
        }
        container.end()?;
        let hooks = container.record.poststop.then(|| {
            let config = container.config()?;
            Hooks::prepare(&config, container.id(), container.bundle())
        });
        // With what the first process left behind: other processes, and groups made in the container.
        let unit = container.end_group()?;
        container.place.remove(lock)?;
        let mut warnings = match hooks {
            Some(Ok(hooks)) => hooks.poststop(),
            Some(Err(error)) => vec![error.to_string()],
            None => Vec::new(),
        };
        warnings.extend(unit.map(|error| error.to_string()));
        Ok(warnings)
    }

    /// Whether its first process is about to end.
    fn ends_by_itself(&self) -> Result<bool, Error> {
        let Some((_, pidfd)) = self.process()? else { return Ok(true) };
        self.ends_within(pidfd.as_fd(), LAST_MOMENTS)
    }

    fn ends_within(&self, pidfd: BorrowedFd<'_>, limit: Duration) -> Result<bool, Error> {
        sys::process::ended(pidfd, limit).map_err(|errno| {
            Error::io("waiting for the process of", self.place.path())(errno.into())
        })
    }

    /// Ends its first process, if it has not ended.
    pub(crate) fn end(&self) -> Result<(), Error> {
        let Some((_, pidfd)) = self.process()? else { return Ok(()) };
        // A frozen process of cgroup v1 does not end.
        self.kill_all(Signal::KILL)?;
        send(pidfd.as_fd(), Signal::KILL)?;
        match self.ends_within(pidfd.as_fd(), ENDING)? {
            true => Ok(()),
            false => Err(Error::Endless { id: self.id().to_owned(), pid: self.record.pid }),
        }
    }

    /// Ends what is left in its group, and takes it away. What it returns is why systemd did not forget the unit of it:
    /// one without processes is nobody's obstacle.
    pub(crate) fn end_group(&self) -> Result<Option<Error>, Error> {
        if let Some(group) = self.group()? {
            group.destroy()?;
        }
        Ok(self.record.unit.as_ref().and_then(|unit| unit.stop().err()))
    }

    /// [`Recorded::status`], for who has the lock: what has no process then will have none.
    pub(crate) fn status_locked(&self, _lock: &Lock) -> Result<Status, Error> {
        match self.record.pid {
            0 => Ok(Status::Stopped),
            _ => self.status(),
        }
    }
}

/// Removes what an interrupted create or delete left without a record.
fn remove_rest(home: &Home, id: &str) -> Result<(), Error> {
    let place = match home.open(id) {
        Err(Error::NoSuchContainer { .. }) => return Ok(()),
        place => place?,
    };
    match place.lock()? {
        Some(lock) => place.remove(lock),
        None => Ok(()),
    }
}

/// `false` where it has ended.
fn send(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<bool, Error> {
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(errno) => {
            Err(Error::io("sending a signal to", "the container's first process")(errno.into()))
        }
    }
}
