//! A layer's entries become a directory, in the form that overlayfs stacks.
//!
//! The image specification lets entries follow one another as on a file system; whiteouts alone look only at
//! lower layers. So entries are made as they come, whiteouts and directories' attributes at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use crate::Error;
use crate::dirs::{self, Place};
use crate::entry::{Entry, Kind, Meta};
use crate::error::{Refusal, show};
use crate::limits::Limit;
use crate::meta::{Failed, Setter};
use crate::options::{Omitted, Options, Tally};
use crate::path::{self, Name};
use crate::source::Input;
use crate::tarstream::TarStream;

mod files;
mod finish;

pub(crate) use files::{write_all, write_pieces};

/// How many directories stay open beside the last one: a walk through a tree goes up and down between few.
const RECENT: usize = 8;

/// A directory of the layer.
#[derive(Debug, Default)]
struct Directory {
    /// None: no entry lists it, it is there for what lies below.
    meta: Option<Meta>,
    /// Marked opaque: lower layers' children are hidden, its attributes may still come from below.
    opaque: bool,
    /// A whiteout, or a file that stood here before, took away the lower directory with all it was.
    erased: bool,
    /// Has a whiteout in it.
    whiteouts: bool,
}

/// The layer as it grows.
pub(crate) struct Tree<'a> {
    root: BorrowedFd<'a>,
    options: &'a Options,
    place: Place<'a>,
    setter: Setter<'a>,
    dirs: BTreeMap<Vec<u8>, Directory>,
    /// Hard links to what this layer has not: their target's path. On disk there is nothing yet.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    whiteouts: BTreeSet<Vec<u8>>,
    /// The directory of the last entry: most entries come in runs that share it.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// The directories of the entries before it, the latest first.
    recent: VecDeque<(Vec<u8>, OwnedFd)>,
    kept: u64,
    entries: u64,
    bytes: u64,
    tally: Tally,
    /// Whether something took the place of something else, so that the tally is wrong.
    replaced: bool,
    omitted: Omitted,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>, options: &'a Options, layer: &'a str) -> Tree<'a> {
        Tree {
            root,
            options,
            place: Place { layer },
            setter: Setter::new(options).below(root),
            dirs: BTreeMap::from([(Vec::new(), Directory::default())]),
            links: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            last: None,
            recent: VecDeque::with_capacity(RECENT),
            kept: 0,
            entries: 0,
            bytes: 0,
            tally: Tally::default(),
            replaced: false,
            omitted: Omitted::default(),
        }
    }

    /// Make one entry, with its data from the stream.
    pub(crate) fn add<I: Input>(
        &mut self,
        entry: Entry,
        stream: &mut TarStream<'_, I>,
    ) -> Result<(), Error> {
        self.entries += 1;
        let limits = &self.options.limits;
        match path::name(&entry.name, limits, self.place.layer)? {
            Name::Aufs => {}
            Name::Opaque(dir) => {
                self.directory(&dir)?;
                self.dirs.entry(dir).or_default().opaque = true;
            }
            Name::Whiteout(path) => {
                if let Some((parent, _)) = path::split(&path) {
                    self.directory(parent)?;
                }
                self.keep(path.len())?;
                self.whiteouts.insert(path);
            }
            Name::Plain(path) if entry.kind == Kind::Directory => {
                self.add_directory(path, entry.meta)?
            }
            Name::Plain(path) if path.is_empty() => {
                return Err(self.refused(&entry.name, Refusal::Root));
            }
            Name::Plain(path) => {
                self.bytes = self.bytes.saturating_add(entry.size);
                limits.check_at(Limit::Bytes, self.bytes, self.place.layer, &entry.name)?;
                match entry.kind {
                    Kind::File | Kind::Directory => self.add_file(&path, &entry, stream)?,
                    Kind::Symlink => self.add_symlink(&path, &entry)?,
                    Kind::HardLink => self.add_link(path, &entry)?,
                    Kind::Character(0, 0) => {
                        return Err(self.refused(&entry.name, Refusal::WhiteoutDevice));
                    }
                    Kind::Character(major, minor) => {
                        self.add_node(&path, &entry, FileType::CharacterDevice, major, minor)?
                    }
                    Kind::Block(major, minor) => {
                        self.add_node(&path, &entry, FileType::BlockDevice, major, minor)?
                    }
                    Kind::Fifo => self.add_node(&path, &entry, FileType::Fifo, 0, 0)?,
                }
            }
        }
        Ok(())
    }

    fn refused(&self, entry: &[u8], why: Refusal) -> Error {
        Error::Refused { layer: self.place.layer.to_owned(), entry: show(entry), why }
    }

    fn failed(&self, path: &[u8]) -> impl Fn(Failed) -> Error {
        let (place, path) = (self.place, path.to_vec());
        move |(op, e)| place.error(op, &path, e)
    }

    /// Count what stays in memory until the end.
    fn keep(&mut self, bytes: usize) -> Result<(), Error> {
        self.kept += bytes as u64 + 64;
        self.options.limits.check(Limit::Memory, self.kept, self.place.layer)
    }

    /// The directory at `path`, made with its parents where it is missing or something else.
    fn directory(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Error> {
        if !self.find_directory(path)? {
            let fd = self.make_directories(path)?;
            self.enter(path, fd);
        }
        Ok(self.last())
    }

    /// The directory at `path`, which `fd` has open, becomes the last one.
    fn enter(&mut self, path: &[u8], fd: OwnedFd) {
        if let Some(before) = self.last.replace((path.to_vec(), fd)) {
            self.recent.truncate(RECENT - 1);
            self.recent.push_front(before);
        }
    }

    /// The directory at `path` becomes the last one. False if there is none.
    fn find_directory(&mut self, path: &[u8]) -> Result<bool, Error> {
        if self.last.as_ref().is_some_and(|(last, _)| last == path) {
            return Ok(true);
        }
        let recent = self.recent.iter().position(|(recent, _)| recent == path);
        if let Some((path, fd)) = recent.and_then(|at| self.recent.remove(at)) {
            self.enter(&path, fd);
            return Ok(true);
        }
        let found = dirs::open_if(self.root, path, dirs::PLACE);
        let found = found.map_err(|e| self.place.error("open the directory", path, e))?;
        Ok(found.map(|fd| self.enter(path, fd)).is_some())
    }

    fn last(&self) -> BorrowedFd<'_> {
        self.last.as_ref().map_or(self.root, |(_, fd)| fd.as_fd())
    }

    fn make_directories(&mut self, path: &[u8]) -> Result<OwnedFd, Error> {
        let place = self.place;
        let mut dir =
            dirs::open(self.root, b"", dirs::PLACE).map_err(|e| place.error("open", b"", e))?;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let prefix = &path[..end];
            let name = path::split(prefix).map_or(prefix, |(_, name)| name);
            let erased = match rustix::fs::openat(&dir, name, dirs::PLACE, Mode::empty()) {
                Ok(fd) => {
                    dir = fd;
                    continue;
                }
                Err(Errno::NOENT) => self.links.remove(prefix).is_some(),
                Err(e) if dirs::is_no_directory(e) => {
                    rustix::fs::unlinkat(&dir, name, AtFlags::empty())
                        .map_err(|e| place.error("replace", prefix, e))?;
                    self.replaced = true;
                    true
                }
                Err(e) => return Err(place.error("open the directory", prefix, e)),
            };
            rustix::fs::mkdirat(&dir, name, Mode::RWXU)
                .map_err(|e| place.error("make the directory", prefix, e))?;
            self.tally.names += 1;
            self.keep(prefix.len())?;
            self.dirs.insert(prefix.to_vec(), Directory { erased, ..Directory::default() });
            dir = rustix::fs::openat(&dir, name, dirs::PLACE, Mode::empty())
                .map_err(|e| place.error("open the directory", prefix, e))?;
        }
        Ok(dir)
    }

    /// A directory over a directory replaces its attributes and keeps its children.
    fn add_directory(&mut self, path: Vec<u8>, meta: Meta) -> Result<(), Error> {
        let place = self.place;
        self.keep(
            path.len()
                + meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>(),
        )?;
        let Some((parent, name)) = path::split(&path) else {
            self.dirs.entry(path).or_default().meta = Some(meta);
            return Ok(());
        };
        let dir = self.directory(parent)?;
        let make = || rustix::fs::mkdirat(dir, name, Mode::RWXU);
        let was_file = match make() {
            Ok(()) => false,
            Err(Errno::EXIST) => {
                let stat = dirs::stat(dir, name).map_err(|e| place.error("look at", &path, e))?;
                if stat.as_ref().is_some_and(dirs::is_directory) {
                    self.dirs.entry(path).or_default().meta = Some(meta);
                    return Ok(());
                }
                rustix::fs::unlinkat(dir, name, AtFlags::empty())
                    .map_err(|e| place.error("replace", &path, e))?;
                make().map_err(|e| place.error("make the directory", &path, e))?;
                self.replaced = true;
                true
            }
            Err(e) => return Err(place.error("make the directory", &path, e)),
        };
        self.tally.names += 1;
        let erased = self.links.remove(&path).is_some() || was_file;
        self.dirs.insert(path, Directory { meta: Some(meta), erased, ..Directory::default() });
        Ok(())
    }

    /// Make something that is no directory; what stood there goes first.
    fn create<T>(
        &mut self,
        path: &[u8],
        op: &'static str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> Result<T, Error> {
        let place = self.place;
        let (parent, name) = path::split(path).unwrap_or((b"", path));
        self.links.remove(path);
        self.tally.names += 1;
        match make(self.directory(parent)?, name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|e| place.error(op, path, e)),
        }
        self.remove(path)?;
        make(self.directory(parent)?, name).map_err(|e| place.error(op, path, e))
    }

    /// Remove what the layer has at `path`.
    fn remove(&mut self, path: &[u8]) -> Result<(), Error> {
        let place = self.place;
        let (parent, name) = path::split(path).unwrap_or((b"", path));
        match rustix::fs::unlinkat(self.directory(parent)?, name, AtFlags::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            Ok(()) => {}
            Err(Errno::ISDIR) => self
                .remove_directories(path)
                .map_err(|e| place.error("replace the directory", path, e))?,
            Err(e) => return Err(place.error("replace", path, e)),
        }
        self.replaced = true;
        Ok(())
    }

    /// Remove a directory with all below, deepest first: every directory is known, so none has to be searched for.
    fn remove_directories(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        let (start, end) = ([path, b"/"].concat(), [path, b"0"].concat()); // '0' follows '/'
        let mut gone: Vec<Vec<u8>> =
            self.dirs.range(start.clone()..end.clone()).map(|(dir, _)| dir.clone()).collect();
        gone.insert(0, path.to_vec());
        for dir in gone.iter().rev() {
            let fd = dirs::open(self.root, dir, dirs::READ)?;
            for name in dirs::names(fd.as_fd())? {
                rustix::fs::unlinkat(&fd, name, AtFlags::empty())?;
            }
            if let Some((parent, name)) = path::split(dir) {
                rustix::fs::unlinkat(
                    dirs::open(self.root, parent, dirs::PLACE)?,
                    name,
                    AtFlags::REMOVEDIR,
                )?;
            }
            self.dirs.remove(dir);
        }
        let links: Vec<_> =
            self.links.range(start.clone()..end.clone()).map(|(link, _)| link.clone()).collect();
        for link in links {
            self.links.remove(&link);
        }
        let whiteouts: Vec<_> = self.whiteouts.range(start..end).cloned().collect();
        for whiteout in whiteouts {
            self.whiteouts.remove(&whiteout);
        }
        self.last = None;
        self.recent.clear();
        Ok(())
    }
}
