//! A reader of EROFS as fs/erofs/erofs_fs.h describes it, slow and plain. It shares nothing with the writer, and
//! panics on everything that the kernel would refuse or misread.

use std::collections::BTreeMap;

use crate::tree::{Node, Tree, join};

pub(crate) struct Reader<'a> {
    index: &'a [u8],
    devices: &'a [Vec<u8>],
    block: usize,
    xattrs: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

struct Inode {
    /// where its data, or the pointers to it, would follow
    end: usize,
    layout: usize,
    size: u64,
    union: u32,
    node: Node,
}

impl<'a> Reader<'a> {
    /// The whole tree; the superblock is checked on the way.
    pub(crate) fn tree(index: &'a [u8], devices: &'a [Vec<u8>]) -> Tree {
        let head = &index[1024..];
        assert_eq!(u32_at(head, 0), 0xe0f5_e1e2, "the magic number");
        let (bits, root) = (head[12], u16_at(head, 14));
        assert_eq!(bits, 9);
        assert_eq!(u32_at(head, 36) as usize * 512, index.len(), "blocks");
        assert_eq!(u32_at(head, 40), 0, "meta_blkaddr");
        assert_eq!(u32_at(head, 80) & !0xc, 0, "incompatible features");
        assert_eq!(u16_at(head, 86), devices.len());
        for (number, device) in devices.iter().enumerate() {
            let slot = u16_at(head, 88) * 128 + number * 128;
            assert_eq!(u32_at(index, slot + 64) as usize, device.len().div_ceil(512));
            assert_eq!(u32_at(index, slot + 68), 0, "mapped_blkaddr");
        }
        let reader = Reader { index, devices, block: 512, xattrs: u32_at(head, 44) as usize };
        let mut tree = Tree::new();
        let mut open = vec![(Vec::new(), root as u64, root as u64)];
        let mut seen = BTreeMap::new();
        while let Some((path, number, parent)) = open.pop() {
            let inode = reader.inode(number);
            seen.insert(number, ());
            if inode.node.is_directory() {
                for (name, child, kind) in reader.names(&inode) {
                    let found = reader.inode(child).node;
                    let kinds = [0o10_0000, 0o4_0000, 0o2_0000, 0o6_0000, 0o1_0000, 0, 0o12_0000];
                    assert_eq!(kinds[usize::from(kind) - 1], found.kind());
                    match &name[..] {
                        b"." => assert_eq!(child, number),
                        b".." => assert_eq!(child, parent),
                        _ => open.push((join(&path, &name), child, number)),
                    }
                }
            }
            assert!(tree.insert(path, inode.node).is_none(), "a name is there twice");
        }
        assert_eq!(u64_at(head, 16), seen.len() as u64, "inodes");
        tree
    }

    fn inode(&self, number: u64) -> Inode {
        let at = number as usize * 32;
        let raw = &self.index[at..];
        let format = u16_at(raw, 0);
        let (extended, layout) = (format & 1 == 1, format >> 1 & 7);
        assert_eq!(format >> 4, 0);
        let count = u16_at(raw, 2);
        let mode = u16_at(raw, 4) as u32;
        let (size, union, uid, gid, mtime, links, length);
        if extended {
            (size, union, length) = (u64_at(raw, 8), u32_at(raw, 16), 64);
            (uid, gid) = (u32_at(raw, 24), u32_at(raw, 28));
            mtime = (u64_at(raw, 32) as i64, u32_at(raw, 40));
            links = u64::from(u32_at(raw, 44));
        } else {
            (size, union, length) = (u64::from(u32_at(raw, 8)), u32_at(raw, 16), 32);
            (uid, gid) = (u16_at(raw, 24) as u32, u16_at(raw, 26) as u32);
            mtime = (u64_at(self.index, 1024 + 24) as i64, u32_at(self.index, 1024 + 32));
            links = u16_at(raw, 6) as u64;
        }
        let body = if count == 0 { 0 } else { 12 + 4 * (count - 1) };
        let (start, end) = (at + length, at + length + body);
        let mut node = Node {
            mode,
            uid,
            gid,
            mtime,
            device: (0, 0),
            content: Vec::new(),
            xattrs: self.xattrs(start, end),
            inode: number,
            links,
        };
        let mut inode = Inode { end, layout, size, union, node: node.clone() };
        match node.kind() {
            0o10_0000 | 0o12_0000 => node.content = self.content(&inode),
            0o2_0000 | 0o6_0000 => {
                node.device = (union >> 8 & 0xfff, (union & 0xff) | (union >> 12 & 0xf_ff00));
            }
            _ => {}
        }
        inode.node = node;
        inode
    }

