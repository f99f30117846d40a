//! What the container's process has as standard input, output and error.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::{Failure, Step};

use crate::Error;

/// Three descriptors for 0, 1 and 2. Not used where the process gets a terminal.
#[derive(Debug)]
pub struct Stdio {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Copies must not lie where the three are going to be.
const FIRST: i32 = 3;

impl Stdio {
    /// Copies of the three given.
    ///
    /// # Errors
    /// The limit on descriptors is reached.
    pub fn new(stdin: impl AsFd, stdout: impl AsFd, stderr: impl AsFd) -> Result<Self, Error> {
        let copy = |errno: Result<OwnedFd, Errno>, what| {
            errno.map_err(|errno| Error::io("copying the descriptor of", what)(errno.into()))
        };
        Ok(Self {
            stdin: copy(rustix::io::fcntl_dupfd_cloexec(stdin, FIRST), "standard input")?,
            stdout: copy(rustix::io::fcntl_dupfd_cloexec(stdout, FIRST), "standard output")?,
            stderr: copy(rustix::io::fcntl_dupfd_cloexec(stderr, FIRST), "standard error")?,
        })
    }

    /// Those of the calling process.
    ///
    /// # Errors
    /// One of them is closed.
    pub fn inherit() -> Result<Self, Error> {
        Self::new(std::io::stdin(), std::io::stdout(), std::io::stderr())
    }

    /// `/dev/null` for all three.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn null() -> Result<Self, Error> {
        let null = Self::null_device()?;
        Self::new(&null, &null, &null)
    }

    /// `/dev/null`, for one of the three.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn null_device() -> Result<OwnedFd, Error> {
        rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::io("opening", "/dev/null")(errno.into()))
    }

    /// Child side. Puts them into place.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        put(&self.stdin, &self.stdout, &self.stderr)
    }
}

/// Child side. Makes the three descriptors 0, 1 and 2.
pub(crate) fn put(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Failure> {
    rustix::stdio::dup2_stdin(stdin).step("setting standard input")?;
    rustix::stdio::dup2_stdout(stdout).step("setting standard output")?;
    rustix::stdio::dup2_stderr(stderr).step("setting standard error")
}
