//! A directory tree becomes a tar: a layer of an image, or a whole root file system.
//!
//! The same tree gives the same bytes: of each directory come first its files, then its directories with all that is
//! in them, sorted by name, and a header holds owner numbers, mode, time of modification to the
//! nanosecond, extended attributes, and nothing of the machine. Of the names of one inode the first has
//! the content, the others are hard links to it. Holes are written as zeros. Sockets, which no tar can
//! hold, are left out.
//!
//! ustar headers, with PAX records for what does not fit: Docker, Podman, GNU tar and `image-unpack` read them.

pub(crate) mod entry;

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use image_unpack::{WhiteoutForm, given_name};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::Error;
use entry::{Archive, Header, Xattr};

/// Bytes of a file that are read at once.
const BUFFER: usize = 256 << 10;
/// What a layer has for a name that is gone (image specification, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// What a layer has in a directory that hides those below it.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// How a tree is read.
#[derive(Clone, Copy)]
pub struct Pack<'a> {
    /// The form of an overlay's layer: its whiteouts and opaque directories become those of an image, and
    /// overlayfs's own attributes are left out. `None`: a tree like any other.
    pub layer: Option<WhiteoutForm>,
    /// What is to be left out: asked for each path (without a slash in front) that is no directory.
    pub skip: &'a dyn Fn(&[u8], &Stat) -> bool,
}

impl Default for Pack<'_> {
    fn default() -> Self {
        Pack { layer: None, skip: &|_, _| false }
    }
}

impl std::fmt::Debug for Pack<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack").field("layer", &self.layer).finish_non_exhaustive()
    }
}

impl Pack<'_> {
    /// Writes the tree below `root` as a tar to `out`, and returns the tar's bytes. No link is followed, and
    /// nothing outside of `root` is read. What somebody removes meanwhile is left out, and a file that becomes
    /// shorter is filled up with zeros.
    ///
    /// # Errors
    /// What cannot be read ([`Error::Pack`]); what a tar or an image cannot hold
    /// ([`Error::Unrepresentable`]); `out` takes no more ([`Error::Output`]).
    pub fn write(&self, root: BorrowedFd<'_>, out: impl Write) -> Result<u64, Error> {
        let mut walk = self.walk(root, b"", out);
        walk.below(b"")?;
        walk.archive.finish()
    }

    /// As [`Pack::write`], of what is called `entry` in `dir`, a directory with all below it or anything
    /// else, under the name `name`. With an empty name a directory's content alone is written.
    ///
    /// # Errors
    /// As there; what is not there is an error too.
    pub fn write_entry(
        &self,
        dir: BorrowedFd<'_>,
        entry: &CStr,
        name: &[u8],
        out: impl Write,
    ) -> Result<u64, Error> {
        let stat = rustix::fs::statat(dir, entry, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("look at", name))?;
        let parent = dir.try_clone_to_owned().map_err(|source| Error::Pack {
            op: "open the directory of",
            path: shown(name),
            source,
        })?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let mut walk = self.walk(dir, b"", out);
            walk.entry(&parent, &entry.to_owned(), name, stat)?;
            return walk.archive.finish();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(dir, entry, flags, Mode::empty())
            .map_err(failed("open the directory", name))?;
        let mut walk = self.walk(root.as_fd(), name, out);
        if !name.is_empty() {
            walk.entry(&parent, &entry.to_owned(), name, stat)?;
        }
        walk.below(name)?;
        walk.archive.finish()
    }

    fn walk<'a, W: Write>(
        &'a self,
        root: BorrowedFd<'a>,
        prefix: &'a [u8],
        out: W,
    ) -> Walk<'a, std::io::BufWriter<W>> {
        let archive = Archive::new(std::io::BufWriter::with_capacity(BUFFER, out));
        let buffer = vec![0; BUFFER];
        Walk { root, prefix, pack: self, archive, seen: HashMap::new(), buffer }
    }
}

