//! What a tree may cost at most.

use crate::Error;

/// Limits against bombs. The defaults let every honest image pass; what EROFS itself cannot hold is an error always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Names, of directories that no entry lists and of whiteouts too. Default: 5,000,000.
    pub entries: u32,
    /// Bytes of a path. Default: 4,095 (PATH_MAX without its NUL).
    pub path: usize,
    /// Components of a path. Default: 1,024.
    pub depth: usize,
    /// Bytes of names, extended attributes, link targets, file contents and maps of holes that are kept in memory.
    /// Default: 1 GiB; 4 GiB are the most.
    pub memory: u32,
    /// Pointers to data. A file has one, a file with holes one for each stretch of the size of its smallest piece.
    /// Default: 16,000,000.
    pub chunks: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { entries: 5_000_000, path: 4095, depth: 1024, memory: 1 << 30, chunks: 16_000_000 }
    }
}

/// `Err` with a sentence if `value` is over `limit`.
pub(crate) fn check(value: u64, limit: u64, unit: &'static str) -> Result<(), Error> {
    if value <= limit { Ok(()) } else { Err(Error::Limit { limit, unit }) }
}
