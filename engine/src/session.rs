//! A process that was started, as its starter sees it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use oci_runtime::{Exit, Running};
use rustix::process::Signal;

use crate::report::Report;
use crate::{Error, target};

/// A container's process, or one of `exec`, that has begun to run its program.
///
/// Dropping it changes nothing for the process.
#[derive(Debug)]
pub struct Session {
    id: String,
    terminal: Option<OwnedFd>,
    end: End,
}

/// How its end is learned.
#[derive(Debug)]
enum End {
    /// From the supervisor, which tells when all is tidied up.
    Supervisor { pidfd: OwnedFd, channel: OwnedFd },
    /// It is this process's own child, and this its end once it was taken.
    Child { running: Running, exit: OnceLock<Exit> },
}

impl Session {
    pub(crate) fn supervised(
        id: &str,
        terminal: Option<OwnedFd>,
        pidfd: OwnedFd,
        channel: OwnedFd,
    ) -> Session {
        Session { id: id.to_owned(), terminal, end: End::Supervisor { pidfd, channel } }
    }

    pub(crate) fn child(id: &str, mut running: Running) -> Session {
        let terminal = running.take_terminal();
        Session { id: id.to_owned(), terminal, end: End::Child { running, exit: OnceLock::new() } }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The process's number on the host; `None` when it has ended and was waited for.
    pub fn pid(&self) -> Option<i32> {
        let pidfd = match &self.end {
            End::Supervisor { pidfd, .. } => pidfd.as_fd(),
            End::Child { running, .. } => {
                return Some(running.pid().as_raw_nonzero().get());
            }
        };
        // pidfd_open(2): -1 is none.
        let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let text = std::fs::read_to_string(info).ok()?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
        Some(pid).filter(|pid| *pid > 0)
    }

    /// The master of the process's pseudoterminal, where it has one.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// Sends the process a signal. One that has ended already is no error.
    ///
    /// # Errors
    /// The signal may not be sent.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pidfd = match &self.end {
            End::Supervisor { pidfd, .. } => pidfd.as_fd(),
            End::Child { running, .. } => running.pidfd(),
        };
        target::send(pidfd, signal).map(drop)
    }

    /// A descriptor that becomes readable when the process has ended and, for a container, nothing
    /// of it is left that should not be.
    pub fn end(&self) -> BorrowedFd<'_> {
        match &self.end {
            End::Supervisor { channel, .. } => channel.as_fd(),
            End::Child { running, .. } => running.pidfd(),
        }
    }

    /// Takes the status of a child that has ended. Until somebody does, its container cannot end.
    pub(crate) fn reap(&self) -> Result<(), Error> {
        if let End::Child { running, exit } = &self.end
            && exit.get().is_none()
        {
            // Nobody else sets it: this program waits with one thread.
            let _ = exit.set(running.wait()?);
        }
        Ok(())
    }

    /// Waits for the end, and gives the exit status: that of the process, or 128 and the number of
    /// the signal that ended it.
    ///
    /// # Errors
    /// The supervisor was killed, so that nobody knows the status ([`Error::Supervisor`]).
    pub fn wait(self) -> Result<i32, Error> {
        match self.end {
            End::Child { running, exit } => match exit.into_inner() {
                Some(exit) => Ok(exit.code()),
                None => Ok(running.wait()?.code()),
            },
            End::Supervisor { channel, .. } => match Report::receive(channel.as_fd())? {
                Some((Report::Exited { code }, _)) => Ok(code),
                Some((Report::Failed { message, code }, _)) => Err(Error::Start { message, code }),
                Some((Report::Started, _)) | None => Err(Error::Supervisor { container: self.id }),
            },
        }
    }
}
