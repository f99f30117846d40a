//! What a layer needs from the layers below it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timestamps};

use crate::Error;
use crate::dirs::{self, Place};
use crate::entry::{Meta, Time};
use crate::error::show;
use crate::lowers::{Found, Lowers};
use crate::meta::{Setter, given_name};
use crate::options::Options;
use crate::path;

/// What can only be done once the lower layers are there.
#[derive(Debug)]
#[must_use = "a layer is only right once its pending work is settled"]
pub struct Pending {
    pub(crate) layer: String,
    pub(crate) options: Options,
    /// Directories that the archive does not list: they take the attributes of the lower directory.
    pub(crate) attributes: Vec<Vec<u8>>,
    /// Hard links to names of lower layers.
    pub(crate) links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whiteouts that were written; overlayfs shows one that hides nothing.
    pub(crate) whiteouts: Vec<Vec<u8>>,
    /// The root hides all of the lower layers.
    pub(crate) opaque_root: bool,
}

impl Pending {
    /// Nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty() && !self.changes_names()
    }

    /// Whether names come or go when it is settled.
    pub fn changes_names(&self) -> bool {
        !self.links.is_empty() || !self.whiteouts.is_empty() || self.opaque_root
    }

    /// Finish the unpacked directory `layer` with `lowers`, the layers below it, topmost first, each unpacked and settled.
    ///
    /// - Directories that the archive does not list take mode, owner, times and extended attributes of the lower
    ///   directory of that path; with nothing below they stay 0755 root, 1970.
    /// - A hard link to a file of a lower layer: the file is copied up, then linked.
    /// - Whiteouts that hide nothing are removed: overlayfs shows them in directories that it does not merge.
    /// - An opaque root becomes whiteouts and opaque directories.
    ///
    /// # Errors
    /// A link whose target no lower layer has, and failed system calls. The layer is garbage then.
    pub fn settle(self, layer: BorrowedFd<'_>, lowers: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let lowers = Lowers { layers: lowers, form: self.options.form };
        let settle = Settle {
            place: Place { layer: &self.layer },
            options: &self.options,
            layer,
            lowers,
            times: BTreeMap::new(),
            attributes: self.attributes,
        };
        settle.run(&self.links, &self.whiteouts, self.opaque_root)
    }
}

struct Settle<'a> {
    place: Place<'a>,
    options: &'a Options,
    layer: BorrowedFd<'a>,
    lowers: Lowers<'a>,
    /// What directories had before something in them was changed.
    times: BTreeMap<Vec<u8>, Timestamps>,
    attributes: Vec<Vec<u8>>,
}

