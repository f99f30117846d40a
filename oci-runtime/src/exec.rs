//! A further program in a running container.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cgroup::Join;
use ns_core::{Child, Event, Gate, Namespaces, Spawn};
use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid};
use rustix::thread::CpuSet;
use sys::exec::Program;
use sys::{Failure, Report, Step};

use crate::container::end;
use crate::exec_config::Filter;
use crate::memory_policy::MemoryPolicy;
use crate::parts::{PART_GROUP, Phase};
use crate::process::Process;
use crate::scheduling::{self, Affinity};
use crate::seccomp::Seccomp;
use crate::{Error, ExecConfig, Home, Running, Stdio};

/// A program that can be run in a container, by descriptors of it.
#[derive(Debug)]
pub struct PreparedExec {
    target: OwnedFd,
    root: OwnedFd,
    process: Box<Process>,
    affinity: Affinity,
    joined: Namespaces,
    join: Option<Join>,
    warnings: Vec<String>,
}

/// What a container can have of its own; what it shares with the caller is joined as well.
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
        let path = format!("/proc/{}/root", pid.as_raw_nonzero());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| Error::io("opening the container's root at", &path)(errno.into()))?;
        // The number could have become another process's between the two; the descriptor could not.
        // Where it cannot be asked, joining its namespaces says what is wrong.
        if sys::process::ended(pidfd.as_fd(), std::time::Duration::ZERO) == Ok(true) {
            let errno = Errno::SRCH;
            return Err(Error::io("finding the container's process at", path)(errno.into()));
        }
        // The caller's own user namespace cannot be joined (setns(2), EINVAL), and what the kernel
        // does not have neither.
        let mut joined = JOINED;
        for (kind, name) in [(Namespaces::USER, "user"), (Namespaces::TIME, "time")] {
            joined.set(kind, has_own(pid, name)?);
        }
        let in_user = joined.contains(Namespaces::USER);
        let mut warnings = Vec::new();
        let affinity = Affinity::prepare(process)?;
        let process = Process::prepare(process, stdio, in_user, &mut warnings)?;
        let process = Box::new(process);
        Ok(Self { target: pidfd, root, process, affinity, joined, join: None, warnings })
    }

    /// A hook as a process of the container, with all that `process` has but its program and terminal.
    pub(crate) fn hook(
        pidfd: OwnedFd,
        pid: Pid,
        process: &oci::Process,
        stdio: Stdio,
        program: &Program,
    ) -> Result<Self, Error> {
        let mut process = process.clone();
        process.set_terminal(Some(false));
        let mut exec = Self::new(pidfd, pid, &process, stdio)?;
        exec.process.program = program.clone();
        Ok(exec)
    }

    /// Starts the process in a cgroup: the container's.
    #[must_use]
    pub fn group(mut self, join: Join) -> Self {
        self.join = Some(join);
        self
    }

    /// Leaves the descriptors 3 to 2 + `count` open for the program.
    #[must_use]
    pub fn preserve(mut self, count: u32) -> Self {
        self.process.preserve(count);
        self
    }

    /// Leaves line ends of a new terminal as they are, as [`Prepared::plain_line_ends`](crate::Prepared::plain_line_ends).
    #[must_use]
    pub fn plain_line_ends(mut self) -> Self {
        self.process.plain_line_ends();
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
        let seccomp = Seccomp::prepare(dir, spec, None, cache, &mut self.warnings)?;
        self.process.set_seccomp(seccomp);
        Ok(self)
    }

    /// As [`PreparedExec::seccomp`], of a container of `home`. What names of the filter are none was said when the
    /// container was created.
    ///
    /// # Errors
    /// As there.
    pub fn seccomp_of(
        mut self,
        dir: &Path,
        config: ExecConfig,
        home: &Home,
    ) -> Result<Self, Error> {
        let seccomp = match config.filter {
            Filter::None => None,
            Filter::Compiled(program) => Some(Seccomp::of(program)),
            Filter::Of(config) => {
                let cache = home.programs(&config);
                let cache = cache.as_ref().map(AsFd::as_fd);
                Seccomp::prepare(dir, config.spec(), config.text(), cache, &mut Vec::new())?
            }
        };
        self.process.set_seccomp(seccomp);
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

    /// Gives it the execution domain that the container has (`linux.personality`).
    ///
    /// # Errors
    /// It has no meaning.
    pub fn personality(mut self, personality: &oci::LinuxPersonality) -> Result<Self, Error> {
        self.process.personality = Some(scheduling::personality(personality)?);
        Ok(self)
    }

    /// Takes its memory from where the container's processes do (`linux.memoryPolicy`).
    ///
    /// # Errors
    /// Its nodes are no list.
    pub fn memory_policy(mut self, policy: &oci::LinuxMemoryPolicy) -> Result<Self, Error> {
        self.process.memory_policy = Some(MemoryPolicy::prepare(policy)?);
        Ok(self)
    }

    /// What could not be done without being an error, as sentences: capabilities that cannot be granted.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The processors on which it begins, where `process.execCPUAffinity.initial` says so, as a mask: `0x5` for the
    /// processors 0 and 2.
    pub fn initial_affinity(&self) -> Option<String> {
        self.affinity.initial_mask()
    }

    /// Runs it.
    ///
    /// # Errors
    /// A step failed, or the program cannot be executed ([`Error::Command`]).
    pub fn start(self) -> Result<Running, Error> {
        let mut spawn = Spawn::new().join(self.target.as_fd(), self.joined);
        let first = || crate::group::enter(self.join.as_ref());
        if let Some(join) = &self.join {
            spawn = spawn.first(&first);
            if let Some(fd) = join.unified() {
                spawn = spawn.cgroup(fd);
            }
        }
        let started = Pinned::to(self.affinity.initial.as_ref())?;
        let child = spawn.spawn(|gate| self.in_child(gate));
        started.back()?;
        let mut child = child?;
        match self.attend(&mut child) {
            Ok(terminal) => Ok(Running::new(child, terminal, self.warnings)),
            Err(error) => {
                end(&child);
                Err(error)
            }
        }
    }

    /// The parent's part. Gives the master of the terminal.
    fn attend(&self, child: &mut Child) -> Result<Option<OwnedFd>, Error> {
        let mut terminal = None;
        loop {
            match child.next()? {
                Event::Phase(phase, listener) if phase == Phase::Listener as u8 => {
                    let status = oci::ContainerState::Running;
                    self.process.hand_over(child, status, listener)?;
                }
                Event::Phase(number, _) if number == Phase::OomScore as u8 => {
                    self.process.adjust_oom_score(child.pid())?;
                    child.proceed()?;
                }
                Event::Phase(number, _) if number == Phase::Limits as u8 => {
                    self.process.limits.apply_to(child.pid())?;
                    child.proceed()?;
                }
                Event::Phase(_, master) => terminal = master,
                Event::Executed => return Ok(terminal),
                // Explained while the container's mounts are still there.
                Event::Failed(report) => return Err(self.explain(report)),
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
        if let Some(cpus) = &self.affinity.last {
            rustix::thread::sched_setaffinity(None, cpus)
                .step("setting process.execCPUAffinity.final")?;
        }
        if self.process.oom_score_adj.is_some() {
            gate.wait(Phase::OomScore as u8)?;
        }
        self.process.become_user(root.as_fd(), gate)?;
        self.process.install_listener(gate)?;
        self.process.execute()
    }

    /// What a report is about.
    fn explain(&self, report: Report) -> Error {
        if report.part == PART_GROUP {
            let what = self.join.as_ref().map(|join| join.describe(report.index));
            return Error::Setup { what: what.unwrap_or_default(), report };
        }
        self.process.explain(self.root.as_fd(), report).unwrap_or_else(|report| Error::Setup {
            what: "the process in the container".to_owned(),
            report,
        })
    }
}

/// The processors of this thread, changed for the moment of a clone, which takes them over.
struct Pinned {
    before: Option<CpuSet>,
}

impl Pinned {
    fn to(cpus: Option<&CpuSet>) -> Result<Self, Error> {
        let Some(cpus) = cpus else { return Ok(Self { before: None }) };
        let before = rustix::thread::sched_getaffinity(None).map_err(affinity("reading"))?;
        rustix::thread::sched_setaffinity(None, cpus)
            .map_err(affinity("setting process.execCPUAffinity.initial of"))?;
        Ok(Self { before: Some(before) })
    }

    fn back(self) -> Result<(), Error> {
        match &self.before {
            Some(before) => rustix::thread::sched_setaffinity(None, before)
                .map_err(affinity("going back to the processors of")),
            None => Ok(()),
        }
    }
}

fn affinity(op: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::io(op, "the starting thread")(errno.into())
}

/// Whether the process is in another namespace of this kind than the caller, by the links' text (namespaces(7)), which is cheaper
/// than to have the kernel open them; a kernel that does not have the kind has no link for it.
fn has_own(pid: Pid, name: &str) -> Result<bool, Error> {
    let identity = |path: String| match rustix::fs::readlink(&path, Vec::new()) {
        Ok(identity) => Ok(Some(identity)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::io("looking at the namespace", path)(errno.into())),
    };
    let theirs = identity(format!("/proc/{pid}/ns/{name}"))?;
    Ok(theirs != identity(format!("/proc/self/ns/{name}"))?)
}
