//! One layer: entries as they come from a tar, in the tar's order.

use std::collections::HashMap;

use crate::Error;
use crate::entry::{Data, Kind, Meta};
use crate::error::{Problem, show};
use crate::format::{BLOCK, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, device_number};
use crate::limits::Limits;
use crate::sparse;
use crate::tree::{
    Content, Inode, NONE, Number, ROOT, Span, Sparse, Stored, Tree, check_path, split,
};

/// A layer of an image, as it grows.
///
/// Paths are cleaned by the caller: components that are names, with one `/` between them and none around;
/// empty is the root. Entries follow one another as on a file system: a later one replaces an earlier one,
/// but a directory over a directory, which replaces its attributes and keeps what is in it. A parent that is
/// missing, or is no directory, becomes one whose attributes come from the layers below. Whiteouts and opaque
/// marks are about lower layers only, wherever in the layer they stand.
///
/// After an error, the entry at fault may be there in part.
#[derive(Clone)]
pub struct Layer {
    pub(crate) tree: Tree,
    /// Inodes of hard links to names of lower layers, by the name.
    below: HashMap<Vec<u8>, Number>,
    /// The directory of the last entry: most entries come in runs that share it.
    last: (Vec<u8>, Number),
}

impl Layer {
    /// An empty layer.
    #[must_use]
    pub fn new(limits: Limits) -> Layer {
        Layer { tree: Tree::new(limits), below: HashMap::new(), last: (Vec::new(), ROOT) }
    }

    /// Adds an entry that is no hard link.
    ///
    /// # Errors
    /// What EROFS or overlayfs cannot hold, and what is over a limit.
    pub fn add(&mut self, path: &[u8], meta: &Meta<'_>, kind: Kind<'_>) -> Result<(), Error> {
        check_path(path, &self.tree.limits)?;
        let refuse = |why| Error::Entry { path: show(path), why };
        let inode = self.inode(meta, kind).map_err(|error| error.at(path))?;
        let Some((parent, name)) = split(path) else {
            if kind != Kind::Directory {
                return Err(refuse(Problem::Root));
            }
            self.set_directory(ROOT, inode);
            return Ok(());
        };
        let parent = self.directory(parent)?;
        let name = self.tree.make(parent, name)?;
        let old = self.tree.name(name).inode;
        if kind == Kind::Directory && self.tree.is_directory(old) {
            self.set_directory(old, inode);
            return Ok(());
        }
        let erased = kind == Kind::Directory && old != NONE;
        let new = self.tree.push(Inode { erased, ..inode })?;
        self.replace(name, new);
        Ok(())
    }

