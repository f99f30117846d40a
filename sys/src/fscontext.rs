//! A file system before it is mounted: fsopen(2), fsconfig(2), fsmount(2), with the kernel's own
//! words when one fails.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags};

use crate::failure::{Failure, Step};

/// A file system being configured (Linux 5.2).
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
}

impl FsContext {
    /// fsopen(2) of the file system type `name`, for example `c"tmpfs"`.
    pub fn open(name: &CStr) -> Result<Self, Failure> {
        let fd = rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)
            .step("opening a context for the file system type")?;
        Ok(Self { fd })
    }

    /// fspick(2) of the file system that `mount` is open on, to change its options.
    pub fn pick(mount: impl AsFd) -> Result<Self, Failure> {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
        let fd = rustix::mount::fspick(mount, c"", flags)
            .step("opening a context for the mounted file system")?;
        Ok(Self { fd })
    }

    /// Gives the file system of [`FsContext::pick`] the options that were set.
    pub fn reconfigure(&self) -> Result<(), Failure> {
        let done = rustix::mount::fsconfig_reconfigure(&self.fd);
        self.logged(done, "changing the file system's options")
    }

    /// Sets option `key` to `value`; a value may have 255 bytes at most (EINVAL).
    pub fn string(&self, key: &CStr, value: &CStr) -> Result<(), Failure> {
        self.logged(
            rustix::mount::fsconfig_set_string(&self.fd, key, value),
            "setting a mount option",
        )
    }

    /// Sets option `key`, which takes no value.
    pub fn flag(&self, key: &CStr) -> Result<(), Failure> {
        self.logged(rustix::mount::fsconfig_set_flag(&self.fd, key), "setting a mount option")
    }

    /// Sets option `key` to a descriptor.
    pub fn descriptor(&self, key: &CStr, value: BorrowedFd<'_>) -> Result<(), Failure> {
        self.logged(rustix::mount::fsconfig_set_fd(&self.fd, key, value), "setting a mount option")
    }

    /// Makes the superblock and a detached mount of it with `attributes`; the mount goes when the
    /// descriptor is closed, unless it is moved somewhere first.
    pub fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd, Failure> {
        self.logged(rustix::mount::fsconfig_create(&self.fd), "creating the file system")?;
        self.logged(
            rustix::mount::fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes),
            "making a mount of the file system",
        )
    }

    fn logged<T>(&self, result: Result<T, Errno>, op: &'static str) -> Result<T, Failure> {
        result.map_err(|errno| {
            let mut failure = Failure::new(op, errno);
            // Each read gives one message; ENODATA ends the log. It only explains: an error here
            // must not hide the one above.
            let mut message = [0_u8; 512];
            while let Ok(n) = rustix::io::read(&self.fd, &mut message) {
                failure.log.push(&message[..n]);
            }
            failure
        })
    }
}

impl AsFd for FsContext {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_why() {
        let context = FsContext::open(c"tmpfs").unwrap();
        let failure = context.string(c"nonsense", c"1").unwrap_err();
        assert_eq!(failure.errno, Errno::INVAL);
        let log = String::from_utf8_lossy(failure.log.as_bytes()).into_owned();
        assert!(log.contains("nonsense"), "{log:?}");
    }

    #[test]
    fn an_unknown_type_is_enodev() {
        assert_eq!(FsContext::open(c"no-such-fs").unwrap_err().errno, Errno::NODEV);
    }

    #[test]
    fn a_tmpfs_is_mounted_detached() {
        let context = FsContext::open(c"tmpfs").unwrap();
        context.string(c"mode", c"0700").unwrap();
        let mount = context.mount(MountAttrFlags::MOUNT_ATTR_NOSUID).unwrap();
        let stat = rustix::fs::fstat(&mount).unwrap();
        assert_eq!(stat.st_mode & 0o7777, 0o700);
    }
}
