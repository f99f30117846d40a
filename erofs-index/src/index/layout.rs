//! What goes where.

use super::attributes::Attributes;
use super::dirs::{self, Item};
use super::walk::{Place, WHITEOUT, Walk, inode};
use super::{Form, Options};
use crate::Error;
use crate::entry::Time;
use crate::error::show;
use crate::format::{self, BLOCK, CHUNK_INDEX, DEVICES_MAX, SLOT, TAG};
use crate::limits::check;
use crate::sparse;
use crate::tree::{Content, NONE, Number, Stored, Tree};

/// The longest end of a file or directory that follows its inode. With up to 31 bytes in front of it, it fits a block.
const TAIL_MAX: u64 = BLOCK - SLOT;

/// Where an inode's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// In `blocks` blocks of the index, and the `tail` last bytes after the inode.
    Here { blocks: u32, tail: u32 },
    /// Behind pointers after the inode, some of it in `blocks` blocks of the index.
    Chunks { blocks: u32 },
}

/// An inode's layout.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) place: Place,
    /// In slots from the start of the index.
    pub(super) slot: u32,
    pub(super) compact: bool,
    pub(super) size: u64,
    pub(super) data: Data,
    /// Its first block of data, counted from the first block of data of all.
    pub(super) block: u32,
}

/// The layout of an index.
pub(super) struct Layout {
    pub(super) walk: Walk,
    pub(super) attributes: Attributes,
    /// In the order in which they are written.
    pub(super) spots: Vec<Spot>,
    /// By number in the tree.
    slots: Vec<u32>,
    whiteout: u32,
    /// The time of compact inodes.
    pub(super) time: Time,
    /// The first block of shared attributes.
    pub(super) xattrs: u32,
    /// The first block of data.
    pub(super) data: u32,
    /// All blocks.
    pub(super) blocks: u32,
}

impl Layout {
    pub(super) fn new(tree: &Tree, form: Form, options: &Options) -> Result<Layout, Error> {
        check(options.devices.len() as u64, DEVICES_MAX as u64, "data devices")?;
        for (at, device) in options.devices.iter().enumerate() {
            if device.tag.len() > TAG {
                return Err(Error::Tag { device: at as u16 + 1, length: device.tag.len() });
            }
        }
        let walk = Walk::new(tree, form);
        let mut layout = Layout {
            attributes: Attributes::new(tree, &walk),
            spots: Vec::with_capacity(walk.places.len()),
            slots: vec![0; tree.inodes.len()],
            whiteout: 0,
            time: walk.common_time(tree),
            xattrs: 0,
            data: 0,
            blocks: 0,
            walk,
        };
        layout.fill(tree, options)?;
        Ok(layout)
    }

    fn fill(&mut self, tree: &Tree, options: &Options) -> Result<(), Error> {
        let mut at = format::head_size(options.devices.len());
        let mut blocks = 0_u64;
        for place in std::mem::take(&mut self.walk.places) {
            let inode = inode(tree, place.number);
            let size = self.size_of(tree, &place);
            let data = data(tree, &inode.content, size, inode.is_directory())?;
            self.check_device(tree, place.number, options)?;
            let links = self.walk.links(place.number);
            let compact =
                format::is_compact((inode.uid, inode.gid), links, size, inode.mtime, self.time);
            let body = self.attributes.body(inode.xattrs, place.opaque).len() as u64;
            let head = format::inode_size(compact) + body;
            let (used, more) = match data {
                Data::Here { tail, blocks } => {
                    let tail = u64::from(tail);
                    // The tail must not cross the border of a block.
                    if (at + head) % BLOCK + tail > BLOCK {
                        at += (BLOCK - (at + head) % BLOCK).next_multiple_of(SLOT);
                    }
                    (head + tail, blocks)
                }
                Data::Chunks { blocks } => {
                    let count = chunks(tree, &inode.content);
                    (head.next_multiple_of(CHUNK_INDEX) + CHUNK_INDEX * count, blocks)
                }
            };
            let slot = u32::try_from(at / SLOT).map_err(|_| Error::Limit {
                limit: u64::from(u32::MAX),
                unit: "places for inodes",
            })?;
            match place.number {
                WHITEOUT => self.whiteout = slot,
                number => self.slots[number as usize] = slot,
            }
            self.spots.push(Spot { place, slot, compact, size, data, block: blocks as u32 });
            blocks += u64::from(more);
            at = (at + used).next_multiple_of(SLOT);
        }
        let xattrs = at.div_ceil(BLOCK);
        let data = xattrs + (self.attributes.shared.len() as u64).div_ceil(BLOCK);
        check(data + blocks, u64::from(u32::MAX) - 1, "blocks of its own")?;
        self.xattrs = xattrs as u32;
        self.data = data as u32;
        self.blocks = (data + blocks) as u32;
        Ok(())
    }

    pub(super) fn size(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }

    pub(super) fn inodes(&self) -> u64 {
        self.spots.len() as u64
    }

    /// An inode's number in the index.
    pub(super) fn slot(&self, number: Number) -> u64 {
        u64::from(if number == WHITEOUT { self.whiteout } else { self.slots[number as usize] })
    }

