//! What a layer's entry says.

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// since 1970; may be negative
    pub seconds: i64,
    /// 0 to 999,999,999, added to the seconds
    pub nanos: u32,
}

/// Mode, owner, time and extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta<'a> {
    /// permissions, set-id bits and sticky bit: 0 to 0o7777
    pub mode: u16,
    /// the owning user
    pub uid: u32,
    /// the owning group
    pub gid: u32,
    /// when the content was changed last; EROFS has no other time
    pub mtime: Time,
    /// whole names, `user.` and the like included, with values as the kernel's setxattr(2) takes them; in any order
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// What an entry is, hard links aside (see [`Layer::link`](crate::Layer::link)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// a directory
    Directory,
    /// a regular file
    File(Data<'a>),
    /// a symbolic link to these 1 to 4,095 bytes
    Symlink(&'a [u8]),
    /// a character device; 0:0 is refused, since overlayfs takes it for a whiteout
    Character {
        /// 0 to 0xfff
        major: u32,
        /// 0 to 0xfffff
        minor: u32,
    },
    /// a block device
    Block {
        /// 0 to 0xfff
        major: u32,
        /// 0 to 0xfffff
        minor: u32,
    },
    /// a named pipe
    Fifo,
}

/// Where a regular file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data<'a> {
    /// The bytes themselves; the index holds them. Right for up to [`INLINE_FREE`] bytes, which cost
    /// no more than a pointer to them would, and for what cannot be pointed to.
    Bytes(&'a [u8]),
    /// One stretch of a data device. What follows it in its last block should be zeros, as it is in a
    /// tar: whoever maps the file into memory sees it.
    Extent {
        /// 1 for the first device that the index is written with
        device: u16,
        /// where the file starts on the device, in bytes: a multiple of 512
        offset: u64,
        /// bytes
        size: u64,
    },
    /// A file with holes whose pieces follow one another on a data device, as in a tar. Only if
    /// [`maps_to_blocks`] says so.
    Sparse {
        /// bytes of the file, holes included
        size: u64,
        /// 1 for the first device that the index is written with
        device: u16,
        /// where the first piece starts on the device, in bytes: a multiple of 512
        offset: u64,
        /// where the pieces belong in the file: offset and length in bytes, in order
        map: &'a [(u64, u64)],
    },
    /// A file with holes whose pieces do not lie in blocks of their own: the index holds them.
    SparseBytes {
        /// bytes of the file, holes included
        size: u64,
        /// where the pieces belong in the file: offset and length in bytes, in order
        map: &'a [(u64, u64)],
        /// the pieces, one after another
        bytes: &'a [u8],
    },
}

/// Most bytes of a file that cost nothing in the index: with a pointer instead, its inode would be as long.
pub const INLINE_FREE: usize = 32;

/// Whether a file with holes whose pieces follow one another in a tar can be mapped from there
/// ([`Data::Sparse`]): every piece belongs on a border of 512 bytes, and all but the last are whole blocks.
#[must_use]
pub fn maps_to_blocks(map: &[(u64, u64)]) -> bool {
    let (last, others) = match map.split_last() {
        Some((last, others)) => (last.0, others),
        None => return true,
    };
    last % 512 == 0 && others.iter().all(|(at, length)| at % 512 == 0 && length % 512 == 0)
}

/// A data device: a file or block device that is given to the mount with an option `device=PATH` each, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its blocks of 512 bytes, a started one included.
    pub blocks: u32,
    /// At most 64 bytes for whoever reads the table of devices, such as a digest. The kernel takes it
    /// for the device's path where a mount names no devices. Usually empty.
    pub tag: Vec<u8>,
}

impl Device {
    /// A device of so many bytes, without a tag. None above the 2 TiB (less a block) that EROFS can address.
    #[must_use]
    pub fn of_size(bytes: u64) -> Option<Device> {
        let blocks = u32::try_from(bytes.div_ceil(512)).ok().filter(|blocks| *blocks < u32::MAX)?;
        Some(Device { blocks, tag: Vec::new() })
    }
}
