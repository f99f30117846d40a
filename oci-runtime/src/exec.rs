//! A further program in a running container.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ns_core::{Event, Gate, Namespaces, Spawn};
use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid};
use sys::{Failure, Report, Step};

use crate::container::{PART_COMMAND, PART_CWD, Phase};
use crate::process::Process;
use crate::seccomp::Seccomp;
use crate::{Error, Running, Stdio, explain, supported};

/// A program that can be run in a container, by descriptors of it.
#[derive(Debug)]
pub struct PreparedExec {
    target: OwnedFd,
    root: OwnedFd,
    process: Process,
    cgroup: Option<OwnedFd>,
}

/// All that a container can have of its own; what it shares with the caller is joined as well.
const JOINED: Namespaces = Namespaces::MOUNT
    .union(Namespaces::PID)
    .union(Namespaces::NETWORK)
    .union(Namespaces::IPC)
    .union(Namespaces::UTS)
    .union(Namespaces::CGROUP);

impl PreparedExec {
    /// Prepares `process` for the container whose first process is `pid`, open as `pidfd`.
    ///
    /// # Errors
    /// A field has no meaning or is not supported; the container has ended (ESRCH, ENOENT).
    pub fn new(
        pidfd: OwnedFd,
        pid: Pid,
        process: &oci::Process,
        stdio: Stdio,
    ) -> Result<Self, Error> {
        supported::process(process)?;
        let path = format!("/proc/{}/root", pid.as_raw_nonzero());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| Error::io("opening the container's root at", &path)(errno.into()))?;
        // The number could have become another process's between the two; the descriptor could not.
        // Where it cannot be asked, joining its namespaces says what is wrong.
        if sys::process::ended(pidfd.as_fd(), std::time::Duration::ZERO) == Ok(true) {
            let errno = rustix::io::Errno::SRCH;
            return Err(Error::io("finding the container's process at", path)(errno.into()));
        }
        let process = Process::prepare(process, stdio, None)?;
        Ok(Self { target: pidfd, root, process, cgroup: None })
    }

    /// Starts the process in the cgroup (v2) whose directory `fd` is open on: the container's.
    #[must_use]
    pub fn cgroup(mut self, fd: OwnedFd) -> Self {
        self.cgroup = Some(fd);
        self
    }

    /// Leaves the descriptors 3 to 2 + `count` open for the program.
    #[must_use]
    pub fn preserve(mut self, count: u32) -> Self {
        self.process.preserve(count);
        self
    }

    /// Gives it the seccomp filter of the container, whose configuration is `spec`, of the bundle
    /// `dir`; `cache` as for [`Prepared::with_cache`](crate::Prepared::with_cache).
    ///
    /// # Errors
    /// No program can be made of the filter.
    pub fn seccomp(
        mut self,
        dir: &Path,
        spec: &oci::Spec,
        cache: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Error> {
        self.process.set_seccomp(Seccomp::prepare(dir, spec, cache)?);
        Ok(self)
    }

    /// Sets the container's id, as [`Prepared::id`](crate::Prepared::id) does. After
    /// [`PreparedExec::seccomp`].
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        if let Some(seccomp) = self.process.seccomp_mut() {
            seccomp.set_id(id);
        }
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// A step failed, or the program cannot be executed ([`Error::Command`]).
    pub fn start(self) -> Result<Running, Error> {
        let mut spawn = Spawn::new().join(self.target.as_fd(), JOINED);
        if let Some(fd) = &self.cgroup {
            spawn = spawn.cgroup(fd.as_fd());
        }
        let mut child = spawn.spawn(|gate| self.in_child(gate))?;
        let mut terminal = None;
        loop {
            match child.next()? {
                Event::Phase(phase, listener) if phase == Phase::Listener as u8 => {
                    let status = oci::ContainerState::Running;
                    self.process.hand_over(&child, status, listener)?;
                }
                Event::Phase(_, master) => terminal = master,
                Event::Executed => return Ok(Running::new(child, terminal)),
                Event::Failed(report) => {
                    // Explained while the container's mounts are still there.
                    let error = self.explain(report);
                    child.wait()?;
                    return Err(error);
                }
            }
        }
    }

    fn in_child(&self, gate: Gate<'_>) -> Result<Infallible, Failure> {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .step("making the process not dumpable")?;
        rustix::process::setsid().step("making a session")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(c"/", flags, Mode::empty()).step("opening the root")?;
        self.process.open_terminal(root.as_fd(), gate, false)?;
        sys::keyring::new_session().step("making a session keyring")?;
        self.process.become_user(root.as_fd())?;
        self.process.install_listener(gate)?;
        self.process.execute()
    }

    /// What a report is about.
    fn explain(&self, report: Report) -> Error {
        match report.part {
            PART_COMMAND => explain::command(&self.process.command, self.root.as_fd(), &report),
            PART_CWD => Error::Setup {
                what: format!("the working directory {}", self.process.cwd.to_string_lossy()),
                report,
            },
            _ => Error::Setup { what: "the process in the container".to_owned(), report },
        }
    }
}
