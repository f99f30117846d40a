//! What the container's process has as standard input, output and error.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use sys::{Failure, Step, below};

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
    /// The limit on descriptors is reached; one is a directory, through which the program would get out
    /// of its root.
    pub fn new(stdin: impl AsFd, stdout: impl AsFd, stderr: impl AsFd) -> Result<Self, Error> {
        Ok(Self {
            stdin: copy(stdin.as_fd(), "standard input")?,
            stdout: copy(stdout.as_fd(), "standard output")?,
            stderr: copy(stderr.as_fd(), "standard error")?,
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

fn copy(fd: BorrowedFd<'_>, what: &str) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::io("copying the descriptor of", what)(errno.into());
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd).map_err(failed)?.st_mode);
    if kind == FileType::Directory {
        let reason = "it is a directory, through which the program would get at all of the host; give \
                      it a file, a pipe or a terminal";
        return Err(Error::io("passing on", what)(std::io::Error::other(reason)));
    }
    rustix::io::fcntl_dupfd_cloexec(fd, FIRST).map_err(failed)
}

/// Child side. Where 0, 1 or 2 is the host's null device, puts the container's own in its place: through
/// `/proc/self/fd`, root of a container could change the mode or the owner of the host's.
pub(crate) fn own_null(root: BorrowedFd<'_>) -> Result<(), Failure> {
    let is_null = |fd: BorrowedFd<'_>| {
        let stat = rustix::fs::fstat(fd).step("looking at standard input and output")?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        Ok((kind, stat.st_rdev) == (FileType::CharacterDevice, makedev(1, 3)))
    };
    let (stdin, stdout, stderr) =
        (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
    let found = [is_null(stdin)?, is_null(stdout)?, is_null(stderr)?];
    if found == [false; 3] {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
    let null = below::open(root, c"/dev/null", flags)
        .step("opening /dev/null in the container, for standard input or output")?;
    // Whoever runs in the container may have put something else there.
    if !is_null(null.as_fd())? {
        const OP: &str =
            "opening a /dev/null in the container that is not the null device (char 1:3)";
        return Err(Failure::new(OP, Errno::NODEV));
    }
    rustix::fs::fcntl_setfl(&null, OFlags::empty()).step("setting /dev/null's flags")?;
    if found[0] {
        rustix::stdio::dup2_stdin(&null).step("setting standard input")?;
    }
    if found[1] {
        rustix::stdio::dup2_stdout(&null).step("setting standard output")?;
    }
    if found[2] {
        rustix::stdio::dup2_stderr(&null).step("setting standard error")?;
    }
    Ok(())
}

/// Child side. Makes the three descriptors 0, 1 and 2.
pub(crate) fn put(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Failure> {
    rustix::stdio::dup2_stdin(stdin).step("setting standard input")?;
    rustix::stdio::dup2_stdout(stdout).step("setting standard output")?;
    rustix::stdio::dup2_stderr(stderr).step("setting standard error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_no_way_out() {
        let root = rustix::fs::open(c"/", OFlags::RDONLY, Mode::empty()).unwrap();
        let null = Stdio::null_device().unwrap();
        for (stdio, name) in [
            (Stdio::new(&root, &null, &null), "standard input"),
            (Stdio::new(&null, &root, &null), "standard output"),
            (Stdio::new(&null, &null, &root), "standard error"),
        ] {
            let error = stdio.unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("is a directory"), "{error}");
        }
        Stdio::new(&null, &null, &null).unwrap();
    }
}
