//! Files that can no longer be changed, and are verified by the kernel as they are read: fs-verity
//! (Documentation/filesystems/fsverity.rst; ext4 and f2fs from Linux 5.4, btrfs from 5.15).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::process::last_errno;

/// Bytes of a digest.
pub const DIGEST: usize = 32;

// linux/fsverity.h
const FS_IOC_ENABLE_VERITY: u64 = 0x4080_6685; // _IOW('f', 133, struct fsverity_enable_arg)
const FS_IOC_MEASURE_VERITY: u64 = 0xc004_6686; // _IOWR('f', 134, struct fsverity_digest)
const FS_VERITY_HASH_ALG_SHA256: u16 = 1;

/// `struct fsverity_enable_arg`
#[repr(C)]
struct Enable {
    version: u32,
    algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_digest`, with room for a digest.
#[repr(C)]
struct Measured {
    algorithm: u16,
    size: u16,
    digest: [u8; DIGEST],
}

/// Makes the file read-only for good, with a Merkle tree of SHA-256 over blocks of 4,096 bytes that each read is held
/// against (FS_IOC_ENABLE_VERITY). Reads the whole file once. Nobody may have it open for writing (ETXTBSY). A file
/// that is so already stays so (EEXIST is no error).
///
/// # Errors
/// The file system has no fs-verity (EOPNOTSUPP: this one could; ENOTTY: this kind cannot).
pub fn enable(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let arg = Enable {
        version: 1,
        algorithm: u32::from(FS_VERITY_HASH_ALG_SHA256),
        block_size: 4096,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        reserved2: [0; 11],
    };
    // SAFETY: FS_IOC_ENABLE_VERITY reads a `struct fsverity_enable_arg`, whose layout `Enable` has, with neither salt
    // nor signature to point to, and writes nothing; `arg` lives over the call, and `file` is open.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_ENABLE_VERITY as _, &raw const arg) };
    match result {
        0 => Ok(()),
        _ => match last_errno() {
            Errno::EXIST => Ok(()),
            errno => Err(errno),
        },
    }
}

/// The digest of a file with fs-verity, in constant time (FS_IOC_MEASURE_VERITY); `None` for one without.
///
/// # Errors
/// A digest of another kind (EOVERFLOW); the system call fails.
pub fn measure(file: BorrowedFd<'_>) -> Result<Option<[u8; DIGEST]>, Errno> {
    let mut measured = Measured { algorithm: 0, size: DIGEST as u16, digest: [0; DIGEST] };
    // SAFETY: FS_IOC_MEASURE_VERITY reads and writes a `struct fsverity_digest`, whose layout `Measured` has, and
    // writes at most the `size` bytes behind it that the value says; it lives over the call, and `file` is open.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_MEASURE_VERITY as _, &raw mut measured) };
    match result {
        0 if measured.algorithm == FS_VERITY_HASH_ALG_SHA256 => Ok(Some(measured.digest)),
        0 => Err(Errno::OVERFLOW),
        _ => match last_errno() {
            Errno::NODATA | Errno::OPNOTSUPP | Errno::NOTTY => Ok(None),
            errno => Err(errno),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!((size_of::<Enable>(), size_of::<Measured>()), (128, 36));
    }

    #[test]
    fn a_file_system_without_it_says_so() {
        let proc = std::fs::File::open("/proc/self/status").unwrap();
        assert_eq!(enable(proc.as_fd()), Err(Errno::NOTTY));
        assert_eq!(measure(proc.as_fd()), Ok(None));
    }
}
