//! A tree of names and inodes in memory, made for a layer of a hundred thousand entries: names lie in one
//! buffer, numbers stand for pointers, and what is replaced is left where it is, out of reach.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use crate::Error;
use crate::entry::Time;
use crate::error::{Problem, show};
use crate::format::{NAME_MAX, S_IFDIR, S_IFMT};
use crate::limits::{Limits, check};
use crate::xattr::{Set, Xattrs};

/// The number of an inode or of a name; `NONE` stands for none.
pub(crate) type Number = u32;
pub(crate) const NONE: Number = u32::MAX;
pub(crate) const ROOT: Number = 0;

/// A piece of one of the tree's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) length: u32,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    /// The inode of the directory: one that was replaced keeps its names, which nothing reaches then.
    parent: Number,
    start: u32,
    length: u8,
    /// What lower layers have at this name is gone.
    pub(crate) whiteout: bool,
    /// `NONE`: there is nothing, or only a whiteout.
    pub(crate) inode: Number,
    /// The next name with the same hash.
    next: Number,
}

impl Name {
    /// The inode of its directory.
    pub(crate) fn parent(&self) -> Number {
        self.parent
    }
}

/// What an inode is beyond its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Directories and FIFOs.
    None,
    /// A device's number.
    Device(u32),
    /// A file's bytes or a symlink's target, in `Tree::data`.
    Bytes(Span),
    /// A stretch of a device: its number, the first block, and bytes.
    Extent { device: u16, block: u32, size: u64 },
    /// In `Tree::sparse`.
    Sparse(u32),
    /// A hard link to a name of a lower layer, whose path is in `Tree::data`. The type is not known.
    Below(Span),
}

/// A file with holes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sparse {
    pub(crate) size: u64,
    /// Pieces in `Tree::maps`.
    pub(crate) map: Span,
    pub(crate) stored: Stored,
}

/// Where the pieces of a file with holes are, one after another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored {
    /// On a device, from this block.
    On { device: u16, block: u32 },
    /// In `Tree::data`.
    Here(Span),
}

/// An inode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inode {
    /// With the type, as in `st_mode`; 0 for `Content::Below`.
    pub(crate) mode: u16,
    /// A directory that no entry lists: its attributes come from below.
    pub(crate) implied: bool,
    /// A directory marked opaque: lower layers' children are hidden.
    pub(crate) opaque: bool,
    /// A directory where a whiteout, or a file that stood here before, took away the lower one with all it was.
    pub(crate) erased: bool,
    /// Names that it has in its own layer, where that is what it shows although some of them are hidden by now; else 0.
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Set,
    pub(crate) content: Content,
}

impl Inode {
    /// A directory that no entry lists.
    pub(crate) const IMPLIED: Inode = Inode {
        mode: S_IFDIR | 0o755,
        implied: true,
        opaque: false,
        erased: false,
        links: 0,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 0, nanos: 0 },
        xattrs: 0,
        content: Content::None,
    };

    pub(crate) fn is_directory(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }
}

/// Keys are hashes already.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The tree. `inodes[ROOT]` is the root.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) limits: Limits,
    names: Vec<Name>,
    /// By hash of parent and name, the last name made. Keyed at random: an image could pick its names else.
    index: HashMap<u64, Number, BuildHasherDefault<Ready>>,
    keys: RandomState,
    text: Vec<u8>,
    pub(crate) inodes: Vec<Inode>,
    pub(crate) xattrs: Xattrs,
    data: Vec<u8>,
    pub(crate) sparse: Vec<Sparse>,
    maps: Vec<(u64, u64)>,
    /// Pointers to data so far.
    chunks: u64,
}

impl Tree {
    pub(crate) fn new(limits: Limits) -> Tree {
        Tree {
            limits,
            names: Vec::new(),
            index: HashMap::default(),
            keys: RandomState::new(),
            text: Vec::new(),
            inodes: vec![Inode::IMPLIED],
            xattrs: Xattrs::new(),
            data: Vec::new(),
            sparse: Vec::new(),
            maps: Vec::new(),
            chunks: 0,
        }
    }

