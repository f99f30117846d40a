//! A tar onto a tree that is there already, as `tar -x` does it: what `cp` puts into a container or takes out of one.
//!
//! The tree may be somebody else's, who renames, links and removes in it meanwhile. So every directory is opened
//! below the descriptor of the place without following a link, or following those of a whole root below that, and
//! what was just made is changed through its own descriptor.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::Error;
use crate::apply::{write_all, write_pieces};
use crate::decode::{Decoder, Format};
use crate::dirs::{self, Place};
use crate::entry::{Entry, Kind, Meta};
use crate::error::{Refusal, show};
use crate::limits::{Limit, Limits};
use crate::meta::times;
use crate::path;
use crate::source::{BUFFER, Input};
use crate::tarstream::TarStream;

/// Mode of directories that no entry lists.
const IMPLIED: Mode = Mode::from_raw_mode(0o755);
const SET_ID: u32 = 0o6000;

/// How a tar is put onto a tree.
#[derive(Debug, Clone, Copy)]
pub struct Extract<'a> {
    /// What the tar is called in messages.
    pub what: &'a str,
    /// Who owns all that is made; `None`: whom the tar names. Where it is somebody else than the tar says, the
    /// set-id bits and the capabilities of files are left out: they were another's to give.
    pub owner: Option<(u32, u32)>,
    /// Where symbolic links on the way to an entry's place lead; `None`: none is followed.
    pub links: Option<Links<'a>>,
}

/// The root of which the place is a part, as for who has changed its root to it.
#[derive(Debug, Clone, Copy)]
pub struct Links<'a> {
    /// Links lead nowhere but below it.
    pub root: BorrowedFd<'a>,
    /// The path of the place in it.
    pub place: &'a [u8],
}

impl Extract<'_> {
    /// Put the entries of `tar` (plain, gzip or zstd) below the directory `into`, and return the bytes of the files.
    ///
    /// What is there is replaced, but no directory by anything else and nothing else by a directory. Directories that
    /// are there stay, with the attributes that the tar gives. No link is followed at the end of a path, and on the
    /// way only where [`Extract::links`] says so, below its root. A name ".wh.x" is a name like any other.
    ///
    /// # Errors
    /// A tar that is malformed; names that lead outside; what is in the way; a failed system call. What was made
    /// before stays.
    pub fn unpack(&self, tar: impl Read, into: BorrowedFd<'_>) -> Result<u64, Error> {
        // A copy is as large as its source; only what is kept in memory needs a limit.
        let limits =
            Limits { bytes: u64::MAX, entries: u64::MAX, ratio: u64::MAX, ..Limits::default() };
        self.within(&limits, tar, into).map_err(|error| match error {
            // There is no image to be trusted.
            Error::Limit { what, value, limit, .. } => {
                Error::Limit { what, value, limit, fixed: true }
            }
            other => other,
        })
    }

    fn within(&self, limits: &Limits, tar: impl Read, into: BorrowedFd<'_>) -> Result<u64, Error> {
        let input = Stream::new(tar, self.what)?;
        let mut stream = TarStream::new(input, limits, self.what);
        let mut tree = Tree {
            into,
            extract: self,
            place: Place { layer: self.what },
            limits,
            directories: BTreeMap::new(),
            last: None,
            bytes: 0,
        };
        while let Some(entry) = stream.next()? {
            tree.add(&entry, &mut stream)?;
        }
        tree.finish()
    }
}

/// The decoded bytes of a stream.
struct Stream<'a, R: Read> {
    decoder: Decoder<BufReader<R>>,
    format: Format,
    what: &'a str,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<'a, R: Read> Stream<'a, R> {
    fn new(input: R, what: &'a str) -> Result<Stream<'a, R>, Error> {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let start = loop {
            match input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|e| Format::Plain.error(what, e))?,
            }
        };
        let format = Format::detect(start, what)?;
        let decoder = Decoder::new(input, format, what)?;
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Stream { decoder, format, what, buffer, start: 0, end: 0 })
    }
}

