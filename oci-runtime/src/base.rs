//! The mount namespace of which that of a container is a copy.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ns_core::{Namespaces, Spawn};
use pivot::RootPropagation;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use sys::fscontext::FsContext;
use sys::{Failure, Step};

use crate::Error;
use crate::inside::{stay, until_done};

const PROC: &CStr = c"/proc";
const PROC_BELOW: &CStr = c"proc";

/// A mount namespace with nothing in it but the caller's `/proc`.
///
/// A container's mount namespace begins as a copy of its creator's, and a host shows the root of each container that runs:
/// with a thousand of them the copy takes five times as long as all else of clone3. The namespace lives as long as
/// somebody has this.
#[derive(Clone, Debug)]
pub struct MountBase(Arc<OwnedFd>);

impl MountBase {
    /// Makes one.
    ///
    /// # Errors
    /// A system call fails; there is no `/proc`.
    pub fn new() -> Result<Self, Error> {
        let what = |_| "a mount namespace to be copied".to_owned();
        let failed = |failure: Failure| Error::Setup { what: what(None), report: failure.into() };
        let (tree, proc) = prepare().map_err(failed)?;
        let spawn = Spawn::new().namespaces(Namespaces::MOUNT);
        let child = until_done(&spawn, &what, |gate| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = pivot::enter(tree.as_fd(), RootPropagation::Private)?;
            let place = rustix::fs::openat(&root, PROC_BELOW, flags, Mode::empty())
                .step("opening the place of /proc")?;
            sys::mount::attach(&proc, place).step("attaching /proc")?;
            pivot::pivot(root.as_fd(), RootPropagation::Private)?;
            pivot::read_only(root.as_fd())?;
            stay(gate)
        })?;
        let path = format!("/proc/{}/ns/mnt", child.pid().as_raw_nonzero());
        let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = opened.map_err(|errno| Error::io("opening", path)(errno.into()))?;
        child.wait()?;
        Ok(Self(Arc::new(file)))
    }

    /// The one that `file` is open on, of another process that has it; `None`: it is no mount namespace.
    ///
    /// # Errors
    /// The kernel cannot tell.
    pub fn from_file(file: OwnedFd) -> Result<Option<Self>, Error> {
        let kind = sys::namespace::kind(file.as_fd()).map_err(|errno| {
            Error::io("looking at", "a mount namespace to be copied")(errno.into())
        })?;
        Ok((kind == Some(Namespaces::MOUNT.bits())).then(|| Self(Arc::new(file))))
    }
}

impl AsFd for MountBase {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Child side, before the root is switched. Whether the process's root is that of a [`MountBase`]: a tmpfs that cannot be
/// written to, of two inodes.
pub(crate) fn is_below() -> Result<bool, Failure> {
    /// linux/magic.h.
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let stat = rustix::fs::statfs(c"/").step("looking at the old root")?;
    let read_only = stat.f_flags as u64 & u64::from(rustix::mount::MountFlags::RDONLY.bits()) != 0;
    Ok(stat.f_type as u64 == TMPFS_MAGIC && read_only && stat.f_files == stat.f_ffree + 2)
}

/// An empty file system with a directory, and a detached mount for that.
fn prepare() -> Result<(OwnedFd, OwnedFd), Failure> {
    let context = FsContext::open(c"tmpfs")?;
    context.string(c"mode", c"755")?;
    let tree = context.mount(MountAttrFlags::empty())?;
    rustix::fs::mkdirat(&tree, PROC_BELOW, Mode::from_raw_mode(0o555)).step("making /proc")?;
    let proc =
        sys::mount::clone_tree(rustix::fs::CWD, PROC, true).step("cloning the mount of /proc")?;
    Ok((tree, proc))
}
