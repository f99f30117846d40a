//! What an image may cost at most.

use crate::Error;

/// Limits against bombs, for one layer if nothing else is said. The defaults let every honest image pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the decoded tar, and of the sizes of its files. Default: 256 GiB.
    pub bytes: u64,
    /// Entries. Default: 5,000,000.
    pub entries: u64,
    /// Decoded bytes for one compressed byte, looked at once [`Limits::ratio_after`] bytes are decoded. Default: 200.
    pub ratio: u64,
    /// Decoded bytes from which on the ratio counts. Default: 1 GiB.
    pub ratio_after: u64,
    /// Bytes of a name in the layer. Default: 4,095 (PATH_MAX without its NUL).
    pub path: u64,
    /// Components of a name. Default: 1,024.
    pub depth: u64,
    /// Bytes of an extended header (PAX, GNU long name or sparse map). Default: 1 MiB.
    pub header: u64,
    /// Bytes of names and attributes that are kept in memory until the layer is whole
    /// (directories, whiteouts, links to lower layers; files of the archive). Default: 256 MiB.
    pub memory: u64,
    /// Bytes of a JSON document (manifest, index, configuration). Default: 8 MiB.
    pub json: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 256 << 30,
            entries: 5_000_000,
            ratio: 200,
            ratio_after: 1 << 30,
            path: 4095,
            depth: 1024,
            header: 1 << 20,
            memory: 256 << 20,
            json: 8 << 20,
        }
    }
}

/// `Err` with a sentence if `value` is over `limit`.
pub(crate) fn check(value: u64, limit: u64, unit: &'static str, what: &str) -> Result<(), Error> {
    if value <= limit {
        return Ok(());
    }
    Err(Error::Limit { what: what.to_owned(), limit, unit })
}
