//! Layers as lists of operations, for the crate and for a model of what they mean: flat maps of paths, and no thought
//! of speed.

use std::collections::{BTreeMap, BTreeSet};

use erofs_index::{
    Data, Device, Error, INLINE_FREE, Kind, Layer, Limits, Meta, Options, Time, maps_to_blocks,
};

use crate::tree::{Node, Tree, is_below, parent};

#[derive(Debug, Clone)]
pub(crate) enum What {
    Directory,
    /// put onto the device if it is long enough
    File(Vec<u8>),
    /// size, and pieces with their offsets, in order
    Holes(u64, Vec<(u64, Vec<u8>)>),
    Symlink(Vec<u8>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Default for Attributes {
    fn default() -> Attributes {
        Attributes { mode: 0o644, uid: 0, gid: 0, mtime: (1_700_000_000, 0), xattrs: Vec::new() }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Add(Vec<u8>, Attributes, What),
    Link(Vec<u8>, Vec<u8>),
    Whiteout(Vec<u8>),
    Opaque(Vec<u8>),
}

pub(crate) fn add(path: impl AsRef<[u8]>, what: What) -> Op {
    Op::Add(path.as_ref().to_vec(), Attributes::default(), what)
}

pub(crate) fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Op {
    add(path, What::File(content.as_ref().to_vec()))
}

/// A layer of these, and its data device, which has that number.
pub(crate) fn layer(ops: &[Op], device: u16) -> Result<(Layer, Vec<u8>), Error> {
    let mut layer = Layer::new(Limits::default());
    let mut blob = Vec::new();
    for op in ops {
        match op {
            Op::Link(path, target) => layer.link(path, target)?,
            Op::Whiteout(path) => layer.whiteout(path)?,
            Op::Opaque(path) => layer.opaque(path)?,
            Op::Add(path, attributes, what) => {
                add_one(&mut layer, path, attributes, what, device, &mut blob)?
            }
        }
    }
    Ok((layer, blob))
}

fn add_one(
    layer: &mut Layer,
    path: &[u8],
    attributes: &Attributes,
    what: &What,
    device: u16,
    blob: &mut Vec<u8>,
) -> Result<(), Error> {
    let (seconds, nanos) = attributes.mtime;
    let meta = Meta {
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: Time { seconds, nanos },
        xattrs: &attributes.xattrs,
    };
    let offset = blob.len() as u64;
    let mut put = |bytes: &[u8]| {
        blob.extend(bytes);
        blob.resize(blob.len().next_multiple_of(512), 0);
    };
    match what {
        What::Directory => layer.add(path, &meta, Kind::Directory),
        What::Fifo => layer.add(path, &meta, Kind::Fifo),
        What::Symlink(target) => layer.add(path, &meta, Kind::Symlink(target)),
        What::Character(major, minor) => {
            layer.add(path, &meta, Kind::Character { major: *major, minor: *minor })
        }
        What::Block(major, minor) => {
            layer.add(path, &meta, Kind::Block { major: *major, minor: *minor })
        }
        // Some that could be on the device too, so that all forms of data in the index come up.
        What::File(bytes) if bytes.len() <= INLINE_FREE || bytes.len() % 3 == 0 => {
            layer.add(path, &meta, Kind::File(Data::Bytes(bytes)))
        }
        What::File(bytes) => {
            put(bytes);
            let data = Data::Extent { device, offset, size: bytes.len() as u64 };
            layer.add(path, &meta, Kind::File(data))
        }
        What::Holes(size, pieces) => {
            let map: Vec<_> = pieces.iter().map(|(at, piece)| (*at, piece.len() as u64)).collect();
            let bytes: Vec<u8> = pieces.iter().flat_map(|(_, piece)| piece.clone()).collect();
            let data = if maps_to_blocks(&map) {
                put(&bytes);
                Data::Sparse { size: *size, device, offset, map: &map }
            } else {
                Data::SparseBytes { size: *size, map: &map, bytes: &bytes }
            };
            layer.add(path, &meta, Kind::File(data))
        }
    }
}

pub(crate) fn options(devices: &[Vec<u8>]) -> Options {
    let devices = devices.iter().map(|device| Device::of_size(device.len() as u64).unwrap());
    Options { devices: devices.collect(), ..Options::default() }
}

/// A layer's own content.
#[derive(Debug, Clone)]
enum Own {
    /// attributes if an entry lists it; opaque; erased
    Directory(Option<Node>, bool, bool),
    Other(Node),
    /// a link to a lower layer's path
    Below(Vec<u8>),
}

/// What layers mean, put onto one another.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) tree: Tree,
    inodes: u64,
}

impl Model {
    pub(crate) fn new() -> Model {
        let root = bare_directory();
        Model { tree: Tree::from([(Vec::new(), root)]), inodes: 0 }
    }

    /// Puts a layer on top. None if the crate must refuse it, here or when it is made.
    pub(crate) fn apply(&mut self, ops: &[Op]) -> Option<()> {
        let mut own = BTreeMap::from([(Vec::new(), Own::Directory(None, false, false))]);
        let mut whiteouts = BTreeSet::new();
        for op in ops {
            match op {
                Op::Add(path, attributes, What::Directory) => {
                    let node = self.node(attributes, &What::Directory);
                    directory(&mut own, parent(path));
                    match own.get_mut(path) {
                        Some(Own::Directory(meta, ..)) => *meta = Some(node),
                        old => {
                            let erased = old.is_some();
                            own.insert(path.clone(), Own::Directory(Some(node), false, erased));
                        }
                    }
                }
                Op::Add(path, attributes, what) => {
                    let node = self.node(attributes, what);
                    directory(&mut own, parent(path));
                    clear(&mut own, &mut whiteouts, path);
                    own.insert(path.clone(), Own::Other(node));
                }
                Op::Link(path, target) => {
                    if is_below(path, target) || is_below(target, path) {
                        return None;
                    }
                    let linked = match own.get(target) {
                        Some(Own::Directory(..)) => return None,
                        Some(other) => other.clone(),
                        None => Own::Below(target.clone()),
                    };
                    directory(&mut own, parent(path));
                    clear(&mut own, &mut whiteouts, path);
                    own.insert(path.clone(), linked);
                }
                Op::Whiteout(path) => {
                    directory(&mut own, parent(path));
                    whiteouts.insert(path.clone());
                }
                Op::Opaque(path) => {
                    directory(&mut own, path);
                    if let Some(Own::Directory(_, opaque, _)) = own.get_mut(path) {
                        *opaque = true;
                    }
                }
            }
        }
        self.put(own, &whiteouts)
    }

    fn put(&mut self, own: BTreeMap<Vec<u8>, Own>, whiteouts: &BTreeSet<Vec<u8>>) -> Option<()> {
        let lower = self.tree.clone();
        let gone = |tree: &mut Tree, path: &[u8], itself: bool| {
            remove_below(tree, path);
            if itself {
                tree.remove(path);
            }
        };
        for path in whiteouts {
            gone(&mut self.tree, path, true);
        }
        for (path, entry) in &own {
            if let Own::Directory(_, opaque, erased) = entry
                && (*opaque || *erased)
            {
                gone(&mut self.tree, path, *erased);
            }
        }
        for (path, entry) in own {
            match entry {
                Own::Directory(meta, ..) => {
                    if self.tree.get(&path).is_some_and(|old| !old.is_directory()) {
                        self.tree.remove(&path);
                    }
                    match meta {
                        Some(meta) => drop(self.tree.insert(path, meta)),
                        None => drop(self.tree.entry(path).or_insert_with(bare_directory)),
                    }
                }
                Own::Other(node) => {
                    gone(&mut self.tree, &path, true);
                    self.tree.insert(path, node);
                }
                Own::Below(target) => {
                    let node = lower.get(&target).filter(|node| !node.is_directory())?.clone();
                    gone(&mut self.tree, &path, true);
                    self.tree.insert(path, node);
                }
            }
        }
        Some(())
    }

    fn node(&mut self, attributes: &Attributes, what: &What) -> Node {
        self.inodes += 1;
        let (kind, device, content) = match what {
            What::Directory => (0o4_0000, (0, 0), Vec::new()),
            What::File(bytes) => (0o10_0000, (0, 0), bytes.clone()),
            What::Holes(size, pieces) => {
                let mut bytes = vec![0; *size as usize];
                for (at, piece) in pieces {
                    bytes[*at as usize..][..piece.len()].copy_from_slice(piece);
                }
                (0o10_0000, (0, 0), bytes)
            }
            What::Symlink(target) => (0o12_0000, (0, 0), target.clone()),
            What::Character(major, minor) => (0o2_0000, (*major, *minor), Vec::new()),
            What::Block(major, minor) => (0o6_0000, (*major, *minor), Vec::new()),
            What::Fifo => (0o1_0000, (0, 0), Vec::new()),
        };
        Node {
            mode: kind | u32::from(attributes.mode),
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            device,
            content,
            xattrs: attributes.xattrs.iter().cloned().collect(),
            inode: self.inodes,
            links: 0,
        }
    }
}

fn bare_directory() -> Node {
    Node {
        mode: 0o4_0755,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        device: (0, 0),
        content: Vec::new(),
        xattrs: BTreeMap::new(),
        inode: 0,
        links: 0,
    }
}

/// What is made where something else stands, or nothing.
fn directory(own: &mut BTreeMap<Vec<u8>, Own>, path: &[u8]) {
    if !path.is_empty() {
        directory(own, parent(path));
    }
    if !matches!(own.get(path), Some(Own::Directory(..))) {
        let erased = own.contains_key(path);
        own.insert(path.to_vec(), Own::Directory(None, false, erased));
    }
}

/// What is replaced goes with all below it.
fn clear(own: &mut BTreeMap<Vec<u8>, Own>, whiteouts: &mut BTreeSet<Vec<u8>>, path: &[u8]) {
    own.remove(path);
    remove_below(own, path);
    whiteouts.retain(|other| !is_below(other, path));
}

fn remove_below<T>(map: &mut BTreeMap<Vec<u8>, T>, path: &[u8]) {
    let (start, end) = match path {
        b"" => (vec![0], vec![255; 256]),
        path => ([path, b"/"].concat(), [path, b"0"].concat()), // '0' follows '/'
    };
    let gone: Vec<_> = map.range(start..end).map(|(path, _)| path.clone()).collect();
    gone.iter().for_each(|path| drop(map.remove(path)));
}
