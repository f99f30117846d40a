//! Mounts of indexes: of the files themselves, or where the kernel wants block devices, of loop devices over them.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::Failure;
use sys::fscontext::FsContext;
use sys::loop_device::LoopDevice;

/// How an index gets mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// EROFS reads the files (Linux 6.12).
    Files,
    /// EROFS reads loop devices, which read the files, and go with the mount: before 6.12, and where a file system
    /// gives no pages to others (tmpfs).
    Loops,
}

/// A detached mount of an index with its devices, in the first way that goes. `name` is what the host's `mount` shows
/// as its source, a path that leads to `index`; of a loop device it shows that.
///
/// # Errors
/// Neither goes: what the kernel said of the second.
pub(crate) fn mount(
    index: BorrowedFd<'_>,
    name: Option<&CStr>,
    devices: &[BorrowedFd<'_>],
) -> Result<OwnedFd, Failure> {
    match mount_by(Way::Files, index, name, devices) {
        // EROFS takes no such file and asks for a block device.
        Err(failure) if failure.errno == Errno::NOTBLK => {
            mount_by(Way::Loops, index, name, devices)
        }
        other => other,
    }
}

pub(crate) fn mount_by(
    way: Way,
    index: BorrowedFd<'_>,
    name: Option<&CStr>,
    devices: &[BorrowedFd<'_>],
) -> Result<OwnedFd, Failure> {
    if way == Way::Files {
        let own = path_of(index);
        let devices: Vec<CString> = devices.iter().map(|device| path_of(*device)).collect();
        return erofs(name.unwrap_or(&own), &devices);
    }
    let source = LoopDevice::new(index)?;
    let loops: Result<Vec<LoopDevice>, Failure> =
        devices.iter().map(|device| LoopDevice::new(*device)).collect();
    let loops = loops?;
    let devices: Vec<CString> = loops.iter().map(|device| path_of(device.as_fd())).collect();
    // A node of the host's that is another device's by now cannot be: this one is open.
    let own = CString::new(source.path()).unwrap_or_else(|_| path_of(source.as_fd()));
    // Once it is mounted, EROFS has them open; before, they go with these descriptors.
    erofs(&own, &devices)
}

fn erofs(source: &CStr, devices: &[CString]) -> Result<OwnedFd, Failure> {
    let context = FsContext::open(c"erofs")?;
    // Of the file system, and not of the mount alone: else a device that is read-only is refused (EACCES).
    context.flag(c"ro")?;
    context.string(c"source", source)?;
    for device in devices {
        context.string(c"device", device)?;
    }
    context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// The path of an open file, for the kernel.
fn path_of(file: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    use rustix::fs::{Mode, OFlags};

    /// A tar of one file, and its index.
    fn small() -> (File, File) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(2000);
        header.set_mode(0o644);
        tar.append_data(&mut header, "file", &[b'x'; 2000][..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let (mut device, mut index) =
            (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        device.write_all(&tar).unwrap();
        let limits = image_unpack::Limits::default();
        let size = tar.len() as u64;
        let again = device.try_clone().unwrap();
        let mut indexed = image_unpack::index_tar(again, 0, size, &limits, "a tar").unwrap();
        let mut merge = image_unpack::Merge::new("an index", &limits);
        merge.add(&mut indexed, 1).unwrap();
        merge.write(&[size], [1; 16], &mut index).unwrap();
        (index, device)
    }

    #[expect(clippy::print_stdout, reason = "a test's words to its runner")]
    #[test]
    fn both_ways_show_the_same() {
        let (index, device) = small();
        for way in [Way::Files, Way::Loops] {
            let mounted = mount_by(way, index.as_fd(), None, &[device.as_fd()]);
            let mounted = match (way, mounted) {
                (Way::Files, Err(failure)) if failure.errno == Errno::NOTBLK => {
                    println!("SKIPPED: feature erofs_file_backed: EROFS wants a block device");
                    continue;
                }
                (Way::Loops, Err(failure)) if failure.errno == Errno::INVAL => {
                    println!("SKIPPED: feature erofs_small_blocks: EROFS wants larger blocks");
                    continue;
                }
                (_, mounted) => mounted.unwrap_or_else(|failure| panic!("{way:?}: {failure:?}")),
            };
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&mounted, "file", flags, Mode::empty()).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut File::from(file), &mut bytes).unwrap();
            assert_eq!(bytes, [b'x'; 2000], "{way:?}");
        }
    }
}
