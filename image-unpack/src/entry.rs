//! One entry of a tar, with all its headers merged.

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Time {
    /// since 1970
    pub(crate) seconds: i64,
    /// 0 to 999,999,999, added to the seconds
    pub(crate) nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// Owner, mode, extended attributes and time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// As the archive has it.
    pub(crate) name: Vec<u8>,
    /// The target of a link, as the archive has it.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    /// Where the stored bytes belong, if the file has holes: offset and length, in order.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
    /// Where the data starts, in bytes of the tar.
    pub(crate) data_at: u64,
}
