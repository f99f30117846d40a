//! A container's way: prepared, created, running. Each state is a type.

mod choices;
mod sources;

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cgroup::Join;
use ns_core::{Child, Door, Event, Gate, Namespaces};
use oci_spec::runtime as oci;
use pivot::{Devices, Masks};
use rustix::process::{DumpableBehavior, Pid};
use sys::{Failure, Report, Step};

use crate::config::Text;
use crate::group::{Made, OwnGroup};
use crate::hooks::{HookKind, Hooks};
use crate::memory_policy::MemoryPolicy;
use crate::mounts::{Mount, Mounts};
use crate::namespaces::OwnNamespaces;
use crate::net_devices::NetDevices;
use crate::parts::{PART_DEVICES, PART_GROUP, PART_MASKS, PART_MOUNTS, PART_SYSCTLS, Phase};
use crate::process::Process;
use crate::root::Root;
use crate::seccomp::Seccomp;
use crate::stdio::Stdio;
use crate::sysctl::Sysctls;
use crate::{Error, Running, devices, scheduling, supported, version};

/// A container that can be made: everything that needs a path, memory or input is done.
#[derive(Debug)]
pub struct Prepared {
    namespaces: OwnNamespaces,
    root: Root,
    mounts: Vec<Mount>,
    /// None where the configuration binds a `/dev` of its own.
    devices: Option<Devices>,
    masks: Masks,
    sysctls: Sysctls,
    hostname: Option<CString>,
    domainname: Option<CString>,
    /// None where the configuration has none: such a container can be created, and never started.
    process: Option<Process>,
    group: OwnGroup,
    /// Where the process waits for a start by another program than its creator.
    door: Option<Door>,
    hooks: Hooks,
    net_devices: NetDevices,
    keyring: bool,
    warnings: Vec<String>,
}

