//! What a container has changed of its image's files: `diff`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::vec::IntoIter;

use overlay::whiteout::is_whiteout;
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use crate::layers::{self, Below, Lowers, is_directory};
use crate::made::Made;
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

impl Engine {
    /// What a container, running or not, has changed of the image's files: each directory before what
    /// is in it, and that in the order of its bytes.
    ///
    /// # Errors
    /// There is no such container; a layer or the container's directory cannot be read.
    pub fn diff(&self, container: &str) -> Result<Vec<Change>, Error> {
        let (dir, container) = self.find(container)?;
        let upper = dir.open("diff")?;
        let lowers = Lowers::open(&self.store, &self.root, &container)?;
        let made = Made::of(&container, &lowers)
            .map_err(|errno| Error::system("look at the layers of", &container.image, errno))?;
        let compared = Comparison { upper: &upper, lowers: &lowers, made: &made }.changes();
        compared.map_err(|(path, errno)| {
            let path = if path.is_empty() { "/".to_owned() } else { shown(&path) };
            Error::system("compare", path, errno)
        })
    }
}

/// What could not be read.
type Failed = (Vec<u8>, Errno);

struct Comparison<'a> {
    upper: &'a OwnedFd,
    lowers: &'a Lowers,
    made: &'a Made,
}

/// What is to be said of a name.
enum Item {
    Change(ChangeKind),
    /// The engine has made it, and it is no change.
    Made,
    /// A directory, which what is in it decides on.
    Directory(Box<Found>),
}

/// A directory of the upper layer.
struct Found {
    stat: Stat,
    /// What the image has in its place.
    before: Option<Stat>,
    /// The image's layers that have a directory there.
    layers: Vec<usize>,
}

/// One being compared.
struct Open {
    items: IntoIter<(CString, Item)>,
    /// The number of changes before it.
    at: usize,
    /// Bytes of the path of its parent.
    parent: usize,
    found: Box<Found>,
    /// The engine has made something in it.
    made: bool,
}

impl Comparison<'_> {
    fn changes(&self) -> Result<Vec<Change>, Failed> {
        let mut changes = Vec::new();
        let mut path = Vec::new();
        let stat = rustix::fs::fstat(self.upper).map_err(|errno| (path.clone(), errno))?;
        let found = Box::new(Found { stat, before: Some(stat), layers: self.lowers.all() });
        let items = self.items(&path, &found.layers)?;
        let mut open = vec![Open { items, at: 0, parent: 0, found, made: false }];
        while let Some(directory) = open.last_mut() {
            let parent = path.len();
            let Some((name, item)) = directory.items.next() else {
                let Some(done) = open.pop() else { break };
                if let Some(outer) = open.last_mut() {
                    match self.verdict(&path, &done, changes.len() == done.at) {
                        Some(kind) => changes.insert(done.at, Change { kind, path: shown(&path) }),
                        None => outer.made |= done.made || done.found.before.is_none(),
                    }
                }
                path.truncate(done.parent);
                continue;
            };
            path.push(b'/');
            path.extend_from_slice(name.to_bytes());
            match item {
                Item::Made => directory.made = true,
                Item::Change(kind) => changes.push(Change { kind, path: shown(&path) }),
                Item::Directory(found) => {
                    let items = self.items(&path, &found.layers)?;
                    open.push(Open { items, at: changes.len(), parent, found, made: false });
                    continue;
                }
            }
            path.truncate(parent);
        }
        Ok(changes)
    }

    /// What a directory is, by what is in it: `quiet` if that has not changed. `None`: it is as it was.
    fn verdict(&self, path: &[u8], directory: &Open, quiet: bool) -> Option<ChangeKind> {
        let stat = &directory.found.stat;
        match &directory.found.before {
            None if quiet && self.made.directory(path) => None,
            None => Some(ChangeKind::Added),
            Some(before) if is_directory(before) => {
                // What the engine makes in it changes its time too.
                let touched = !directory.made && time(before) != time(stat);
                (!quiet || touched || owned(before) != owned(stat)).then_some(ChangeKind::Changed)
            }
            Some(_) => Some(ChangeKind::Changed),
        }
    }

    /// Looks at what is in the directory `path` of the upper layer, over those that lie below it.
    fn items(&self, path: &[u8], layers: &[usize]) -> Result<IntoIter<(CString, Item)>, Failed> {
        let failed = |errno| (path.to_vec(), errno);
        let upper = layers::open(self.upper, path).map_err(failed)?;
        let lowers = self.lowers.directories(path, layers).map_err(failed)?;
        let mut items = Vec::new();
        for name in layers::names(&upper, &lowers).map_err(failed)? {
            let full = [path, b"/", name.to_bytes()].concat();
            let item = self.item(&upper, &lowers, &name, &full);
            items.extend(item.map_err(|errno| (full, errno))?.map(|item| (name, item)));
        }
        Ok(items.into_iter())
    }

    fn item(
        &self,
        upper: &OwnedFd,
        lowers: &[(usize, OwnedFd)],
        name: &CStr,
        full: &[u8],
    ) -> Result<Option<Item>, Errno> {
        let below = Below::of(lowers, name)?;
        let above = match rustix::fs::statat(upper, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) if is_whiteout(upper.as_fd(), name, false)? => None,
            Ok(stat) => Some(stat),
            // Not in the upper layer, which says nothing of it: an opaque one hides it.
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno),
        };
        Ok(Some(match (above, below.stat) {
            (None, None) => return Ok(None),
            (None, Some(_)) => Item::Change(ChangeKind::Deleted),
            (Some(stat), before) if is_directory(&stat) => {
                Item::Directory(Box::new(Found { stat, before, layers: below.layers }))
            }
            (Some(stat), None) if self.made.file(full, &stat) => Item::Made,
            (Some(_), None) => Item::Change(ChangeKind::Added),
            (Some(_), Some(_)) => Item::Change(ChangeKind::Changed),
        }))
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn owned(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode, stat.st_uid, stat.st_gid)
}

fn time(stat: &Stat) -> (i64, u64) {
    (stat.st_mtime, stat.st_mtime_nsec)
}

#[cfg(test)]
mod tests;
