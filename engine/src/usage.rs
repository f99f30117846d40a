//! How much a directory holds.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::Error;

/// Directories that lie deeper in each other are not counted: each one on the way is open.
const DEPTH_MAX: usize = 512;
const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Bytes of the files below `path`, each inode once. Nothing is followed, and what is removed meanwhile is
/// not counted. A directory that is not there holds nothing.
///
/// # Errors
/// A system call fails.
pub(crate) fn usage(path: &Path) -> Result<u64, Error> {
    let failed = |errno| Error::system("count what lies below", path, errno);
    let top = match rustix::fs::open(path, FLAGS, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(0),
        Err(errno) => return Err(failed(errno)),
    };
    count(top).map_err(failed)
}

fn count(top: OwnedFd) -> Result<u64, Errno> {
    let mut bytes = 0_u64;
    let mut seen = HashSet::new();
    let mut open = vec![Dir::new(top)?];
    while let Some(dir) = open.last_mut() {
        let Some(entry) = dir.next() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let dir = dir.fd()?;
        let stat = match rustix::fs::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            result => result?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
                bytes += u64::try_from(stat.st_size).unwrap_or(0);
            }
            continue;
        }
        let below = match rustix::fs::openat(dir.as_fd(), name, FLAGS, Mode::empty()) {
            // Removed, or something else by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            result => result?,
        };
        if open.len() < DEPTH_MAX {
            open.push(Dir::new(below)?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_file_counts_once_and_links_lead_nowhere() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("one"), [0; 1000]).unwrap();
        fs::write(path.join("a/b/two"), [0; 200]).unwrap();
        fs::hard_link(path.join("one"), path.join("a/again")).unwrap();
        std::os::unix::fs::symlink("/etc", path.join("a/l")).unwrap();
        assert_eq!(usage(path).unwrap(), 1204);
        assert_eq!(usage(&path.join("none")).unwrap(), 0);
        usage(&path.join("one")).unwrap_err();
    }

    #[test]
    fn a_deep_tree_has_an_end() {
        let temp = tempfile::tempdir().unwrap();
        let mut path = temp.path().to_owned();
        for _ in 0..600 {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("f"), "x").unwrap();
        assert_eq!(usage(temp.path()).unwrap(), 0);
    }
}
