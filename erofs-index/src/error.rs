//! What can go wrong, each as a sentence.

use std::io;

/// An entry that cannot be indexed, or an index that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An entry that EROFS or overlayfs cannot hold.
    #[error("cannot index {path}: {why}")]
    Entry {
        /// the entry's path
        path: String,
        /// what is wrong with it
        why: Problem,
    },
    /// A hard link whose target is neither in its layer nor below.
    #[error("cannot index the hard link {path}: no layer below has its target {target}")]
    LinkTarget {
        /// the link's path
        path: String,
        /// the target's path
        target: String,
    },
    /// A limit against bombs, or of the format, was hit.
    #[error("the index is over the limit of {limit} {unit}; unpack the layer instead")]
    Limit {
        /// the limit
        limit: u64,
        /// what is counted
        unit: &'static str,
    },
    /// A file's data lies beyond the end of its device, or on a device that the index was not given.
    #[error(
        "{path} has data up to block {end} of device {device}, where {} (counted from 1, blocks of 512 bytes)",
        .blocks.map_or("there is no such device".to_owned(), |blocks| format!("there are {blocks} blocks"))
    )]
    OffDevice {
        /// the file's path
        path: String,
        /// its device's number
        device: u16,
        /// the first block after the data
        end: u64,
        /// the device's blocks; None if it was not given
        blocks: Option<u32>,
    },
    /// A device's tag is over 64 bytes.
    #[error("the tag of device {device} has {length} bytes, and 64 are the most")]
    Tag {
        /// the device's number
        device: u16,
        /// the tag's length
        length: usize,
    },
    /// The index could not be written.
    #[error("cannot write the index: {source}")]
    Write {
        /// what the writer said
        source: io::Error,
    },
}

/// Why an entry cannot be indexed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// not cleaned by the caller
    #[error("its path has an empty component, `.`, `..` or a NUL byte")]
    Path,
    /// a name over NAME_MAX
    #[error("a component of its path is longer than 255 bytes")]
    Component,
    /// the root has to be a directory
    #[error("the root can be nothing but a directory")]
    Root,
    /// over 0o7777
    #[error("its mode {0:o} has bits beyond 7777")]
    Mode(u16),
    /// a second or more
    #[error("its time has {0} nanoseconds, a second or more")]
    Nanos(u32),
    /// an empty or overlong symlink
    #[error("the target of a symlink has 1 to 4095 bytes, this one {0}")]
    Symlink(usize),
    /// NUL in a symlink
    #[error("the target of a symlink has no NUL byte")]
    SymlinkNul,
    /// a device number that Linux has not
    #[error("a device number goes up to 4095:1048575, this one is {0}:{1}")]
    DeviceNumber(u32, u32),
    /// a literal 0:0
    #[error("overlayfs would take the character device 0:0 for a whiteout")]
    WhiteoutDevice,
    /// data that is not on a border of 512 bytes
    #[error(
        "its data starts at byte {0} of its device, and EROFS maps blocks of 512 bytes: give its bytes to the index"
    )]
    Offset(u64),
    /// data beyond what 32 bits of blocks reach
    #[error("its data ends at byte {0} of its device, beyond the 2 TiB that an index can address")]
    Address(u64),
    /// device 0 is the index itself
    #[error("data devices are counted from 1")]
    Device,
    /// a size that no file has
    #[error("it has {0} bytes, and a file has 2^63 - 1 at most")]
    Size(u64),
    /// a map of holes that breaks the rules
    #[error(
        "its map of holes is not in order, reaches beyond its end, or is not as long as its data"
    )]
    Map,
    /// pieces that share blocks
    #[error(
        "its map of holes does not keep to blocks of 512 bytes: give its pieces' bytes to the index"
    )]
    UnalignedMap,
    /// a namespace that EROFS does not know
    #[error("EROFS cannot hold an extended attribute of the name {0:?}")]
    XattrName(String),
    /// a name given twice
    #[error("it has the extended attribute {0:?} twice")]
    XattrTwice(String),
    /// a value over 65,535 bytes
    #[error("the value of its extended attribute {0:?} is longer than 65535 bytes")]
    XattrValue(String),
    /// all attributes of a file together
    #[error("its extended attributes have {0} bytes together, and 261120 are the most")]
    Xattrs(usize),
    /// a hard link to a directory
    #[error("a hard link cannot lead to a directory, and its target {0} is one")]
    LinkToDirectory(String),
    /// a hard link to what is above or below it
    #[error("a hard link cannot replace a directory that its target {0} is in, or be below it")]
    LinkAround(String),
}

/// A path or name as a sentence shows it.
pub(crate) fn show(bytes: &[u8]) -> String {
    if bytes.is_empty() { "/".to_owned() } else { bytes.escape_ascii().to_string() }
}
