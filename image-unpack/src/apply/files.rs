//! Files, symlinks, hard links, devices and FIFOs.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::Tree;
use crate::Error;
use crate::dirs::{self, Place};
use crate::entry::Entry;
use crate::error::Refusal;
use crate::path;
use crate::source::Input;
use crate::tarstream::TarStream;

const NEW: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Tree<'_> {
    pub(super) fn add_file<I: Input>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        stream: &mut TarStream<'_, I>,
    ) -> Result<(), Error> {
        let mode = self.setter.first_mode(&entry.meta);
        let file = self
            .create(path, "make the file", |dir, name| rustix::fs::openat(dir, name, NEW, mode))?;
        self.tally.bytes += entry.size;
        let mut file = File::from(file);
        match &entry.sparse {
            None => write_all(&mut file, stream, self.place, path)?,
            Some(map) => write_pieces(&file, map, entry.size, stream, self.place, path)?,
        }
        self.omitted.xattrs +=
            self.setter.on_new(file.as_fd(), &entry.meta).map_err(self.failed(path))?;
        Ok(())
    }

    pub(super) fn add_symlink(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        if entry.link.is_empty() {
            return Err(self.refused(&entry.name, Refusal::EmptyLink));
        }
        self.create(path, "make the symlink", |dir, name| {
            rustix::fs::symlinkat(&entry.link, dir, name)
        })?;
        self.set_on_name(path, entry, true)
    }

    pub(super) fn add_node(
        &mut self,
        path: &[u8],
        entry: &Entry,
        kind: FileType,
        major: u32,
        minor: u32,
    ) -> Result<(), Error> {
        if major > 0xfff || minor > 0xf_ffff {
            return Err(self.refused(&entry.name, Refusal::Device));
        }
        if kind != FileType::Fifo && !self.options.owners {
            self.omitted.devices += 1;
            self.create(path, "make the file", |dir, name| {
                rustix::fs::openat(dir, name, NEW, Mode::RUSR)
            })?;
        } else {
            let device = rustix::fs::makedev(major, minor);
            self.create(path, "make the device or FIFO", |dir, name| {
                rustix::fs::mknodat(dir, name, kind, Mode::empty(), device)
            })?;
        }
        self.set_on_name(path, entry, false)
    }

    /// A hard link to a name of this layer; one to a lower layer's waits for [`crate::Pending::settle`].
    pub(super) fn add_link(&mut self, path: Vec<u8>, entry: &Entry) -> Result<(), Error> {
        let target =
            path::link_target(&entry.link, &entry.name, &self.options.limits, self.place.layer)?;
        let is_below = |path: &[u8], dir: &[u8]| {
            path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
        };
        if is_below(&path, &target) || is_below(&target, &path) {
            return Err(self.refused(&entry.name, Refusal::LinkAround));
        }
        // A link to what is itself a link to a lower layer: both are to the same file there.
        if let Some(lower) = self.links.get(&target).cloned() {
            return self.link_later(path, lower);
        }
        let place = self.place;
        let looked = |e| place.error("look at the link target", &target, e);
        let (parent, name) = path::split(&target).unwrap_or((b"", &target));
        let Some(dir) = dirs::open_if(self.root, parent, dirs::PLACE).map_err(looked)? else {
            return self.link_later(path, target);
        };
        match dirs::stat(dir.as_fd(), name).map_err(looked)? {
            None => self.link_later(path, target),
            Some(stat) if dirs::is_directory(&stat) => {
                Err(self.refused(&entry.name, Refusal::LinkToDirectory))
            }
            Some(_) if path == target => Ok(()),
            Some(stat) => {
                if dirs::file_type(&stat) == FileType::RegularFile {
                    self.tally.bytes += u64::try_from(stat.st_size).unwrap_or_default();
                }
                self.create(&path, "make the hard link", |to, new| {
                    rustix::fs::linkat(&dir, name, to, new, AtFlags::empty())
                })
            }
        }
    }

    fn link_later(&mut self, path: Vec<u8>, target: Vec<u8>) -> Result<(), Error> {
        self.keep(path.len() + target.len())?;
        let (parent, _) = path::split(&path).unwrap_or((b"", &path));
        self.directory(parent)?;
        self.remove(&path)?;
        self.links.insert(path, target);
        Ok(())
    }

    fn set_on_name(&mut self, path: &[u8], entry: &Entry, symlink: bool) -> Result<(), Error> {
        let (parent, name) = path::split(path).unwrap_or((b"", path));
        self.directory(parent)?;
        let omitted = self
            .setter
            .on_name(self.last(), name, symlink, &entry.meta)
            .map_err(self.failed(path))?;
        self.omitted.xattrs += omitted;
        Ok(())
    }
}

/// The data of the current entry to `file`.
pub(crate) fn write_all<I: Input>(
    file: &mut File,
    stream: &mut TarStream<'_, I>,
    place: Place<'_>,
    path: &[u8],
) -> Result<(), Error> {
    loop {
        let bytes = stream.data()?;
        let count = bytes.len();
        if count == 0 {
            return Ok(());
        }
        file.write_all(bytes).map_err(|e| place.error("write", path, e))?;
        stream.consume(count);
    }
}

/// The stored pieces to their places; the rest stays a hole.
pub(crate) fn write_pieces<I: Input>(
    file: &File,
    map: &[(u64, u64)],
    size: u64,
    stream: &mut TarStream<'_, I>,
    place: Place<'_>,
    path: &[u8],
) -> Result<(), Error> {
    for (offset, length) in map {
        let (mut at, end) = (*offset, *offset + *length); // the map is checked: no overflow
        while at < end {
            let bytes = stream.data()?;
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(bytes.len());
            file.write_all_at(&bytes[..count], at).map_err(|e| place.error("write", path, e))?;
            stream.consume(count);
            at += count as u64;
            if count == 0 {
                break; // the map is as long as the data, so this is the end
            }
        }
    }
    file.set_len(size).map_err(|e| place.error("set the size of", path, e))
}
