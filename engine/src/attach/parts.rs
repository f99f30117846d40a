//! The parts of a relay: raw mode, descriptors that do not block, bytes on their way.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, major, minor, open};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

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

/// Makes reads and writes of a descriptor of our own return rather than wait.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Error> {
    fcntl_getfl(fd)
        .and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK))
        .map_err(|errno| Error::system("set non-blocking", "the process's terminal", errno))
}

/// One of the caller's descriptors, as it is used here.
pub(super) enum Descriptor<'a> {
    /// Opened anew, non-blocking.
    Own(OwnedFd),
    /// As it is: it never blocks, as a file, or it cannot be opened anew.
    Caller(BorrowedFd<'a>),
}

impl<'a> Descriptor<'a> {
    /// Opens a terminal or a pipe anew. O_NONBLOCK belongs to the open file description, which the
    /// caller's shell has too: set there, it would outlive this program.
    pub(super) fn new(fd: BorrowedFd<'a>, access: OFlags) -> Descriptor<'a> {
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match can_be_opened_anew(fd)
            .then(|| open(sys::process::proc_path(fd), flags, Mode::empty()))
        {
            Some(Ok(own)) => Descriptor::Own(own),
            _ => Descriptor::Caller(fd),
        }
    }
}

/// Whether it is a pipe or a terminal; but not a pseudoterminal's master (5:2), which opened anew is
/// another one.
fn can_be_opened_anew(fd: BorrowedFd<'_>) -> bool {
    let Ok(stat) = fstat(fd) else { return false };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => true,
        FileType::CharacterDevice => {
            isatty(fd) && (major(stat.st_rdev), minor(stat.st_rdev)) != (5, 2)
        }
        _ => false,
    }
}

impl AsFd for Descriptor<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Descriptor::Own(fd) => fd.as_fd(),
            Descriptor::Caller(fd) => *fd,
        }
    }
}

/// Bytes that were read and are not yet written.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer { bytes: vec![0; 1 << 16].into(), start: 0, end: 0 }
    }
}

impl Buffer {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn has_room(&self) -> bool {
        self.end < self.bytes.len()
    }

    /// Reads once: how many bytes came, or `None` at the end of the input. A terminal that is hung
    /// up gives EIO at its end.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>) -> Result<Option<usize>, Errno> {
        match rustix::io::read(from, &mut self.bytes[self.end..]) {
            Ok(0) | Err(Errno::IO) => Ok(None),
            Ok(bytes) => {
                self.end += bytes;
                Ok(Some(bytes))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Some(0)),
            Err(errno) => Err(errno),
        }
    }

    /// Writes once; `false` when there is nobody to take it.
    pub(super) fn drain(&mut self, to: BorrowedFd<'_>) -> Result<bool, Errno> {
        match rustix::io::write(to, &self.bytes[self.start..self.end]) {
            Ok(bytes) => self.start += bytes,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE | Errno::IO) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        Ok(true)
    }
}
