//! gzip, zstd and plain bytes: what a stream is, and what it decodes to.

use std::fs::File;
use std::io::{self, BufRead, Read};

use crate::Error;
use crate::blobs::Unreadable;
use crate::copy::Copy;
use crate::digest::{Digest, Hasher};
use crate::limits::{Limit, Limits};
use crate::source::{BUFFER, Extent, Input, Pieces, check_ratio, read_buffered};

/// How bytes are compressed. The bytes themselves decide, not the media type that a manifest gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Plain,
    Gzip,
    Zstd,
}

impl Format {
    pub(crate) fn detect(start: &[u8], what: &str) -> Result<Format, Error> {
        const UNKNOWN: [(&[u8], &str); 9] = [
            (b"\xfd7zXZ\0", "xz"),
            (b"BZh", "bzip2"),
            (b"\x04\x22\x4d\x18", "lz4"),
            (b"\x02\x21\x4c\x18", "lz4"),
            (b"\x5d\0\0", "lzma"),
            (b"LZIP", "lzip"),
            (b"\x1f\x9d", "compress (.Z)"),
            (b"PK\x03\x04", "zip"),
            (b"7z\xbc\xaf\x27\x1c", "7z"),
        ];
        if start.starts_with(b"\x1f\x8b") {
            return Ok(Format::Gzip);
        }
        // A zstd frame, or one that a decoder skips (RFC 8878, 3.1).
        if start.starts_with(b"\x28\xb5\x2f\xfd")
            || (start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == *b"\x2a\x4d\x18")
        {
            return Ok(Format::Zstd);
        }
        // A tar may start with a name that looks like one of these: its magic decides.
        if start.get(257..262) != Some(b"ustar")
            && let Some((_, format)) = UNKNOWN.iter().find(|(magic, _)| start.starts_with(magic))
        {
            return Err(Error::Compression { what: what.to_owned(), format });
        }
        Ok(Format::Plain)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Plain => "plain",
            Format::Gzip => "gzip",
            Format::Zstd => "zstd",
        }
    }

    /// A failed read of a stream of this format.
    pub(crate) fn error(self, what: &str, source: io::Error) -> Error {
        match self {
            Format::Plain => Error::Read { what: what.to_owned(), source },
            // A failed system call has an errno, a decoder has none.
            _ if source.raw_os_error().is_some_and(|errno| errno != 0) => {
                Error::Read { what: what.to_owned(), source }
            }
            _ if source.get_ref().is_some_and(|inner| inner.is::<Unreadable>()) => {
                Error::Read { what: what.to_owned(), source }
            }
            _ => Error::Decode { what: what.to_owned(), format: self.name(), source },
        }
    }
}

/// The decoded bytes of a stream. A cut-off stream is an error; what follows the end is looked at by
/// [`Decoder::has_garbage`].
pub(crate) enum Decoder<R: BufRead> {
    Stored(R),
    Gzip(Box<Gzip<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
}

impl<R: BufRead> Decoder<R> {
    pub(crate) fn new(input: R, format: Format, what: &str) -> Result<Decoder<R>, Error> {
        Ok(match format {
            Format::Plain => Decoder::Stored(input),
            Format::Gzip => Decoder::Gzip(Box::new(Gzip {
                member: Some(flate2::bufread::GzDecoder::new(input)),
                ended: None,
                garbage: false,
            })),
            // Windows over 128 MiB (zstd --long=28 and more) are an error of the decoder: memory stays bounded.
            Format::Zstd => Decoder::Zstd(Box::new(
                zstd::stream::read::Decoder::with_buffer(input)
                    .map_err(|source| format.error(what, source))?,
            )),
        })
    }

    /// After the end: whether anything but padding follows it. (For zstd the decoder itself fails on that.)
    pub(crate) fn has_garbage(&self) -> bool {
        matches!(self, Decoder::Gzip(gzip) if gzip.garbage)
    }