    fn xattrs(&self, start: usize, end: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        if start == end {
            return found;
        }
        let body = &self.index[start..end];
        let shared = usize::from(body[4]);
        for number in 0..shared {
            let at = self.xattrs * self.block + 4 * u32_at(body, 12 + 4 * number) as usize;
            self.xattr(at, &mut found);
        }
        let mut at = start + 12 + 4 * shared;
        while at < end {
            at = self.xattr(at, &mut found);
        }
        assert_eq!(at, end);
        found
    }

    fn xattr(&self, at: usize, found: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> usize {
        let (length, space) = (usize::from(self.index[at]), self.index[at + 1]);
        let value = u16_at(self.index, at + 2);
        let prefix = match space {
            1 => "user.",
            2 => "system.posix_acl_access",
            3 => "system.posix_acl_default",
            4 => "trusted.",
            6 => "security.",
            _ => panic!("namespace {space}"),
        };
        let name = [prefix.as_bytes(), &self.index[at + 4..][..length]].concat();
        let value_at = at + 4 + length;
        let old = found.insert(name, self.index[value_at..value_at + value].to_vec());
        assert!(old.is_none(), "an attribute is there twice");
        (value_at + value).next_multiple_of(4)
    }

    fn content(&self, inode: &Inode) -> Vec<u8> {
        let size = inode.size as usize;
        let mut out = Vec::new();
        match inode.layout {
            0 | 2 => {
                let blocks = size.div_ceil(self.block) - usize::from(inode.layout == 2);
                let whole = (blocks * self.block).min(size);
                let at = inode.union as usize * self.block;
                out.extend(&self.index[at..][..if whole == 0 { 0 } else { whole }]);
                let tail = size - whole;
                assert!(inode.end % self.block + tail <= self.block, "a tail crosses a block");
                out.extend(&self.index[inode.end..][..tail]);
            }
            4 => {
                assert_eq!(inode.union & !0x1f, 0x20, "chunk format");
                let chunk = self.block << (inode.union & 0x1f);
                let mut at = inode.end.next_multiple_of(8);
                while out.len() < size {
                    assert_eq!(u16_at(self.index, at), 0);
                    let length = chunk.min(size - out.len());
                    match (u32_at(self.index, at + 4), u16_at(self.index, at + 2)) {
                        (u32::MAX, _) => out.resize(out.len() + length, 0),
                        (block, device) => {
                            let from = match device {
                                0 => self.index,
                                device => &self.devices[device - 1],
                            };
                            out.extend(&from[block as usize * self.block..][..length]);
                        }
                    }
                    at += 8;
                }
            }
            other => panic!("layout {other}"),
        }
        out
    }

    fn names(&self, directory: &Inode) -> Vec<(Vec<u8>, u64, u8)> {
        let bytes = self.content(directory);
        let mut found: Vec<(Vec<u8>, u64, u8)> = Vec::new();
        for block in bytes.chunks(self.block) {
            let count = u16_at(block, 8) / 12;
            for number in 0..count {
                let entry = &block[12 * number..];
                let start = u16_at(entry, 8);
                let end = if number + 1 < count {
                    u16_at(entry, 12 + 8)
                } else {
                    let zero = block[start..].iter().position(|byte| *byte == 0);
                    zero.map_or(block.len(), |length| start + length)
                };
                let name = block[start..end].to_vec();
                assert!((1..=255).contains(&name.len()));
                if let Some((last, ..)) = found.last() {
                    assert!(*last < name, "names are not sorted");
                }
                found.push((name, u64_at(entry, 0), entry[10]));
            }
        }
        assert!(found.len() >= 2);
        found
    }
}
