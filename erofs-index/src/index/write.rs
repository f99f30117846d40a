//! The bytes, from the first to the last.

use std::io::{self, Write};

use super::layout::{Data, Layout, Spot, chunk_blocks};
use super::walk::inode;
use super::{Options, dirs};
use crate::format::{self, BLOCK, HOLE, Inode, Layout as DataLayout, SLOT, Super};
use crate::sparse;
use crate::tree::{Content, ROOT, Sparse, Stored, Tree};

/// How much is gathered before it is handed on.
const GATHERED: usize = 1 << 16;

pub(super) fn write(
    tree: &Tree,
    layout: &Layout,
    options: &Options,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut writer =
        Writer { tree, layout, gathered: Vec::with_capacity(2 * GATHERED), before: 0, out };
    writer.head(options);
    for (number, spot) in layout.spots.iter().enumerate() {
        writer.pad(u64::from(spot.slot) * SLOT);
        writer.inode(number as u32 + 1, spot);
        writer.flush(GATHERED)?;
    }
    writer.pad(u64::from(layout.xattrs) * BLOCK);
    writer.gathered.extend(&layout.attributes.shared);
    writer.pad(u64::from(layout.data) * BLOCK);
    for spot in &layout.spots {
        writer.data(spot)?;
        writer.flush(GATHERED)?;
    }
    writer.pad(layout.size());
    writer.flush(0)
}

struct Writer<'a, W> {
    tree: &'a Tree,
    layout: &'a Layout,
    gathered: Vec<u8>,
    /// Bytes handed on.
    before: u64,
    out: &'a mut W,
}

