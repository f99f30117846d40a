//! Where a mount goes: below the root, and for kernel file systems through no symbolic link.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::umask;
use sys::{Failure, Step, below};

use crate::error::c_string;

/// Mode of directories that are made.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// A prepared target directory.
#[derive(Debug)]
pub(crate) enum Target {
    /// Each component is opened in the one before; a symbolic link anywhere is refused (ELOOP).
    NoLinks(Vec<CString>),
    /// Links are followed as a process with that root would.
    InRoot(CString),
}

impl Target {
    /// The directory, made (and its parents) where it is missing.
    pub(crate) fn make(&self, root: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
        match self {
            Self::NoLinks(names) => descend(root, names),
            Self::InRoot(path) => below::make(root, path, below::Kind::Directory, DIRECTORY_MODE)
                .step("opening or making the mount's target"),
        }
    }
}

/// The components of `path`, or `None` when it has `..`.
pub(crate) fn components(what: &'static str, path: &str) -> Result<Vec<CString>, crate::Error> {
    path.split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .map(|name| match name {
            ".." => Err(crate::Error::Path {
                what,
                path: path.to_owned(),
                reason: "it holds \"..\"; give it without",
            }),
            _ => c_string(what, name),
        })
        .collect()
}

/// An O_PATH descriptor of the directory that `names` lead to from `start`, made where missing.
pub(crate) fn descend(
    start: BorrowedFd<'_>,
    names: &[impl AsRef<CStr>],
) -> Result<OwnedFd, Failure> {
    let mut current = None;
    for name in names {
        let dir = current.as_ref().map_or(start, OwnedFd::as_fd);
        current = Some(directory(dir, name.as_ref())?);
    }
    match current {
        Some(found) => Ok(found),
        None => open_entry(start, c".").step("opening the directory to start from"),
    }
}

fn directory(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
    match open_directory(dir, name) {
        Err(Errno::NOENT) => make_directory(dir, name),
        Err(Errno::NOTDIR) => Err(no_directory(dir, name)),
        result => result.step("opening a directory below the root"),
    }
}

/// An O_PATH descriptor of the directory `name` in `dir`, made if it is missing.
pub(crate) fn make_directory(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
    match without_umask(|| rustix::fs::mkdirat(dir, name, DIRECTORY_MODE)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Failure::new("making a directory below the root", errno)),
    }
    match open_directory(dir, name) {
        Err(Errno::NOTDIR) => Err(no_directory(dir, name)),
        result => result.step("opening a directory that was just made"),
    }
}

/// What is there that is no directory.
fn no_directory(dir: BorrowedFd<'_>, name: &CStr) -> Failure {
    let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    match found.map(|found| FileType::from_raw_mode(found.st_mode)) {
        // A directory by now: whoever changes it has had a link there.
        Ok(FileType::Symlink | FileType::Directory) => Failure::new(
            "opening a directory that the image has made a symbolic link, where this must be mounted on \
             ordinary directory",
            Errno::LOOP,
        ),
        _ => Failure::new("opening a directory where the image has something else", Errno::NOTDIR),
    }
}

/// The directory `name` in `dir` itself: ENOTDIR for all else, a symbolic link too.
fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// `name` in `dir` itself, not what it links to.
pub(crate) fn open_entry(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Makes something with exactly the mode given. A chmod afterwards would follow a link that was put
/// there in between. The umask is the process's: only for the child, which has one thread.
pub(crate) fn without_umask<T>(make: impl FnOnce() -> T) -> T {
    let old = umask(Mode::empty());
    let made = make();
    umask(old);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_or_a_file_in_the_way_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        std::fs::create_dir_all(dir.path().join("root/real")).unwrap();
        std::fs::create_dir(&canary).unwrap();
        symlink(&canary, dir.path().join("root/dev")).unwrap();
        symlink("real", dir.path().join("root/inside")).unwrap();
        std::fs::write(dir.path().join("root/file"), "").unwrap();
        let root = rustix::fs::open(dir.path().join("root"), OFlags::PATH, Mode::empty()).unwrap();
        let errno = |path| {
            let names = components("target", path).unwrap();
            descend(root.as_fd(), &names).unwrap_err().errno
        };
        assert_eq!(errno("/dev"), Errno::LOOP);
        assert_eq!(errno("/dev/pts"), Errno::LOOP);
        assert_eq!(errno("/inside"), Errno::LOOP);
        assert_eq!(errno("/file"), Errno::NOTDIR);
        assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0);
        descend(root.as_fd(), &components("target", "//a/./b/").unwrap()).unwrap();
        assert!(dir.path().join("root/a/b").is_dir());
        assert!(components("target", "/a/../b").is_err());
    }
}