    /// The input back, at the end; for gzip its padding has been read too.
    fn into_input(self) -> Option<R> {
        match self {
            Decoder::Stored(input) => Some(input),
            Decoder::Gzip(gzip) => gzip.ended,
            Decoder::Zstd(zstd) => Some(zstd.finish()),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Stored(input) => input.read(out),
            Decoder::Gzip(gzip) => gzip.read(out),
            Decoder::Zstd(zstd) => zstd.read(out),
        }
    }
}

/// One gzip member after the other. flate2's own reader of several members takes zero padding for a broken one.
pub(crate) struct Gzip<R> {
    /// None at the end; then the input is in `ended`.
    member: Option<flate2::bufread::GzDecoder<R>>,
    ended: Option<R>,
    garbage: bool,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            self.next_member()?;
        }
        Ok(0)
    }
}

impl<R: BufRead> Gzip<R> {
    /// Go on to the next member, or to the end if only zero bytes or nothing follows.
    fn next_member(&mut self) -> io::Result<()> {
        let Some(ended) = self.member.take() else { return Ok(()) };
        let mut input = ended.into_inner();
        if input.fill_buf()?.first() == Some(&0x1f) {
            self.member = Some(flate2::bufread::GzDecoder::new(input));
            return Ok(());
        }
        loop {
            let rest = input.fill_buf()?;
            if rest.is_empty() || self.garbage {
                break;
            }
            self.garbage = rest.iter().any(|byte| *byte != 0);
            let count = rest.len();
            input.consume(count);
        }
        self.ended = Some(input);
        Ok(())
    }
}

/// A blob's bytes as they lie in the archive: counted, hashed if `hasher` is there, and told to `progress`.
pub(crate) struct Blob<'a> {
    pub(crate) reader: Box<dyn Pieces + 'a>,
    pub(crate) hasher: Option<Hasher>,
    pub(crate) progress: &'a (dyn Fn(u64) + Sync),
}

impl Read for Blob<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, out)
    }
}

impl BufRead for Blob<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let fresh = self.reader.is_drained();
        let bytes = self.reader.fill_buf()?;
        if fresh && !bytes.is_empty() {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(bytes);
            }
            (self.progress)(bytes.len() as u64);
        }
        Ok(bytes)
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }
}

/// A layer's decoded tar, limited, and hashed on the way. Plain layers are read without a copy and hashed once.
pub(crate) struct LayerInput<'a> {
    stream: Decoder<Blob<'a>>,
    pub(crate) format: Format,
    /// Decoded bytes; empty for a plain layer, whose bytes are taken from the blob's own buffer.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    hasher: Hasher,
    decoded: u64,
    size: u64,
    limits: &'a Limits,
    pub(crate) what: &'a str,
    /// Where the decoded bytes go besides.
    copy: Option<Copy<'a>>,
    /// Whether the first bytes, which told the format, wait to be copied.
    first: bool,
}