impl Settle<'_> {
    fn run(
        mut self,
        links: &BTreeMap<Vec<u8>, Vec<u8>>,
        whiteouts: &[Vec<u8>],
        opaque_root: bool,
    ) -> Result<(), Error> {
        self.make_links(links, opaque_root)?;
        if opaque_root {
            self.hide_all()?;
        }
        self.prune(whiteouts)?;
        for (path, times) in std::mem::take(&mut self.times).iter().rev() {
            let fd = self.open(path)?;
            rustix::fs::futimens(fd, times)
                .map_err(|e| self.place.error("set the times of", path, e))?;
        }
        self.attributes.sort_unstable();
        for path in self.attributes.iter().rev() {
            self.copy_attributes(path)?;
        }
        Ok(())
    }

    fn open(&self, path: &[u8]) -> Result<std::os::fd::OwnedFd, Error> {
        dirs::open(self.layer, path, dirs::READ)
            .map_err(|e| self.place.error("open the directory", path, e))
    }

    /// A directory of the layer that is about to be changed.
    fn touch(&mut self, path: &[u8]) -> Result<std::os::fd::OwnedFd, Error> {
        let fd = self.open(path)?;
        if !self.times.contains_key(path) {
            let stat = rustix::fs::fstat(&fd).map_err(|e| self.place.error("look at", path, e))?;
            self.times.insert(path.to_vec(), crate::meta::times(mtime(&stat)));
        }
        Ok(fd)
    }

    fn find(&self, path: &[u8]) -> Result<Option<Found>, Error> {
        self.lowers.find(path).map_err(|e| self.place.error("look in the lower layers at", path, e))
    }

    fn make_links(
        &mut self,
        links: &BTreeMap<Vec<u8>, Vec<u8>>,
        opaque_root: bool,
    ) -> Result<(), Error> {
        // Where each lower file was copied to, so that all its links are one inode.
        let mut copies: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        for (path, target) in links {
            if let Some(copy) = copies.get(&target[..]) {
                self.link(copy, path)?;
                continue;
            }
            let Some(Found::Other(from, stat)) = self.find(target)? else {
                return Err(Error::LinkTarget {
                    layer: self.place.layer.to_owned(),
                    entry: show(path),
                    target: show(target),
                });
            };
            let (_, name) = path::split(target).unwrap_or((b"", target));
            if !opaque_root && path != target && self.make_room(target)? {
                self.copy_up(from.as_fd(), name, &stat, target)?;
                self.link(target, path)?;
                copies.insert(target, target);
            } else {
                self.copy_up(from.as_fd(), name, &stat, path)?;
                copies.insert(target, path);
            }
        }
        Ok(())
    }

    fn link(&mut self, from: &[u8], to: &[u8]) -> Result<(), Error> {
        let place = self.place;
        let ((from_dir, from_name), (to_dir, to_name)) =
            (path::split(from).unwrap_or((b"", from)), path::split(to).unwrap_or((b"", to)));
        let (from_dir, to_dir) = (self.open(from_dir)?, self.touch(to_dir)?);
        rustix::fs::linkat(from_dir, from_name, to_dir, to_name, AtFlags::empty())
            .map_err(|e| place.error("make the hard link", to, e))
    }

    /// Whether the layer can hold a copy of the lower file at `path`: nothing stands there, and the layer does not
    /// hide what is below. Parents that are missing are made.
    fn make_room(&mut self, path: &[u8]) -> Result<bool, Error> {
        let place = self.place;
        let looked = |e| place.error("look at", path, e);
        let mut parent: &[u8] = b"";
        for prefix in path::ancestors(path).skip(1).chain([path]) {
            let dir = self.open(parent)?;
            let (_, name) = path::split(prefix).unwrap_or((b"", prefix));
            match dirs::stat(dir.as_fd(), name).map_err(looked)? {
                None if prefix == path => return Ok(true),
                None => {
                    let dir = self.touch(parent)?;
                    rustix::fs::mkdirat(&dir, name, Mode::RWXU)
                        .map_err(|e| place.error("make the directory", prefix, e))?;
                    self.attributes.push(prefix.to_vec());
                }
                Some(stat) if dirs::is_directory(&stat) && prefix != path => {
                    let dir = self.open(prefix)?;
                    if dirs::is_opaque(dir.as_fd(), self.options.form).map_err(looked)? {
                        return Ok(false);
                    }
                }
                Some(_) => return Ok(false),
            }
            parent = prefix;
        }
        Ok(false)
    }

    /// Copy a lower file, with all its attributes, to `path`.
    fn copy_up(
        &mut self,
        from: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        path: &[u8],
    ) -> Result<(), Error> {
        let place = self.place;
        let error = |e| place.error("copy up from a lower layer", path, e);
        let (parent, new) = path::split(path).unwrap_or((b"", path));
        let to = self.touch(parent)?;
        let xattrs = xattrs(from, name, self.options).map_err(error)?;
        let meta = Meta { xattrs, ..meta_of(stat) };
        let kind = dirs::file_type(stat);
        match kind {
            FileType::RegularFile => {
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = rustix::fs::openat(from, name, read, Mode::empty()).map_err(error)?;
                let write = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let copy =
                    rustix::fs::openat(&to, new, write, Mode::RUSR | Mode::WUSR).map_err(error)?;
                let (mut source, mut copy) = (File::from(source), File::from(copy));
                std::io::copy(&mut source, &mut copy)
                    .map_err(|e| place.error("copy up from a lower layer", path, e))?;
                return self.set(copy.as_fd(), &meta, path);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new()).map_err(error)?;
                rustix::fs::symlinkat(target, &to, new).map_err(error)?;
            }
            _ => rustix::fs::mknodat(&to, new, kind, Mode::empty(), stat.st_rdev).map_err(error)?,
        }
        let symlink = kind == FileType::Symlink;
        let set = Setter::new(self.options).on_name(to.as_fd(), new, symlink, &meta);
        set.map(drop).map_err(|(op, e)| place.error(op, path, e))
    }

    fn set(&self, fd: BorrowedFd<'_>, meta: &Meta, path: &[u8]) -> Result<(), Error> {
        let error = |(op, e)| self.place.error(op, path, e);
        Setter::new(self.options).on_fd(fd, meta).map(drop).map_err(error)
    }

    /// All that lower layers have in the root goes.
    fn hide_all(&mut self) -> Result<(), Error> {
        let (place, form) = (self.place, self.options.form);
        let names = self
            .lowers
            .root_names()
            .map_err(|e| place.error("read the lower layers of", b"", e))?;
        for name in names {
            let error = |e| place.error("hide the lower", &name, e);
            let root = self.touch(b"")?;
            match dirs::stat(root.as_fd(), &name).map_err(error)? {
                None => {
                    dirs::make_whiteout(root.as_fd(), &name, form).map_err(error)?;
                    dirs::mark_whiteouts(&root, form).map_err(error)?;
                }
                Some(stat) if dirs::is_directory(&stat) => {
                    dirs::mark_opaque(&self.open(&name)?, form).map_err(error)?
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn prune(&mut self, whiteouts: &[Vec<u8>]) -> Result<(), Error> {
        let place = self.place;
        for path in whiteouts {
            if self.find(path)?.is_some() {
                continue;
            }
            let (parent, name) = path::split(path).unwrap_or((b"", path));
            let dir = self.touch(parent)?;
            rustix::fs::unlinkat(dir, name, AtFlags::empty())
                .map_err(|e| place.error("remove the whiteout", path, e))?;
        }
        Ok(())
    }

    fn copy_attributes(&self, path: &[u8]) -> Result<(), Error> {
        let Some(Found::Directory(lower)) = self.find(path)? else { return Ok(()) };
        let error = |e| self.place.error("read the attributes of the lower", path, e);
        let mut meta = meta_of(&rustix::fs::fstat(&lower).map_err(error)?);
        meta.xattrs = xattrs(lower.as_fd(), b".", self.options).map_err(error)?;
        self.set(self.open(path)?.as_fd(), &meta, path)
    }
}

fn meta_of(stat: &Stat) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime(stat),
        xattrs: Vec::new(),
    }
}

fn mtime(stat: &Stat) -> Time {
    Time { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// The attributes of a lower file, of whatever kind, as its image gave them: without overlayfs's own, and unescaped.
fn xattrs(
    dir: BorrowedFd<'_>,
    name: &[u8],
    options: &Options,
) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // There is no getxattrat before 6.13; the last component is not followed.
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    let path = path.as_slice();
    let mut list = Vec::with_capacity(rustix::fs::llistxattr_query(path)?.max(1));
    rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut list))?;
    let mut out = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Some(given) = given_name(name, options.form) else { continue };
        let mut value = Vec::with_capacity(rustix::fs::lgetxattr_query(path, name)?.max(1));
        rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value))?;
        out.push((given, value));
    }
    Ok(out)
}
