//! A layer that one thread reads and decodes while another makes its files: for the one that is larger than its
//! share of the work, and would leave the other processors with nothing to do.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::Error;
use crate::decode::{Format, LayerInput, Verified, digests};
use crate::digest::{Digest, Hasher};
use crate::source::{BUFFER, Input};

/// Buffers that wait to be taken.
const WAITING: usize = 4;

/// What the reading thread says.
enum Piece {
    /// So many bytes of a buffer.
    Bytes(Vec<u8>, usize),
    /// The end, and the digest of what was read, if it was hashed.
    End(Option<Digest>),
}

type Said = Result<Piece, Error>;

/// The reading side.
pub(crate) struct Reading<'a> {
    input: LayerInput<'a>,
    to: SyncSender<Said>,
    /// Buffers that were used up.
    empty: Receiver<Vec<u8>>,
}

/// The side that takes the decoded bytes.
pub(crate) struct Ahead<'a> {
    from: Receiver<Said>,
    used: Sender<Vec<u8>>,
    format: Format,
    what: &'a str,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    hasher: Hasher,
    ended: bool,
    blob: Option<Digest>,
}

/// Both sides of an input of which nothing was taken yet.
pub(crate) fn split(input: LayerInput<'_>) -> (Reading<'_>, Ahead<'_>) {
    let (to, from) = sync_channel(WAITING);
    let (used, empty) = channel();
    let (format, what) = (input.format, input.what);
    let ahead = Ahead {
        from,
        used,
        format,
        what,
        buffer: Vec::new(),
        start: 0,
        end: 0,
        hasher: Hasher::new(),
        ended: false,
        blob: None,
    };
    (Reading { input, to, empty }, ahead)
}

impl Reading<'_> {
    /// Reads to the end, or until the other side wants no more.
    pub(crate) fn run(mut self) {
        loop {
            let mut buffer = self.empty.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
            let said = match self.input.read_decoded(&mut buffer) {
                Ok(0) => break,
                Ok(count) => Ok(Piece::Bytes(buffer, count)),
                Err(error) => Err(error),
            };
            let failed = said.is_err();
            if self.to.send(said).is_err() || failed {
                return;
            }
        }
        // Nobody may want to know.
        let _ = self.to.send(self.input.end().map(Piece::End));
    }
}

impl Input for Ahead<'_> {
    fn fill(&mut self) -> Result<&[u8], Error> {
        while self.start == self.end && !self.ended {
            let used = std::mem::take(&mut self.buffer);
            (self.start, self.end) = (0, 0);
            if !used.is_empty() {
                // The other side may have ended.
                let _ = self.used.send(used);
            }
            let gone = || Error::Read {
                what: self.what.to_owned(),
                source: io::Error::other("the thread that reads it has ended"),
            };
            match self.from.recv().map_err(|_| gone())?? {
                Piece::Bytes(buffer, count) => {
                    if self.format != Format::Plain {
                        self.hasher.update(&buffer[..count]);
                    }
                    (self.buffer, self.start, self.end) = (buffer, 0, count);
                }
                Piece::End(blob) => (self.ended, self.blob) = (true, blob),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

impl Verified for Ahead<'_> {
    fn finish(mut self) -> Result<(Digest, Option<Digest>), Error> {
        self.drain()?;
        Ok(digests(self.format, self.hasher, self.blob))
    }
}
