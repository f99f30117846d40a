//! A process that was started, as its starter sees it; or a container that somebody attaches to.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::Signal;

use crate::report::Report;
use crate::target::Target;
use crate::wire::{FromClient, MESSAGE};
use crate::{Engine, Error, Status, target};

/// A container's process, or one of `exec`, that has begun to run its program. Its input and output are
/// to be had by [`attach`](crate::attach()).
///
/// Dropping it changes nothing for the process, unless that was started with `-i` alone: its input then
/// ends.
#[derive(Debug)]
pub struct Session {
    id: String,
    watch: Watch,
    channel: OwnedFd,
    pidfd: OwnedFd,
    tty: bool,
    takes_input: bool,
}

/// Who watches over the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The container's supervisor.
    Supervisor,
    /// The holder of a process of `exec`.
    Holder,
}

impl Watch {
    /// The error where no report came.
    fn lost(self, container: &str) -> Error {
        let container = container.to_owned();
        match self {
            Watch::Supervisor => Error::Supervisor { container },
            Watch::Holder => Error::Holder { container },
        }
    }
}

impl Session {
    pub(crate) fn new(id: &str, watch: Watch, channel: OwnedFd, pidfd: OwnedFd) -> Session {
        let id = id.to_owned();
        Session { id, watch, channel, pidfd, tty: false, takes_input: false }
    }

    /// Splits the process off that is to watch over another one, and waits until it says that that one's
    /// program runs. It does `job`, with its end of the channel, and ends with what that gives.
    pub(crate) fn split(
        id: &str,
        watch: Watch,
        job: impl FnOnce(OwnedFd) -> u8,
    ) -> Result<Session, Error> {
        let (own, channel) = sys::message::pair()
            .map_err(|errno| Error::system("make", "a pair of sockets", errno))?;
        let (mut own, mut job) = (Some(own), Some((job, channel)));
        ns_core::split(|| {
            // A copy of the starter's end would hide that the starter is gone.
            drop(own.take());
            job.take().map_or(1, |(job, channel)| job(channel))
        })?;
        drop(job); // with this process's copies of what that one has
        let own = own.ok_or_else(|| watch.lost(id))?;
        match Report::receive(own.as_fd())? {
            Some((Report::Started, [Some(pidfd), _])) => Ok(Session::new(id, watch, own, pidfd)),
            Some((Report::Failed { message, code }, _)) => Err(Error::Start { message, code }),
            _ => Err(watch.lost(id)),
        }
    }

    /// Whether the process has a terminal, and whether it takes input.
    pub(crate) fn streams(self, tty: bool, takes_input: bool) -> Session {
        Session { tty, takes_input, ..self }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The process's number on the host; `None` when it has ended and was waited for.
    pub fn pid(&self) -> Option<i32> {
        // pidfd_open(2): -1 is none.
        let info = format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd());
        let text = std::fs::read_to_string(info).ok()?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
        Some(pid).filter(|pid| *pid > 0)
    }

    /// Whether the process has a terminal.
    pub fn has_terminal(&self) -> bool {
        self.tty
    }

    /// Whether the process takes input: the container was made with `-i`.
    pub fn takes_input(&self) -> bool {
        self.takes_input
    }

    /// Sends the process a signal. One that has ended already is no error.
    ///
    /// # Errors
    /// The signal may not be sent.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        target::send(self.pidfd.as_fd(), signal).map(drop)
    }

    /// Where messages come from and go to.
    pub(crate) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The end that a report tells; `None` where it tells none.
    pub(crate) fn end(&self, report: Report) -> Option<Result<i32, Error>> {
        match report {
            Report::Started => None,
            Report::Exited { code } => Some(Ok(code)),
            Report::Failed { message, code } => Some(Err(Error::Start { message, code })),
        }
    }

    /// The error where no report came.
    pub(crate) fn lost(&self) -> Error {
        self.watch.lost(&self.id)
    }

    /// Waits for the end, and gives the exit status: that of the process, or 128 and the number of
    /// the signal that ended it. Output that comes meanwhile is not shown: see
    /// [`attach`](crate::attach()).
    ///
    /// # Errors
    /// The supervisor was killed, so that nobody knows the status ([`Error::Supervisor`]).
    pub fn wait(self) -> Result<i32, Error> {
        let mut buffer = vec![0; MESSAGE];
        loop {
            let (count, _) = sys::message::receive(&self.channel, &mut buffer)
                .map_err(|errno| Error::system("hear from", "the supervisor", errno))?;
            if count == 0 {
                return Err(self.lost());
            }
            if let Some(end) = Report::decode(&buffer[..count]).and_then(|r| self.end(r)) {
                return end;
            }
        }
    }
}

impl Engine {
    /// Joins a container that runs; with `input`, to send it input too.
    ///
    /// # Errors
    /// There is no such container, or it does not run ([`Error::AttachStopped`],
    /// [`Error::AttachRestarting`]).
    pub fn attach(&self, container: &str, input: bool) -> Result<Session, Error> {
        let (dir, container) = self.find(container)?;
        let state = dir.state()?;
        if state.status == Status::Restarting {
            return Err(Error::AttachRestarting);
        }
        let target = Target::of(&state)?.ok_or(Error::AttachStopped)?;
        let channel = dir.connect()?.ok_or(Error::AttachStopped)?;
        let input = input && container.config.open_stdin;
        let joined = sys::message::send(&channel, &FromClient::Join { input }.encode(), &[]);
        // Its end may be just now.
        match (joined, Report::receive(channel.as_fd())?) {
            (Ok(()), Some((Report::Started, _))) => {
                dir.events().container(&container, "attach", &[]);
                let config = &container.config;
                Ok(Session::new(dir.id(), Watch::Supervisor, channel, target.pidfd)
                    .streams(config.tty, config.open_stdin))
            }
            _ => Err(Error::AttachStopped),
        }
    }
}
