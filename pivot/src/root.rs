//! The root itself: a mount is moved onto `/`, becomes the root, and the old root goes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use sys::mount::{self, Change, Propagation};
use sys::{Failure, Step};

use crate::Error;

pub(crate) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How mounts spread between the container's root and the world (`linux.rootfsPropagation` of the
/// OCI runtime specification, config-linux.md). It concerns the root's own mount: volumes and other
/// mounts below it have their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RootPropagation {
    /// Neither in nor out: Docker's default.
    #[default]
    Private,
    /// What the host mounts below the root's source appears in the container, not the reverse.
    Slave,
    /// A new peer group, for containers started inside this one; the host does not belong to it.
    Shared,
    /// As private, and the root cannot be bound elsewhere.
    Unbindable,
}

impl RootPropagation {
    /// Reads `private`, `rprivate`, `slave` … as engines write them. The recursive forms mean the
    /// same: all mounts that come with the root are always changed together.
    pub fn from_word(word: &str) -> Result<Self, Error> {
        match word {
            "private" | "rprivate" => Ok(Self::Private),
            "slave" | "rslave" => Ok(Self::Slave),
            "shared" | "rshared" => Ok(Self::Shared),
            "unbindable" | "runbindable" => Ok(Self::Unbindable),
            _ => Err(Error::Propagation { word: word.to_owned() }),
        }
    }
}

/// A directory of the host on which a root is mounted until it is switched to, so that who looks into the
/// new mount namespace before that finds the root by its path.
#[derive(Debug)]
pub struct Place {
    path: CString,
    /// st_dev and st_ino.
    is: (u64, u64),
}

impl Place {
    /// The directory that `directory` is open on.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn new(directory: BorrowedFd<'_>) -> Result<Self, Error> {
        let link = sys::process::proc_path(directory);
        let path = std::fs::read_link(&link).map_err(Error::io("reading", &link))?;
        let stat = rustix::fs::fstat(directory)
            .map_err(|errno| Error::io("looking at", &path)(errno.into()))?;
        let path = CString::new(path.into_os_string().into_vec())
            .map_err(|error| Error::io("looking at", &link)(error.into()))?;
        Ok(Self { path, is: (stat.st_dev, stat.st_ino) })
    }

    /// Its path on the host.
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// Child side. The directory in the caller's mount namespace, of which a descriptor from another one is
    /// of no use: found by its path, and taken only if it is the same. None where it is not to be found.
    fn open(&self) -> Option<OwnedFd> {
        let found = rustix::fs::open(&self.path, DIRECTORY, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&found).ok()?;
        ((stat.st_dev, stat.st_ino) == self.is).then_some(found)
    }
}

/// Child side. [`enter_at`], onto `/`.
pub fn enter(tree: BorrowedFd<'_>, propagation: RootPropagation) -> Result<OwnedFd, Failure> {
    enter_at(tree, propagation, None)
}

/// Child side. Cuts the new namespace off the host's and moves the detached mount `tree` onto `place`, or
/// onto `/` where there is none, or it cannot be reached (as in another user namespace);
/// the calling process's root stays the old one, so paths still mean the host's. Gives a descriptor
/// (O_PATH) of the moved mount's root, below which everything else is attached before [`pivot`].
///
/// Must be called in a mount namespace of the caller's own, with CAP_SYS_ADMIN over it.
/// open_tree(2) and move_mount(2) are Linux 5.2, mount_setattr(2) 5.12.
pub fn enter_at(
    tree: BorrowedFd<'_>,
    propagation: RootPropagation,
    place: Option<&Place>,
) -> Result<OwnedFd, Failure> {
    let old = rustix::fs::open(c"/", DIRECTORY, Mode::empty()).step("opening the old root")?;
    // Slave, not private: the copies of the host's mounts must still go when the host unmounts the
    // originals meanwhile, or they keep its disks busy. Nothing that happens here reaches the host.
    change(&old, Propagation::Slave, true, "cutting the new mount namespace off the host's")?;
    // pivot_root refuses a root that is shared, and what is attached below a shared mount would
    // appear at its peers on the host as well.
    let quiet = match propagation {
        RootPropagation::Slave => Propagation::Slave,
        _ => Propagation::Private,
    };
    change(tree, quiet, true, "cutting the root's mounts off the host's")?;
    let own = place.and_then(Place::open);
    mount::attach(tree, own.as_ref().unwrap_or(&old))
        .step("moving the root's mount onto its place")?;
    rustix::fs::openat(tree, c".", DIRECTORY, Mode::empty()).step("opening the moved root")
}