    /// The names that were made, in that order, those out of reach included.
    pub(crate) fn names(&self) -> &[Name] {
        &self.names
    }

    pub(crate) fn name(&self, number: Number) -> &Name {
        &self.names[number as usize]
    }

    pub(crate) fn name_mut(&mut self, number: Number) -> &mut Name {
        &mut self.names[number as usize]
    }

    pub(crate) fn inode(&self, number: Number) -> &Inode {
        &self.inodes[number as usize]
    }

    pub(crate) fn inode_mut(&mut self, number: Number) -> &mut Inode {
        &mut self.inodes[number as usize]
    }

    pub(crate) fn text(&self, name: &Name) -> &[u8] {
        &self.text[name.start as usize..][..usize::from(name.length)]
    }

    pub(crate) fn data(&self, span: Span) -> &[u8] {
        &self.data[span.start as usize..][..span.length as usize]
    }

    pub(crate) fn map(&self, span: Span) -> &[(u64, u64)] {
        &self.maps[span.start as usize..][..span.length as usize]
    }

    /// Whether an inode is a directory; `NONE` is not.
    pub(crate) fn is_directory(&self, inode: Number) -> bool {
        inode != NONE && self.inode(inode).is_directory()
    }

    fn hash(&self, parent: Number, name: &[u8]) -> u64 {
        self.keys.hash_one((parent, name))
    }

    /// The name in the directory, if there was one ever.
    pub(crate) fn find(&self, parent: Number, name: &[u8]) -> Option<Number> {
        self.find_hashed(self.hash(parent, name), parent, name)
    }

    fn find_hashed(&self, hash: u64, parent: Number, name: &[u8]) -> Option<Number> {
        let mut at = *self.index.get(&hash)?;
        while at != NONE {
            let found = self.name(at);
            if found.parent == parent && self.text(found) == name {
                return Some(at);
            }
            at = found.next;
        }
        None
    }

    /// The inode of the name in the directory, or `NONE`.
    pub(crate) fn child(&self, parent: Number, name: &[u8]) -> Number {
        self.find(parent, name).map_or(NONE, |found| self.name(found).inode)
    }

    /// The inode at a path, or `NONE`. Empty is the root.
    pub(crate) fn lookup(&self, path: &[u8]) -> Number {
        if path.is_empty() {
            return ROOT;
        }
        path.split(|byte| *byte == b'/')
            .try_fold(ROOT, |dir, name| {
                let child = if self.is_directory(dir) { self.child(dir, name) } else { NONE };
                if child == NONE { Err(NONE) } else { Ok(child) }
            })
            .unwrap_or(NONE)
    }

    /// The name in the directory, made without an inode if there is none.
    pub(crate) fn make(&mut self, parent: Number, name: &[u8]) -> Result<Number, Error> {
        let hash = self.hash(parent, name);
        if let Some(found) = self.find_hashed(hash, parent, name) {
            return Ok(found);
        }
        let number = self.names.len() as Number;
        check(u64::from(number) + 1, u64::from(self.limits.entries), "names")?;
        self.keep(name.len())?;
        let next = self.index.insert(hash, number).unwrap_or(NONE);
        self.names.push(Name {
            parent,
            start: self.text.len() as u32,
            length: name.len() as u8, // callers have checked the path
            whiteout: false,
            inode: NONE,
            next,
        });
        self.text.extend(name);
        Ok(number)
    }

    /// Adds an inode.
    pub(crate) fn push(&mut self, inode: Inode) -> Result<Number, Error> {
        // Each name can have had an inode that was replaced, so that names alone are no limit.
        check(self.inodes.len() as u64, 2 * u64::from(self.limits.entries), "inodes")?;
        self.inodes.push(inode);
        Ok((self.inodes.len() - 1) as Number)
    }

