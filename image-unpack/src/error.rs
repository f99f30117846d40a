//! What can go wrong, each as a sentence.

use std::io;

/// An image that cannot be read, is not what it says, or cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive cannot be opened.
    #[error("cannot open the image archive {archive}: {source}")]
    Open {
        /// what the user named
        archive: String,
        /// what the kernel said
        source: io::Error,
    },
    /// The archive cannot be read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// the archive, or the blob in it
        what: String,
        /// what the kernel said
        source: io::Error,
    },
    /// A stream cannot be kept in a file for reading by position.
    #[error(
        "cannot keep {archive} in an unnamed file in {dir}: {source}; choose a directory with enough room on a file system that has O_TMPFILE"
    )]
    Spool {
        /// what the user named
        archive: String,
        /// the directory of the unnamed file
        dir: String,
        /// what the kernel said
        source: io::Error,
    },
    /// A layer's bytes cannot be kept.
    #[error("cannot keep a copy of {what}: {source}")]
    Copy {
        /// the layer
        what: String,
        /// what the kernel said
        source: io::Error,
    },
    /// A layer, or an image's layers together, that an EROFS index cannot hold.
    #[error("{what}: {source}{}", form(.source))]
    Index {
        /// the layer or the image
        what: String,
        /// why
        source: erofs_index::Error,
    },
    /// A compression that no image specification knows.
    #[error(
        "{what} is compressed with {format}; images are plain, gzip or zstd: decompress it first"
    )]
    Compression {
        /// the archive or the layer
        what: String,
        /// the compression that its first bytes tell
        format: &'static str,
    },
    /// Compressed bytes that do not decode: corrupt, or cut off.
    #[error("cannot decode the {format} stream of {what}: {source}; it is corrupt or cut off")]
    Decode {
        /// the archive or the layer
        what: String,
        /// gzip or zstd
        format: &'static str,
        /// what the decoder said
        source: io::Error,
    },
    /// Bytes after the end that are no padding.
    #[error("{what} has bytes after the end of its {format} stream that are no padding")]
    TrailingGarbage {
        /// the archive or the layer
        what: String,
        /// gzip, zstd or tar
        format: &'static str,
    },
    /// A tar that breaks its format.
    #[error("{what} is a broken tar at byte {offset}: {problem}")]
    Tar {
        /// the archive or the layer
        what: String,
        /// where the entry's header starts, in bytes of the decoded tar
        offset: u64,
        /// what is broken
        problem: TarProblem,
    },
    /// Neither a tar nor a layout.
    #[error("{archive} is not an image: {hint}")]
    NotAnImage {
        /// what the user named
        archive: String,
        /// what it seems to be
        hint: &'static str,
    },
    /// A document is not the JSON that it should be.
    #[error("cannot read {what}: {field}: {source}")]
    Json {
        /// the document
        what: String,
        /// the path of the field in the document
        field: String,
        /// what the parser said
        source: serde_json::Error,
    },
    /// A limit against bombs was hit.
    #[error("{what} is over the limit of {value} {}{}", .limit.unit(), raise(*.limit, *.fixed))]
    Limit {
        /// the archive, document, or layer, and maybe the entry
        what: String,
        /// as it is set
        value: u64,
        /// which one
        limit: crate::Limit,
        /// nothing raises it
        fixed: bool,
    },
    /// Something that a manifest names is not in the archive.
    #[error("{what} is not in {archive}: there is no file {path}{note}")]
    Missing {
        /// what is looked for
        what: String,
        /// what the user named
        archive: String,
        /// its path in the archive
        path: String,
        /// empty, or what explains it
        note: &'static str,
    },
    /// A layer that lies elsewhere by design.
    #[error(
        "{what} is a foreign layer, to be fetched from {urls}, and not in {archive}; save the image with its foreign layers"
    )]
    Foreign {
        /// the layer
        what: String,
        /// what the user named
        archive: String,
        /// where its manifest says it is
        urls: String,
    },
    /// A text that is no digest.
    #[error("{what}: {source}")]
    BadDigest {
        /// where it stands
        what: String,
        /// why it is none
        source: crate::digest::ParseDigestError,
    },
    /// Bytes that have another digest than the one that names them.
    #[error(
        "{what} has the digest {found}, and should have {expected}; the archive is damaged or forged"
    )]
    Mismatch {
        /// the blob or layer
        what: String,
        /// the digest that names it
        expected: Box<crate::Digest>,
        /// the digest of its bytes
        found: Box<crate::Digest>,
    },
    /// A blob of another size than its descriptor says.
    #[error(
        "{what} has {found} bytes, and its descriptor says {expected}; the archive is damaged or forged"
    )]
    Size {
        /// the blob
        what: String,
        /// bytes, as the descriptor says
        expected: u64,
        /// bytes, as the archive has
        found: u64,
    },
    /// A manifest that contradicts itself or others.
    #[error("{what} contradicts itself: {why}")]
    Contradiction {
        /// the document
        what: String,
        /// how
        why: String,
    },
    /// No image for the platform.
    #[error(
        "{archive} has no image for {wanted}; it has {found}: choose one with --platform, or use an image for {wanted}"
    )]
    Platform {
        /// what the user named
        archive: String,
        /// the platform asked for
        wanted: String,
        /// the platforms that there are
        found: String,
    },
    /// An entry of a layer that is not unpacked.
    #[error("{layer}: the entry {entry} is refused: {why}")]
    Refused {
        /// the layer
        layer: String,
        /// the entry's name
        entry: String,
        /// why
        why: Refusal,
    },
    /// A system call on the unpacked tree failed.
    #[error("{layer}: cannot {op} {path}: {source}")]
    System {
        /// the layer
        layer: String,
        /// what was tried
        op: &'static str,
        /// the path in the layer
        path: String,
        /// what the kernel said
        source: io::Error,
    },
    /// A hard link to something that neither this layer nor one below has.
    #[error(
        "{layer}: the hard link {entry} names {target}, which neither this layer nor a lower one has as a file"
    )]
    LinkTarget {
        /// the layer
        layer: String,
        /// the link's name
        entry: String,
        /// the target's name
        target: String,
    },
}

