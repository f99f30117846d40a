//! Where a file system puts what is made.

use std::os::fd::AsFd;

use rustix::fs::IFlags;

/// Has directories that are made in `dir` placed apart from each other, where the file system can (ext4: the
/// `T` of chattr(1)). ext4 looks for a free inode near the directory, and passes slowly over those that were
/// freed in the last minutes: what is made after another was removed is not to be put among them.
pub fn spread(dir: impl AsFd) {
    // Without it, all is the same but slower.
    if let Ok(flags) = rustix::fs::ioctl_getflags(&dir) {
        let _ = rustix::fs::ioctl_setflags(&dir, flags | IFlags::TOPDIR);
    }
}
