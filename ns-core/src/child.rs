//! The parent's view of a child.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use sys::Report;

use crate::Error;
use crate::channel::{self, Message, OPEN};

/// A child that was started, by descriptor: its number cannot be taken by another process while
/// this value lives and the child was not waited for.
///
/// Dropping it neither kills nor waits; a child that is still at a gate then ends by itself.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    channel: OwnedFd,
}

/// What the child says before its exec.
#[derive(Debug)]
pub enum Event {
    /// It reached a phase, and may have handed over a descriptor. Where it waits there
    /// ([`Gate::wait`](crate::Gate::wait)), [`Child::proceed`] lets it go on.
    Phase(u8, Option<OwnedFd>),
    /// It executed its program. (Or it was killed before without a word: [`Child::wait`] tells.)
    Executed,
    /// A step failed. The child ends when it is waited for or dropped, and until then its namespaces
    /// can be looked at.
    Failed(Report),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// By itself, with this status (0 to 255).
    Status(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// The status as shells and engines give it: a signal is 128 and its number.
    pub fn code(self) -> i32 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

impl Child {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd, channel: OwnedFd) -> Self {
        Self { pid, pidfd, channel }
    }

    /// A child that another child made with this process as its parent (CLONE_PARENT of clone(2)). It is at no gate, and
    /// says nothing.
    ///
    /// # Errors
    /// There is no such process; the limit on descriptors is reached.
    pub fn adopt(pid: Pid) -> Result<Self, Error> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(Error::system("opening the adopted child"))?;
        let (channel, _) = sys::message::pair()
            .map_err(Error::system("making a channel for the adopted child"))?;
        Ok(Self { pid, pidfd, channel })
    }

    /// What the child sent, whatever it is.
    pub(crate) fn receive(&self) -> Result<Message, Error> {
        channel::receive(self.channel.as_fd()).map_err(Error::system("receiving from the child"))
    }

    /// The child of `pidfd`, which goes on with this one's channel; this one has ended or does at once.
    pub(crate) fn replaced_by(self, pidfd: OwnedFd) -> Result<Self, Error> {
        let id = WaitId::PidFd(self.pidfd.as_fd());
        rustix::io::retry_on_intr(|| rustix::process::waitid(id.clone(), WaitIdOptions::EXITED))
            .map_err(Error::system("waiting for the first child"))?;
        let pid = number(&pidfd).map_err(Error::system("reading the second child's number"))?;
        Ok(Self { pid, pidfd, channel: self.channel })
    }

    /// Its number, as the parent sees it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its descriptor (pidfd_open(2)): readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The descriptor alone, for who only signals and polls.
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Waits for what the child says next.
    ///
    /// # Errors
    /// Receiving fails; what came is no message.
    #[expect(clippy::should_implement_trait, reason = "an iterator's next cannot fail")]
    pub fn next(&mut self) -> Result<Event, Error> {
        channel::next(self.channel.as_fd())
    }

    /// Opens the gate at which the child waits.
    ///
    /// # Errors
    /// EPIPE when it is gone.
    pub fn proceed(&self) -> Result<(), Error> {
        sys::message::send(&self.channel, OPEN, &[])
            .map_err(Error::system("letting the child go on"))
    }

    /// Sends a signal (pidfd_send_signal(2)). A child that has ended already is no error.
    ///
    /// # Errors
    /// The signal may not be sent (EPERM).
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::System { op: "sending a signal to the child", errno }),
        }
    }

    /// [`Child::signal`] with SIGKILL.
    ///
    /// # Errors
    /// As there.
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::KILL)
    }

    /// Waits for the child's end and takes its status, which only its parent can, and once. A child
    /// that is at a gate or has failed is let go first, and fails or ends.
    ///
    /// # Errors
    /// It was waited for already (ECHILD).
    pub fn wait(&self) -> Result<Exit, Error> {
        // Fails where the child's end is gone already.
        let _ = rustix::net::shutdown(&self.channel, rustix::net::Shutdown::Both);
        let id = WaitId::PidFd(self.pidfd.as_fd());
        loop {
            let status = rustix::io::retry_on_intr(|| {
                rustix::process::waitid(id.clone(), WaitIdOptions::EXITED)
            })
            .map_err(Error::system("waiting for the child"))?;
            let Some(status) = status else { continue };
            if let Some(code) = status.exit_status() {
                return Ok(Exit::Status(code));
            }
            if let Some(signal) = status.terminating_signal() {
                return Ok(Exit::Signal(signal));
            }
        }
    }
}

/// The number of the process of `pidfd`, as this process sees it (pidfd_open(2), "fdinfo").
fn number(pidfd: &OwnedFd) -> Result<Pid, Errno> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.and_then(|pid| pid.trim().parse().ok()).and_then(Pid::from_raw).ok_or(Errno::SRCH)
}
