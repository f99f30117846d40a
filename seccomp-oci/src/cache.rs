//! Compiled programs kept in a directory, by what they were made of.
//!
//! A file holds the key, which is the filter's text and more, and the program; it is named after a hash of
//! the key. The hash is a fast one, and only says where to look: the key itself is compared, byte by byte,
//! so that no filter gets the program of another one. Whoever could write such a file could take a
//! container's filter away, so that one is believed only if it is the caller's own and nobody else can
//! write it; one that is cut short or changed is made anew. It is written under another name and renamed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::arch::TABLES;
use crate::bytes::hash;
use crate::{Arch, Compiled, Error, Filter, compile};

/// Changes with the form of the files, with what is read of a filter's text, and with what programs a filter is made to.
const MAGIC: &[u8; 16] = b"seccomp-oci v3\n\0";
/// The key, eight bytes for each instruction, and room for the names.
const MAX_FILE: usize = 256 * 1024;
/// Most files; when there would be more, all are removed.
const MAX_FILES: usize = 256;
const SUFFIX: &str = ".bpf";

/// The place of one filter's program in a directory, which should be the caller's alone.
///
/// It is found without a [`Filter`], which need not be made of what a program is found for.
#[derive(Debug)]
pub struct Kept<'fd> {
    dir: BorrowedFd<'fd>,
    key: Vec<u8>,
    name: String,
}

impl<'fd> Kept<'fd> {
    /// That of the filter which `source` is serialized to, the specification's object without `listenerPath` and
    /// `listenerMetadata`, for this machine. `source` may be a [`RawValue`](serde_json::value::RawValue): the object's
    /// text, as somebody wrote it. `None`: `source` cannot be serialized.
    pub fn of(source: &impl Serialize, machine: Arch, dir: BorrowedFd<'fd>) -> Option<Self> {
        let key = serde_json::to_vec(&(TABLES, machine, source)).ok()?;
        let name = format!("{:016x}{SUFFIX}", hash(&key));
        Some(Self { dir, key, name })
    }

    /// The program, if it is there and whole: only what [`compile`] made was ever kept there.
    pub fn find(&self) -> Option<Compiled> {
        decode(&read(self.dir, &self.name).ok()?, &self.key)
    }

    /// Keeps what was compiled of this filter.
    ///
    /// # Errors
    /// It cannot be written; nothing is lost but time.
    pub fn keep(&self, compiled: &Compiled) -> io::Result<()> {
        match encode(compiled, &self.key) {
            Some(bytes) => Ok(write(self.dir, &self.name, &bytes)?),
            None => Ok(()),
        }
    }
}

/// As [`compile`], with the programs kept in the directory `dir`, which should be the caller's alone.
///
/// The second value is what kept the cache from being used, if something did: the program is right
/// all the same, and the next call compiles again.
///
/// # Errors
/// As for [`compile`].
pub fn compile_cached(
    filter: &Filter,
    machine: Arch,
    dir: BorrowedFd<'_>,
) -> Result<(Compiled, Option<io::Error>), Error> {
    filter.check()?;
    // Where the listener is does not count.
    let source = Filter { listener_path: None, listener_metadata: None, ..filter.clone() };
    let Some(kept) = Kept::of(&source, machine, dir) else {
        return Ok((compile(filter, machine)?, None));
    };
    // Whatever is wrong with a file, or with reading it, is mended by a new one.
    if let Some(compiled) = kept.find() {
        return Ok((compiled, None));
    }
    let compiled = compile(filter, machine)?;
    let kept = kept.keep(&compiled);
    Ok((compiled, kept.err()))
}

/// After the magic: how long the key is, the key, and the program ([`Compiled::to_bytes`]).
fn encode(compiled: &Compiled, key: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(key.len()).ok()?.to_le_bytes();
    let bytes = [&MAGIC[..], &length, key, &compiled.to_bytes()?].concat();
    (bytes.len() <= MAX_FILE).then_some(bytes)
}

/// `None` for all that is not what [`encode`] made for this key.
fn decode(bytes: &[u8], key: &[u8]) -> Option<Compiled> {
    let (length, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
    if usize::try_from(u32::from_le_bytes(*length)) != Ok(key.len()) {
        return None;
    }
    Compiled::from_bytes(rest.strip_prefix(key)?)
}

fn read(dir: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>, Errno> {
    // A FIFO that somebody put there must not make a start wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let own = stat.st_uid == rustix::process::geteuid().as_raw();
    let closed = stat.st_mode & 0o022 == 0;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !own || !closed {
        return Err(Errno::PERM);
    }
    let size = usize::try_from(stat.st_size).map_err(|_| Errno::FBIG)?;
    if size > MAX_FILE {
        return Err(Errno::FBIG);
    }
    // One byte more shows a file that grows.
    let mut bytes = vec![0; size + 1];
    let mut filled = 0;
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes[filled..]))? {
            0 => break,
            count => filled += count,
        }
        if filled > size {
            return Err(Errno::FBIG);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn write(dir: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    make_room(dir)?;
    let mut random = [0_u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let temporary = format!("{:016x}.new{SUFFIX}", u64::from_ne_bytes(random));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let written = write_all(file.as_fd(), bytes)
        .and_then(|()| rustix::fs::renameat(dir, &temporary, dir, name));
    if written.is_err() {
        // What is left of it goes when there are too many.
        let _ = rustix::fs::unlinkat(dir, &temporary, AtFlags::empty());
    }
    written
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Filters that nobody uses any more are not told from others: when there are too many, all go.
fn make_room(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut ours = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if entry.file_name().to_bytes().ends_with(SUFFIX.as_bytes()) {
            ours.push(entry.file_name().to_owned());
        }
    }
    if ours.len() < MAX_FILES {
        return Ok(());
    }
    for name in ours {
        match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
            // Another one is at it, too.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
