//! Bytes by position: the archive's file, extents of it, and the spool for what can only be read once.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::Error;
use crate::decode::{Decoder, Format};
use crate::limits::{Limit, Limits};

/// Bytes that are read at once.
pub(crate) const BUFFER: usize = 256 << 10;

/// Bytes in pieces, with errors that say what was read.
pub(crate) trait Input {
    /// The bytes that are there, at least one; none at the end.
    fn fill(&mut self) -> Result<&[u8], Error>;
    /// The first `count` of the bytes of `fill` are done with.
    fn consume(&mut self, count: usize);
    /// Pass over `count` bytes. False if the end came first.
    fn skip(&mut self, mut count: u64) -> Result<bool, Error> {
        while count > 0 {
            let there = self.fill()?.len();
            if there == 0 {
                return Ok(false);
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(there);
            self.consume(step);
            count -= step as u64;
        }
        Ok(true)
    }
}

/// Bytes that are read into a buffer, piece by piece.
pub(crate) trait Pieces: BufRead + Send {
    /// Whether the buffer holds nothing more, so that the next `fill_buf` reads.
    fn is_drained(&self) -> bool;
}

/// What [`Read`] is for a reader whose buffer does the work.
pub(crate) fn read_buffered(reader: &mut impl BufRead, out: &mut [u8]) -> io::Result<usize> {
    let there = reader.fill_buf()?;
    let count = there.len().min(out.len());
    out[..count].copy_from_slice(&there[..count]);
    reader.consume(count);
    Ok(count)
}

/// A piece of a file.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Extent {
    /// The whole file, from where its descriptor stands.
    pub(crate) fn whole(file: File, offset: u64) -> io::Result<Extent> {
        let len = file.metadata()?.len().saturating_sub(offset);
        Ok(Extent { file: Arc::new(file), offset, len })
    }

    pub(crate) fn reader(&self, buffer: usize) -> Reader {
        Reader {
            file: Arc::clone(&self.file),
            at: self.offset,
            left: self.len,
            buffer: vec![0; buffer].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// All bytes of a document.
    pub(crate) fn bytes(&self, limits: &Limits, what: &str) -> Result<Vec<u8>, Error> {
        limits.check(Limit::Json, self.len, what)?;
        let mut out = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        self.file
            .read_exact_at(&mut out, self.offset)
            .map_err(|source| Error::Read { what: what.to_owned(), source })?;
        Ok(out)
    }
}

/// Reads an extent with a buffer. The descriptor's own position is not used: many readers share it.
pub(crate) struct Reader {
    file: Arc<File>,
    at: u64,
    left: u64,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Pieces for Reader {
    fn is_drained(&self) -> bool {
        self.start == self.end
    }
}

impl Reader {
    /// Pass over bytes without reading them.
    pub(crate) fn seek_over(&mut self, count: u64) -> bool {
        let buffered = (self.end - self.start) as u64;
        if count <= buffered {
            self.start += count as usize;
            return true;
        }
        let beyond = count - buffered;
        self.start = self.end;
        let step = beyond.min(self.left);
        self.at += step;
        self.left -= step;
        step == beyond
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, out)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end && self.left > 0 {
            let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = loop {
                match self.file.read_at(&mut self.buffer[..want], self.at) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            if count == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter while it was read",
                ));
            }
            self.start = 0;
            self.end = count;
            self.at += count as u64;
            self.left -= count as u64;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

/// The outer archive as an input: passing over data costs nothing.
pub(crate) struct Outer<'a> {
    pub(crate) reader: Reader,
    pub(crate) what: &'a str,
}

impl Input for Outer<'_> {
    fn fill(&mut self) -> Result<&[u8], Error> {
        let what = self.what;
        self.reader.fill_buf().map_err(|source| Error::Read { what: what.to_owned(), source })
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }

    fn skip(&mut self, count: u64) -> Result<bool, Error> {
        Ok(self.reader.seek_over(count))
    }
}

/// An extent with the archive's plain tar: the file itself if it can be read by position and is not
/// compressed, else a decoded copy without a name in `spool`.
pub(crate) fn plain(
    file: File,
    name: &str,
    spool: &Path,
    limits: &Limits,
) -> Result<Extent, Error> {
    let read_error = |source| Error::Read { what: name.to_owned(), source };
    let meta = file.metadata().map_err(read_error)?;
    if meta.is_dir() {
        return Err(Error::NotAnImage {
            archive: name.to_owned(),
            hint: "it is a directory; name it by its path",
        });
    }
    if !meta.is_file() {
        let read = Rc::new(Cell::new(0));
        let mut stream = Counted { file, read: Rc::clone(&read) };
        // A pipe may give less at first than tells the format.
        let mut start = Vec::new();
        (&mut stream).take(512).read_to_end(&mut start).map_err(read_error)?;
        let format = sniff(&mut &start[..], name)?;
        let input = io::BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(stream));
        return copy(
            Decoder::new(input, format, name)?,
            format,
            || read.get(),
            name,
            spool,
            limits,
        );
    }
    let offset = (&file).stream_position().map_err(read_error)?;
    let extent = Extent::whole(file, offset).map_err(read_error)?;
    let mut reader = extent.reader(BUFFER);
    match sniff(&mut reader, name)? {
        Format::Plain => Ok(extent),
        format => {
            copy(Decoder::new(reader, format, name)?, format, || extent.len, name, spool, limits)
        }
    }
}

/// A stream that counts what was read of it.
struct Counted {
    file: File,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(out)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

fn sniff<R: BufRead>(input: &mut R, name: &str) -> Result<Format, Error> {
    let start = input.fill_buf().map_err(|source| Error::Read { what: name.to_owned(), source })?;
    if start.is_empty() {
        return Err(Error::NotAnImage { archive: name.to_owned(), hint: "it is empty" });
    }
    Format::detect(start, name)
}

/// Decode into an unnamed file.
fn copy<R: BufRead>(
    mut input: Decoder<R>,
    format: Format,
    compressed: impl Fn() -> u64,
    name: &str,
    spool: &Path,
    limits: &Limits,
) -> Result<Extent, Error> {
    let spool_error = |source: io::Error| Error::Spool {
        archive: name.to_owned(),
        dir: spool.display().to_string(),
        source,
    };
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = rustix::fs::open(spool, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|e| spool_error(e.into()))?;
    let mut out = File::from(fd);
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(format.error(name, source)),
        };
        total += count as u64;
        limits.check(Limit::Bytes, total, name)?;
        check_ratio(total, compressed(), limits, name)?;
        out.write_all(&buffer[..count]).map_err(spool_error)?;
    }
    if input.has_garbage() {
        return Err(Error::TrailingGarbage { what: name.to_owned(), format: format.name() });
    }
    Ok(Extent { file: Arc::new(out), offset: 0, len: total })
}

/// `Err` if so many decoded bytes of so many compressed ones are a bomb.
pub(crate) fn check_ratio(
    decoded: u64,
    compressed: u64,
    limits: &Limits,
    what: &str,
) -> Result<(), Error> {
    // Plain bytes pass too: their ratio is one.
    if decoded <= limits.ratio_after || decoded / limits.ratio.max(1) <= compressed {
        return Ok(());
    }
    Err(limits.exceeded(Limit::Ratio, what.to_owned()))
}
