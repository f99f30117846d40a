//! The file of a log. What is added stays in memory until a block of the file is full, or until
//! somebody says that nothing more comes at once: the kernel takes whole blocks at half the cost of the
//! same bytes in pieces that begin and end anywhere.

use std::fs::File;
use std::io::{self, Write};

use super::pieces;
use crate::output::READ;

/// The file is written up to multiples of this, bytes.
const BLOCK: usize = 128 << 10;

/// Less than a block waits, and a piece is added to that.
const CAPACITY: usize = BLOCK + READ + pieces::OVERHEAD;

/// A file of records, open for appending.
pub(super) struct Writer {
    file: File,
    /// How long it is.
    written: u64,
    /// Where the last record ends that is whole in it.
    whole: u64,
    /// What comes next. Of pages that were never used the kernel has none.
    buffer: Box<[u8]>,
    /// How much of the buffer that is.
    held: usize,
}

impl Writer {
    /// Of a file of whole records that has this size, open for appending.
    pub(super) fn new(file: File, size: u64) -> Writer {
        let buffer = vec![0; CAPACITY].into_boxed_slice();
        Writer { file, written: size, whole: size, buffer, held: 0 }
    }

    /// Goes on with another file, which is empty. What the buffer has is in the old one.
    pub(super) fn replace(&mut self, file: File) {
        (self.file, self.written, self.whole, self.held) = (file, 0, 0, 0);
    }

    /// The size of the file with what is held.
    pub(super) fn size(&self) -> u64 {
        self.written + self.held as u64
    }

    /// Whether something is not in the file yet.
    pub(super) fn holds(&self) -> bool {
        self.held > 0
    }

    /// The place of the next record's bytes, of which there may be as many as a piece has. They count once
    /// [`Writer::took`] is called.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.held..]
    }

    /// One record of so many bytes is in the space.
    pub(super) fn took(&mut self, count: usize) -> io::Result<()> {
        let start = self.size();
        self.held += count;
        let to_border = BLOCK - usize::try_from(self.written % BLOCK as u64).unwrap_or(0);
        if let Some(more) = self.held.checked_sub(to_border) {
            self.write(to_border + more / BLOCK * BLOCK)?;
            self.whole = if self.held == 0 { self.written } else { start };
        }
        Ok(())
    }

    /// Adds one record.
    pub(super) fn put(&mut self, record: &[&[u8]]) -> io::Result<()> {
        let count = record.iter().map(|part| part.len()).sum();
        if count <= self.space().len() {
            let mut space = self.space();
            // It has room.
            record.iter().try_for_each(|part| space.write_all(part))?;
            return self.took(count);
        }
        self.flush()?;
        let done = record.iter().try_for_each(|part| self.file.write_all(part));
        self.wrote(count, done)?;
        self.whole = self.written;
        Ok(())
    }

    /// Writes what is held.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.holds() {
            self.write(self.held)?;
            self.whole = self.written;
        }
        Ok(())
    }

    /// Writes so much of the buffer.
    fn write(&mut self, count: usize) -> io::Result<()> {
        let done = self.file.write_all(&self.buffer[..count]);
        self.buffer.copy_within(count..self.held, 0);
        self.held -= count;
        self.wrote(count, done)
    }

    /// So much was written, or not all of it: on a full disk no half of a record stays, on which the
    /// next one would follow.
    fn wrote(&mut self, count: usize, done: io::Result<()>) -> io::Result<()> {
        match done {
            Ok(()) => self.written += count as u64,
            Err(_) => {
                (self.written, self.held) = (self.whole, 0);
                self.file.set_len(self.whole)?;
            }
        }
        done
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Who wants to know of a failure has flushed it.
        let _ = self.flush();
    }
}
