//! Removing a directory with all that it holds, however deep, and following nothing. Allocates.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::path::Arg;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How deep directories are emptied in their place, each with a descriptor, before what lies deeper is moved up.
const DEPTH: usize = 8;

/// How many directories [`Removed`] keeps.
const KEPT: usize = 16;

/// Directories and links that are gone, and take room until this is dropped: their file system frees what nobody has open,
/// and on some each takes a millisecond for that (ext4 with `discard`). Who has somebody waiting for the removal answers
/// first. Of many only some are kept.
#[derive(Debug, Default)]
pub struct Removed(Vec<OwnedFd>);

impl Removed {
    /// What is about to be removed, if it is to be kept. Where it cannot be, its end is waited for, and no more.
    fn open(&self, dir: impl AsFd, name: impl Arg) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(dir, name, flags, Mode::empty()).ok();
        (self.0.len() < KEPT).then(open).flatten()
    }

    /// Removes a file or an empty directory, by unlinkat(2) with `flags`.
    ///
    /// # Errors
    /// That of the call.
    pub fn unlink(
        &mut self,
        dir: impl AsFd,
        name: impl Arg + Copy,
        flags: AtFlags,
    ) -> Result<(), Errno> {
        let kept = self.open(&dir, name);
        rustix::fs::unlinkat(dir, name, flags)?;
        self.0.extend(kept);
        Ok(())
    }

    /// As [`erase`].
    ///
    /// # Errors
    /// As there.
    pub fn erase(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let Some(top) = open(dir, name, self)? else { return Ok(()) };
        clear_all(top.fd()?, self)?;
        missing_is_fine(self.unlink(dir, name, AtFlags::REMOVEDIR))
    }
}

/// Removes directory `name` of `dir`, and what lies in it. What a container has written may be
/// nested deeper than descriptors or the stack last, so what lies deeper than some levels is moved up to
/// the first, until nothing is left. Others may remove it at the same time.
pub fn erase(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    Removed::default().erase(dir, name)
}

/// Removes all that lies in `top`.
pub fn empty(top: BorrowedFd<'_>) -> Result<(), Errno> {
    clear_all(top, &mut Removed::default())
}

fn clear_all(top: BorrowedFd<'_>, removed: &mut Removed) -> Result<(), Errno> {
    let mut moved = 0;
    let mut found = Dir::read_from(top)?;
    while clear(&mut found, top, DEPTH, &mut moved, removed)? {
        found.rewind();
    }
    Ok(())
}

/// Removes what is in `dir`, but for what holds something that was moved to `top`, or was added meanwhile. Whether it was
/// to be looked for again.
fn clear(
    dir: &mut Dir,
    top: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
    removed: &mut Removed,
) -> Result<bool, Errno> {
    let mut again = false;
    for (name, kind) in entries(dir)? {
        if remove(dir.fd()?, &name, kind, removed)? {
            continue;
        }
        again = true;
        let Some(deeper) = depth.checked_sub(1) else {
            move_up(dir.fd()?, &name, top, moved)?;
            continue;
        };
        let Some(mut inner) = open(dir.fd()?, &name, removed)? else { continue };
        clear(&mut inner, top, deeper, moved, removed)?;
        // Now or, if something was moved up or added meanwhile, in the next round.
        remove(dir.fd()?, &name, FileType::Directory, removed)?;
    }
    Ok(again)
}

fn open(dir: BorrowedFd<'_>, name: &CStr, removed: &mut Removed) -> Result<Option<Dir>, Errno> {
    let open = || rustix::fs::openat(dir, name, DIRECTORY, Mode::empty());
    let opened = open().or_else(|errno| match errno {
        // What is kept is the first to go.
        Errno::MFILE | Errno::NFILE if !removed.0.is_empty() => {
            removed.0.clear();
            open()
        }
        errno => Err(errno),
    });
    match opened {
        Err(Errno::NOENT) => Ok(None),
        result => Dir::new(result?).map(Some),
    }
}

/// Whether the file or empty directory is gone; not, if it is a directory that holds something. Not every filesystem
/// tells the kind in a directory, and it may be another by now.
fn remove(
    dir: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    removed: &mut Removed,
) -> Result<bool, Errno> {
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            result => return missing_is_fine(result).map(|()| true),
        }
    }
    match removed.unlink(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(Errno::NOTDIR) if kind == FileType::Directory => {
            remove(dir, name, FileType::Unknown, removed)
        }
        result => missing_is_fine(result).map(|()| true),
    }
}

fn move_up(
    dir: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let to = format!(".{moved}");
        match rustix::fs::renameat_with(dir, name, top, to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => return missing_is_fine(result),
        }
    }
}

fn missing_is_fine(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// What is in `dir`, without `.` and `..`.
pub fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let found = entries(&mut Dir::read_from(dir)?)?;
    Ok(found.into_iter().map(|(name, _)| name).collect())
}

fn entries(dir: &mut Dir) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut found = Vec::new();
    for entry in dir {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            found.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_not_followed_and_depth_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("gone/a/b/c")).unwrap();
        std::fs::create_dir(dir.path().join("canary")).unwrap();
        std::fs::write(dir.path().join("canary/file"), "").unwrap();
        for link in ["gone/link", "gone/a/b/link"] {
            symlink(dir.path().join("canary"), dir.path().join(link)).unwrap();
        }
        std::fs::write(dir.path().join("gone/.1"), "").unwrap();
        let top = std::fs::File::open(dir.path()).unwrap();
        // 3,000 levels: more than descriptors, and more than a path can name.
        let mut deepest = rustix::fs::openat(&top, c"gone/a", DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deepest, c"d", Mode::RWXU).unwrap();
            deepest = rustix::fs::openat(&deepest, c"d", DIRECTORY, Mode::empty()).unwrap();
        }
        let mut removed = Removed::default();
        removed.erase(top.as_fd(), c"gone").unwrap();
        assert!(!dir.path().join("gone").exists());
        assert!(dir.path().join("canary/file").exists());
        assert_eq!(removed.0.len(), KEPT, "of many some are kept");
        std::fs::create_dir(dir.path().join("gone")).unwrap();
        removed.erase(top.as_fd(), c"gone").unwrap();
        assert_eq!(removed.0.len(), KEPT, "and of several no more");
        erase(top.as_fd(), c"gone").unwrap();
    }

    #[test]
    fn directories_are_freed_when_what_keeps_them_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("gone/full")).unwrap();
        std::fs::create_dir_all(dir.path().join("gone/empty")).unwrap();
        std::fs::write(dir.path().join("gone/full/file"), "").unwrap();
        let top = std::fs::File::open(dir.path()).unwrap();
        let mut removed = Removed::default();
        removed.erase(top.as_fd(), c"gone").unwrap();
        assert!(!dir.path().join("gone").exists());
        // Three directories, each without a name, and no second descriptor of one of them.
        let links = removed.0.iter().map(|fd| rustix::fs::fstat(fd).unwrap());
        let mut inodes: Vec<_> =
            links.map(|stat| (stat.st_ino, stat.st_mode & 0o170_000)).collect();
        inodes.sort_unstable();
        inodes.dedup();
        assert_eq!(inodes.len(), 3);
        assert!(inodes.iter().all(|(_, kind)| *kind == 0o040_000));
    }
}
