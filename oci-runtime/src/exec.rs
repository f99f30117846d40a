//! A further program in a running container.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cgroup::Join;
use ns_core::{Event, Gate, Namespaces, Spawn};
use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid};
use sys::{Failure, Report, Step};

use crate::container::{PART_COMMAND, PART_CWD, PART_GROUP, enter};
use crate::process::Process;
use crate::{Error, Running, Stdio, explain, supported};

/// A program that can be run in a container, by descriptors of it.
#[derive(Debug)]
pub struct PreparedExec {
    target: OwnedFd,
    root: OwnedFd,
    process: Process,
    join: Option<Join>,
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
        if ended(pidfd.as_fd()) {
            let errno = rustix::io::Errno::SRCH;
            return Err(Error::io("finding the container's process at", path)(errno.into()));
        }
        let process = Process::prepare(process, stdio, None)?;
        Ok(Self { target: pidfd, root, process, join: None })
    }

    /// Starts the process in a cgroup: the container's.
    #[must_use]
    pub fn group(mut self, join: Join) -> Self {
        self.join = Some(join);
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// A step failed, or the program cannot be executed ([`Error::Command`]).
    pub fn start(self) -> Result<Running, Error> {
        let mut spawn = Spawn::new().join(self.target.as_fd(), JOINED);
        let first = || enter(self.join.as_ref());
        if let Some(join) = &self.join {
            spawn = spawn.first(&first);
            if let Some(fd) = join.unified() {
                spawn = spawn.cgroup(fd);
            }
        }
        let mut child = spawn.spawn(|gate| self.in_child(gate))?;
        let mut terminal = None;
        loop {
            match child.next()? {
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
        self.process.execute()
    }

    /// What a report is about.
    fn explain(&self, report: Report) -> Error {
        match report.part {
            PART_COMMAND => explain::command(&self.process, self.root.as_fd(), &report),
            PART_CWD => Error::Setup {
                what: format!("the working directory {}", self.process.cwd.to_string_lossy()),
                report,
            },
            PART_GROUP => {
                let what = self.join.as_ref().map(|join| join.describe(report.index));
                Error::Setup { what: what.unwrap_or_default(), report }
            }
            _ => Error::Setup { what: "the process in the container".to_owned(), report },
        }
    }
}

/// Whether the process has ended, so that its descriptor is readable (pidfd_open(2)).
fn ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut poll = [rustix::event::PollFd::from_borrowed_fd(pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    // Where it cannot be asked, joining its namespaces says what is wrong.
    rustix::event::poll(&mut poll, Some(&now)).is_ok_and(|ready| ready > 0)
}
