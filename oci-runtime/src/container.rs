//! A container's way: prepared, created, running. Each state is a type.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cgroup::{Join, Location};
use ns_core::{Child, Event, Exit, Gate, Namespaces};
use oci_spec::runtime as oci;
use pivot::{Device, DeviceKind, Devices, Masks, Nodes, RootPropagation};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid};
use sys::{Failure, Report, Step};

use crate::group::{Made, OwnGroup};
use crate::mounts::Mount;
use crate::namespaces::OwnNamespaces;
use crate::process::Process;
use crate::stdio::Stdio;
use crate::sysctl::Sysctls;
use crate::{Error, explain, supported};

/// What the child tells, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The terminal's master comes with it; nobody waits.
    Terminal = 1,
    /// All is done but the exec; the child waits.
    Created = 2,
}

/// Parts of a failure: on which list of prepared items a step failed.
const PART_DEVICES: u16 = 1;
const PART_MASKS: u16 = 2;
pub(crate) const PART_CWD: u16 = 3;
pub(crate) const PART_COMMAND: u16 = 4;
const PART_SYSCTLS: u16 = 5;
pub(crate) const PART_GROUP: u16 = 6;
/// From here on, the mounts: part - PART_MOUNTS is the mount's number.
const PART_MOUNTS: u16 = 16;

/// A container that can be made: everything that needs a path, memory or input is done.
#[derive(Debug)]
pub struct Prepared {
    namespaces: OwnNamespaces,
    /// A detached clone of the root's mount, by which the root can be looked into afterwards too.
    root: OwnedFd,
    propagation: RootPropagation,
    read_only: bool,
    mounts: Vec<Mount>,
    /// None where the configuration binds a `/dev` of its own.
    devices: Option<Devices>,
    masks: Masks,
    sysctls: Sysctls,
    hostname: Option<CString>,
    domainname: Option<CString>,
    process: Process,
    oom_score_adj: Option<i32>,
    group: OwnGroup,
}

