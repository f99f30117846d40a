//! What a container has changed of its image's files: `diff`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use overlay::whiteout::{is_opaque, is_whiteout};
use rustix::fs::{AtFlags, Dir as Entries, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::{Engine, Error};

/// A path that is different from the image's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened to it.
    pub kind: ChangeKind,
    /// Absolute, in the container; bytes that are no UTF-8 are shown as U+FFFD.
    pub path: String,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is another than the image's; of a directory also: something in it is.
    Changed,
    /// It is gone, with all that was in it.
    Deleted,
}

impl ChangeKind {
    /// Docker's letter for it.
    pub fn letter(self) -> char {
        match self {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        }
    }
}

/// What this engine makes in a container's root to mount something on, or so that a program finds it;
/// Docker makes it in a layer that its diff does not show.
const MADE: [&str; 12] = [
    "/dev",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sbin/docker-init",
    "/sys",
    "/sys/fs/cgroup",
];

impl Engine {
    /// What a container, running or not, has changed of the image's files: each directory before what
    /// is in it, and that in the order of its bytes.
    ///
    /// # Errors
    /// There is no such container; a layer or the container's directory cannot be read.
    pub fn diff(&self, container: &str) -> Result<Vec<Change>, Error> {
        let (dir, container) = self.find(container)?;
        let upper = dir.open("diff")?;
        let mut lowers = Vec::with_capacity(container.lowers.len());
        for lower in &container.lowers {
            let path = self.root.path().join(&lower.link);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let open = rustix::fs::open(&path, flags, Mode::empty());
            lowers.push(open.map_err(|errno| Error::system("open the layer", &path, errno))?);
        }
        let upper = open_directory(upper.as_fd(), c".")
            .map_err(|errno| Error::system("open", dir.path().join("diff"), errno))?;
        let mut changes = Vec::new();
        let compared = directory(&upper, &lowers, "", &mut changes);
        compared.map_err(|(path, errno)| Error::system("compare", path, errno))?;
        Ok(changes)
    }
}

/// What could not be read.
type Failed = (String, Errno);

/// Compares a directory of the upper layer with those that lie below it, the topmost first. Returns
/// whether something in it was made by the engine itself.
fn directory(
    upper: &OwnedFd,
    lowers: &[OwnedFd],
    path: &str,
    changes: &mut Vec<Change>,
) -> Result<bool, Failed> {
    let failed = |errno| (if path.is_empty() { "/".to_owned() } else { path.to_owned() }, errno);
    let mut made = false;
    for name in names(upper, lowers).map_err(failed)? {
        let shown = format!("{path}/{}", name.to_string_lossy());
        let failed = |errno| (shown.clone(), errno);
        let below = Below::of(lowers, &name).map_err(failed)?;
        let above = match rustix::fs::statat(upper, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed(errno)),
        };
        let mut add = |kind| changes.push(Change { kind, path: shown.clone() });
        let above = match above {
            Some(_) if is_whiteout(upper.as_fd(), &name, false).map_err(failed)? => None,
            // Not in the upper layer, which says nothing of it: an opaque one hides it.
            None => None,
            above => above,
        };
        match (above, below.stat) {
            (None, None) => {}
            (None, Some(_)) => add(ChangeKind::Deleted),
            (Some(stat), before) if is_directory(&stat) => {
                let inner = open_directory(upper.as_fd(), &name).map_err(failed)?;
                let was_directory = before.filter(is_directory);
                let at = changes.len();
                let of_engine = directory(&inner, &below.directories, &shown, changes)?;
                let quiet = changes.len() == at;
                let kind = match (before, was_directory) {
                    (None, _) if quiet && MADE.contains(&&shown[..]) => {
                        made = true;
                        continue;
                    }
                    (None, _) => ChangeKind::Added,
                    (Some(_), None) => ChangeKind::Changed,
                    (Some(_), Some(before)) => {
                        // What the engine makes in it changes its time too.
                        let touched = !of_engine && time(&before) != time(&stat);
                        if quiet && !touched && owned(&before) == owned(&stat) {
                            made |= of_engine;
                            continue;
                        }
                        ChangeKind::Changed
                    }
                };
                changes.insert(at, Change { kind, path: shown.clone() });
            }
            (Some(stat), None) if stat.st_size == 0 && MADE.contains(&&shown[..]) => made = true,
            (Some(_), None) => add(ChangeKind::Added),
            (Some(_), Some(_)) => add(ChangeKind::Changed),
        }
    }
    Ok(made)
}

/// The names in the upper directory, and where that hides what lies below, the names there; sorted.
fn names(upper: &OwnedFd, lowers: &[OwnedFd]) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let hides = is_opaque(upper.as_fd(), false)?;
    for directory in [upper].into_iter().chain(lowers.iter().filter(|_| hides)) {
        for entry in Entries::read_from(directory)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// What the image has under a name.
struct Below {
    stat: Option<Stat>,
    /// Where that is a directory, all that it consists of, the topmost first.
    directories: Vec<OwnedFd>,
}

impl Below {
    fn of(lowers: &[OwnedFd], name: &CStr) -> Result<Below, Errno> {
        let mut below = Below { stat: None, directories: Vec::new() };
        for lower in lowers {
            let stat = match rustix::fs::statat(lower, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            if !is_directory(&stat) {
                // A whiteout, or a file: what lies deeper is hidden either way.
                if below.stat.is_none() && !is_whiteout(lower.as_fd(), name, false)? {
                    below.stat = Some(stat);
                }
                break;
            }
            let directory = open_directory(lower.as_fd(), name)?;
            let hides = is_opaque(directory.as_fd(), false)?;
            below.stat.get_or_insert(stat);
            below.directories.push(directory);
            if hides {
                break;
            }
        }
        Ok(below)
    }
}

fn open_directory(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn owned(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode, stat.st_uid, stat.st_gid)
}

fn time(stat: &Stat) -> (i64, u64) {
    (stat.st_mtime, stat.st_mtime_nsec)
}

#[cfg(test)]
mod tests;
