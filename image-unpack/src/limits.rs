//! What an image may cost at most.

use crate::Error;
use crate::error::show;

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
    /// Bytes of a name in the layer. Default: 4,095 (PATH_MAX without its NUL), which is also the most.
    pub path: u64,
    /// Components of a name. Default: 1,024.
    pub depth: u64,
    /// Bytes of an extended header (PAX, GNU long name or sparse map). Default: 1 MiB.
    pub header: u64,
    /// Bytes of names and attributes that are kept in memory until the layer is whole
    /// (directories, whiteouts, links to lower layers; files of the archive). Default: 256 MiB.
    pub memory: u64,
    /// Layers of an image. Default: 500, the lower directories that one overlay takes.
    pub layers: u64,
    /// Bytes of a JSON document (manifest, index, configuration). Default: 8 MiB.
    pub json: u64,
    /// Arrays and objects within each other in a JSON document. Default: 100; 127 are the most.
    pub json_depth: u64,
    /// Manifests and indexes that the indexes of an archive name. Default: 10,000.
    pub manifests: u64,
    /// Indexes within indexes. Default: 8; 64 are the most.
    pub indexes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 256 << 30,
            entries: 5_000_000,
            ratio: 200,
            ratio_after: 1 << 30,
            path: PATH_MOST,
            depth: 1024,
            header: 1 << 20,
            memory: 256 << 20,
            layers: 500,
            json: 8 << 20,
            json_depth: 100,
            manifests: 10_000,
            indexes: 8,
        }
    }
}

/// PATH_MAX of linux/limits.h without its NUL: no system call takes a longer name.
const PATH_MOST: u64 = 4095;
/// What is read into values by serde_json is not deeper.
const JSON_DEPTH_MOST: u64 = 127;
/// They are walked by calls within calls.
const INDEXES_MOST: u64 = 64;

/// One of [`Limits`], by the name that it has on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::bytes`]
    Bytes,
    /// [`Limits::entries`]
    Entries,
    /// [`Limits::ratio`]
    Ratio,
    /// [`Limits::ratio_after`]
    RatioAfter,
    /// [`Limits::path`]
    Path,
    /// [`Limits::depth`]
    Depth,
    /// [`Limits::header`]
    Header,
    /// [`Limits::memory`]
    Memory,
    /// [`Limits::layers`]
    Layers,
    /// [`Limits::json`]
    Json,
    /// [`Limits::json_depth`]
    JsonDepth,
    /// [`Limits::manifests`]
    Manifests,
    /// [`Limits::indexes`]
    Indexes,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 13] = [
        Limit::Bytes,
        Limit::Entries,
        Limit::Ratio,
        Limit::RatioAfter,
        Limit::Path,
        Limit::Depth,
        Limit::Header,
        Limit::Memory,
        Limit::Layers,
        Limit::Json,
        Limit::JsonDepth,
        Limit::Manifests,
        Limit::Indexes,
    ];

    /// `bytes`, `entries`, `ratio`, …
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// What is counted.
    pub(crate) fn unit(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Limit::Bytes => ("bytes", "bytes"),
            Limit::Entries => ("entries", "entries"),
            Limit::Ratio => (
                "ratio",
                "decoded bytes for each compressed byte (it looks like a decompression bomb)",
            ),
            Limit::RatioAfter => ("ratio-after", "decoded bytes before the ratio counts"),
            Limit::Path => ("path", "bytes in a name"),
            Limit::Depth => ("depth", "components in a name"),
            Limit::Header => ("header", "bytes in an extended header or the map of a sparse file"),
            Limit::Memory => ("memory", "bytes of names and of files with holes kept in memory"),
            Limit::Layers => ("layers", "layers"),
            Limit::Json => ("json", "bytes of JSON"),
            Limit::JsonDepth => ("json-depth", "arrays and objects within each other"),
            Limit::Manifests => ("manifests", "manifests"),
            Limit::Indexes => ("indexes", "indexes within indexes"),
        }
    }

    /// The most that it can be raised to.
    fn most(self) -> u64 {
        match self {
            Limit::Path => PATH_MOST,
            Limit::JsonDepth => JSON_DEPTH_MOST,
            Limit::Indexes => INDEXES_MOST,
            _ => u64::MAX,
        }
    }
}

/// A text that sets no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseLimitError {
    /// Not `NAME=NUMBER` with a name that there is.
    #[error("{text:?} is no limit of images: it is NAME=NUMBER, and the names are {}", names())]
    Name {
        /// what was given
        text: String,
    },
    /// No number, or one that does not fit.
    #[error(
        "{text:?}: {value:?} is no number that fits: digits, and maybe k, m, g or t for 1024, 1024² … of them"
    )]
    Number {
        /// what was given
        text: String,
        /// behind the `=`
        value: String,
    },
    /// More than there can be.
    #[error("{text:?}: {most} are the most")]
    Most {
        /// what was given
        text: String,
        /// the most
        most: u64,
    },
}

fn names() -> String {
    Limit::ALL.map(Limit::name).join(", ")
}

impl Limits {
    /// For what was looked at when it came in: the kernel's own and those of memory alone.
    pub fn of_kept() -> Limits {
        Limits {
            bytes: u64::MAX,
            entries: u64::MAX,
            ratio: u64::MAX,
            ratio_after: u64::MAX,
            depth: u64::MAX,
            header: u64::MAX,
            memory: u64::MAX,
            ..Limits::default()
        }
    }

