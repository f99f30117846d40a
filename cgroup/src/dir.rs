//! The directory of a group in one hierarchy, and its files.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::Error;

/// A directory by the descriptor of its hierarchy's root and the path below it. Cgroup file systems have
/// no links, so the path leads nowhere else.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    root: Arc<OwnedFd>,
    /// Where the root is mounted: for messages.
    mount: Arc<Path>,
    /// Without a slash at its ends; empty for the root itself.
    below: String,
}

impl Dir {
    pub(crate) fn new(root: OwnedFd, mount: &Path) -> Self {
        Self { root: Arc::new(root), mount: mount.into(), below: String::new() }
    }

    /// The root of the hierarchy.
    pub(crate) fn top(&self) -> Dir {
        Self { below: String::new(), ..self.clone() }
    }

    /// The directory at `path` below this one.
    pub(crate) fn below(&self, path: &str) -> Dir {
        let path = path.trim_matches('/');
        Self { below: self.relative(path), ..self.clone() }
    }

    /// The directories from the root's child down to this one.
    pub(crate) fn lineage(&self) -> impl Iterator<Item = Dir> + '_ {
        let ends = self.below.match_indices('/').map(|(at, _)| at);
        let ends = ends.chain((!self.below.is_empty()).then_some(self.below.len()));
        ends.map(|end| Self { below: self.below[..end].to_owned(), ..self.clone() })
    }

    /// The one above; the root's is the root.
    pub(crate) fn parent(&self) -> Dir {
        let end = self.below.rfind('/').unwrap_or(0);
        Self { below: self.below[..end].to_owned(), ..self.clone() }
    }

    fn relative(&self, name: &str) -> String {
        match (self.below.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (_, true) => self.below.clone(),
            _ => format!("{}/{name}", self.below),
        }
    }

    /// Its path, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        if self.below.is_empty() { self.mount.to_path_buf() } else { self.mount.join(&self.below) }
    }

    /// The path of a file of it, for messages.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Makes it; false where it is there already. The one above must be there.
    pub(crate) fn make(&self) -> Result<bool, Errno> {
        match rustix::fs::mkdirat(&*self.root, &self.below, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Removes it; it must have neither processes nor groups.
    pub(crate) fn remove(&self) -> Result<(), Errno> {
        rustix::fs::unlinkat(&*self.root, &self.below, AtFlags::REMOVEDIR)
    }

    /// A descriptor of it.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = if self.below.is_empty() { "." } else { &self.below };
        rustix::fs::openat(&*self.root, path, flags, Mode::empty())
    }

    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&*self.root, self.relative(name), flags, Mode::empty())
    }

    /// Whether it has the file or group `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        let path = self.relative(name);
        let path = if path.is_empty() { "." } else { &path };
        rustix::fs::accessat(&*self.root, path, rustix::fs::Access::EXISTS, AtFlags::empty())
            .is_ok()
    }

    /// The names of the groups in it.
    pub(crate) fn groups(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(self.open()?)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type() == rustix::fs::FileType::Directory
                && !matches!(&name[..], "." | "..")
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read_file(&self, name: &str) -> io::Result<String> {
        sys::whole::text(sys::whole::read(self.open_file(name, OFlags::RDONLY)?)?)
    }

    /// A file of at most 256 bytes, which the kernel gives whole at the first read.
    pub(crate) fn read_short(&self, name: &str) -> Result<String, Error> {
        let read = || {
            let file = self.open_file(name, OFlags::RDONLY)?;
            let mut bytes = [0; 256];
            let count = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes))?;
            sys::whole::text(bytes[..count].to_vec())
        };
        read().map_err(Error::io("reading", self.file(name)))
    }

    pub(crate) fn read(&self, name: &str) -> Result<String, Error> {
        self.read_file(name).map_err(Error::io("reading", self.file(name)))
    }

    /// As `read`; none where there is no such file, or what it tells of is switched off.
    pub(crate) fn read_if_there(&self, name: &str) -> Result<Option<String>, Error> {
        match self.read_file(name) {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Error::io("reading", self.file(name))(error)),
        }
    }

    /// A number; `max` is the largest.
    pub(crate) fn number(&self, name: &str) -> Result<u64, Error> {
        let text = self.read(name)?;
        self.parse_number(name, &text)
    }

    pub(crate) fn number_if_there(&self, name: &str) -> Result<Option<u64>, Error> {
        let text = self.read_if_there(name)?;
        text.map(|text| self.parse_number(name, &text)).transpose()
    }

    fn parse_number(&self, name: &str, text: &str) -> Result<u64, Error> {
        match text.trim() {
            "max" => Ok(u64::MAX),
            word => word.parse().map_err(|_| Error::Content {
                path: self.file(name),
                text: text.chars().take(100).collect(),
                expected: "a number",
            }),
        }
    }

    pub(crate) fn write_raw(&self, name: &str, value: &str) -> io::Result<()> {
        write_at_once(&mut File::from(self.open_file(name, OFlags::WRONLY)?), value)
    }

    /// Writes something that is no limit.
    pub(crate) fn write(&self, op: &'static str, name: &str, value: &str) -> Result<(), Error> {
        self.write_raw(name, value).map_err(Error::io(op, self.file(name)))
    }

    /// Writes the limit `field`.
    pub(crate) fn set(&self, field: &str, name: &str, value: impl ToString) -> Result<(), Error> {
        let value = value.to_string();
        self.write_raw(name, &value).map_err(|source| self.refused(field, name, &value, source))
    }

    /// Writes the values of the limit `field`, each by a write of its own.
    pub(crate) fn set_each(
        &self,
        field: &str,
        name: &str,
        values: impl Iterator<Item = String>,
    ) -> Result<(), Error> {
        let mut values = values.peekable();
        let Some(first) = values.peek().cloned() else { return Ok(()) };
        let refused = |value: &str, source| self.refused(field, name, value, source);
        let file = self.open_file(name, OFlags::WRONLY);
        let mut file = File::from(file.map_err(|errno| refused(&first, errno.into()))?);
        values
            .try_for_each(|value| write_at_once(&mut file, &value).map_err(|e| refused(&value, e)))
    }

    pub(crate) fn refused(&self, field: &str, name: &str, value: &str, source: io::Error) -> Error {
        let hint = match source.kind() {
            io::ErrorKind::NotFound => {
                "; the kernel was built, or the machine started, without it".to_owned()
            }
            _ => String::new(),
        };
        let path = self.file(name);
        Error::Refused { field: field.to_owned(), value: value.to_owned(), path, source, hint }
    }
}

/// By one call: the kernel takes each write as a whole.
fn write_at_once(file: &mut File, value: &str) -> io::Result<()> {
    match file.write(value.as_bytes())? {
        count if count == value.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Whether an error of a file of a group means that there is nothing to read.
fn is_absent(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP))
}

/// `KEY NUMBER` lines, as cpu.stat and memory.events have them.
pub(crate) fn flat_keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The number of `key` in such lines.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    flat_keyed(text).find(|(found, _)| *found == key).map(|(_, value)| value)
}
