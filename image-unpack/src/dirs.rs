//! Directories of a layer by descriptor: nothing here follows a symlink or leaves the layer.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

use crate::Error;
use crate::error::show;
use crate::meta::overlay_prefix;
use crate::options::WhiteoutForm;

/// A directory as a place to work in.
pub(crate) const PLACE: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A directory to read, or to set attributes of.
pub(crate) const READ: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Open the directory `path` (empty: the root itself) below `root`.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    loop {
        // openat2 asks to be called again if a rename raced with it.
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Like `open`, None if there is no such directory.
pub(crate) fn open_if(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<Option<OwnedFd>> {
    match open(root, path, flags) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if is_no_directory(e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The path has no directory at its end, or something else than one on the way.
pub(crate) fn is_no_directory(e: Errno) -> bool {
    matches!(e, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// What `name` is, without following it.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    file_type(stat) == FileType::Directory
}

/// The names in a directory that is open for reading.
pub(crate) fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Write a whiteout. The attribute form also needs [`mark_whiteouts`] on the directory.
pub(crate) fn make_whiteout(
    dir: BorrowedFd<'_>,
    name: &[u8],
    form: WhiteoutForm,
) -> rustix::io::Result<()> {
    match form {
        WhiteoutForm::Device => {
            rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
        }
        WhiteoutForm::Xattr { .. } => {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
            set(file, "whiteout", b"y", form)
        }
    }
}

/// Hide what lower layers have in this directory.
pub(crate) fn mark_opaque(dir: &OwnedFd, form: WhiteoutForm) -> rustix::io::Result<()> {
    set(dir, "opaque", b"y", form)
}

/// Say that this directory has whiteouts in the attribute form (overlayfs.rst, "Whiteouts and opaque directories").
pub(crate) fn mark_whiteouts(dir: &OwnedFd, form: WhiteoutForm) -> rustix::io::Result<()> {
    match form {
        WhiteoutForm::Device => Ok(()),
        WhiteoutForm::Xattr { .. } => set(dir, "opaque", b"x", form),
    }
}

fn set(
    fd: impl std::os::fd::AsFd,
    name: &str,
    value: &[u8],
    form: WhiteoutForm,
) -> rustix::io::Result<()> {
    let name = format!("{}{name}", overlay_prefix(form));
    rustix::fs::fsetxattr(fd, name.as_str(), value, XattrFlags::empty())
}

/// Whether an open file has overlayfs's attribute `name` with this value.
fn has(
    fd: BorrowedFd<'_>,
    name: &str,
    value: &[u8],
    form: WhiteoutForm,
) -> rustix::io::Result<bool> {
    let name = format!("{}{name}", overlay_prefix(form));
    let mut buffer = [0_u8; 8];
    match rustix::fs::fgetxattr(fd, name.as_str(), &mut buffer) {
        Ok(length) => Ok(buffer.get(..length) == Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(e) => Err(e),
    }
}

pub(crate) fn is_opaque(dir: BorrowedFd<'_>, form: WhiteoutForm) -> rustix::io::Result<bool> {
    has(dir, "opaque", b"y", form)
}

/// Whether `name`, which has this status, is a whiteout in either form.
pub(crate) fn is_whiteout(
    dir: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    form: WhiteoutForm,
) -> rustix::io::Result<bool> {
    match file_type(stat) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 && form != WhiteoutForm::Device => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
            let name = format!("{}whiteout", overlay_prefix(form));
            match rustix::fs::fgetxattr_query(&file, name.as_str()) {
                Ok(_) => Ok(true),
                Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
                Err(e) => Err(e),
            }
        }
        _ => Ok(false),
    }
}

/// Errors that name the layer and the path.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) layer: &'a str,
}

impl Place<'_> {
    pub(crate) fn error(
        &self,
        op: &'static str,
        path: &[u8],
        source: impl Into<io::Error>,
    ) -> Error {
        Error::System { layer: self.layer.to_owned(), op, path: show(path), source: source.into() }
    }
}