/// Child side. Makes `root` (from [`enter_at`]) the root of the mount namespace and of the calling
/// process, detaches the old root with all that lies below it, and gives the new one its
/// `propagation`. The working directory is `/` afterwards.
///
/// pivot_root(2) with the new root as place for the old one, as its manual page describes: nothing
/// has to be made in the image, and no chroot(2) is left to be undone.
pub fn pivot(root: BorrowedFd<'_>, propagation: RootPropagation) -> Result<(), Failure> {
    let old = rustix::fs::open(c"/", DIRECTORY, Mode::empty()).step("opening the old root")?;
    fchdir(root).step("entering the new root")?;
    pivot_root(c".", c".").step("making the new root the root of the mount namespace")?;
    // The old root lies on the new one now; "." may mean either, the descriptor does not.
    fchdir(&old).step("entering the old root")?;
    // Unmounting must not be told to the host.
    change(&old, Propagation::Slave, true, "cutting the old root off the host's")?;
    drop(old);
    mount::detach(c".").step("detaching the old root")?;
    loop {
        // What else is stacked there; EINVAL: "." is no mount of this namespace any more.
        match mount::detach(c".") {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(Failure::new("detaching what lay on the old root", errno)),
        }
    }
    chdir(c"/").step("entering /")?;
    spread(root, propagation)
}

/// Child side. Makes the directory `root` the calling process's root and working directory (chroot(2)), and
/// changes no mount.
pub fn change_root(root: BorrowedFd<'_>) -> Result<(), Failure> {
    fchdir(root).step("entering the new root")?;
    chroot(c".").step("making the new root the root of the process")?;
    chdir(c"/").step("entering /")
}

pub(crate) fn spread(root: BorrowedFd<'_>, propagation: RootPropagation) -> Result<(), Failure> {
    match propagation {
        RootPropagation::Private | RootPropagation::Slave => Ok(()), // set by enter
        RootPropagation::Shared => change(root, Propagation::Shared, false, "sharing the root"),
        RootPropagation::Unbindable => {
            change(root, Propagation::Unbindable, false, "making the root unbindable")
        }
    }
}

/// Child side. Makes the mount that `root` is open on read-only, and none of those below it.
pub fn read_only(root: BorrowedFd<'_>) -> Result<(), Failure> {
    let change = Change { set: Some(MountAttrFlags::MOUNT_ATTR_RDONLY), ..Change::default() };
    mount::change(root, &change).step("making the root read-only")
}

fn change(
    mount: impl AsFd,
    propagation: Propagation,
    recursive: bool,
    op: &'static str,
) -> Result<(), Failure> {
    let change = Change { propagation: Some(propagation), recursive, ..Change::default() };
    mount::change(mount, &change).step(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_propagation() {
        assert_eq!(RootPropagation::from_word("rslave").unwrap(), RootPropagation::Slave);
        assert_eq!(RootPropagation::from_word("unbindable").unwrap(), RootPropagation::Unbindable);
        // CVE-2024-9407: nothing rides along.
        let error = RootPropagation::from_word("rprivate,src=/").unwrap_err().to_string();
        assert!(error.contains("\"rprivate,src=/\""), "{error}");
        assert!(RootPropagation::from_word("").is_err());
    }
}