impl Prepared {
    /// As [`Prepared::new`]; `text` is that of the filter, where it is known.
    fn prepare(
        dir: &Path,
        spec: &oci::Spec,
        text: Option<&Text>,
        stdio: Stdio,
        cache: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Error> {
        version::check(spec)?;
        supported::check(spec)?;
        let root = spec.root().as_ref().ok_or_else(|| Error::field("root", "it is missing"))?;
        let none;
        let linux = match spec.linux() {
            Some(linux) => linux,
            None => {
                none = oci::Linux::default();
                &none
            }
        };
        let namespaces = OwnNamespaces::prepare(linux)?;
        let in_user = namespaces.kinds().contains(Namespaces::USER);
        let mut warnings = Vec::new();
        supported::one_domain_name(spec, linux)?;
        let mut root = Root::prepare(&dir.join(root.path()), root, spec, &namespaces)?;
        let mut mounts = Mounts::new(dir, &namespaces, linux, &mut warnings);
        let mounts = mounts.prepare(spec, root.fd())?;
        let process = match spec.process() {
            Some(process) => {
                let mut own = Process::prepare(process, stdio, in_user, &mut warnings)?;
                own.set_seccomp(Seccomp::prepare(dir, spec, text, cache, &mut warnings)?);
                own.personality =
                    linux.personality().as_ref().map(scheduling::personality).transpose()?;
                own.memory_policy =
                    linux.memory_policy().as_ref().map(MemoryPolicy::prepare).transpose()?;
                own.own_null = root.makes_devices();
                if supported::keeps_groups(spec) {
                    own.keep_groups();
                }
                Some(own)
            }
            None => None,
        };
        let hooks =
            Hooks::prepare(spec, &dir.file_name().unwrap_or_default().to_string_lossy(), dir)?;
        if hooks.has(&HookKind::BEFORE_SWITCH) {
            root.show_to_hooks()?;
        }
        Ok(Self {
            mounts,
            devices: match root.makes_devices() {
                true => devices::prepare(spec, linux, &namespaces)?,
                false => None,
            },
            masks: Masks::prepare(
                linux.masked_paths().as_deref().unwrap_or_default(),
                linux.readonly_paths().as_deref().unwrap_or_default(),
            )?,
            sysctls: Sysctls::prepare(linux.sysctl().as_ref(), namespaces.apart, in_user)?,
            hostname: namespaces.name("hostname", spec.hostname())?,
            domainname: namespaces.name("domainname", spec.domainname())?,
            process,
            hooks,
            net_devices: NetDevices::prepare(linux, &namespaces)?,
            root,
            namespaces,
            group: OwnGroup::prepare(linux)?,
            door: None,
            keyring: true,
            warnings,
        })
    }

    /// What of the configuration could not be done without being an error, as sentences: capabilities
    /// that cannot be granted, names of system calls that are none here, fields of later versions.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is left out and nobody would miss, as a sentence: what the seccomp filter says of system calls that other
    /// architectures have. Profiles are made for all of them, so that this is no warning.
    pub fn note(&self) -> Option<String> {
        self.process.as_ref()?.seccomp()?.foreign()
    }

    /// Waits for what is made on a thread ([`Prepared::ahead`]), so that the process has one thread again:
    /// before [`ns_core::split`]. [`Prepared::create`] does it too.
    ///
    /// # Errors
    /// The kernel makes no network namespace.
    pub fn settle(&mut self) -> Result<(), Error> {
        self.namespaces.settle()
    }

    /// Makes the container's first process and everything around it, and runs the `prestart`,
    /// `createRuntime` and `createContainer` hooks; its program does not run yet.
    ///
    /// # Errors
    /// A step or a hook failed; nothing of the container is left, and its `poststop` hooks were run.
    pub fn create(self) -> Result<Created, Error> {
        self.create_while(|_| ()).map(|(created, ())| created)
    }

    /// As [`Prepared::create`]; `meanwhile` is called with the process's number, while the process makes its mounts or has
    /// failed to, and what it gives is given too.
    ///
    /// # Errors
    /// As there.
    pub fn create_while<T>(
        mut self,
        meanwhile: impl FnOnce(Pid) -> T,
    ) -> Result<(Created, T), Error> {
        let mut group = self.group.make()?;
        let made = self
            .show(group.as_ref())
            .and_then(|()| self.settle())
            .and_then(|()| self.create_in(group.as_ref(), meanwhile));
        let made = made.and_then(|made| match group.as_mut().map_or(Ok(()), Made::has_process) {
            Ok(()) => Ok(made),
            Err(error) => {
                end(&made.0);
                Err(error)
            }
        });
        match made {
            Ok((child, terminal, done)) => {
                Ok((Created { child, terminal, prepared: self, group }, done))
            }
            Err(error) => {
                group.iter().for_each(Made::take_back);
                Err(self.after_failure(error))
            }
        }
    }

    /// Lets the container see the group where it is to see a cgroup.
    fn show(&mut self, group: Option<&Made>) -> Result<(), Error> {
        let Some(group) = group else { return Ok(()) };
        self.mounts.iter_mut().try_for_each(|mount| mount.show_group(|| group.paths()))
    }

    fn create_in<T>(
        &self,
        group: Option<&Made>,
        meanwhile: impl FnOnce(Pid) -> T,
    ) -> Result<(Child, Option<OwnedFd>, T), Error> {
        let mut spawn = self.namespaces.spawn();
        if self.process.as_ref().is_some_and(Process::keeps_groups) {
            spawn = spawn.keep_groups();
        }
        let join = group.map(|group| &group.join);
        let first = || crate::group::enter(join);
        if let Some(join) = join {
            spawn = spawn.first(&first);
            if let Some(fd) = join.unified() {
                spawn = spawn.cgroup(fd);
            }
        }
        let mut child = spawn.spawn(|gate| self.in_child(gate))?;
        let limited = group.map_or(Ok(()), Made::limit_devices);
        let done = meanwhile(child.pid());
        match limited.and_then(|()| self.attend(&mut child, join)) {
            Ok(terminal) => Ok((child, terminal, done)),
            Err(error) => {
                end(&child);
                Err(error)
            }
        }
    }

    /// The parent's part, up to the child's last gate. Gives the master of its terminal.
    fn attend(&self, child: &mut Child, join: Option<&Join>) -> Result<Option<OwnedFd>, Error> {
        let (mut terminal, mut network) = (None, None);
        loop {
            match child.next()? {
                Event::Phase(number, descriptor) => match Phase::from_number(number) {
                    Some(Phase::Terminal) => terminal = descriptor,
                    Some(Phase::Network) if descriptor.is_some() => network = descriptor,
                    Some(Phase::Network) => {
                        if let Some(socket) = network.take() {
                            self.net_devices.give(child, socket)?;
                        }
                        child.proceed()?;
                    }
                    Some(Phase::Environment) => {
                        let own = self.namespaces.kinds();
                        self.hooks.create(child, own, self.root.shown_at())?;
                        child.proceed()?;
                    }
                    Some(Phase::Limits) => {
                        if let Some(process) = &self.process {
                            process.limits.apply_to(child.pid())?;
                        }
                        child.proceed()?;
                    }
                    Some(Phase::Listener) => {
                        if let Some(process) = &self.process {
                            let status = oci::ContainerState::Creating;
                            process.hand_over(child, status, descriptor)?;
                        }
                    }
                    Some(Phase::Created) => break,
                    Some(Phase::OomScore) | None => {
                        return Err(ns_core::Error::Protocol { bytes: 2 }.into());
                    }
                },
                Event::Failed(report) if report.part == PART_GROUP => {
                    let what = join.map(|join| join.describe(report.index)).unwrap_or_default();
                    return Err(Error::Setup { what, report });
                }
                // Explained while the container's mounts are still there.
                Event::Failed(report) => return Err(self.explain(report)),
                Event::Executed => return Err(Error::Died(child.wait()?)),
            }
        }
        if let Some(process) = &self.process {
            process.adjust_oom_score(child.pid())?;
        }
        Ok(terminal)
    }

    /// After a failure the container is destroyed as any other, which its `poststop` hooks are told
    /// (runtime.md, "Lifecycle"): they take away what its other hooks made.
    fn after_failure(&self, error: Error) -> Error {
        let failed = self.hooks.poststop();
        match failed.is_empty() {
            true => error,
            false => Error::Poststop { error: error.into(), failed: failed.join("; and ") },
        }
    }

    /// The child's life up to the exec: system calls only.
    fn in_child(&self, gate: Gate<'_>) -> Result<Infallible, Failure> {
        // Until the exec this process has the host's program as its /proc/PID/exe, and the host's
        // memory: other processes of the container must not get at either (CVE-2019-5736).
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .step("making the process not dumpable")?;
        rustix::process::setsid().step("making a session")?;
        let root = self.root.enter()?;
        let root = root.as_fd();
        self.fill_root(root)?;
        if let Some(process) = &self.process {
            process.open_terminal(root, gate, true)?;
        }
        self.net_devices.await_all(gate)?;
        if self.hooks.has(&HookKind::BEFORE_SWITCH) {
            gate.wait(Phase::Environment as u8)?;
        }
        self.root.switch(root)?;
        self.name_and_protect(root)?;
        if self.keyring {
            sys::keyring::new_session().step("making a session keyring")?;
        }
        let Some(process) = &self.process else {
            // There is nothing to start; whoever tries is told so by its starter.
            let nothing = Failure::new("starting a process", rustix::io::Errno::CANCELED);
            let door = self.door.as_ref().map(Door::attend).transpose()?;
            gate.wait(Phase::Created as u8)?;
            return door.map_or(Err(nothing), |door| door.pass(|_| Err(nothing)));
        };
        // Who is let go at once tells so while it becomes its user: its creator writes it down meanwhile, and neither waits.
        let early = self.door.is_none() && process.needs_no_parent();
        if early {
            gate.tell(Phase::Created as u8, None)?;
        }
        process.become_user(root, gate)?;
        if self.door.is_some() {
            process.find()?;
        }
        process.install_listener(gate)?;
        let Some(door) = &self.door else {
            match early {
                true => gate.opened()?,
                false => gate.wait(Phase::Created as u8)?,
            }
            return process.execute();
        };
        let door = door.attend()?;
        // The creator writes down who waits here before it lets it wait alone.
        gate.wait(Phase::Created as u8)?;
        door.pass(|_| process.execute())
    }

    /// What lies below the root.
    fn fill_root(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        for (number, mount) in self.mounts.iter().enumerate() {
            let part = PART_MOUNTS + number as u16;
            mount.apply(root).map_err(|failure| failure.of(part, failure.index))?;
        }
        if let Some(devices) = &self.devices {
            let of_devices = |failure: Failure| failure.of(PART_DEVICES, failure.index);
            devices.apply(root).map_err(of_devices)?;
        }
        Ok(())
    }

    /// What is left to do in the new root.
    fn name_and_protect(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        if let Some(hostname) = &self.hostname {
            rustix::system::sethostname(hostname.to_bytes()).step("setting the hostname")?;
        }
        if let Some(domainname) = &self.domainname {
            rustix::system::setdomainname(domainname.to_bytes()).step("setting the domain name")?;
        }
        if self.namespaces.new.contains(Namespaces::NETWORK) {
            sys::net::loopback_up().step("setting the loopback device up")?;
        }
        let of_sysctls = |failure: Failure| failure.of(PART_SYSCTLS, failure.index);
        self.sysctls.apply().map_err(of_sysctls)?;
        let of_masks = |failure: Failure| failure.of(PART_MASKS, failure.index);
        self.masks.apply(root).map_err(of_masks)?;
        if let Some(process) = &self.process {
            process.make_cwd(root)?;
        }
        for (number, mount) in self.mounts.iter().enumerate() {
            let part = PART_MOUNTS + number as u16;
            mount.protect(root).map_err(|failure| failure.of(part, failure.index))?;
        }
        self.root.protect(root)
    }

    /// What a report is about.
    fn explain(&self, report: Report) -> Error {
        let report = match &self.process {
            Some(process) => match process.explain(self.root.fd(), report) {
                Ok(error) => return error,
                Err(report) => report,
            },
            None => report,
        };
        let what = match report.part {
            PART_DEVICES => match &self.devices {
                Some(devices) => devices.describe(report.index),
                None => "the container's devices".to_owned(),
            },
            PART_SYSCTLS => self.sysctls.describe(report.index),
            PART_MASKS => self.masks.describe(report.index),
            part => match part.checked_sub(PART_MOUNTS).map(usize::from) {
                Some(number) if number < self.mounts.len() => {
                    self.mounts[number].describe(report.index)
                }
                _ => "the container's process".to_owned(),
            },
        };
        Error::Setup { what, report }
    }
}

/// A container whose process waits for [`Created::start`]. Dropping it ends the process.
#[derive(Debug)]
pub struct Created {
    child: Child,
    terminal: Option<OwnedFd>,
    prepared: Prepared,
    group: Option<Made>,
}

impl Created {
    /// The number of the container's first process, as the caller sees it.
    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// The descriptor of that process, readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// Takes the master of its terminal, where it has one.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Leaves the process to wait for its start without its creator ([`Prepared::wait_in`]).
    ///
    /// # Errors
    /// It has ended; nothing of the container is left then, and its `poststop` hooks were run.
    pub fn leave(self) -> Result<(), Error> {
        self.child.proceed().map_err(|error| {
            self.destroy();
            self.prepared.after_failure(error.into())
        })
    }

