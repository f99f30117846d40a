//! A child in namespaces of its own, set up by `pivot` and looked at from outside by /proc.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use pivot::RootPropagation;
use rustix::mount::MountAttrFlags;
use sys::fscontext::FsContext;
use sys::mountinfo::{self, Mount};
use sys::{Failure, Report};

/// A detached tmpfs, in which tests make an image by its path.
pub(crate) struct Image {
    pub(crate) tree: OwnedFd,
}

impl Image {
    pub(crate) fn new() -> Self {
        let context = FsContext::open(c"tmpfs").unwrap();
        context.string(c"source", c"image").unwrap();
        Self { tree: context.mount(MountAttrFlags::empty()).unwrap() }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        sys::process::proc_path(&self.tree).join(below)
    }
}

/// A child that waits, after its set-up, for the test to look at it.
pub(crate) struct Container {
    child: super::child::Child,
}

impl Container {
    /// Runs `setup` in a child that is in new mount, PID, IPC, network and cgroup namespaces; what it
    /// failed with is the error.
    pub(crate) fn start(setup: impl FnOnce() -> Result<(), Failure>) -> Result<Self, Report> {
        super::child::Child::start(setup).map(|child| Self { child })
    }

    /// As [`Container::start`]: enter, `below` on the root's descriptor, pivot, `after` on it.
    pub(crate) fn of(
        tree: BorrowedFd<'_>,
        below: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>,
        after: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>,
    ) -> Result<Self, Report> {
        Self::start(|| {
            let root = pivot::enter(tree, RootPropagation::Private)?;
            below(root.as_fd())?;
            pivot::pivot(root.as_fd(), RootPropagation::Private)?;
            after(root.as_fd())
        })
    }

    /// `path` (relative) as the container sees it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.child.pid())).join(path)
    }

    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.pid())).join(file)
    }

    pub(crate) fn mounts(&self) -> Vec<Mount> {
        mountinfo::parse(&std::fs::read(self.proc("mountinfo")).unwrap()).unwrap()
    }

    /// The last mount on `target`.
    pub(crate) fn mount_on(&self, target: &str) -> Mount {
        let mut mounts = self.mounts();
        mounts.retain(|mount| mount.target == Path::new(target));
        mounts.pop().unwrap_or_else(|| panic!("nothing is mounted on {target}"))
    }
}

/// The words that mount(8) shows in parentheses: of the mount, then of the superblock.
pub(crate) fn shown(mount: &Mount) -> Vec<String> {
    let super_options = mount.super_options.to_string_lossy();
    let of_super = super_options.split(',').filter(|word| !matches!(*word, "rw" | "ro"));
    mount.options.split(',').chain(of_super).map(str::to_owned).collect()
}

pub(crate) fn nothing(_: BorrowedFd<'_>) -> Result<(), Failure> {
    Ok(())
}
