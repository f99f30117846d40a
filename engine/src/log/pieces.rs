//! The pieces of the local log: output as it was read, with its time and its stream. What a line is, who reads
//! it finds out: a process that prints much is not held up by it.
//!
//! ```text
//! length u32 | stream u8 (1, 2) | time u64, nanoseconds since 1970 | the bytes | length u32
//! ```
//!
//! Numbers are little-endian. A piece without bytes says that what comes next of its stream is of another
//! process. The length at the end shows where the last piece begins, and whether it is whole.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;

use super::writer::Writer;
use crate::wire::Outlet;

const LENGTH: usize = size_of::<u32>();
const HEADER: usize = LENGTH + 1 + size_of::<u64>();
/// What a piece takes beside its bytes.
pub(super) const OVERHEAD: usize = HEADER + LENGTH;

/// A piece, when it is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) outlet: Outlet,
    /// Nanoseconds since 1970.
    pub(crate) time: u64,
    /// None: the stream's process has ended.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// What a whole piece says; `None` where it is none.
    pub(crate) fn parse(piece: &'a [u8]) -> Option<Piece<'a>> {
        let (header, rest) = piece.split_first_chunk::<HEADER>()?;
        let (bytes, end) = rest.split_last_chunk::<LENGTH>()?;
        let (length, outlet, time) = fields(header)?;
        let whole = length == bytes.len() && header.starts_with(end);
        whole.then_some(Piece { outlet, time, bytes })
    }

    /// Reads a piece to the empty `piece`; whether there is a whole one. If not, it is read anew the next time.
    pub(crate) fn read(file: &mut BufReader<File>, piece: &mut Vec<u8>) -> io::Result<bool> {
        let mut take = |piece: &mut Vec<u8>, count: usize| {
            let count = count.saturating_sub(piece.len());
            Read::by_ref(file).take(count as u64).read_to_end(piece)
        };
        take(piece, HEADER)?;
        if let Some(header) = piece.first_chunk::<HEADER>() {
            let length = fields(header).map_or(0, |(length, ..)| length);
            take(piece, OVERHEAD + length)?;
            if piece.len() == OVERHEAD + length {
                return Ok(true);
            }
        }
        let back = i64::try_from(piece.len()).map_err(io::Error::other)?;
        piece.clear();
        file.seek_relative(-back)?;
        Ok(false)
    }
}

/// Adds a piece.
pub(super) fn put(file: &mut Writer, outlet: Outlet, time: u64, bytes: &[u8]) -> io::Result<()> {
    let (header, length) = around(outlet, time, bytes.len())?;
    file.put(&[&header, bytes, &length])
}

/// The place of a piece's bytes, if there is room for so many.
pub(super) fn space(file: &mut Writer, most: usize) -> Option<&mut [u8]> {
    let space = file.space().get_mut(..OVERHEAD + most)?;
    space.get_mut(HEADER..HEADER + most)
}

/// Makes a piece of so many bytes in the space; the last one of them.
pub(super) fn took(file: &mut Writer, outlet: Outlet, time: u64, count: usize) -> io::Result<u8> {
    let (header, length) = around(outlet, time, count)?;
    let space = file.space();
    space[..HEADER].copy_from_slice(&header);
    space[HEADER + count..][..LENGTH].copy_from_slice(&length);
    let last = space[HEADER + count - 1];
    file.took(OVERHEAD + count)?;
    Ok(last)
}

/// What is before and after so many bytes.
fn around(outlet: Outlet, time: u64, count: usize) -> io::Result<([u8; HEADER], [u8; LENGTH])> {
    let length = u32::try_from(count).map_err(io::Error::other)?.to_le_bytes();
    let mut header = [0; HEADER];
    header[..LENGTH].copy_from_slice(&length);
    header[LENGTH] = number(outlet);
    header[LENGTH + 1..].copy_from_slice(&time.to_le_bytes());
    Ok((header, length))
}

/// How many bytes at the front of a file are whole pieces. What is behind them was being written when its
/// writer was killed.
pub(super) fn whole(file: &File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    if size == 0 || last_is_whole(file, size)? {
        return Ok(size);
    }
    let mut reader = BufReader::with_capacity(64 * 1024, file.try_clone()?);
    let mut end = 0;
    loop {
        let mut header = [0; HEADER];
        match reader.read_exact(&mut header) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(end),
            read => read?,
        }
        let Some((length, ..)) = fields(&header) else { return Ok(end) };
        let next = end + (OVERHEAD + length) as u64;
        if next > size {
            return Ok(end);
        }
        reader.seek_relative((length + LENGTH) as i64)?;
        end = next;
    }
}

fn last_is_whole(file: &File, size: u64) -> io::Result<bool> {
    let mut end = [0; LENGTH];
    let Some(at) = size.checked_sub(OVERHEAD as u64) else { return Ok(false) };
    file.read_exact_at(&mut end, size - LENGTH as u64)?;
    let Some(at) = at.checked_sub(u32::from_le_bytes(end).into()) else { return Ok(false) };
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, at)?;
    Ok(header.starts_with(&end) && fields(&header).is_some())
}

fn fields(header: &[u8; HEADER]) -> Option<(usize, Outlet, u64)> {
    let (length, rest) = header.split_first_chunk::<LENGTH>()?;
    let (stream, time) = rest.split_first()?;
    let outlet =
        [Outlet::Stdout, Outlet::Stderr].into_iter().find(|&one| number(one) == *stream)?;
    let time = u64::from_le_bytes(time.try_into().ok()?);
    Some((u32::from_le_bytes(*length).try_into().ok()?, outlet, time))
}

/// As the descriptors.
fn number(outlet: Outlet) -> u8 {
    match outlet {
        Outlet::Stdout => 1,
        Outlet::Stderr => 2,
    }
}
