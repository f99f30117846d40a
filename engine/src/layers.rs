//! The directories of an image's layers, and of a container's own over them, read as they lie on each other.
//!
//! A container's tree may be nested deeper than descriptors and stacks last, and its paths be longer than the
//! kernel takes: a directory is known by its path, and opened from the top while it is read.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use image_store::{Mounted, Store};
use overlay::whiteout::{is_opaque, is_whiteout};
use rustix::fs::{AtFlags, Dir as Entries, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::dir::Root;
use crate::{Container, Error, bundle};

const READ: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The layers of an image, the topmost first.
#[derive(Debug)]
pub(crate) struct Lowers {
    directories: Vec<OwnedFd>,
    /// What has to be mounted meanwhile.
    _layers: Option<Mounted>,
}

/// What an image has under a name.
pub(crate) struct Below {
    pub(crate) stat: Option<Stat>,
    /// The layer that it is from.
    layer: usize,
    /// Where it is a directory, the layers that it consists of, the topmost first.
    pub(crate) layers: Vec<usize>,
}

impl Lowers {
    /// Those of a container.
    pub(crate) fn open(store: &Store, root: &Root, container: &Container) -> Result<Lowers, Error> {
        let layers = bundle::layers(store, container)?;
        let mut lowers = Vec::with_capacity(container.lowers.len());
        for lower in &container.lowers {
            let path = root.path().join(&lower.link);
            // The link is the store's own.
            let open = rustix::fs::open(&path, READ.difference(OFlags::NOFOLLOW), Mode::empty());
            lowers.push(open.map_err(|errno| Error::system("open the layer", &path, errno))?);
        }
        Ok(Lowers { directories: lowers, _layers: layers })
    }

    /// All of them, which the root consists of.
    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.directories.len()).collect()
    }

    /// Opens the directory `path` in these layers.
    pub(crate) fn directories(
        &self,
        path: &[u8],
        layers: &[usize],
    ) -> Result<Vec<(usize, OwnedFd)>, Errno> {
        layers.iter().map(|&at| Ok((at, open(&self.directories[at], path)?))).collect()
    }

    /// Follows `path` as the image's links lead, below its root. What is missing from some component on is taken
    /// as it is written.
    pub(crate) fn resolve(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let split = |path: &[u8]| {
            let parts = path.split(|&byte| byte == b'/').rev();
            parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec).collect()
        };
        let mut rest: Vec<Vec<u8>> = split(path.as_bytes());
        // Each directory on the way with the layers that have it.
        let mut done: Vec<(Vec<u8>, Vec<usize>)> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                done.pop();
                continue;
            }
            let parent = done.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>().join(&b'/');
            let layers = done.last().map_or_else(|| self.all(), |(_, layers)| layers.clone());
            let c_name = CString::new(name.clone()).map_err(|_| Errno::INVAL)?;
            let directories = self.directories(&parent, &layers)?;
            let below = Below::of(&directories, &c_name)?;
            let is_link = below.stat.as_ref().is_some_and(|stat| kind(stat) == FileType::Symlink);
            if !is_link {
                done.push((name, below.layers));
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            let from = directories.iter().find(|(at, _)| *at == below.layer);
            let (_, directory) = from.ok_or(Errno::NOENT)?;
            let target = rustix::fs::readlinkat(directory, &c_name, Vec::new())?;
            if target.as_bytes().starts_with(b"/") {
                done.clear();
            }
            rest.append(&mut split(target.as_bytes()));
        }
        Ok(done.iter().flat_map(|(name, _)| [b"/", &name[..]].concat()).collect())
    }
}

/// Symbolic links followed in one path (as the kernel: path_resolution(7)).
const MAX_LINKS: usize = 40;

impl Below {
    /// What lies under `name` in these directories of layers.
    pub(crate) fn of(directories: &[(usize, OwnedFd)], name: &CStr) -> Result<Below, Errno> {
        let mut below = Below { stat: None, layer: 0, layers: Vec::new() };
        for (at, lower) in directories {
            let stat = match rustix::fs::statat(lower, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            if !is_directory(&stat) {
                // A whiteout, or a file: what lies deeper is hidden either way.
                if below.stat.is_none() && !is_whiteout(lower.as_fd(), name, false)? {
                    (below.stat, below.layer) = (Some(stat), *at);
                }
                break;
            }
            let directory = rustix::fs::openat(lower, name, READ, Mode::empty())?;
            if below.stat.is_none() {
                (below.stat, below.layer) = (Some(stat), *at);
            }
            below.layers.push(*at);
            if is_opaque(directory.as_fd(), false)? {
                break;
            }
        }
        Ok(below)
    }
}

/// Opens the directory at `path`, which begins with a slash or is empty, below the top of a layer.
pub(crate) fn open(top: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    sys::below::open_plain(top, path.strip_prefix(b"/").unwrap_or(path), READ)
}

/// The names in the upper directory, and where that hides what lies below, the names there; sorted.
pub(crate) fn names(upper: &OwnedFd, lowers: &[(usize, OwnedFd)]) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let hides = is_opaque(upper.as_fd(), false)?;
    let hidden = lowers.iter().map(|(_, lower)| lower).filter(|_| hides);
    for directory in [upper].into_iter().chain(hidden) {
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

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    kind(stat) == FileType::Directory
}

#[cfg(test)]
impl Lowers {
    pub(crate) fn of(paths: &[&std::path::Path]) -> Lowers {
        let open = |path: &&std::path::Path| rustix::fs::open(*path, READ, Mode::empty()).unwrap();
        Lowers { directories: paths.iter().map(open).collect(), _layers: None }
    }
}
