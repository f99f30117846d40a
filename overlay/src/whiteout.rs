//! How a layer says that something below it is gone: whiteouts and opaque directories, in the forms
//! that overlayfs reads (Documentation/filesystems/overlayfs.rst).
//!
//! All functions work on one name in a directory that the caller has open (not O_PATH, since
//! attributes are read through it), and follow no link.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

/// What overlayfs reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A character device 0:0 and `trusted.overlay.*`: the form that every kernel knows.
    Device,
    /// A zero-sized regular file with an attribute (Linux 6.8): where devices cannot be made, or
    /// where the layer is to be the lower one of an overlay that holds layers itself.
    Xattr {
        /// `user.overlay.*` in place of `trusted.overlay.*`, for overlays with `userxattr`.
        user: bool,
    },
}

impl Form {
    fn user(self) -> bool {
        matches!(self, Self::Xattr { user: true })
    }
}

const fn opaque(user: bool) -> &'static CStr {
    if user { c"user.overlay.opaque" } else { c"trusted.overlay.opaque" }
}

const fn whiteout(user: bool) -> &'static CStr {
    if user { c"user.overlay.whiteout" } else { c"trusted.overlay.whiteout" }
}

/// Makes a whiteout of `name` in the layer's directory `dir`. EEXIST where something is there.
///
/// The attribute form marks `dir` too, as holding such whiteouts, unless it is opaque: in an opaque
/// directory nothing from below shows, and a whiteout there would be seen as a file.
pub fn make(dir: BorrowedFd<'_>, name: &CStr, form: Form) -> Result<(), Errno> {
    let Form::Xattr { user } = form else {
        return rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0);
    };
    match attribute(dir, opaque(user))?.as_slice() {
        b"y" => return Err(Errno::INVAL),
        b"x" => {}
        _ => rustix::fs::fsetxattr(dir, opaque(user), b"x", XattrFlags::empty())?,
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let marked = rustix::fs::fsetxattr(&file, whiteout(user), b"y", XattrFlags::empty());
    if marked.is_err() {
        // Without its mark it would be a file that shows.
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
    }
    marked
}

/// Whether `name` in `dir` is a whiteout of either form (`user` says whose attributes count).
/// ENOENT where nothing is there.
pub fn is_whiteout(dir: BorrowedFd<'_>, name: &CStr, user: bool) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 => {
            let file = open(dir, name)?;
            has(file.as_fd(), whiteout(user))
        }
        _ => Ok(false),
    }
}

/// Makes the layer's directory `dir` opaque: what lies below it in other layers does not show.
pub fn set_opaque(dir: BorrowedFd<'_>, form: Form) -> Result<(), Errno> {
    rustix::fs::fsetxattr(dir, opaque(form.user()), b"y", XattrFlags::empty())
}

/// Whether `dir` is opaque (`user` says whose attribute counts).
pub fn is_opaque(dir: BorrowedFd<'_>, user: bool) -> Result<bool, Errno> {
    Ok(attribute(dir, opaque(user))? == b"y")
}

fn open(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn has(file: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match rustix::fs::fgetxattr(file, name, &mut [0_u8; 0]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The attribute's value, empty where there is none; the values in question have one byte.
fn attribute(file: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = [0_u8; 16];
    match rustix::fs::fgetxattr(file, name, &mut value) {
        Ok(n) => Ok(value[..n].to_vec()),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}