    /// The names of a directory and what they lead to, sorted.
    pub(super) fn names<'a>(
        &self,
        tree: &'a Tree,
        place: &Place,
    ) -> impl Iterator<Item = (&'a [u8], Number)> {
        let dots = [(&b"."[..], place.number), (b"..", place.parent)];
        let shown = self.walk.children.of(place.number).iter().filter_map(|name| {
            let inode = self.walk.shown(tree, place.covered, *name)?;
            Some((tree.text(tree.name(*name)), inode))
        });
        let (mut dots, mut shown) = (dots.into_iter().peekable(), shown.peekable());
        std::iter::from_fn(move || match (dots.peek(), shown.peek()) {
            (Some(dot), Some(name)) if dot.0 > name.0 => shown.next(),
            (Some(_), _) => dots.next(),
            (None, _) => shown.next(),
        })
    }

    /// A directory's entries, for its blocks.
    pub(super) fn items<'a>(&self, tree: &'a Tree, place: &Place) -> Vec<Item<'a>> {
        let item = |(name, number): (&'a [u8], Number)| Item {
            name,
            inode: self.slot(number),
            file_type: format::file_type(inode(tree, number).mode),
        };
        self.names(tree, place).map(item).collect()
    }

    fn size_of(&self, tree: &Tree, place: &Place) -> u64 {
        let inode = inode(tree, place.number);
        match inode.content {
            Content::None if inode.is_directory() => {
                dirs::size(self.names(tree, place).map(|(name, _)| name.len()))
            }
            Content::None | Content::Device(_) | Content::Below(_) => 0,
            Content::Bytes(span) => u64::from(span.length),
            Content::Extent { size, .. } => size,
            Content::Sparse(sparse) => tree.sparse[sparse as usize].size,
        }
    }

    /// Data lies on its device.
    fn check_device(&self, tree: &Tree, number: Number, options: &Options) -> Result<(), Error> {
        let (device, block, bytes) = match inode(tree, number).content {
            Content::Extent { device, block, size } => (device, block, size),
            Content::Sparse(sparse) => {
                let sparse = tree.sparse[sparse as usize];
                let Stored::On { device, block } = sparse.stored else { return Ok(()) };
                let bytes = tree.map(sparse.map).iter().map(|(_, length)| length).sum();
                (device, block, bytes)
            }
            _ => return Ok(()),
        };
        let end = u64::from(block) + bytes.div_ceil(BLOCK);
        let blocks = options.devices.get(usize::from(device) - 1).map(|device| device.blocks);
        if blocks.is_some_and(|blocks| end <= u64::from(blocks)) {
            return Ok(());
        }
        Err(Error::OffDevice { path: path_of(tree, number), device, end, blocks })
    }
}

/// How much of an inode's data is where.
fn data(tree: &Tree, content: &Content, size: u64, is_directory: bool) -> Result<Data, Error> {
    Ok(match *content {
        Content::Extent { .. } => Data::Chunks { blocks: 0 },
        Content::Sparse(number) => {
            let sparse = tree.sparse[number as usize];
            let blocks = match sparse.stored {
                Stored::On { .. } => 0,
                Stored::Here(_) => {
                    let cut = sparse.cut(tree);
                    let held = sparse::held(tree.map(sparse.map), cut);
                    held.map(|chunk| chunk_blocks(chunk, cut, size)).sum()
                }
            };
            Data::Chunks { blocks: narrow(blocks)? }
        }
        Content::Bytes(_) | Content::None if is_directory || size > 0 => {
            let tail = size % BLOCK;
            let tail = if tail <= TAIL_MAX { tail } else { 0 };
            Data::Here { blocks: narrow((size - tail).div_ceil(BLOCK))?, tail: tail as u32 }
        }
        _ => Data::Here { blocks: 0, tail: 0 },
    })
}

fn narrow(blocks: u64) -> Result<u32, Error> {
    check(blocks, u64::from(u32::MAX), "blocks of its own")?;
    Ok(blocks as u32)
}

/// The blocks of the index that a chunk takes: none beyond the file's end.
pub(super) fn chunk_blocks(chunk: u64, cut: sparse::Cut, size: u64) -> u64 {
    (size - chunk * cut.chunk()).min(cut.chunk()).div_ceil(BLOCK)
}

/// Pointers to a file's data.
fn chunks(tree: &Tree, content: &Content) -> u64 {
    match *content {
        Content::Extent { size, .. } => sparse::whole(size).count,
        Content::Sparse(number) => tree.sparse[number as usize].cut(tree).count,
        _ => 0,
    }
}

/// A path that leads to an inode, for an error.
fn path_of(tree: &Tree, number: Number) -> String {
    let mut parts = Vec::new();
    let mut at = number;
    while let Some(name) = tree.names().iter().find(|name| name.inode == at && name.inode != NONE) {
        parts.push(tree.text(name));
        at = name.parent();
        if at == crate::tree::ROOT {
            break;
        }
    }
    parts.reverse();
    show(&parts.join(&b'/'))
}