/// A tree being written.
struct Walk<'a, W: Write> {
    root: BorrowedFd<'a>,
    /// The root's name in the archive, with which all paths begin; empty where it has none.
    prefix: &'a [u8],
    pack: &'a Pack<'a>,
    archive: Archive<W>,
    /// Files with several names: device and inode, and the first of the names.
    seen: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Walk<'_, W> {
    /// Writes all that lies below the directory at `path`.
    fn below(&mut self, path: &[u8]) -> Result<(), Error> {
        // Only paths are kept, so that a tree of any depth needs one descriptor.
        let mut left: Vec<Vec<u8>> = vec![path.to_vec()];
        while let Some(path) = left.pop() {
            let mut inner = self.directory(&path)?;
            inner.reverse();
            left.append(&mut inner);
        }
        Ok(())
    }

    /// Writes a directory and its files, and returns the directories in it.
    fn directory(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let Some(dir) = self.open(path).map_err(failed("open the directory", path))? else {
            return Ok(Vec::new()); // gone
        };
        let stat = rustix::fs::fstat(&dir).map_err(failed("look at", path))?;
        let xattrs = self.xattrs(&sys::process::proc_path(&dir), path)?;
        let name = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
        self.archive.header(&Header { name: &name, kind: b'5', ..Header::of(&stat, &xattrs) })?;
        if let Some(form) = self.pack.layer
            && !path.is_empty()
            && overlay::whiteout::is_opaque(dir.as_fd(), user(form))
                .map_err(failed("read the attributes of", path))?
        {
            self.archive.mark(&join(path, OPAQUE))?;
        }
        let mut inner = Vec::new();
        for name in names(&dir).map_err(failed("read the directory", path))? {
            let full = join(path, name.to_bytes());
            let stat = match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(pack_error("look at", &full, errno)),
            };
            if self.entry(&dir, &name, &full, stat)? {
                inner.push(full);
            }
        }
        Ok(inner)
    }

    /// Writes one entry; a directory is only looked at: `true`.
    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &CString,
        full: &[u8],
        stat: Stat,
    ) -> Result<bool, Error> {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if let Some(form) = self.pack.layer {
            let maybe = match file_type {
                FileType::CharacterDevice => stat.st_rdev == 0,
                FileType::RegularFile => stat.st_size == 0 && form != WhiteoutForm::Device,
                _ => false,
            };
            if maybe
                && overlay::whiteout::is_whiteout(dir.as_fd(), name, user(form))
                    .map_err(failed("read the attributes of", full))?
            {
                let gone = [WHITEOUT, name.to_bytes()].concat();
                let parent = &full[..full.len() - name.to_bytes().len()];
                self.archive.mark(&[parent, &gone].concat())?;
                return Ok(false);
            }
            if name.to_bytes().starts_with(WHITEOUT) {
                let why = "in an image's layer, a name that starts with \".wh.\" says that \
                    something is gone; rename or remove it";
                return Err(unrepresentable(full, why));
            }
        }
        if file_type == FileType::Directory {
            return Ok(true);
        }
        if (self.pack.skip)(full, &stat) {
            return Ok(false);
        }
        let kind = match file_type {
            FileType::RegularFile => return self.file(dir, name, full).map(|()| false),
            FileType::Symlink => b'2',
            FileType::CharacterDevice => b'3',
            FileType::BlockDevice => b'4',
            FileType::Fifo => b'6',
            _ => return Ok(false), // a socket
        };
        if self.linked(full, &stat)? {
            return Ok(false);
        }
        // There is no listxattrat before Linux 6.13; the last component is not followed.
        let by_name = sys::process::proc_path(dir).join(OsStr::from_bytes(name.to_bytes()));
        let xattrs = self.xattrs(&by_name, full)?;
        let mut header = Header { kind, name: full, ..Header::of(&stat, &xattrs) };
        let target;
        match kind {
            b'2' => {
                target = match rustix::fs::readlinkat(dir, name, Vec::new()) {
                    Ok(target) => target,
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(false), // gone, or another by now
                    Err(errno) => return Err(pack_error("read the link", full, errno)),
                };
                header.link = target.to_bytes();
            }
            b'3' | b'4' => {
                let (major, minor) =
                    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                header.device = (major, minor);
            }
            _ => {}
        }
        self.archive.header(&header)?;
        Ok(false)
    }

    /// A regular file with its content. What is written of it is what the open file has, whatever has its name.
    fn file(&mut self, dir: &OwnedFd, name: &CString, full: &[u8]) -> Result<(), Error> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = rustix::fs::openat(dir, name, flags, Mode::empty());
        let file = match entry.and_then(sys::below::open_regular) {
            Ok(Some(file)) => file,
            Ok(None) | Err(Errno::NOENT) => return Ok(()), // gone, or another by now
            Err(errno) => return Err(pack_error("open", full, errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(failed("look at", full))?;
        if self.linked(full, &stat)? {
            return Ok(());
        }
        let xattrs = self.xattrs(&sys::process::proc_path(&file), full)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.archive.header(&Header {
            name: full,
            kind: b'0',
            size,
            ..Header::of(&stat, &xattrs)
        })?;
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let read =
                rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut self.buffer[..want]));
            match read.map_err(failed("read", full))? {
                0 => break,
                count => {
                    self.archive.data(&self.buffer[..count])?;
                    left -= count as u64;
                }
            }
        }
        self.archive.zeros(left)?; // it became shorter
        self.archive.pad(size)
    }

    /// Whether the file was written under another name; then this one is written as a link to it.
    fn linked(&mut self, full: &[u8], stat: &Stat) -> Result<bool, Error> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let inode = (stat.st_dev, stat.st_ino);
        let Some(first) = self.seen.get(&inode) else {
            self.seen.insert(inode, full.to_vec());
            return Ok(false);
        };
        let header = Header { name: full, kind: b'1', link: first, ..Header::of(stat, &[]) };
        self.archive.header(&header)?;
        Ok(true)
    }

    /// The directory at `path` (the prefix alone: the root), open for reading; `None` where there is none any more.
    fn open(&self, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = path.strip_prefix(self.prefix).unwrap_or(path);
        let path = path.strip_prefix(b"/").unwrap_or(path);
        match sys::below::open_plain(self.root, path, flags) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The extended attributes of what is at `path` (which is not followed), sorted by name.
    fn xattrs(&self, path: &Path, full: &[u8]) -> Result<Vec<Xattr>, Error> {
        let failed = failed("read the extended attributes of", full);
        // A magic link to an open file has to be followed, and ends at that file.
        let by_descriptor = path.parent() == Some(Path::new("/proc/self/fd"));
        let list = sized(|buffer| match by_descriptor {
            true => rustix::fs::listxattr(path, buffer),
            false => rustix::fs::llistxattr(path, buffer),
        });
        let list = match list {
            // Not every file system has them; and what is gone has none.
            Err(Errno::NOTSUP | Errno::NOENT) => return Ok(Vec::new()),
            list => list.map_err(failed)?,
        };
        let mut xattrs = Vec::new();
        for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            // The label of this host's policy means nothing on another.
            if name == b"security.selinux" {
                continue;
            }
            let given = match self.pack.layer {
                None => name.to_vec(),
                Some(form) => match given_name(name, form) {
                    Some(given) => given,
                    None => continue,
                },
            };
            if given.contains(&b'=') {
                let why = "it has an extended attribute with '=' in its name, which no tar can \
                    hold; remove it with `setfattr -x`";
                return Err(unrepresentable(full, why));
            }
            let value = sized(|buffer| match by_descriptor {
                true => rustix::fs::getxattr(path, name, buffer),
                false => rustix::fs::lgetxattr(path, name, buffer),
            });
            match value {
                Err(Errno::NODATA | Errno::NOENT) => {} // gone
                value => xattrs.push((given, value.map_err(failed)?)),
            }
        }
        xattrs.sort_unstable();
        Ok(xattrs)
    }
}

