//! The pipes of a process without a terminal: what it gets, and what its supervisor has.

use std::os::fd::OwnedFd;

use oci_runtime::Stdio;
use rustix::io::ioctl_fionbio;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::Error;
use crate::wire::Outlet;

/// Bytes that a pipe of output has room for, the process's and that of a client: with more than the usual 64 KiB
/// they and the supervisor take turns less often.
pub(crate) const ROOM: usize = 512 << 10;

/// Bytes that are read at a time: half of what may be there, so that the process can go on meanwhile. More of
/// them do not stay in a processor's cache until they are written.
pub(crate) const READ: usize = 256 << 10;

/// The supervisor's ends.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    /// Standard output and error.
    pub(crate) outputs: Vec<(OwnedFd, Outlet)>,
    /// Standard input, where it is open; writing does not wait.
    pub(crate) stdin: Option<OwnedFd>,
}

/// What a process gets as standard input, output and error, and the other ends. With a `tty` none of
/// it is used. Nobody's own file is passed on: a process can open its standard streams anew, for
/// writing too.
pub(crate) fn open(tty: bool, open_stdin: bool) -> Result<(Stdio, Pipes), Error> {
    if tty {
        return Ok((Stdio::null()?, Pipes::default()));
    }
    let failed = |errno| Error::system("make", "a pipe", errno);
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(failed);
    let (mut pipes, mut stdin) = (Pipes::default(), None);
    if open_stdin {
        let (read, write) = pipe()?;
        ioctl_fionbio(&write, true).map_err(failed)?;
        (stdin, pipes.stdin) = (Some(read), Some(write));
    }
    let stdin = stdin.map_or_else(Stdio::null_device, Ok)?;
    let output = || {
        let (read, write) = pipe()?;
        // Whoever has the process's end can read from it too (/proc/PID/fd), and take what poll(2) saw.
        ioctl_fionbio(&read, true).map_err(failed)?;
        // Whose user has too many pipes already keeps the usual size.
        let _ = fcntl_setpipe_size(&read, ROOM);
        Ok::<_, Error>((read, write))
    };
    let (out, stdout) = output()?;
    let (err, stderr) = output()?;
    pipes.outputs = vec![(out, Outlet::Stdout), (err, Outlet::Stderr)];
    Ok((Stdio::new(stdin, stdout, stderr)?, pipes))
}
