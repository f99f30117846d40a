//! EROFS on disk, as far as an index uses it: Linux, fs/erofs/erofs_fs.h. All numbers are little-endian.

use crate::entry::{Device, Time};

/// Blocks are 512 bytes, a tar's: so a file's data in a tar starts on one.
pub(crate) const BLOCK_BITS: u32 = 9;
pub(crate) const BLOCK: u64 = 1 << BLOCK_BITS;
/// An inode's number is its place, in units of this.
pub(crate) const SLOT: u64 = 32;

/// EROFS_SUPER_OFFSET
const SUPER_AT: usize = 1024;
/// Size of struct erofs_super_block, and of struct erofs_deviceslot, in whose units the table's place is counted.
const SUPER: usize = 128;
const DEVICE_SLOT: usize = 128;
/// EROFS_SUPER_MAGIC_V1
const MAGIC: u32 = 0xe0f5_e1e2;
/// EROFS_FEATURE_COMPAT_MTIME. No checksum of the superblock: fsck.erofs 1.8 crashes on one if blocks are smaller than
/// 1,024 bytes, and its own mkfs.erofs leaves it out then.
const COMPAT: u32 = 2;
/// EROFS_FEATURE_INCOMPAT_CHUNKED_FILE
const CHUNKED_FILE: u32 = 4;
/// EROFS_FEATURE_INCOMPAT_DEVICE_TABLE
const DEVICE_TABLE: u32 = 8;

/// The most devices: so the root's number, which has 16 bits, stays small whatever else there is.
pub(crate) const DEVICES_MAX: usize = 4096;
/// Bytes of a device's tag.
pub(crate) const TAG: usize = 64;
/// EROFS_NAME_LEN
pub(crate) const NAME_MAX: usize = 255;
/// EROFS_NULL_ADDR: a hole.
pub(crate) const HOLE: u32 = u32::MAX;
/// EROFS_CHUNK_FORMAT_INDEXES
const CHUNK_INDEXES: u32 = 0x20;
/// EROFS_CHUNK_FORMAT_BLKBITS_MASK: a chunk has at most 2^31 blocks.
pub(crate) const CHUNK_BITS_MAX: u32 = 0x1f;
/// Size of struct erofs_inode_chunk_index, which is also what it is aligned to.
pub(crate) const CHUNK_INDEX: u64 = 8;
/// Size of struct erofs_xattr_ibody_header.
const XATTR_HEADER: usize = 12;
/// Size of struct erofs_dirent.
pub(crate) const DIRENT: usize = 12;

/// How an inode's data is stored: EROFS_INODE_FLAT_PLAIN and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In blocks of the index, one after another; also what has no data.
    Plain = 0,
    /// As `Plain`, but the last, started block follows the inode.
    Inline = 2,
    /// Pointers to chunks follow the inode.
    Chunks = 4,
}

/// File types of directory entries (include/linux/fs_types.h).
pub(crate) fn file_type(mode: u16) -> u8 {
    match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        _ => 7,
    }
}

pub(crate) const S_IFMT: u16 = 0o17_0000;
pub(crate) const S_IFREG: u16 = 0o10_0000;
pub(crate) const S_IFDIR: u16 = 0o4_0000;
pub(crate) const S_IFCHR: u16 = 0o2_0000;
pub(crate) const S_IFBLK: u16 = 0o6_0000;
pub(crate) const S_IFIFO: u16 = 0o1_0000;
pub(crate) const S_IFLNK: u16 = 0o12_0000;

/// A device number as an inode holds it: new_encode_dev of include/linux/kdev_t.h.
pub(crate) fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// What the superblock says.
pub(crate) struct Super<'a> {
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    /// The time of all compact inodes.
    pub(crate) time: Time,
    /// Blocks of the index itself.
    pub(crate) blocks: u32,
    /// The block where shared attributes start.
    pub(crate) xattrs: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) devices: &'a [Device],
}

/// Bytes in front of the first inode: the boot block, the superblock and the table of devices.
pub(crate) fn head_size(devices: usize) -> u64 {
    ((SUPER_AT + SUPER + DEVICE_SLOT * devices) as u64).next_multiple_of(SLOT)
}

/// The boot block, the superblock and the table of devices.
pub(crate) fn put_head(out: &mut Vec<u8>, head: &Super<'_>) {
    out.resize(SUPER_AT, 0);
    put32(out, MAGIC);
    put32(out, 0); // no checksum
    put32(out, COMPAT);
    out.extend_from_slice(&[BLOCK_BITS as u8, 0]); // no further slots of the superblock
    put16(out, head.root);
    put64(out, head.inodes);
    put64(out, head.time.seconds.cast_unsigned());
    put32(out, head.time.nanos);
    put32(out, head.blocks);
    put32(out, 0); // inodes are counted from the start
    put32(out, head.xattrs);
    out.extend(head.uuid);
    out.extend_from_slice(&[0; 16]); // no name of the volume
    put32(out, CHUNKED_FILE | if head.devices.is_empty() { 0 } else { DEVICE_TABLE });
    put16(out, 0); // no compression
    put16(out, head.devices.len() as u16);
    put16(out, if head.devices.is_empty() { 0 } else { ((SUPER_AT + SUPER) / DEVICE_SLOT) as u16 });
    out.resize(SUPER_AT + SUPER, 0);
    for device in head.devices {
        let end = out.len() + DEVICE_SLOT;
        out.extend(&device.tag);
        out.resize(end - DEVICE_SLOT + TAG, 0);
        put32(out, device.blocks);
        out.resize(end, 0); // its blocks have no numbers of the index's own
    }
    out.resize(head_size(head.devices.len()) as usize, 0);
}