/// Whether overlayfs's attributes are those of a user namespace.
fn user(form: WhiteoutForm) -> bool {
    matches!(form, WhiteoutForm::Xattr { user: true })
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// The names in a directory, sorted by their bytes.
fn names(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The bytes of a call that fills a buffer, with one that is large enough (XATTR_SIZE_MAX of linux/limits.h).
fn sized(
    call: impl Fn(&mut [MaybeUninit<u8>]) -> Result<(&mut [u8], &mut [MaybeUninit<u8>]), Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut small = [MaybeUninit::uninit(); 1024];
    match call(&mut small) {
        Err(Errno::RANGE) => {}
        result => return result.map(|(bytes, _)| bytes.to_vec()),
    }
    let mut large = vec![MaybeUninit::uninit(); 1 << 16];
    call(&mut large).map(|(bytes, _)| bytes.to_vec())
}

/// A path in the tree, for messages.
fn shown(full: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(full))
}

fn pack_error(op: &'static str, full: &[u8], errno: Errno) -> Error {
    Error::Pack { op, path: shown(full), source: errno.into() }
}

fn failed<'a>(op: &'static str, full: &'a [u8]) -> impl Fn(Errno) -> Error + Copy + 'a {
    move |errno| pack_error(op, full, errno)
}

fn unrepresentable(full: &[u8], why: &'static str) -> Error {
    Error::Unrepresentable { path: shown(full), why }
}