impl<W: Write> Writer<'_, W> {
    /// Hands on what is gathered if it is as much as that.
    fn flush(&mut self, least: usize) -> io::Result<()> {
        if self.gathered.len() < least {
            return Ok(());
        }
        self.out.write_all(&self.gathered)?;
        self.before += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// Zeros up to this byte of the index.
    fn pad(&mut self, to: u64) {
        let length = (to - self.before) as usize;
        debug_assert!(length >= self.gathered.len(), "the layout has no room for what is there");
        self.gathered.resize(length, 0);
    }

    fn head(&mut self, options: &Options) {
        let head = Super {
            root: self.layout.slot(ROOT) as u16, // the first of all
            inodes: self.layout.inodes(),
            time: self.layout.time,
            blocks: self.layout.blocks,
            xattrs: self.layout.xattrs,
            uuid: options.uuid,
            devices: &options.devices,
        };
        format::put_head(&mut self.gathered, &head);
    }

    fn inode(&mut self, number: u32, spot: &Spot) {
        let (tree, layout) = (self.tree, self.layout);
        let inode = inode(tree, spot.place.number);
        let body = layout.attributes.body(inode.xattrs, spot.place.opaque);
        let first = layout.data + spot.block;
        let (data_layout, union) = match (inode.content, spot.data) {
            (Content::Device(device), _) => (DataLayout::Plain, device),
            (_, Data::Here { tail: 0, .. }) => (DataLayout::Plain, first),
            (_, Data::Here { .. }) => (DataLayout::Inline, first),
            (Content::Sparse(number), Data::Chunks { .. }) => {
                let cut = tree.sparse[number as usize].cut(tree);
                (DataLayout::Chunks, format::chunk_format(cut.bits))
            }
            (_, Data::Chunks { .. }) => {
                (DataLayout::Chunks, format::chunk_format(sparse::whole(spot.size).bits))
            }
        };
        let out = &mut self.gathered;
        let head = Inode {
            compact: spot.compact,
            layout: data_layout,
            xattrs: body.len(),
            mode: inode.mode,
            links: layout.walk.links(spot.place.number),
            size: spot.size,
            union,
            number,
            uid: inode.uid,
            gid: inode.gid,
            time: inode.mtime,
        };
        format::put_inode(out, &head);
        out.extend(body);
        match inode.content {
            Content::Extent { device, block, size } => {
                self.align();
                let cut = sparse::whole(size);
                for chunk in 0..cut.count {
                    let at = block + (chunk << cut.bits) as u32;
                    format::put_chunk(&mut self.gathered, device, at);
                }
            }
            Content::Sparse(number) => {
                self.align();
                self.pointers(&tree.sparse[number as usize], first);
            }
            Content::Bytes(span) => {
                if let Data::Here { tail, .. } = spot.data {
                    let bytes = tree.data(span);
                    out.extend(&bytes[bytes.len() - tail as usize..]);
                }
            }
            _ => {
                if let Data::Here { tail: 1.., blocks } = spot.data {
                    let bytes = self.directory(spot);
                    self.gathered.extend(&bytes[blocks as usize * BLOCK as usize..]);
                }
            }
        }
    }

    /// Pointers are aligned to their size, and inodes start on a border of more.
    fn align(&mut self) {
        let at = self.before + self.gathered.len() as u64;
        self.pad(at.next_multiple_of(format::CHUNK_INDEX));
    }

    fn pointers(&mut self, sparse: &Sparse, first: u32) {
        let (map, cut) = (self.tree.map(sparse.map), sparse.cut(self.tree));
        let out = &mut self.gathered;
        match sparse.stored {
            Stored::On { device, block } => {
                for source in sparse::sources(map, cut) {
                    match source {
                        Some(at) => format::put_chunk(out, device, block + (at / BLOCK) as u32),
                        None => format::put_chunk(out, 0, HOLE),
                    }
                }
            }
            Stored::Here(_) => {
                let (mut held, mut at) = (sparse::held(map, cut).peekable(), first);
                for chunk in 0..cut.count {
                    if held.next_if_eq(&chunk).is_some() {
                        format::put_chunk(out, 0, at);
                        at += chunk_blocks(chunk, cut, sparse.size) as u32;
                    } else {
                        format::put_chunk(out, 0, HOLE);
                    }
                }
            }
        }
    }

    fn directory(&self, spot: &Spot) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(spot.size as usize);
        dirs::encode(&mut bytes, &self.layout.items(self.tree, &spot.place));
        bytes
    }

    /// The blocks of an inode's data that the index holds.
    fn data(&mut self, spot: &Spot) -> io::Result<()> {
        let (Data::Here { blocks, .. } | Data::Chunks { blocks }) = spot.data;
        if blocks == 0 {
            return Ok(());
        }
        let bytes = blocks as usize * BLOCK as usize;
        let end = self.before + (self.gathered.len() + bytes) as u64;
        match inode(self.tree, spot.place.number).content {
            Content::Bytes(span) => {
                let all = self.tree.data(span);
                self.gathered.extend(&all[..bytes.min(all.len())]);
            }
            Content::Sparse(number) => self.pieces(&self.tree.sparse[number as usize])?,
            _ => {
                let all = self.directory(spot);
                self.gathered.extend(&all[..bytes.min(all.len())]);
            }
        }
        self.pad(end);
        Ok(())
    }

    /// The chunks of a file with holes in which data lies, zeros around it.
    fn pieces(&mut self, sparse: &Sparse) -> io::Result<()> {
        let Stored::Here(span) = sparse.stored else { return Ok(()) };
        let (map, cut) = (self.tree.map(sparse.map), sparse.cut(self.tree));
        let mut bytes = self.tree.data(span);
        let mut pieces = map.iter().copied();
        let mut piece = (0, 0);
        for chunk in sparse::held(map, cut) {
            let start = chunk * cut.chunk();
            let end = start + chunk_blocks(chunk, cut, sparse.size) * BLOCK;
            let begin = self.before + self.gathered.len() as u64;
            loop {
                if piece.1 == 0 {
                    let Some(next) = pieces.next() else { break };
                    piece = next;
                    continue;
                }
                if piece.0 >= end {
                    break;
                }
                let (now, later) = bytes.split_at(piece.1.min(end - piece.0) as usize);
                self.pad(begin + (piece.0 - start));
                self.gathered.extend(now);
                piece = (piece.0 + now.len() as u64, piece.1 - now.len() as u64);
                bytes = later;
            }
            self.pad(begin + (end - start));
            self.flush(GATHERED)?;
        }
        Ok(())
    }
}