    /// Adds a hard link to a name of this layer or, if it is not there, of the layers below.
    ///
    /// # Errors
    /// A target that is a directory, or above or below the link; what is over a limit.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        check_path(path, &self.tree.limits)?;
        check_path(target, &self.tree.limits)?;
        let refuse = |why| Err(Error::Entry { path: show(path), why });
        let is_below = |path: &[u8], dir: &[u8]| {
            path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
        };
        let Some((parent, name)) = split(path) else { return refuse(Problem::Root) };
        if target.is_empty() || self.tree.is_directory(self.tree.lookup(target)) {
            return refuse(Problem::LinkToDirectory(show(target)));
        }
        if is_below(path, target) || is_below(target, path) {
            return refuse(Problem::LinkAround(show(target)));
        }
        let inode = match self.tree.lookup(target) {
            NONE => self.link_below(target)?,
            found => found,
        };
        let parent = self.directory(parent)?;
        let name = self.tree.make(parent, name)?;
        self.replace(name, inode);
        Ok(())
    }

    /// What lower layers have at `path` is gone.
    ///
    /// # Errors
    /// The root, and what is over a limit.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        check_path(path, &self.tree.limits)?;
        let Some((parent, name)) = split(path) else {
            return Err(Error::Entry { path: show(path), why: Problem::Root });
        };
        let parent = self.directory(parent)?;
        let name = self.tree.make(parent, name)?;
        self.tree.name_mut(name).whiteout = true;
        Ok(())
    }

    /// What lower layers have in the directory `path` is gone.
    ///
    /// # Errors
    /// What is over a limit.
    pub fn opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        check_path(path, &self.tree.limits)?;
        let directory = self.directory(path)?;
        self.tree.inode_mut(directory).opaque = true;
        Ok(())
    }

    /// All data of the layer is on this device from now on, where it was on another before. So a layer need not know
    /// which devices an image is going to have: it is indexed with device 1, and gets its number before it is
    /// merged ([`Merged::apply`](crate::Merged::apply)) or settled.
    pub fn set_device(&mut self, number: u16) {
        for inode in &mut self.tree.inodes {
            if let Content::Extent { device, .. } = &mut inode.content {
                *device = number;
            }
        }
        for sparse in &mut self.tree.sparse {
            if let Stored::On { device, .. } = &mut sparse.stored {
                *device = number;
            }
        }
    }

    /// An inode that is about to stand at `name`; directories that stood there are out of reach then.
    fn replace(&mut self, name: Number, inode: Number) {
        let old = std::mem::replace(&mut self.tree.name_mut(name).inode, inode);
        if self.tree.is_directory(old) {
            self.last = (Vec::new(), ROOT);
        }
    }

    fn set_directory(&mut self, number: Number, new: Inode) {
        let inode = self.tree.inode_mut(number);
        *inode = Inode { opaque: inode.opaque, erased: inode.erased, ..new };
    }

    /// The directory at `path`, made with its parents where it is missing or something else.
    fn directory(&mut self, path: &[u8]) -> Result<Number, Error> {
        if self.last.0 == path {
            return Ok(self.last.1);
        }
        let mut directory = ROOT;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let name = self.tree.make(directory, part)?;
            let old = self.tree.name(name).inode;
            directory = if self.tree.is_directory(old) {
                old
            } else {
                let new = self.tree.push(Inode { erased: old != NONE, ..Inode::IMPLIED })?;
                self.replace(name, new);
                new
            };
        }
        self.last.0.clear();
        self.last.0.extend(path);
        self.last.1 = directory;
        Ok(directory)
    }

    /// The inode of hard links to a lower layer's name: one for all of them.
    fn link_below(&mut self, target: &[u8]) -> Result<Number, Error> {
        if let Some(inode) = self.below.get(target) {
            return Ok(*inode);
        }
        let content = Content::Below(self.tree.put_data(target)?);
        let inode = self.tree.push(Inode { mode: 0, implied: false, content, ..Inode::IMPLIED })?;
        self.below.insert(target.to_vec(), inode);
        Ok(inode)
    }

    fn inode(&mut self, meta: &Meta<'_>, kind: Kind<'_>) -> Result<Inode, Fault> {
        if meta.mode > 0o7777 {
            return Err(Problem::Mode(meta.mode).into());
        }
        if meta.mtime.nanos > 999_999_999 {
            return Err(Problem::Nanos(meta.mtime.nanos).into());
        }
        let (kind, content) = match kind {
            Kind::Directory => (S_IFDIR, Content::None),
            Kind::Fifo => (S_IFIFO, Content::None),
            Kind::File(data) => (S_IFREG, self.file(data)?),
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() > 4095 {
                    return Err(Problem::Symlink(target.len()).into());
                }
                if target.contains(&0) {
                    return Err(Problem::SymlinkNul.into());
                }
                (S_IFLNK, Content::Bytes(self.tree.put_data(target)?))
            }
            Kind::Character { major: 0, minor: 0 } => return Err(Problem::WhiteoutDevice.into()),
            Kind::Character { major, minor } => (S_IFCHR, device(major, minor)?),
            Kind::Block { major, minor } => (S_IFBLK, device(major, minor)?),
        };
        let xattrs = self.tree.xattrs.intern(meta.xattrs)?;
        self.tree.keep(0)?;
        Ok(Inode {
            mode: kind | meta.mode,
            implied: false,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            xattrs,
            content,
            ..Inode::IMPLIED
        })
    }

    fn file(&mut self, data: Data<'_>) -> Result<Content, Fault> {
        match data {
            Data::Bytes(bytes) => Ok(Content::Bytes(self.tree.put_data(bytes)?)),
            Data::Extent { size: 0, .. } => Ok(Content::Bytes(Span::default())),
            Data::Extent { device, offset, size } => {
                let block = block(device, offset, size)?;
                self.tree.count_chunks(sparse::whole(size).count)?;
                Ok(Content::Extent { device, block, size })
            }
            Data::Sparse { size, device, offset, map } => {
                let length = sparse::check(map, None, size)?;
                if !crate::maps_to_blocks(map) {
                    return Err(Problem::UnalignedMap.into());
                }
                let block = block(device, offset, length)?;
                self.tree.count_chunks(sparse::mapped(map, size).count)?;
                self.sparse(size, map, Stored::On { device, block })
            }
            Data::SparseBytes { size, map, bytes } => {
                sparse::check(map, Some(bytes.len() as u64), size)?;
                self.tree.count_chunks(sparse::stored(map, size).count)?;
                let bytes = self.tree.put_data(bytes)?;
                self.sparse(size, map, Stored::Here(bytes))
            }
        }
    }

    fn sparse(&mut self, size: u64, map: &[(u64, u64)], stored: Stored) -> Result<Content, Fault> {
        if size == 0 {
            return Ok(Content::Bytes(Span::default()));
        }
        let map = self.tree.put_map(map)?;
        self.tree.sparse.push(Sparse { size, map, stored });
        Ok(Content::Sparse((self.tree.sparse.len() - 1) as u32))
    }
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").field("names", &self.tree.names().len()).finish_non_exhaustive()
    }
}

/// An error whose path is not known yet.
enum Fault {
    Problem(Problem),
    Error(Error),
}

impl Fault {
    fn at(self, path: &[u8]) -> Error {
        match self {
            Fault::Problem(why) => Error::Entry { path: show(path), why },
            Fault::Error(error) => error,
        }
    }
}

impl From<Problem> for Fault {
    fn from(why: Problem) -> Fault {
        Fault::Problem(why)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Error(error)
    }
}

fn device(major: u32, minor: u32) -> Result<Content, Problem> {
    if major > 0xfff || minor > 0xf_ffff {
        return Err(Problem::DeviceNumber(major, minor));
    }
    Ok(Content::Device(device_number(major, minor)))
}

/// The first block of data of that length. The last number of a block means a hole.
fn block(device: u16, offset: u64, length: u64) -> Result<u32, Problem> {
    if device == 0 {
        return Err(Problem::Device);
    }
    if !offset.is_multiple_of(BLOCK) {
        return Err(Problem::Offset(offset));
    }
    let end = offset.saturating_add(length);
    if end.div_ceil(BLOCK) >= u64::from(u32::MAX) {
        return Err(Problem::Address(end));
    }
    Ok((offset / BLOCK) as u32)
}