    /// Ends the process of a container that is not to be after all. Nothing of it is left, and its `poststop`
    /// hooks were run; what failed of them is a sentence in what it returns.
    pub fn abandon(self) -> Vec<String> {
        self.destroy();
        self.prepared.hooks.poststop()
    }

    fn destroy(&self) {
        end(&self.child);
        self.group.iter().for_each(Made::take_back);
    }

    /// Runs the `startContainer` hooks, lets the program run, and runs the `poststart` hooks.
    ///
    /// # Errors
    /// A hook failed; the process cannot become its user; the program cannot be executed ([`Error::Command`]), or there
    /// is none ([`Error::NoProcess`]). Nothing of the container is left, and its `poststop` hooks were
    /// run.
    pub fn start(mut self) -> Result<Running, Error> {
        if let Err(error) = self.prepared.let_go(&mut self.child, self.group.as_ref()) {
            self.destroy();
            return Err(self.prepared.after_failure(error));
        }
        if let Err(error) = self.prepared.hooks.poststart(self.child.pid()) {
            // The program runs by now, and may have started others.
            end(&self.child);
            let error = match self.group.iter().try_for_each(Made::destroy) {
                Ok(()) => error,
                Err(second) => error.and(vec![second.to_string()]),
            };
            return Err(self.prepared.after_failure(error));
        }
        let Self { child, terminal, .. } = self;
        Ok(Running::new(child, terminal, Vec::new()))
    }
}

impl Prepared {
    fn let_go(&self, child: &mut Child, group: Option<&Made>) -> Result<(), Error> {
        if self.process.is_none() {
            return Err(Error::NoProcess);
        }
        let join = || group.map(Made::join_again).transpose();
        self.hooks.start_container(child.pidfd(), child.pid(), &join)?;
        child.proceed()?;
        match child.next()? {
            Event::Executed => Ok(()),
            Event::Failed(report) => Err(self.explain(report)),
            Event::Phase(..) => Err(Error::Process(ns_core::Error::Protocol { bytes: 2 })),
        }
    }
}

/// Ends a child that is not to go on, and takes its status. One that has ended already (it is why)
/// was waited for: nothing is left to do then.
pub(crate) fn end(child: &Child) {
    let _ = child.kill();
    let _ = child.wait();
}