impl<R: Read> Input for Stream<'_, R> {
    fn fill(&mut self) -> Result<&[u8], Error> {
        while self.start == self.end {
            match self.decoder.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => (self.start, self.end) = (0, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.format.error(self.what, error)),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

/// The place as it fills.
struct Tree<'a> {
    into: BorrowedFd<'a>,
    extract: &'a Extract<'a>,
    place: Place<'a>,
    limits: &'a Limits,
    /// The attributes of directories, set when all is in them: what is made in them changes their times.
    directories: BTreeMap<Vec<u8>, Meta>,
    /// The directory of the last entry: most entries come in runs that share it.
    last: Option<(Vec<u8>, OwnedFd)>,
    bytes: u64,
}

impl Tree<'_> {
    fn add<I: Input>(&mut self, entry: &Entry, stream: &mut TarStream<'_, I>) -> Result<(), Error> {
        let path = path::plain(&entry.name, self.limits, self.place.layer)?;
        let Some((parent, name)) = path::split(&path) else {
            // The place itself: it was there before, and keeps what it has.
            return match entry.kind {
                Kind::Directory => Ok(()),
                _ => Err(self.refused(entry, Refusal::Root)),
            };
        };
        let directory = self.directory(parent)?;
        let directory = directory.as_fd();
        self.make_room(directory, name, &path, entry)?;
        match &entry.kind {
            Kind::Directory => {
                match rustix::fs::mkdirat(directory, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(self.failed("make the directory", &path, errno)),
                }
                let bytes = entry.meta.xattrs.iter().map(|(name, value)| name.len() + value.len());
                let kept: usize = path.len() + bytes.sum::<usize>();
                self.last = None;
                let kept = (self.directories.len() as u64 + 1).saturating_mul(128) + kept as u64;
                self.limits.check_at(Limit::Memory, kept, self.place.layer, &entry.name)?;
                self.directories.insert(path, entry.meta.clone());
                return Ok(());
            }
            Kind::File => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let file = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(|errno| self.failed("make the file", &path, errno))?;
                let mut file = File::from(file);
                match &entry.sparse {
                    None => write_all(&mut file, stream, self.place, &path)?,
                    Some(map) => {
                        write_pieces(&file, map, entry.size, stream, self.place, &path)?;
                    }
                }
                self.bytes = self.bytes.saturating_add(entry.size);
                return self.set(file.as_fd(), &path, &entry.kind, &entry.meta);
            }
            Kind::HardLink => return self.link(directory, name, &path, entry),
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(self.refused(entry, Refusal::EmptyLink));
                }
                rustix::fs::symlinkat(&entry.link, directory, name)
                    .map_err(|errno| self.failed("make the symlink", &path, errno))?;
            }
            Kind::Character(major, minor) | Kind::Block(major, minor) => {
                if *major > 0xfff || *minor > 0xf_ffff {
                    return Err(self.refused(entry, Refusal::Device));
                }
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(directory, name, file_type(&entry.kind), Mode::empty(), device)
                    .map_err(|errno| self.failed("make the device", &path, errno))?;
            }
            Kind::Fifo => {
                rustix::fs::mknodat(directory, name, FileType::Fifo, Mode::empty(), 0)
                    .map_err(|errno| self.failed("make the FIFO", &path, errno))?;
            }
        }
        // Neither can be opened for reading without effect; what is open here cannot be swapped any more.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(directory, name, flags, Mode::empty())
            .map_err(|errno| self.failed("open", &path, errno))?;
        let stat = rustix::fs::fstat(&made).map_err(|e| self.failed("look at", &path, e))?;
        if dirs::file_type(&stat) != file_type(&entry.kind) {
            return Err(self.failed("open what was just made at", &path, Errno::STALE));
        }
        self.set(made.as_fd(), &path, &entry.kind, &entry.meta)
    }

    /// Takes away what is at the entry's place, unless it is a directory or is to become one.
    fn make_room(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), Error> {
        let stat = dirs::stat(directory, name).map_err(|e| self.failed("look at", path, e))?;
        let Some(stat) = stat else { return Ok(()) };
        match (dirs::is_directory(&stat), entry.kind == Kind::Directory) {
            (true, true) => Ok(()),
            (true, false) => Err(self.refused(entry, Refusal::OverDirectory)),
            (false, true) => Err(self.refused(entry, Refusal::DirectoryOver)),
            (false, false) => match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(self.failed("replace", path, errno)),
            },
        }
    }

    /// A hard link to what has this name below the place.
    fn link(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), Error> {
        let target = path::link_target(&entry.link, &entry.name, self.limits, self.place.layer)?;
        if target == path {
            return Ok(());
        }
        let failed = |errno| self.failed("make the hard link", path, errno);
        let (parent, of) = path::split(&target).unwrap_or((b"", &target));
        let there = self.open(parent).map_err(failed)?;
        rustix::fs::linkat(&there, of, directory, name, AtFlags::empty()).map_err(failed)
    }

    /// The directory at `path`, if it is there.
    fn open(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        match (dirs::open(self.into, path, dirs::PLACE), self.extract.links) {
            (Err(Errno::LOOP | Errno::NOTDIR), Some(links)) => {
                let path = CString::new([links.place, b"/", path].concat());
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                sys::below::open(links.root, &path.map_err(|_| Errno::INVAL)?, flags)
            }
            (result, _) => result,
        }
    }

    /// The directory at `path`; it and its parents are made where there is nothing.
    fn directory(&mut self, path: &[u8]) -> Result<OwnedFd, Error> {
        let failed = |errno| self.place.error("open the directory", path, errno);
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(|e| self.place.error("open", path, e));
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return copy(fd);
        }
        let mut missing = Vec::new();
        let mut there = path;
        let mut fd = loop {
            match (self.open(there), path::split(there)) {
                (Err(Errno::NOENT), Some((parent, name))) => {
                    missing.push(name);
                    there = parent;
                }
                (result, _) => break result.map_err(failed)?,
            }
        };
        // A link that leads nowhere is in the way, as in Docker.
        for name in missing.into_iter().rev() {
            match rustix::fs::mkdirat(&fd, name, IMPLIED) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
            fd = rustix::fs::openat(&fd, name, dirs::PLACE, Mode::empty()).map_err(failed)?;
        }
        self.last = Some((path.to_vec(), copy(&fd)?));
        Ok(fd)
    }

    /// Gives the directories their attributes, the deepest first.
    fn finish(mut self) -> Result<u64, Error> {
        while let Some((path, meta)) = self.directories.pop_last() {
            let (parent, name) = path::split(&path).unwrap_or((b"", b"."));
            let open = self
                .open(parent)
                .and_then(|parent| rustix::fs::openat(parent, name, dirs::READ, Mode::empty()));
            let directory = open.map_err(|e| self.failed("open the directory", &path, e))?;
            self.set(directory.as_fd(), &path, &Kind::Directory, &meta)?;
        }
        Ok(self.bytes)
    }

    /// Owner, mode, attributes and times onto what `fd` is open on, in the order that keeps each.
    fn set(&self, fd: BorrowedFd<'_>, path: &[u8], kind: &Kind, meta: &Meta) -> Result<(), Error> {
        let (uid, gid) = self.extract.owner.unwrap_or((meta.uid, meta.gid));
        let foreign = *kind == Kind::File && (uid, gid) != (meta.uid, meta.gid);
        let mode = if foreign { meta.mode & !SET_ID } else { meta.mode };
        let own = sys::process::proc_path(fd);
        let symlink = *kind == Kind::Symlink;
        let stat = rustix::fs::fstat(fd).map_err(|e| self.failed("look at", path, e))?;
        if (stat.st_uid, stat.st_gid) != (uid, gid) {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
                .map_err(|e| self.failed("set the owner of", path, e))?;
        }
        if !symlink {
            // The magic link ends at the file itself.
            rustix::fs::chmod(&own, Mode::from_raw_mode(mode))
                .map_err(|e| self.failed("set the mode of", path, e))?;
        }
        for (name, value) in &meta.xattrs {
            // Labels are the host's or the container's own, not the source's.
            if name == b"security.selinux" || (foreign && name == b"security.capability") {
                continue;
            }
            // A link itself has no call by descriptor, and hardly ever an attribute.
            if symlink {
                continue;
            }
            match rustix::fs::setxattr(&own, OsStr::from_bytes(name), value, XattrFlags::empty()) {
                Ok(()) => {}
                // Not every file system has them, and devices can have none of the user's.
                Err(Errno::NOTSUP) => {}
                Err(Errno::PERM) if name.starts_with(b"user.") => {}
                Err(errno) => {
                    return Err(self.failed("set an extended attribute of", path, errno));
                }
            }
        }
        let set = match symlink {
            true => rustix::fs::utimensat(fd, "", &times(meta.mtime), AtFlags::EMPTY_PATH),
            false => {
                rustix::fs::utimensat(rustix::fs::CWD, &own, &times(meta.mtime), AtFlags::empty())
            }
        };
        set.map_err(|e| self.failed("set the times of", path, e))
    }

    fn failed(&self, op: &'static str, path: &[u8], errno: Errno) -> Error {
        self.place.error(op, path, errno)
    }

    fn refused(&self, entry: &Entry, why: Refusal) -> Error {
        Error::Refused { layer: self.place.layer.to_owned(), entry: show(&entry.name), why }
    }
}

fn file_type(kind: &Kind) -> FileType {
    match kind {
        Kind::File | Kind::HardLink => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Character(..) => FileType::CharacterDevice,
        Kind::Block(..) => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
    }
}

#[cfg(test)]
mod tests;
