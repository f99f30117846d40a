//! Compiled programs kept in a directory, by what they were made of.
//!
//! A file is named after its key, and holds: the magic, the hash of all that follows, the key, and
//! the program. Whoever could write such a file could take a container's filter away, so that one is
//! believed only if it is the caller's own and nobody else can write it; one that is cut short or
//! changed is made anew. It is written under another name and renamed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sys::seccomp::{Flags, Instruction};

use crate::arch::TABLES;
use crate::{Arch, Compiled, Error, Filter, MAX_INSTRUCTIONS, Program, compile};

/// Changes with the form of the files, and with what programs a filter is made to.
const MAGIC: &[u8; 16] = b"seccomp-oci v1\n\0";
const HASH: usize = 32;
/// Eight bytes for each instruction, and room for the names.
const MAX_FILE: usize = 256 * 1024;
/// Most files; when there would be more, all are removed.
const MAX_FILES: usize = 256;
const SUFFIX: &str = ".bpf";

/// What is in a file, as JSON after the hashes: it is small, and its form says itself what it is.
#[derive(Serialize, Deserialize)]
struct Stored {
    flags: u64,
    /// Code, jt, jf and k of each.
    instructions: Vec<(u16, u8, u8, u32)>,
    unknown: Vec<String>,
    without_table: Vec<Arch>,
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
    let Some(key) = key(filter, machine) else { return Ok((compile(filter, machine)?, None)) };
    let name = format!("{}{SUFFIX}", hex(&key));
    // Whatever is wrong with a file, or with reading it, is mended by a new one.
    if let Ok(bytes) = read(dir, &name)
        && let Some(compiled) = decode(&bytes, &key)
    {
        return Ok((compiled, None));
    }
    let compiled = compile(filter, machine)?;
    let written = match encode(&compiled, &key) {
        Some(bytes) => write(dir, &name, &bytes),
        None => Ok(()),
    };
    Ok((compiled, written.err().map(io::Error::from)))
}

/// All on which the program depends. Where the listener is does not count.
fn key(filter: &Filter, machine: Arch) -> Option<[u8; HASH]> {
    let filter = Filter { listener_path: None, listener_metadata: None, ..filter.clone() };
    let text = serde_json::to_vec(&(TABLES, machine, filter)).ok()?;
    Some(Sha256::new().chain_update(MAGIC).chain_update(text).finalize().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(compiled: &Compiled, key: &[u8; HASH]) -> Option<Vec<u8>> {
    let of = |one: &Instruction| (one.code, one.jt, one.jf, one.k);
    let stored = Stored {
        flags: compiled.program.flags.bits(),
        instructions: compiled.program.instructions.iter().map(of).collect(),
        unknown: compiled.unknown.clone(),
        without_table: compiled.without_table.clone(),
    };
    let mut body = key.to_vec();
    serde_json::to_writer(&mut body, &stored).ok()?;
    let hash: [u8; HASH] = Sha256::digest(&body).into();
    let bytes = [&MAGIC[..], &hash, &body].concat();
    (bytes.len() <= MAX_FILE).then_some(bytes)
}

/// `None` for all that is not what [`encode`] made for this key.
fn decode(bytes: &[u8], key: &[u8; HASH]) -> Option<Compiled> {
    let (hash, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(HASH)?;
    if hash != &Sha256::digest(body)[..] {
        return None;
    }
    let stored: Stored = serde_json::from_slice(body.strip_prefix(key)?).ok()?;
    if stored.instructions.is_empty() || stored.instructions.len() > MAX_INSTRUCTIONS {
        return None;
    }
    let of = |(code, jt, jf, k)| Instruction { code, jt, jf, k };
    let program = Program {
        instructions: stored.instructions.into_iter().map(of).collect(),
        flags: Flags::from_bits(stored.flags)?,
    };
    Some(Compiled { program, unknown: stored.unknown, without_table: stored.without_table })
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
    let temporary = format!("{}.new{SUFFIX}", hex(&random));
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
