//! A root without pivot_root(2), for hosts whose root is the initial ramdisk, which cannot be moved.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::fchdir;
use sys::fscontext::FsContext;
use sys::mountinfo::{self, Mount};
use sys::{Failure, Step, below, mount};

use crate::root::{DIRECTORY, spread};
use crate::{Error, RootPropagation, change_root};

/// procfs's and sysfs's numbers in statfs(2) (PROC_SUPER_MAGIC and SYSFS_MAGIC of linux/magic.h).
const MAGIC: [u64; 2] = [0x9fa0, 0x6265_6572];

/// The switch to a root by chroot(2), prepared.
///
/// The old root stays below the new one. Where a mount namespace has a procfs or sysfs whose whole tree can
/// be seen, the kernel lets everybody with a user namespace mount another (mount_too_revealing in
/// fs/namespace.c), without the container's masked paths; so the old root's are unmounted. What else is
/// there a process with CAP_SYS_CHROOT or CAP_SYS_ADMIN can reach (chroot(2), "Notes").
#[derive(Debug)]
pub struct Stay {
    full: Vec<Full>,
}

/// A place where a procfs or sysfs is mounted with its whole tree.
#[derive(Debug, PartialEq, Eq)]
struct Full {
    path: CString,
    /// How many mounts there are, that one and those on it.
    count: usize,
}

impl Stay {
    /// Finds what is to be taken away, in `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn prepare() -> Result<Self, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let bytes = sys::whole::read_path(path).map_err(Error::io("reading", path))?;
        Ok(Self { full: full(mountinfo::parse(&bytes)?) })
    }

    /// The same where nothing is mounted but a procfs at `/proc`, on a root that hides nothing.
    pub fn over_proc() -> Self {
        Self { full: vec![Full { path: c"/proc".to_owned(), count: 1 }] }
    }

    /// Child side. In place of [`pivot`](crate::pivot()): `root` (from [`enter`](crate::enter)) becomes the calling
    /// process's root by chroot(2), over the old one.
    pub fn apply(&self, root: BorrowedFd<'_>, propagation: RootPropagation) -> Result<(), Failure> {
        let old = rustix::fs::open(c"/", DIRECTORY, Mode::empty()).step("opening the old root")?;
        for full in &self.full {
            full.take_away(old.as_fd())?;
        }
        change_root(root)?;
        spread(root, propagation)
    }
}

impl Full {
    fn take_away(&self, old: BorrowedFd<'_>) -> Result<(), Failure> {
        for _ in 0..self.count {
            let found = match below::open(old, &self.path, OFlags::PATH | OFlags::DIRECTORY) {
                // It went with a mount above it.
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                found => found.step("opening a procfs or sysfs of the host")?,
            };
            fchdir(&found).step("entering a procfs or sysfs of the host")?;
            // Nothing of it reaches the host: enter has cut the mounts off.
            match mount::detach(c".") {
                Ok(()) => {}
                // Not mounted any more; or locked, in a user namespace, for which a cover will do.
                Err(Errno::INVAL | Errno::PERM) => return cover(found.as_fd()),
                Err(errno) => {
                    return Err(Failure::new("unmounting a procfs or sysfs of the host", errno));
                }
            }
        }
        Ok(())
    }
}

/// Mounts something empty on it, if it is one of the two.
fn cover(found: BorrowedFd<'_>) -> Result<(), Failure> {
    let kind = rustix::fs::fstatfs(found).step("looking at a procfs or sysfs of the host")?.f_type;
    if !MAGIC.contains(&(kind as u64)) {
        return Ok(());
    }
    let context = FsContext::open(c"tmpfs")?;
    context.flag(c"ro")?;
    let empty = context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    mount::attach(&empty, found).step("covering a procfs or sysfs of the host")
}

fn full(mounts: Vec<Mount>) -> Vec<Full> {
    let mut full: Vec<Full> = Vec::new();
    for mount in mounts {
        let kind = matches!(mount.fstype.as_str(), "proc" | "sysfs");
        // The kernel's texts have no NUL byte.
        let Ok(path) = CString::new(mount.target.into_os_string().into_vec()) else { continue };
        match full.iter_mut().find(|full| full.path == path) {
            Some(full) => full.count += 1,
            None if kind && mount.root == Path::new("/") => full.push(Full { path, count: 1 }),
            None => {}
        }
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_ones_are_found_with_what_lies_on_them() {
        let text = b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /proc rw - proc a rw\n\
                     3 1 0:6 /x /bound rw - proc a rw\n4 1 0:7 / /sys rw shared:1 - sysfs a rw\n\
                     5 4 0:8 / /sys rw - tmpfs a rw\n6 2 0:9 / /proc/sys/fs rw - binfmt_misc a rw\n";
        let found = full(mountinfo::parse(text).unwrap());
        let want = |path: &std::ffi::CStr, count| Full { path: path.to_owned(), count };
        assert_eq!(found, [want(c"/proc", 1), want(c"/sys", 2)]);
    }
}
