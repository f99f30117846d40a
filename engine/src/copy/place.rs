//! Docker's rules for the two paths of a copy.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use crate::Error;

/// Symbolic links followed at the end of one path (as the kernel: path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Whose path it is, with the root below which it is taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side<'fd> {
    Host(BorrowedFd<'fd>),
    Container(BorrowedFd<'fd>),
}

impl<'fd> Side<'fd> {
    fn root(self) -> BorrowedFd<'fd> {
        match self {
            Side::Host(root) | Side::Container(root) => root,
        }
    }

    fn place(self) -> &'static str {
        match self {
            Side::Host(_) => "on the host",
            Side::Container(_) => "in the container",
        }
    }
}

/// A path as it was given: its components without `.` and `..`, and what its end says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    parts: Vec<Vec<u8>>,
    /// It ends in a slash, or in `/.`: it has to be a directory, and a link there is followed.
    directory: bool,
    /// It ends in `/.`, or is the root: what is in the directory is meant.
    content: bool,
}

impl Given {
    fn parse(text: &[u8]) -> Given {
        let last = text.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let parts = clean(&[], text);
        let content = last == b"." || parts.is_empty();
        Given { directory: content || last.is_empty() || last == b"..", content, parts }
    }
}

/// `text` from the directory `base` on, without empty components, `.` and `..`.
fn clean(base: &[Vec<u8>], text: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = if text.starts_with(b"/") { Vec::new() } else { base.to_vec() };
    for part in text.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part.to_vec()),
        }
    }
    parts
}

/// Where a path ends: a directory that is open, a name in it, and what has that name.
#[derive(Debug)]
struct Found {
    dir: OwnedFd,
    entry: CString,
    kind: Option<FileType>,
}

/// Opens the directory that the last component lies in, and looks at that; a symbolic link there is
/// followed, if it is to be.
fn find(side: Side<'_>, text: &[u8], given: &Given, follow: bool) -> Result<Found, Error> {
    let error = |why: String| failed(text, why);
    let kernel = |errno: Errno| match errno {
        Errno::NOENT => error(format!("no such file or directory {}", side.place())),
        Errno::NOTDIR => error(format!("not a directory {}", side.place())),
        Errno::LOOP => error(format!(
            "too many symbolic links {}, or one of those by which the kernel names open files",
            side.place()
        )),
        errno => error(format!("{} {}", std::io::Error::from(errno), side.place())),
    };
    let c_string =
        |bytes: Vec<u8>| CString::new(bytes).map_err(|_| error("it has a NUL byte".to_owned()));
    if text.is_empty() {
        return Err(error("the path is empty".to_owned()));
    }
    let mut parts = given.parts.clone();
    for _ in 0..MAX_LINKS {
        let (parents, last) = match parts.split_last() {
            Some((last, parents)) => (parents, last.clone()),
            None => (&parts[..], b".".to_vec()),
        };
        let parent = c_string([b"/", &parents.join(&b'/')[..]].concat())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = sys::below::open(side.root(), &parent, flags).map_err(kernel)?;
        let entry = c_string(last)?;
        let kind = match rustix::fs::statat(&dir, &entry, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(kernel(errno)),
        };
        if kind != Some(FileType::Symlink) || !(follow || given.directory) {
            return Ok(Found { dir, entry, kind });
        }
        let link = rustix::fs::readlinkat(&dir, &entry, Vec::new()).map_err(kernel)?;
        parts = clean(parents, link.to_bytes());
    }
    Err(kernel(Errno::LOOP))
}

fn failed(path: &[u8], why: String) -> Error {
    Error::Copy { path: String::from_utf8_lossy(path).into_owned(), why }
}

/// What is copied.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) dir: OwnedFd,
    pub(super) entry: CString,
    /// As it was given, of a link that was followed too: the copy is called so.
    name: Vec<u8>,
    is_directory: bool,
    shown: String,
}

impl Source {
    pub(super) fn find(side: Side<'_>, text: &[u8], follow: bool) -> Result<Source, Error> {
        let given = Given::parse(text);
        let found = find(side, text, &given, follow)?;
        let is_directory = match found.kind {
            None => {
                let why = match side {
                    // Docker's words for it.
                    Side::Container(_) => "could not find the file in the container",
                    Side::Host(_) => "no such file or directory on the host",
                };
                return Err(failed(text, why.to_owned()));
            }
            Some(FileType::Directory) => true,
            Some(_) if given.directory => {
                return Err(failed(text, format!("not a directory {}", side.place())));
            }
            Some(FileType::Socket) => {
                return Err(failed(text, "it is a socket, which no tar can hold".to_owned()));
            }
            Some(_) => false,
        };
        let name = match given.content {
            true => Vec::new(),
            false => given.parts.last().cloned().unwrap_or_default(),
        };
        let shown = String::from_utf8_lossy(text).into_owned();
        Ok(Source { dir: found.dir, entry: found.entry, name, is_directory, shown })
    }

    /// Its name; empty for what is in a directory.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    pub(super) fn shown(&self) -> String {
        format!("the copy of {}", crate::error::shorten(&self.shown))
    }
}

/// Where it goes.
#[derive(Debug)]
pub(super) struct Target {
    /// The directory that it is unpacked in.
    pub(super) into: OwnedFd,
    /// The name that it gets there, if it is not its own.
    pub(super) name: Option<Vec<u8>>,
}

impl Target {
    /// Of `source`: into a directory that is there, in place of a file, or under a new name in a
    /// directory that is there.
    pub(super) fn find(side: Side<'_>, text: &[u8], source: &Source) -> Result<Target, Error> {
        let given = Given::parse(text);
        let found = find(side, text, &given, true)?;
        let why = match found.kind {
            Some(FileType::Directory) => {
                return Ok(Target { into: open(side, text, &found)?, name: None });
            }
            Some(_) if source.is_directory => {
                format!("cannot copy directory: {} it is there, and no directory", side.place())
            }
            Some(_) if given.directory => format!("not a directory {}", side.place()),
            Some(FileType::RegularFile) | None if source.is_directory || !given.directory => {
                let name = Some(found.entry.into_bytes());
                return Ok(Target { into: found.dir, name });
            }
            None => format!(
                "no such directory {}; make it first, or leave the slash away",
                side.place()
            ),
            Some(_) => format!("{} it is neither a directory nor a regular file", side.place()),
        };
        Err(failed(text, why))
    }

    /// A directory that is there.
    pub(super) fn directory(side: Side<'_>, text: &[u8]) -> Result<Target, Error> {
        let given = Given::parse(text);
        let found = find(side, text, &given, true)?;
        match found.kind {
            Some(FileType::Directory) => Ok(Target { into: open(side, text, &found)?, name: None }),
            Some(_) => Err(failed(text, "destination must be a directory".to_owned())),
            None => Err(failed(text, "could not find the directory in the container".to_owned())),
        }
    }
}

fn open(side: Side<'_>, text: &[u8], found: &Found) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&found.dir, &found.entry, flags, rustix::fs::Mode::empty())
        .map_err(|errno| failed(text, format!("{} {}", std::io::Error::from(errno), side.place())))
}

#[cfg(test)]
mod tests;