    /// Sets one as a command line gives it: `NAME=NUMBER`, with `k`, `m`, `g` or `t` for powers of 1024.
    ///
    /// # Errors
    /// There is no such limit; the number is none, or more than there can be.
    pub fn set(&mut self, text: &str) -> Result<(), ParseLimitError> {
        let no_name = || ParseLimitError::Name { text: text.to_owned() };
        let (name, value) = text.split_once('=').ok_or_else(no_name)?;
        let limit = Limit::ALL.into_iter().find(|limit| limit.name() == name);
        let limit = limit.ok_or_else(no_name)?;
        let no_number =
            || ParseLimitError::Number { text: text.to_owned(), value: value.to_owned() };
        let number = number(value).ok_or_else(no_number)?;
        if number > limit.most() {
            return Err(ParseLimitError::Most { text: text.to_owned(), most: limit.most() });
        }
        *self.place(limit) = number;
        Ok(())
    }

    fn place(&mut self, limit: Limit) -> &mut u64 {
        match limit {
            Limit::Bytes => &mut self.bytes,
            Limit::Entries => &mut self.entries,
            Limit::Ratio => &mut self.ratio,
            Limit::RatioAfter => &mut self.ratio_after,
            Limit::Path => &mut self.path,
            Limit::Depth => &mut self.depth,
            Limit::Header => &mut self.header,
            Limit::Memory => &mut self.memory,
            Limit::Layers => &mut self.layers,
            Limit::Json => &mut self.json,
            Limit::JsonDepth => &mut self.json_depth,
            Limit::Manifests => &mut self.manifests,
            Limit::Indexes => &mut self.indexes,
        }
    }

    /// What one of them is.
    pub fn get(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Bytes => self.bytes,
            Limit::Entries => self.entries,
            Limit::Ratio => self.ratio,
            Limit::RatioAfter => self.ratio_after,
            Limit::Path => self.path,
            Limit::Depth => self.depth,
            Limit::Header => self.header,
            Limit::Memory => self.memory,
            Limit::Layers => self.layers,
            Limit::Json => self.json,
            Limit::JsonDepth => self.json_depth,
            Limit::Manifests => self.manifests,
            Limit::Indexes => self.indexes,
        }
    }

    /// `Err` with a sentence if `value` is over a limit.
    pub(crate) fn check(&self, limit: Limit, value: u64, what: &str) -> Result<(), Error> {
        self.hold(limit, value, || what.to_owned())
    }

    /// The same at an entry of the layer `what`.
    pub(crate) fn check_at(
        &self,
        limit: Limit,
        value: u64,
        what: &str,
        entry: &[u8],
    ) -> Result<(), Error> {
        self.hold(limit, value, || format!("{what}, at the entry {},", show(entry)))
    }

    fn hold(&self, limit: Limit, value: u64, what: impl Fn() -> String) -> Result<(), Error> {
        if value <= self.get(limit) { Ok(()) } else { Err(self.exceeded(limit, what())) }
    }

    pub(crate) fn exceeded(&self, limit: Limit, what: String) -> Error {
        let value = self.get(limit);
        Error::Limit { what, value, limit, fixed: value >= limit.most() }
    }
}

/// Digits with a power of 1024.
fn number(text: &str) -> Option<u64> {
    let power = |unit| match unit {
        'k' | 'K' => Some(10),
        'm' | 'M' => Some(20),
        'g' | 'G' => Some(30),
        't' | 'T' => Some(40),
        _ => None,
    };
    let power = text.chars().last().and_then(power);
    let digits = if power.is_some() { &text[..text.len() - 1] } else { text };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None; // u64's own parser takes a plus
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << power.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_and_is_set_by_it() {
        for limit in Limit::ALL {
            let mut limits = Limits::default();
            limits.set(&format!("{}=7", limit.name())).unwrap();
            assert_eq!(limits.get(limit), 7);
            *limits.place(limit) = Limits::default().get(limit);
            assert_eq!(limits, Limits::default(), "{limit:?} is another's");
        }
    }

    #[test]
    fn numbers_have_powers_of_1024() {
        for (text, value) in
            [("0", 0), ("12", 12), ("3k", 3 << 10), ("1M", 1 << 20), ("2t", 2 << 40)]
        {
            assert_eq!(number(text), Some(value));
        }
        for text in
            ["", "k", "-1", "+1", "1kb", "1.5g", "18446744073709551616", "99999999999t", "é"]
        {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn what_sets_none_is_told() {
        let said = |text: &str| Limits::default().set(text).unwrap_err().to_string();
        assert!(said("size=1").contains("the names are bytes, entries, ratio"));
        assert!(said("bytes").contains("NAME=NUMBER"));
        assert!(said("bytes=x").contains("\"x\" is no number"));
        assert!(said("json-depth=128").contains("127 are the most"));
    }

    #[test]
    fn the_sentence_says_what_raises_it() {
        let limits = Limits { entries: 5, ..Limits::default() };
        limits.check(Limit::Entries, 5, "x").unwrap();
        let said = limits.check(Limit::Entries, 6, "x").unwrap_err().to_string();
        let raise = "if the image is trusted, raise it by --image-limit entries=NUMBER";
        assert_eq!(said, format!("x is over the limit of 5 entries; {raise}"));
        let said = limits.check_at(Limit::Path, 5000, "x", b"a\n").unwrap_err().to_string();
        assert_eq!(said, "x, at the entry a\\n, is over the limit of 4095 bytes in a name");
    }
}
