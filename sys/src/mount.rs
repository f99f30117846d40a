//! Mounts by descriptor: open_tree(2), move_mount(2), mount_setattr(2), umount2(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

/// How mount and unmount events spread (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// To and from the peers.
    Shared,
    /// From the master only.
    Slave,
    /// Neither.
    Private,
    /// Neither, and the mount cannot be bound elsewhere.
    Unbindable,
}

/// What mount_setattr(2) changes (Linux 5.12). Made with `Default`, nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'fd> {
    /// Flags to set.
    pub set: Option<MountAttrFlags>,
    /// Flags to clear. To set an atime flag clear `MOUNT_ATTR__ATIME` too.
    pub clear: Option<MountAttrFlags>,
    /// New propagation.
    pub propagation: Option<Propagation>,
    /// A user namespace whose id maps translate owners (MOUNT_ATTR_IDMAP; the tree must be detached).
    pub idmap: Option<BorrowedFd<'fd>>,
    /// The mounts below too (AT_RECURSIVE).
    pub recursive: bool,
}

/// A detached copy of the mount that `path` below `dir` lies in, rooted at `path`
/// (open_tree(2) with OPEN_TREE_CLONE; Linux 5.2). An empty path takes `dir` itself.
pub fn clone_tree(dir: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags)
}

/// Attaches the mount `tree` on the very object that `target` is open on (move_mount(2), both by
/// descriptor; Linux 5.2).
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    rustix::mount::move_mount(
        tree,
        c"",
        target,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// Detaches what is mounted at the working directory or root, as pivot_root(2) needs it
/// (umount2(2) with MNT_DETACH).
pub fn detach(path: &CStr) -> Result<(), Errno> {
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
}

/// mount_setattr(2) on the mount that `mount` is open on.
pub fn change(mount: impl AsFd, change: &Change<'_>) -> Result<(), Errno> {
    let mut attr = libc::mount_attr {
        attr_set: change.set.map_or(0, |flags| u64::from(flags.bits())),
        attr_clr: change.clear.map_or(0, |flags| u64::from(flags.bits())),
        propagation: change.propagation.map_or(0, |propagation| match propagation {
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }),
        userns_fd: 0,
    };
    if let Some(userns) = change.idmap {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = userns.as_raw_fd() as u64;
    }
    let mut flags = libc::AT_EMPTY_PATH;
    if change.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a static C string, `attr` lives over the call and the size given is its
    // own; the kernel reads both and writes neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(crate::process::last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fscontext::FsContext;
    use rustix::fs::{Mode, OFlags};

    #[test]
    fn a_detached_tmpfs_becomes_read_only() {
        let mount = FsContext::open(c"tmpfs").unwrap().mount(MountAttrFlags::empty()).unwrap();
        let make = |name: &CStr| {
            rustix::fs::openat(&mount, name, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR)
        };
        make(c"before").unwrap();
        let ro = Change {
            set: Some(MountAttrFlags::MOUNT_ATTR_RDONLY),
            recursive: true,
            ..Change::default()
        };
        change(&mount, &ro).unwrap();
        assert_eq!(make(c"after").unwrap_err(), Errno::ROFS);
    }

    #[test]
    fn a_wrong_descriptor_is_an_error() {
        let file = rustix::fs::open(c"/proc/self/status", OFlags::RDONLY, Mode::empty()).unwrap();
        let error =
            change(&file, &Change { propagation: Some(Propagation::Private), ..Change::default() });
        assert_eq!(error.unwrap_err(), Errno::INVAL);
    }
}