/// How a layer is unpacked instead.
fn form(error: &erofs_index::Error) -> &'static str {
    match error {
        erofs_index::Error::Limit { .. } => " (--layer-form dir)",
        _ => "",
    }
}

/// How a limit is raised.
fn raise(limit: crate::Limit, fixed: bool) -> String {
    let name = limit.name();
    match fixed {
        true => String::new(),
        false => format!("; if the image is trusted, raise it by --image-limit {name}=NUMBER"),
    }
}

/// Why an entry is not unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// `..` in a name
    #[error("a name with .. can lead outside of the layer")]
    DotDot,
    /// `..` in the target of a hard link
    #[error("its link target has .., which can lead outside of the layer")]
    LinkDotDot,
    /// an empty link target
    #[error("it is a link without a target")]
    EmptyLink,
    /// a component of more than 255 bytes
    #[error("a component of its name is longer than 255 bytes (NAME_MAX)")]
    Component,
    /// `.wh.` alone
    #[error("it is a whiteout without a name")]
    BareWhiteout,
    /// `.wh..` or `.wh...`
    #[error("it is a whiteout of . or ..")]
    DotWhiteout,
    /// something below a whiteout
    #[error("it lies below a name that starts with .wh., which is reserved for whiteouts")]
    BelowWhiteout,
    /// the root is a file
    #[error("the root of a layer can only be a directory")]
    Root,
    /// a device 0:0
    #[error("a character device 0:0 would be a whiteout on overlayfs")]
    WhiteoutDevice,
    /// a device number that Linux has not
    #[error("its device number is beyond 4095:1048575, the largest that Linux has")]
    Device,
    /// a hard link above or below its own target
    #[error("it is a hard link to a name above or below its own")]
    LinkAround,
    /// a hard link to a directory
    #[error("it is a hard link to a directory")]
    LinkToDirectory,
    /// a directory is where a file is to be
    #[error("cannot overwrite directory with non-directory; remove it first")]
    OverDirectory,
    /// something else is where a directory is to be
    #[error("cannot overwrite non-directory with directory; remove it first")]
    DirectoryOver,
}

/// How a tar breaks its format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TarProblem {
    /// the stream ends within an entry
    #[error("it ends in the middle of an entry; it is cut off")]
    Truncated,
    /// the first block is no header
    #[error("it does not start with a tar header; it is no tar")]
    NotATar,
    /// a header with a wrong checksum
    #[error("the checksum of the header is wrong")]
    Checksum,
    /// a field that is no number
    #[error("the field {0} is not a number")]
    Number(&'static str),
    /// a number that is too large
    #[error("the field {0} is out of range")]
    Range(&'static str),
    /// a name with a NUL byte
    #[error("the field {0} has a NUL byte")]
    Nul(&'static str),
    /// an unknown type
    #[error("the entry has the unknown type {0:?}")]
    Type(char),
    /// a header of no known format that says what only known ones can
    #[error(
        "the header's magic is neither POSIX's nor GNU's, and readers disagree on what the rest of it means"
    )]
    Magic,
    /// a directory, link or device with data
    #[error("an entry that can have no data has a size; readers disagree on what follows")]
    DataOfNothing,
    /// a malformed extended header
    #[error("the PAX record {0} is malformed")]
    Pax(String),
    /// two values of one thing in one extended header
    #[error(
        "an extended header says {0} twice, and not the same; readers disagree which one counts"
    )]
    TwoValues(String),
    /// two extended headers of one kind before one entry
    #[error("two extended headers of one kind stand before one entry")]
    Twice,
    /// extended headers without an entry
    #[error("an extended header stands before the end, and not before an entry")]
    Dangling,
    /// GNU and PAX names that differ
    #[error("the GNU long name and the PAX path of one entry differ")]
    TwoNames,
    /// a global header with a name or size
    #[error("a global PAX header sets {0}, which only one entry can have")]
    Global(String),
    /// a sparse map that is broken
    #[error("the map of a sparse file is malformed")]
    Sparse,
    /// an empty name
    #[error("the entry has no name")]
    NoName,
}

/// Bytes of a name as text for a message, with control characters escaped.
pub(crate) fn show(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(512) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if out.is_empty() { "/".into() } else { out }
}
