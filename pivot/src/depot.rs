//! Nodes for a user namespace, in which nobody may make any (mknod(2)): they are made on the host, in a file
//! system that is mounted nowhere, and bound from there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::fchdir;
use sys::fscontext::FsContext;
use sys::{Failure, Step, mount};

/// The file system with the nodes.
#[derive(Debug)]
pub(crate) struct Depot {
    tree: OwnedFd,
    count: u32,
}

impl Depot {
    /// An empty one.
    pub(crate) fn new() -> Result<Self, Failure> {
        let context = FsContext::open(c"tmpfs")?;
        context.string(c"mode", c"755")?;
        Ok(Self { tree: context.mount(MountAttrFlags::empty())?, count: 0 })
    }

    /// Makes a node with the host's ids of its owner; its name in here.
    ///
    /// # Errors
    /// EPERM: the caller may make none either.
    pub(crate) fn make(
        &mut self,
        kind: FileType,
        numbers: u64,
        mode: Mode,
        owner: (u32, u32),
    ) -> Result<CString, Errno> {
        let name = CString::new(self.count.to_string()).map_err(|_| Errno::INVAL)?;
        self.count += 1;
        rustix::fs::mknodat(&self.tree, &name, kind, mode, numbers)?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::chownat(&self.tree, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        // Not what the caller's umask leaves of it.
        rustix::fs::chmodat(&self.tree, &name, mode, AtFlags::empty())?;
        Ok(name)
    }

    /// Child side. Mounts it on the directory `place` for as long as nodes are taken out: before Linux 6.15 nothing
    /// can be bound from what is mounted nowhere.
    pub(crate) fn open(&self, place: BorrowedFd<'_>) -> Result<(), Failure> {
        mount::attach(&self.tree, place).step("mounting the file system with the container's nodes")
    }

    /// Child side, while it is open. A detached mount of the node `name`.
    pub(crate) fn take(&self, name: &CStr) -> Result<OwnedFd, Failure> {
        mount::clone_tree(&self.tree, name, false).step("cloning the mount of the container's node")
    }

    /// Child side, once, after that.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        fchdir(self.tree.as_fd()).step("entering the file system with the container's nodes")?;
        mount::detach(c".").step("unmounting the file system with the container's nodes")
    }
}