impl<'a> LayerInput<'a> {
    /// `size` is what the blob has in the archive; `hash_blob` says that its own digest is wanted.
    pub(crate) fn new(
        reader: Box<dyn Pieces + 'a>,
        size: u64,
        hash_blob: bool,
        progress: &'a (dyn Fn(u64) + Sync),
        limits: &'a Limits,
        what: &'a str,
    ) -> Result<LayerInput<'a>, Error> {
        let mut blob = Blob { reader, hasher: None, progress };
        // Looked at through the reader, so that these bytes are not taken for read by the hasher.
        let start = blob
            .reader
            .fill_buf()
            .map_err(|source| Error::Read { what: what.to_owned(), source })?;
        let format = Format::detect(start, what)?;
        progress(start.len() as u64);
        if format == Format::Plain || hash_blob {
            let mut hasher = Hasher::new();
            hasher.update(start);
            blob.hasher = Some(hasher);
        }
        let buffer = if format == Format::Plain { 0 } else { BUFFER };
        Ok(LayerInput {
            stream: Decoder::new(blob, format, what)?,
            format,
            buffer: vec![0; buffer].into_boxed_slice(),
            start: 0,
            end: 0,
            hasher: Hasher::new(),
            decoded: 0,
            size,
            limits,
            what,
            copy: None,
            first: true,
        })
    }

    /// Also writes the decoded bytes to a file, from its beginning. `source` is where a layer that is not compressed
    /// lies, so that the kernel can copy it, or share its blocks.
    pub(crate) fn copied(mut self, to: &'a File, source: Option<&Extent>) -> LayerInput<'a> {
        let source = source.filter(|_| self.format == Format::Plain);
        self.copy = Some(Copy::new(to, source));
        self
    }

    /// Bytes of the tar; all of it once it has been read.
    pub(crate) fn decoded(&self) -> u64 {
        self.decoded
    }

    /// Decoded bytes into `out`, counted and held against the limits; none at the end. They are not hashed here.
    pub(crate) fn read_decoded(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        let count = loop {
            match self.stream.read(out) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|source| self.format.error(self.what, source))?,
            }
        };
        self.decoded += count as u64;
        self.limits.check(Limit::Bytes, self.decoded, self.what)?;
        check_ratio(self.decoded, self.size, self.limits, self.what)?;
        Ok(count)
    }

    /// The digest of the blob if it was asked for, once all is read. That of a plain layer is the blob's.
    pub(crate) fn end(self) -> Result<Option<Digest>, Error> {
        if self.stream.has_garbage() {
            return Err(Error::TrailingGarbage {
                what: self.what.to_owned(),
                format: self.format.name(),
            });
        }
        Ok(self.stream.into_input().and_then(|blob| blob.hasher).map(Hasher::finish))
    }
}

/// An input whose bytes are hashed on the way.
pub(crate) trait Verified: Input + Sized {
    /// The digests of the decoded bytes, and of the blob if it was asked for. What was not read yet is read.
    fn finish(self) -> Result<(Digest, Option<Digest>), Error>;

    /// Reads to the end.
    fn drain(&mut self) -> Result<(), Error> {
        loop {
            let count = self.fill()?.len();
            if count == 0 {
                return Ok(());
            }
            self.consume(count);
        }
    }
}

impl Verified for LayerInput<'_> {
    fn finish(mut self) -> Result<(Digest, Option<Digest>), Error> {
        self.drain()?;
        let hasher = std::mem::take(&mut self.hasher);
        Ok(digests(self.format, hasher, self.end()?))
    }
}

/// The digests of the decoded bytes and of the blob: a plain layer is hashed once.
pub(crate) fn digests(
    format: Format,
    hasher: Hasher,
    blob: Option<Digest>,
) -> (Digest, Option<Digest>) {
    match (format, blob) {
        (Format::Plain, Some(digest)) => (digest, Some(digest)),
        (_, blob) => (hasher.finish(), blob),
    }
}

impl Input for LayerInput<'_> {
    fn fill(&mut self) -> Result<&[u8], Error> {
        let (format, what) = (self.format, self.what);
        if format == Format::Plain {
            let Decoder::Stored(blob) = &mut self.stream else { return Ok(&[]) };
            self.limits.check(Limit::Bytes, self.size, what)?;
            let fresh = std::mem::take(&mut self.first) || blob.reader.is_drained();
            let bytes = blob.fill_buf().map_err(|source| format.error(what, source))?;
            if fresh {
                self.decoded += bytes.len() as u64;
                if let Some(copy) = &mut self.copy {
                    copy.piece(bytes, what)?;
                }
            }
            return Ok(bytes);
        }
        if self.start == self.end {
            let mut buffer = std::mem::take(&mut self.buffer);
            let count = self.read_decoded(&mut buffer);
            self.buffer = buffer;
            (self.start, self.end) = (0, count?);
            self.hasher.update(&self.buffer[..self.end]);
            if let Some(copy) = &mut self.copy {
                copy.piece(&self.buffer[..self.end], what)?;
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        match &mut self.stream {
            Decoder::Stored(blob) => blob.consume(count),
            _ => self.start = (self.start + count).min(self.end),
        }
    }
}