impl Prepared {
    /// Checks and opens all that `spec`, of the bundle `dir`, asks for. Nothing is changed on the
    /// host. `stdio` is for a process without a terminal.
    ///
    /// # Errors
    /// A field has no meaning, or is not supported; something that it names on the host is missing.
    pub fn new(dir: &Path, spec: &oci::Spec, stdio: Stdio) -> Result<Self, Error> {
        supported::check(spec)?;
        let missing = |field: &str| Error::field(field, "it is missing");
        let process = spec.process().as_ref().ok_or_else(|| missing("process"))?;
        let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
        let linux = spec.linux().clone().unwrap_or_default();
        let namespaces = OwnNamespaces::prepare(&linux)?;
        let mounts = spec.mounts().iter().flatten().enumerate();
        let text = |field: &str, text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.map(|text| {
                CString::new(text).map_err(|_| Error::field(field, "it has a NUL byte"))
            })
            .transpose()
        };
        let propagation = linux.rootfs_propagation().as_deref().filter(|word| !word.is_empty());
        Ok(Self {
            root: clone_root(&dir.join(root.path()))?,
            propagation: propagation
                .map_or(Ok(RootPropagation::Private), RootPropagation::from_word)?,
            read_only: root.readonly().unwrap_or(false),
            mounts: mounts
                .map(|(index, mount)| Mount::prepare(dir, index, mount))
                .collect::<Result<_, _>>()?,
            devices: (!binds_dev(spec))
                .then(|| Devices::prepare(&devices(&linux)?, Nodes::Make).map_err(Error::from))
                .transpose()?,
            masks: Masks::prepare(
                linux.masked_paths().as_deref().unwrap_or_default(),
                linux.readonly_paths().as_deref().unwrap_or_default(),
            )?,
            sysctls: Sysctls::prepare(linux.sysctl().as_ref(), namespaces.new)?,
            hostname: namespaces.name("hostname", text("hostname", spec.hostname())?)?,
            domainname: namespaces.name("domainname", text("domainname", spec.domainname())?)?,
            process: Process::prepare(process, stdio, None)?,
            oom_score_adj: process.oom_score_adj(),
            group: OwnGroup::prepare(&linux)?,
            namespaces,
        })
    }

    /// Makes the container's cgroup there, instead of where `linux.cgroupsPath` says: in the hierarchies
    /// that `location` names and in no other.
    #[must_use]
    pub fn group(mut self, location: Location) -> Self {
        self.group.put_at(location);
        self
    }

    /// Makes the container's first process and everything around it; its program does not run yet.
    ///
    /// # Errors
    /// A step failed; nothing of the container is left.
    pub fn create(self) -> Result<Created, Error> {
        let group = self.group.make()?;
        match self.create_in(group.as_ref()) {
            Ok((child, terminal)) => Ok(Created { child, terminal, prepared: self, group }),
            Err(error) => {
                group.iter().for_each(Made::take_back);
                Err(error)
            }
        }
    }

    fn create_in(&self, group: Option<&Made>) -> Result<(Child, Option<OwnedFd>), Error> {
        let mut spawn = self.namespaces.spawn();
        let join = group.map(|group| &group.join);
        let first = || enter(join);
        if let Some(join) = join {
            spawn = spawn.first(&first);
            if let Some(fd) = join.unified() {
                spawn = spawn.cgroup(fd);
            }
        }
        let mut child = spawn.spawn(|gate| self.in_child(gate))?;
        let mut terminal = None;
        loop {
            match child.next()? {
                Event::Phase(phase, master) if phase == Phase::Terminal as u8 => terminal = master,
                Event::Phase(..) => break,
                Event::Failed(report) if report.part == PART_GROUP => {
                    child.wait()?;
                    let what = join.map(|join| join.describe(report.index)).unwrap_or_default();
                    return Err(Error::Setup { what, report });
                }
                Event::Failed(report) => {
                    // Explained while the container's mounts are still there.
                    let error = self.explain(report);
                    child.wait()?;
                    return Err(error);
                }
                Event::Executed => return Err(Error::Died(child.wait()?)),
            }
        }
        if let Some(adjustment) = self.oom_score_adj
            && let Err(error) = adjust_oom_score(child.pid(), adjustment)
        {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        Ok((child, terminal))
    }

    /// The child's life up to the exec: system calls only.
    fn in_child(&self, gate: Gate<'_>) -> Result<Infallible, Failure> {
        // Until the exec this process has the host's program as its /proc/PID/exe, and the host's
        // memory: other processes of the container must not get at either (CVE-2019-5736).
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .step("making the process not dumpable")?;
        rustix::process::setsid().step("making a session")?;
        let root = pivot::enter(self.root.as_fd(), self.propagation)?;
        let root = root.as_fd();
        for (number, mount) in self.mounts.iter().enumerate() {
            let part = PART_MOUNTS + number as u16;
            mount.apply(root).map_err(|failure| failure.of(part, failure.index))?;
        }
        if let Some(devices) = &self.devices {
            let of_devices = |failure: Failure| failure.of(PART_DEVICES, failure.index);
            devices.apply(root).map_err(of_devices)?;
        }
        self.process.open_terminal(root, gate, true)?;
        pivot::pivot(root, self.propagation)?;
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
        self.process.make_cwd(root)?;
        if self.read_only {
            pivot::read_only(root)?;
        }
        sys::keyring::new_session().step("making a session keyring")?;
        self.process.become_user(root)?;
        gate.wait(Phase::Created as u8)?;
        self.process.execute()
    }

    /// What a report is about.
    fn explain(&self, report: Report) -> Error {
        let what = match report.part {
            PART_COMMAND => return explain::command(&self.process, self.root.as_fd(), &report),
            PART_CWD => {
                format!("the working directory {}", self.process.cwd.to_string_lossy())
            }
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

    /// Lets the program run.
    ///
    /// # Errors
    /// It cannot be executed ([`Error::Command`]); nothing of the container is left.
    pub fn start(self) -> Result<Running, Error> {
        let Self { mut child, terminal, prepared, group } = self;
        child.proceed()?;
        match child.next()? {
            Event::Executed => Ok(Running { child, terminal }),
            Event::Failed(report) => {
                let error = prepared.explain(report);
                child.wait()?;
                group.iter().for_each(Made::take_back);
                Err(error)
            }
            Event::Phase(..) => Err(Error::Process(ns_core::Error::Protocol { bytes: 2 })),
        }
    }
}

/// A process whose program runs: that of a container, or of an exec.
#[derive(Debug)]
pub struct Running {
    child: Child,
    terminal: Option<OwnedFd>,
}

impl Running {
    pub(crate) fn new(child: Child, terminal: Option<OwnedFd>) -> Self {
        Self { child, terminal }
    }

    /// Its number, as the caller sees it.
    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// Its descriptor, readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// The master of its terminal, where it has one.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The calling process is not the one that started it.
    pub fn wait(&self) -> Result<Exit, Error> {
        Ok(self.child.wait()?)
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// The signal may not be sent.
    pub fn kill(&self) -> Result<(), Error> {
        Ok(self.child.kill()?)
    }
}

/// Child side: joins the cgroups that a process joins by itself.
pub(crate) fn enter(join: Option<&Join>) -> Result<(), Failure> {
    let of_group = |failure: Failure| failure.of(PART_GROUP, failure.index);
    join.map_or(Ok(()), |join| join.apply().map_err(of_group))
}

/// A detached copy of the mount that the root lies in.
fn clone_root(path: &Path) -> Result<OwnedFd, Error> {
    let io = |op| move |errno: rustix::io::Errno| Error::io(op, path)(errno.into());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(path, flags, Mode::empty()).map_err(io("opening the container's root"))?;
    sys::mount::clone_tree(&root, c"", true)
        .map_err(io("cloning the mount of the container's root"))
}

/// Whether `/dev` is somebody's own directory, in which nothing may be made (as runc).
fn binds_dev(spec: &oci::Spec) -> bool {
    let is_bind = |mount: &oci::Mount| {
        let options = mount.options().iter().flatten();
        mount.typ().as_deref() == Some("bind")
            || options.into_iter().any(|word| matches!(word.as_str(), "bind" | "rbind"))
    };
    let mut mounts = spec.mounts().iter().flatten();
    mounts.any(|mount| mount.destination().as_os_str() == "/dev" && is_bind(mount))
}

/// The specification's default devices and those that the configuration adds.
fn devices(linux: &oci::Linux) -> Result<Vec<Device>, Error> {
    use oci::LinuxDeviceType as Type;
    let mut devices = pivot::standard::devices();
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        let field = |name: &str| format!("linux.devices[{index}].{name}");
        let kind = match device.typ() {
            Type::B => DeviceKind::Block,
            Type::C | Type::U => DeviceKind::Char,
            Type::P => DeviceKind::Fifo,
            Type::A => return Err(Error::field(field("type"), "\"a\" is no kind of a node")),
        };
        let number = |name: &str, number: i64| {
            let wrong = |_| Error::field(field(name), format!("{number} is no device number"));
            u32::try_from(number).map_err(wrong)
        };
        let Some(path) = device.path().to_str() else {
            return Err(Error::field(field("path"), "it is not UTF-8"));
        };
        devices.retain(|other| other.path != path);
        devices.push(Device {
            path: path.to_owned(),
            kind,
            major: number("major", device.major())?,
            minor: number("minor", device.minor())?,
            mode: device.file_mode().unwrap_or(0o666),
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    Ok(devices)
}

fn adjust_oom_score(pid: Pid, adjustment: i32) -> Result<(), Error> {
    let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
    std::fs::write(&path, adjustment.to_string())
        .map_err(Error::io("writing process.oomScoreAdj to", path))
}
