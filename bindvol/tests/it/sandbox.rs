//! A mount namespace of a test's own, with an empty `/tmp`: what is mounted there goes with it.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bindvol::{Attributes, Bind};
use ns_core::{Child, Event, Namespaces, Spawn};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sys::fscontext::FsContext;
use sys::mount::{self, Change, Propagation};
use sys::mountinfo::{self, Mount};
use sys::{Failure, Report, Step};

/// Runs `test` on a thread in a new mount namespace, whose `/tmp` has a new tmpfs: `source`, `root`
/// (a mount of its own) and `canary` are in it.
pub(crate) fn sandbox(test: impl FnOnce() + Send) {
    let namespace = new_mount_namespace();
    let top = open("/");
    sys::process::in_directory(top.as_fd(), || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).unwrap();
        mount_tmpfs("/tmp");
        for directory in ["/tmp/source", "/tmp/root", "/tmp/canary"] {
            std::fs::create_dir(directory).unwrap();
        }
        mount_tmpfs("/tmp/root");
        test();
    })
    .unwrap();
}

fn new_mount_namespace() -> OwnedFd {
    let mut child = Spawn::new()
        .namespaces(Namespaces::MOUNT)
        .spawn(|gate| {
            cut_off()?;
            gate.wait(1)?;
            Err(Failure::new("the end of the test", rustix::io::Errno::CANCELED))
        })
        .unwrap();
    expect_phase(&mut child).unwrap();
    let namespace = File::open(format!("/proc/{}/ns/mnt", child.pid())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    namespace.into()
}

/// Nothing that is mounted from now on reaches the namespace that this one is a copy of.
fn cut_off() -> Result<(), Failure> {
    let top = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step("opening the root")?;
    let slave =
        Change { propagation: Some(Propagation::Slave), recursive: true, ..Change::default() };
    mount::change(&top, &slave).step("cutting the namespace off")
}

fn expect_phase(child: &mut Child) -> Result<(), Report> {
    match child.next().unwrap() {
        Event::Phase(1, None) => Ok(()),
        Event::Failed(report) => Err(report),
        event => panic!("{event:?}"),
    }
}

/// A process in a copy of the sandbox's mount namespace, stopped after its set-up.
pub(crate) struct Container {
    child: Child,
}

impl Container {
    /// Runs `setup` with a descriptor of `/tmp/root`; what it failed with is the error.
    pub(crate) fn start(
        setup: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>,
    ) -> Result<Self, Report> {
        let mut child = Spawn::new()
            .namespaces(Namespaces::MOUNT | Namespaces::PID)
            .spawn(|gate| -> Result<Infallible, Failure> {
                cut_off()?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let root = rustix::fs::open(c"/tmp/root", flags, Mode::empty())
                    .step("opening the root")?;
                setup(root.as_fd())?;
                gate.wait(1)?;
                Err(Failure::new("the end of the test", rustix::io::Errno::CANCELED))
            })
            .unwrap();
        match expect_phase(&mut child) {
            Ok(()) => Ok(Self { child }),
            Err(report) => {
                child.wait().unwrap();
                Err(report)
            }
        }
    }

    /// With these binds applied.
    pub(crate) fn with(binds: &[Bind]) -> Result<Self, Report> {
        Self::start(|root| binds.iter().try_for_each(|bind| bind.apply(root)))
    }

    /// `path` (relative) below the container's root.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/tmp/root", self.child.pid())).join(path)
    }

    /// The last mount on `target` below the container's root.
    pub(crate) fn mount_on(&self, target: &str) -> Option<Mount> {
        let table = format!("/proc/{}/mountinfo", self.child.pid());
        last_on(Path::new(&table), &format!("/tmp/root{target}"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last mount on `target` in the sandbox.
pub(crate) fn mount_on(target: &str) -> Option<Mount> {
    last_on(Path::new("/proc/thread-self/mountinfo"), target)
}

fn last_on(table: &Path, target: &str) -> Option<Mount> {
    let mut mounts = mountinfo::parse(&std::fs::read(table).unwrap()).unwrap();
    mounts.retain(|mount| mount.target == Path::new(target));
    mounts.pop()
}

pub(crate) fn open(path: impl AsRef<Path>) -> OwnedFd {
    rustix::fs::open(path.as_ref(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Mounts a new tmpfs on `path`.
pub(crate) fn mount_tmpfs(path: &str) {
    let tree = FsContext::open(c"tmpfs").unwrap().mount(MountAttrFlags::empty()).unwrap();
    mount::attach(tree, open(path)).unwrap();
}

/// Changes the propagation of the mount on `path`.
pub(crate) fn spread(path: &str, propagation: Propagation) {
    let change = Change { propagation: Some(propagation), ..Change::default() };
    mount::change(open(path), &change).unwrap();
}

/// The bind of `source` with default attributes.
pub(crate) fn bind(source: &str, target: &str) -> Bind {
    Bind::prepare(Path::new(source), target, true, &Attributes::default()).unwrap()
}

pub(crate) fn write(path: impl AsRef<Path>, text: &str) {
    std::fs::write(path, text).unwrap();
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}
