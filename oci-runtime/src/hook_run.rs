//! One run of a hook: the state on its standard input, its output kept for the error, a time limit.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use ns_core::{Child, Event, Exit, Spawn};
use oci_spec::runtime as oci;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{MemfdFlags, SealFlags, SeekFrom};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, Signal};
use rustix::time::Timespec;
use sys::exec::Program;
use sys::{Failure, Step};

use crate::{Error, Stdio};

/// Bytes kept of each of a hook's outputs, for the error; what is more is read and forgotten.
const KEPT: usize = 4096;

/// What a seccomp filter ends a process with (signal(7)).
const SIGSYS: i32 = Signal::SYS.as_raw();

/// Where a hook is executed.
#[derive(Clone, Copy)]
pub(crate) struct Place<'fd> {
    /// Becomes its root, where it is not the one that its namespaces give.
    pub(crate) root: Option<BorrowedFd<'fd>>,
    /// Its working directory.
    pub(crate) directory: BorrowedFd<'fd>,
}

/// Annotations of crun's: files that get what hooks write, which is else kept for the error alone.
const STDOUT: &str = "run.oci.hooks.stdout";
const STDERR: &str = "run.oci.hooks.stderr";

/// Where the outputs of a container's hooks go, instead of to who runs them.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Outputs {
    /// The files that the annotations of `spec` name. They are appended to, and made where they are not there.
    ///
    /// # Errors
    /// One cannot be opened.
    pub(crate) fn open(spec: &oci::Spec) -> Result<Self, Error> {
        let open = |key: &str| {
            let path = spec.annotations().as_ref().and_then(|all| all.get(key));
            let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(None) };
            let file = File::options().append(true).create(true).mode(0o600).open(path);
            file.map(|file| Some(file.into())).map_err(|error| {
                let reason = format!("opening {path}: {error}; give a file that can be written to");
                Error::field(format!("annotations[{key:?}]"), reason)
            })
        };
        Ok(Self { stdout: open(STDOUT)?, stderr: open(STDERR)? })
    }
}

/// The parent's ends of a hook's outputs.
pub(crate) struct Streams {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Streams {
    /// Streams for one run that gets `state`, and the hook's ends of them.
    pub(crate) fn new(state: &[u8], outputs: &Outputs) -> Result<(Self, Stdio), Error> {
        let io = |op| move |errno: Errno| Error::io(op, "a hook")(errno.into());
        let input = input(state).map_err(io("making the standard input of"))?;
        let end = |file: &Option<OwnedFd>| match file {
            Some(file) => {
                let copy = file.try_clone();
                copy.map(|copy| (None, copy)).map_err(Error::io("copying the output of", "a hook"))
            }
            None => rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
                .map(|(own, end)| (Some(own), end))
                .map_err(io("making a pipe for the output of")),
        };
        let ((stdout, out), (stderr, err)) = (end(&outputs.stdout)?, end(&outputs.stderr)?);
        Ok((Self { stdout, stderr }, Stdio::new(input, out, err)?))
    }

    /// Waits for the hook's end, for `timeout` at most; the inner error says how it failed.
    pub(crate) fn wait(
        self,
        child: &Child,
        timeout: Option<Duration>,
    ) -> Result<Result<(), String>, Error> {
        let io = |op| move |errno: Errno| Error::io(op, "a hook")(errno.into());
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut outputs = [Output::new(self.stdout), Output::new(self.stderr)];
        for pipe in outputs.iter().filter_map(|output| output.pipe.as_ref()) {
            rustix::io::ioctl_fionbio(pipe, true).map_err(io("preparing the output of"))?;
        }
        let in_time = loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break false;
            }
            let mut polled = vec![PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN)];
            let open = outputs.iter().filter_map(|output| output.pipe.as_ref());
            polled.extend(open.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match rustix::event::poll(&mut polled, left.as_ref()) {
                Err(Errno::INTR) => continue,
                result => result.map_err(io("waiting for"))?,
            };
            let ended = !polled[0].revents().is_empty();
            for output in &mut outputs {
                output.take().map_err(io("reading the output of"))?;
            }
            // What it left in the background may hold the pipes open: they are not waited for.
            if ended {
                break true;
            }
        };
        if !in_time {
            child.kill()?;
        }
        let exit = child.wait()?;
        let [stdout, stderr] = outputs.map(Output::text);
        let how = match (in_time, exit) {
            (true, Exit::Status(0)) => return Ok(Ok(())),
            // runc's words for SIGSYS, by which its callers know a seccomp filter.
            (true, exit) if exit == Exit::Signal(SIGSYS) => format!("{exit}: bad system call"),
            (true, exit) => exit.to_string(),
            (false, _) => {
                let limit = timeout.unwrap_or_default().as_secs();
                format!("it did not end within its timeout of {limit} s, and was killed")
            }
        };
        Ok(Err(format!("{how}, stdout: {stdout}, stderr: {stderr}")))
    }
}

/// One of a hook's outputs.
struct Output {
    /// None from its end on, and where it goes to a file.
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
}

impl Output {
    fn new(pipe: Option<OwnedFd>) -> Self {
        Self { pipe, kept: Vec::new() }
    }

    /// Reads what is there.
    fn take(&mut self) -> Result<(), Errno> {
        let mut part = [0; KEPT];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut part) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = KEPT - self.kept.len().min(KEPT);
                    self.kept.extend_from_slice(&part[..count.min(room)]);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.kept).trim_end().to_owned()
    }
}

/// A file in memory that nobody can change, so that its reader may be slow, or not read at all.
fn input(state: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(c"state", flags)?;
    let mut rest = state;
    while !rest.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
        rest = &rest[count..];
    }
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file)
}

/// Runs `program` by `spawn` at `place`. The inner error says how it failed.
pub(crate) fn run(
    program: &Program,
    spawn: &Spawn<'_>,
    place: Place<'_>,
    state: &[u8],
    outputs: &Outputs,
    timeout: Option<Duration>,
) -> Result<Result<(), String>, Error> {
    let (streams, stdio) = Streams::new(state, outputs)?;
    let mut child = spawn.spawn(|_| become_hook(program, place, &stdio))?;
    drop(stdio);
    match child.next()? {
        Event::Executed => streams.wait(&child, timeout),
        Event::Failed(report) => {
            child.wait()?;
            Ok(Err(report.to_string()))
        }
        Event::Phase(..) => Err(Error::Process(ns_core::Error::Protocol { bytes: 2 })),
    }
}

/// Child side.
fn become_hook(program: &Program, place: Place<'_>, stdio: &Stdio) -> Result<Infallible, Failure> {
    // It may be among the container's processes, with the memory of the host's program.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .step("making the process not dumpable")?;
    if let Some(root) = place.root {
        rustix::process::fchdir(root).step("entering the root for hooks")?;
        rustix::process::chroot(c".").step("taking the root for hooks")?;
    }
    rustix::process::fchdir(place.directory).step("entering the hook's working directory")?;
    stdio.apply()?;
    sys::process::cloexec_from(3).step("closing the descriptors of the host on exec")?;
    sys::process::reset_signals().step("resetting the signals")?;
    Err(program.exec())
}
