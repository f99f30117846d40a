//! A file as a block device: `/dev/loop-control` and LOOP_CONFIGURE (loop(4), Linux 5.8). Allocates.
//!
//! The device is read-only and goes by itself when its last user closes it: the process that made it, or a file system
//! that was mounted from it meanwhile. So nothing is left of who is killed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::failure::{Failure, Step};
use crate::process::last_errno;

/// How often a free device may be taken by somebody else before it is given up.
const ATTEMPTS: u32 = 64;

/// Bytes of a block, whatever the file lies on.
const BLOCK: u32 = 512;

// linux/loop.h
const LOOP_CONFIGURE: u64 = 0x4C0A;
const LOOP_CTL_GET_FREE: u64 = 0x4C82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64` (linux/loop.h).
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    /// Bytes; 0: all.
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    /// For people: `losetup` shows it where the file has no path.
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` (linux/loop.h).
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A block device that reads a file. It goes with its last user.
#[derive(Debug)]
pub struct LoopDevice {
    device: OwnedFd,
    number: u32,
}

impl LoopDevice {
    /// Makes a device of the regular file `file`, which need be open for reading only; with blocks of 512 bytes, read
    /// through the page cache. What the file has behind its last whole block is not on it. Needs CAP_SYS_ADMIN, and
    /// `/dev/loop-control`.
    ///
    /// # Errors
    /// There are no loop devices here, or not for this process.
    pub fn new(file: BorrowedFd<'_>) -> Result<LoopDevice, Failure> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let control = rustix::fs::open(c"/dev/loop-control", flags, Mode::empty())
            .step("opening /dev/loop-control")?;
        let mut busy = Errno::BUSY;
        for _ in 0..ATTEMPTS {
            let number = free(&control).step("asking for a free loop device")?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let device = rustix::fs::open(format!("/dev/loop{number}"), flags, Mode::empty())
                .step("opening a loop device")?;
            match configure(&device, file) {
                Ok(()) => return Ok(LoopDevice { device, number }),
                // Somebody else was faster.
                Err(errno @ Errno::BUSY) => busy = errno,
                Err(errno) => return Err(Failure::new("making a file a loop device", errno)),
            }
        }
        Err(Failure::new("taking a free loop device", busy))
    }

    /// The device's name, which is its own for as long as this value lives.
    pub fn path(&self) -> String {
        format!("/dev/loop{}", self.number)
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// The number of a device that nobody uses; it is made where there is none.
fn free(control: &OwnedFd) -> Result<u32, Errno> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument, and `control` is open.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    u32::try_from(result).map_err(|_| last_errno())
}

fn configure(device: &OwnedFd, file: BorrowedFd<'_>) -> Result<(), Errno> {
    let info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let config = Config { fd, block_size: BLOCK, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, whose layout `Config` has, and writes nothing; `config`
    // lives over the call, and both descriptors are open.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom, Write};

    /// The file that is the device of this number, if it is one's.
    fn backing_file(number: u32) -> Option<String> {
        let path = format!("/sys/block/loop{number}/loop/backing_file");
        Some(std::fs::read_to_string(path).ok()?.trim_end().to_owned())
    }

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }

    #[test]
    fn a_file_is_read_by_blocks_and_the_device_goes_with_its_user() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[b'x'; 512]).unwrap();
        file.write_all(&[b'y'; 700]).unwrap();
        file.flush().unwrap();
        let open = File::open(file.path()).unwrap();
        let device = LoopDevice::new(open.as_fd()).unwrap();
        let shown = backing_file(device.number).unwrap();
        assert_eq!(shown, file.path().to_str().unwrap());
        let mut reader = File::open(device.path()).unwrap();
        assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), 1024);
        let mut block = [0; 2];
        reader.seek(SeekFrom::Start(511)).unwrap();
        reader.read_exact(&mut block).unwrap();
        assert_eq!(block, *b"xy");
        let number = device.number;
        drop((device, reader));
        // The last close of udev's own may come a moment later.
        for _ in 0..200 {
            if backing_file(number).is_none_or(|now| now != shown) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("/dev/loop{number} is still {shown}");
    }

    #[test]
    fn what_is_no_regular_file_is_an_error() {
        let pipe = rustix::pipe::pipe().unwrap();
        let failure = LoopDevice::new(pipe.0.as_fd()).unwrap_err();
        assert_eq!(failure.errno, Errno::INVAL);
    }
}
