//! The output of a container, as its supervisor takes it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oci_runtime::Stdio;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::log::{Log, Stream};
use crate::{Container, Error, target};

/// Bytes read of the output at a time.
const BUFFER: usize = 64 * 1024;

/// Who has a container's input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    /// The starter; with `input`, its standard input too.
    Starter {
        /// Whether the starter's standard input is the process's.
        input: bool,
    },
    /// The supervisor.
    Supervisor,
}

/// What of the container's input and output the supervisor has.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The pipes of standard output and error, for the log.
    pub(crate) pipes: Vec<(OwnedFd, &'static str)>,
    /// The end of a standard input that stays open and gives nothing (`-d -i`).
    pub(crate) stdin: Option<OwnedFd>,
    /// Whether nobody but the supervisor takes what a terminal shows (`-d -t`).
    pub(crate) terminal: bool,
}

impl Output {
    /// What the process gets as standard input, output and error, and what the supervisor has of it.
    pub(crate) fn open(
        container: &Container,
        attached: Attached,
    ) -> Result<(Stdio, Output), Error> {
        let failed = |errno| Error::system("make", "a pipe", errno);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(failed);
        let supervised = attached == Attached::Supervisor;
        let mut output = Output { terminal: supervised, ..Output::default() };
        if container.config.tty {
            return Ok((Stdio::null()?, output));
        }
        let null = Stdio::null_device()?;
        if let Attached::Starter { input } = attached {
            let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
            let stdio = match input {
                true => Stdio::new(stdin, stdout, stderr)?,
                false => Stdio::new(null, stdout, stderr)?,
            };
            return Ok((stdio, output));
        }
        let mut stdin: OwnedFd = null;
        if container.config.open_stdin {
            let (read, write) = pipe()?;
            (stdin, output.stdin) = (read, Some(write));
        }
        let (out, stdout) = pipe()?;
        let (err, stderr) = pipe()?;
        output.pipes = vec![(out, "stdout"), (err, "stderr")];
        Ok((Stdio::new(stdin, stdout, stderr)?, output))
    }
}

/// What of the output the supervisor takes, and where it goes.
pub(crate) struct Taken {
    pub(crate) sources: Vec<Source>,
    log: Option<Log>,
    /// Of a terminal that nobody else reads.
    shown: Stream,
    buffer: Vec<u8>,
}

pub(crate) struct Source {
    pub(crate) fd: OwnedFd,
    stream: Stream,
}

impl Taken {
    pub(crate) fn new(log: Option<Log>) -> Taken {
        Taken { sources: Vec::new(), log, shown: Stream::new("stdout"), buffer: vec![0; BUFFER] }
    }

    /// Takes the output of one more run, from these pipes.
    pub(crate) fn begin(&mut self, pipes: Vec<(OwnedFd, &'static str)>) {
        let source = |(fd, name)| Source { fd, stream: Stream::new(name) };
        self.sources = pipes.into_iter().map(source).collect();
    }

    /// Reads once of each source that is ready, and forgets those that have ended.
    pub(crate) fn all(&mut self, ready: &[bool]) {
        let mut index = 0;
        let (log, buffer) = (&mut self.log, &mut self.buffer);
        self.sources.retain_mut(|source| {
            let is_ready = ready.get(index).copied().unwrap_or_default();
            index += 1;
            !is_ready || take(source.fd.as_fd(), &mut source.stream, log, buffer)
        });
    }

    /// Reads of a terminal's master; whether more can come.
    pub(crate) fn terminal(&mut self, master: &OwnedFd) -> bool {
        take(master.as_fd(), &mut self.shown, &mut self.log, &mut self.buffer)
    }

    /// Reads what is left in the terminal and the pipes, and ends the last lines.
    pub(crate) fn rest(&mut self, terminal: Option<&OwnedFd>) {
        let more = |fd: BorrowedFd<'_>| target::ended(fd, Duration::ZERO).unwrap_or_default();
        if let Some(master) = terminal {
            while more(master.as_fd()) && self.terminal(master) {}
        }
        for source in &mut self.sources {
            while more(source.fd.as_fd())
                && take(source.fd.as_fd(), &mut source.stream, &mut self.log, &mut self.buffer)
            {
            }
            if let Some(log) = &mut self.log {
                let _ = log.finish(&mut source.stream);
            }
        }
        if let Some(log) = &mut self.log {
            let _ = log.finish(&mut self.shown);
        }
    }
}

/// Reads once and logs it; whether more can come. A log that cannot be written (a full disk) loses
/// output, and must not stop the container.
fn take(fd: BorrowedFd<'_>, stream: &mut Stream, log: &mut Option<Log>, buffer: &mut [u8]) -> bool {
    match rustix::io::read(fd, &mut *buffer) {
        Ok(0) => {
            if let Some(log) = log {
                let _ = log.finish(stream);
            }
            false
        }
        Ok(count) => {
            if let Some(log) = log {
                let _ = log.add(stream, &buffer[..count]);
            }
            true
        }
        Err(Errno::INTR | Errno::AGAIN) => true,
        // EIO: the terminal's last slave is closed.
        Err(_) => false,
    }
}
