//! The parts of a client: raw mode, and descriptors that do not block.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, open};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::process::{Signal, getpgrp, getpid, kill_process, kill_process_group};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr};

use crate::Error;

/// What the terminal is called in messages.
const INPUT: &str = "standard input";

/// A terminal in raw mode, until this is dropped.
pub(super) struct Raw<'a> {
    fd: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    /// Sets raw mode (cfmakeraw(3)), and keeps what was before.
    pub(super) fn set(fd: BorrowedFd<'a>) -> Result<Raw<'a>, Error> {
        wait_for_foreground(fd);
        let before = tcgetattr(fd)
            .map_err(|errno| Error::system("read the mode of the terminal at", INPUT, errno))?;
        let raw = Raw { fd, before };
        raw.again()?;
        Ok(raw)
    }

    /// Sets raw mode once more.
    pub(super) fn again(&self) -> Result<(), Error> {
        let mut mode = self.before.clone();
        mode.make_raw();
        set_mode(self.fd, &mode)
            .map_err(|errno| Error::system("set raw mode for the terminal at", INPUT, errno))
    }

    /// Stops this process with the terminal as it was, and sets raw mode again when it goes on.
    pub(super) fn stop(&self) -> Result<(), Error> {
        let failed = |errno| Error::system("stop", "this process", errno);
        let _ = set_mode(self.fd, &self.before);
        // TSTP itself is blocked, since it is read as a message.
        kill_process(getpid(), Signal::STOP).map_err(failed)?;
        self.again()
    }
}

/// Stops this process, as the terminal would, where it is in the background: its shell has the
/// terminal then, in a mode of its own. It goes on with `fg`.
fn wait_for_foreground(fd: BorrowedFd<'_>) {
    let own = getpgrp();
    if tcgetpgrp(fd).is_ok_and(|foreground| foreground != own) {
        // No effect where nobody could continue it: setting the mode then fails.
        let _ = kill_process_group(own, Signal::TTOU);
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // What fails here is a terminal that is gone.
        let _ = set_mode(self.fd, &self.before);
    }
}

/// Sets the mode at once: to wait for what is still to be shown could take for ever.
fn set_mode(fd: BorrowedFd<'_>, mode: &Termios) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| tcsetattr(fd, OptionalActions::Now, mode))
}

/// One of the caller's descriptors, as it is used here.
pub(super) enum Descriptor<'a> {
    /// Opened anew, non-blocking.
    Own(OwnedFd),
    /// A socket, which can be asked not to block.
    Socket(BorrowedFd<'a>),
    /// As it is: it never blocks, as a file, or it cannot be opened anew.
    Caller(BorrowedFd<'a>),
}

impl<'a> Descriptor<'a> {
    /// Opens a terminal or a pipe anew. O_NONBLOCK belongs to the open file description, which the
    /// caller's shell has too: set there, it would outlive this program.
    pub(super) fn new(fd: BorrowedFd<'a>, access: OFlags) -> Descriptor<'a> {
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = || open(sys::process::proc_path(fd), flags, Mode::empty());
        match kind(fd) {
            Some(Kind::Anew) => open().map_or(Descriptor::Caller(fd), Descriptor::Own),
            Some(Kind::Socket) => Descriptor::Socket(fd),
            None => Descriptor::Caller(fd),
        }
    }

    /// Whether it is a pipe.
    pub(super) fn is_pipe(&self) -> bool {
        fstat(self).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
    }

    /// Writes what there is room for (EAGAIN: none now).
    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Descriptor::Socket(fd) => {
                rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
            Descriptor::Own(_) | Descriptor::Caller(_) => rustix::io::write(self, bytes),
        }
    }
}

enum Kind {
    /// To be opened anew.
    Anew,
    Socket,
}

/// A pipe or a terminal is opened anew; but not a pseudoterminal's master (5:2), which opened anew is
/// another one.
fn kind(fd: BorrowedFd<'_>) -> Option<Kind> {
    let stat = fstat(fd).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => Some(Kind::Anew),
        FileType::Socket => Some(Kind::Socket),
        FileType::CharacterDevice => {
            let is_master = (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2);
            (isatty(fd) && !is_master).then_some(Kind::Anew)
        }
        _ => None,
    }
}

impl AsFd for Descriptor<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Descriptor::Own(fd) => fd.as_fd(),
            Descriptor::Socket(fd) | Descriptor::Caller(fd) => *fd,
        }
    }
}