/// What an inode says.
pub(crate) struct Inode {
    /// 32 bytes and not 64: the time is the superblock's, and all numbers are small.
    pub(crate) compact: bool,
    pub(crate) layout: Layout,
    /// Bytes of attributes that follow.
    pub(crate) xattrs: usize,
    pub(crate) mode: u16,
    pub(crate) links: u32,
    pub(crate) size: u64,
    /// By layout and type: the first block, the format of chunks, or the device number.
    pub(crate) union: u32,
    /// For programs that know only 32 bits of inode numbers; the kernel shows the place instead.
    pub(crate) number: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) time: Time,
}

/// Whether an inode of these values fits in 32 bytes, in an index of that time.
pub(crate) fn is_compact(
    (uid, gid): (u32, u32),
    links: u32,
    size: u64,
    time: Time,
    common: Time,
) -> bool {
    let small = |value: u32| u16::try_from(value).is_ok();
    small(uid) && small(gid) && small(links) && u32::try_from(size).is_ok() && time == common
}

/// Bytes of an inode without what follows it.
pub(crate) fn inode_size(compact: bool) -> u64 {
    if compact { 32 } else { 64 }
}

pub(crate) fn put_inode(out: &mut Vec<u8>, inode: &Inode) {
    let count = match inode.xattrs {
        0 => 0,
        bytes => (bytes - XATTR_HEADER) / 4 + 1,
    };
    put16(out, (inode.layout as u16) << 1 | u16::from(!inode.compact));
    put16(out, count as u16);
    put16(out, inode.mode);
    if inode.compact {
        put16(out, inode.links as u16);
        put32(out, inode.size as u32);
        put32(out, 0);
        put32(out, inode.union);
        put32(out, inode.number);
        put16(out, inode.uid as u16);
        put16(out, inode.gid as u16);
        put32(out, 0);
    } else {
        put16(out, 0);
        put64(out, inode.size);
        put32(out, inode.union);
        put32(out, inode.number);
        put32(out, inode.uid);
        put32(out, inode.gid);
        put64(out, inode.time.seconds.cast_unsigned());
        put32(out, inode.time.nanos);
        put32(out, inode.links);
        out.extend_from_slice(&[0; 16]);
    }
}

/// An inode's word for chunks of 2^bits blocks.
pub(crate) fn chunk_format(bits: u32) -> u32 {
    CHUNK_INDEXES | bits
}

/// One pointer. Device 0 is the index itself.
pub(crate) fn put_chunk(out: &mut Vec<u8>, device: u16, block: u32) {
    put16(out, 0); // the block's upper bits, where the file system has 48 of them
    put16(out, device);
    put32(out, block);
}

/// A directory entry; its name is at `name_at` in the same block.
pub(crate) fn put_dirent(out: &mut Vec<u8>, inode: u64, name_at: u16, file_type: u8) {
    put64(out, inode);
    put16(out, name_at);
    out.extend_from_slice(&[file_type, 0]);
}

/// The attributes that follow an inode: places of shared ones in units of 4 bytes, then `own`, encoded entries.
pub(crate) fn xattr_body(shared: &[u32], own: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(XATTR_HEADER + 4 * shared.len() + own.len());
    put32(&mut out, 0); // no filter of names
    out.push(shared.len() as u8);
    out.resize(XATTR_HEADER, 0);
    shared.iter().for_each(|place| put32(&mut out, *place));
    out.extend(own);
    out
}

/// An attribute: the number of its namespace, the rest of its name, and its value.
pub(crate) fn put_xattr(out: &mut Vec<u8>, space: u8, name: &[u8], value: &[u8]) {
    out.extend_from_slice(&[name.len() as u8, space]);
    put16(out, value.len() as u16);
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_the_kernels() {
        assert_eq!(device_number(1, 3), 0x103);
        assert_eq!(device_number(0xfff, 0xf_ffff), 0xffff_ffff);
        assert_eq!(device_number(8, 0x123), 0x10_0823);
    }

    #[test]
    fn inodes_have_their_sizes() {
        for compact in [true, false] {
            let mut out = Vec::new();
            let time = Time::default();
            let inode = Inode {
                compact,
                layout: Layout::Inline,
                xattrs: 16,
                mode: S_IFDIR,
                links: 2,
                size: 5,
                union: 0,
                number: 1,
                uid: 0,
                gid: 0,
                time,
            };
            put_inode(&mut out, &inode);
            assert_eq!(out.len() as u64, inode_size(compact));
            assert_eq!(out[..4], [if compact { 4 } else { 5 }, 0, 2, 0]);
        }
        assert!(is_compact((65535, 0), 1, u64::from(u32::MAX), Time::default(), Time::default()));
        assert!(!is_compact((0, 65536), 1, 0, Time::default(), Time::default()));
        assert!(!is_compact((0, 0), 65536, 0, Time::default(), Time::default()));
        assert!(!is_compact((0, 0), 1, 1 << 32, Time::default(), Time::default()));
    }
}
