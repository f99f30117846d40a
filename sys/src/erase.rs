//! Removing a directory with all that it holds, however deep, and following nothing. Allocates.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes directory `name` of `dir`, and what lies in it. What a container has written may be
/// nested deeper than descriptors or the stack last, so what lies two levels deep is moved up to
/// the first, until nothing is left. Others may remove it at the same time.
pub fn erase(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let top = match rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    empty(top.as_fd())?;
    missing_is_fine(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR))
}

/// Removes all that lies in `top`.
pub fn empty(top: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut moved = 0_u64;
    loop {
        let entries = names(top)?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries {
            if remove(top, &entry)? {
                continue;
            }
            let directory = match rustix::fs::openat(top, &entry, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                result => result?,
            };
            for inner in names(directory.as_fd())? {
                if !remove(directory.as_fd(), &inner)? {
                    move_up(directory.as_fd(), &inner, top, &mut moved)?;
                }
            }
            // Now or, if something was added meanwhile, in the next round.
            remove(top, &entry)?;
        }
    }
}

/// Whether the file or empty directory is gone; not, if it is a directory that holds something.
fn remove(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        result => return missing_is_fine(result).map(|()| true),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
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
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        erase(top.as_fd(), c"gone").unwrap();
        assert!(!dir.path().join("gone").exists());
        assert!(dir.path().join("canary/file").exists());
        erase(top.as_fd(), c"gone").unwrap();
    }
}