    /// Checks that so many bytes more can be kept.
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), Error> {
        let kept = self.text.len() + self.data.len() + self.xattrs.bytes() + 16 * self.maps.len();
        let all = kept as u64 + bytes as u64;
        check(
            all,
            u64::from(self.limits.memory),
            "bytes of names, attributes and contents in memory",
        )
    }

    /// Counts pointers to data.
    pub(crate) fn count_chunks(&mut self, count: u64) -> Result<(), Error> {
        self.chunks = self.chunks.saturating_add(count);
        check(self.chunks, u64::from(self.limits.chunks), "pointers to data")
    }

    pub(crate) fn put_data(&mut self, bytes: &[u8]) -> Result<Span, Error> {
        self.keep(bytes.len())?;
        let start = self.data.len() as u32;
        self.data.extend(bytes);
        Ok(Span { start, length: bytes.len() as u32 })
    }

    pub(crate) fn put_map(&mut self, map: &[(u64, u64)]) -> Result<Span, Error> {
        self.keep(16 * map.len())?;
        let start = self.maps.len() as u32;
        self.maps.extend(map);
        Ok(Span { start, length: map.len() as u32 })
    }

    /// The names of each directory, sorted as EROFS wants them.
    pub(crate) fn children(&self) -> Children {
        let mut starts = vec![0_u32; self.inodes.len() + 1];
        for name in &self.names {
            starts[name.parent as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        // The first bytes beside the number spare most looks at the names themselves.
        let mut next = starts.clone();
        let mut sorted = vec![(0_u64, 0); self.names.len()];
        for (number, name) in self.names.iter().enumerate() {
            let at = &mut next[name.parent as usize];
            sorted[*at as usize] = (prefix(self.text(name)), number as Number);
            *at += 1;
        }
        for range in starts.windows(2).filter(|range| range[1] - range[0] > 1) {
            sorted[range[0] as usize..range[1] as usize].sort_unstable_by(|a, b| {
                let rest = || self.text(self.name(a.1)).cmp(self.text(self.name(b.1)));
                a.0.cmp(&b.0).then_with(rest)
            });
        }
        Children { starts, names: sorted.into_iter().map(|(_, number)| number).collect() }
    }
}

/// A name's first eight bytes, as a number that sorts as they do.
fn prefix(name: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = name.len().min(8);
    first[..length].copy_from_slice(&name[..length]);
    u64::from_be_bytes(first)
}

/// The names of each directory, sorted bytewise.
pub(crate) struct Children {
    starts: Vec<u32>,
    names: Vec<Number>,
}

impl Children {
    pub(crate) fn of(&self, directory: Number) -> &[Number] {
        let at = directory as usize;
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(start), Some(end)) => &self.names[*start as usize..*end as usize],
            _ => &[], // made after this was
        }
    }
}

/// Checks a path: components that are names, and neither too long nor too many.
pub(crate) fn check_path(path: &[u8], limits: &Limits) -> Result<(), Error> {
    let refuse = |why| Err(Error::Entry { path: show(path), why });
    check(path.len() as u64, limits.path as u64, "bytes in a path")?;
    if path.is_empty() {
        return Ok(());
    }
    let mut depth = 0;
    for name in path.split(|byte| *byte == b'/') {
        depth += 1;
        if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
            return refuse(Problem::Path);
        }
        if name.len() > NAME_MAX {
            return refuse(Problem::Component);
        }
    }
    check(depth, limits.depth as u64, "components in a path")
}

/// The parent of a path and its last component; the root has none.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

impl Sparse {
    /// How the file is cut into chunks.
    pub(crate) fn cut(&self, tree: &Tree) -> crate::sparse::Cut {
        match self.stored {
            Stored::On { .. } => crate::sparse::mapped(tree.map(self.map), self.size),
            Stored::Here(_) => crate::sparse::stored(tree.map(self.map), self.size),
        }
    }
}
