//! Namespaces by descriptor.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::process::last_errno;

const NSFS_MAGIC: i64 = 0x6e73_6673; // linux/magic.h
const NS_GET_NSTYPE: u64 = 0xb703; // _IO(0xb7, 3), linux/nsfs.h

/// The kind of the namespace that a file stands for, as its CLONE_NEW… flag (NS_GET_NSTYPE, ioctl_ns(2), Linux 4.11),
/// whatever path the file was opened by: below `/proc/PID/ns`, or one that the namespace is mounted over. `None`: the
/// file is no namespace's.
///
/// # Errors
/// The kernel could not look.
pub fn kind(file: BorrowedFd<'_>) -> Result<Option<u32>, Errno> {
    // Another file system's files may take the number for something else.
    if rustix::fs::fstatfs(file)?.f_type != NSFS_MAGIC {
        return Ok(None);
    }
    // SAFETY: NS_GET_NSTYPE of a file of nsfs takes no argument and writes nothing; `file` is open.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE as _) };
    u32::try_from(result).map(Some).map_err(|_| last_errno())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn each_kind_is_told_from_what_is_none() {
        for (name, flag) in [("net", libc::CLONE_NEWNET), ("mnt", libc::CLONE_NEWNS)] {
            let file = std::fs::File::open(format!("/proc/self/ns/{name}")).unwrap();
            assert_eq!(kind(file.as_fd()), Ok(Some(flag as u32)));
        }
        let other = std::fs::File::open("/proc/self/stat").unwrap();
        assert_eq!(kind(other.as_fd()), Ok(None));
    }
}
