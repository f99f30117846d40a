//! A tree as text, a line for each file: read by descriptors and plain system calls, so that a mistake of the
//! unpacker's is not made again by who looks for it.
//!
//! `PATH KIND [MODE] [UID:GID] [@TIME] [CONTENT] [XATTR=VALUE]... [xLINKS]`; what is left out has the value that
//! tar.rs gives: mode 755 of directories and 644 of others, owner 0:0, time 1700000000, one link. A file with holes
//! shows each piece of data behind its offset, without the zeros at its end. A further name of an inode shows only
//! `= FIRST`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

/// Longest content that is shown as it is, bytes.
const SHOWN: usize = 64;

/// A file: what can be said of it alone, and its names.
pub(crate) struct Found {
    pub(crate) line: String,
    /// Device, inode and number of names of what is no directory.
    inode: Option<(u64, u64, u64)>,
}

/// The lines of a tree, sorted by the bytes of their paths; the root is `.`.
pub(crate) fn lines(root: BorrowedFd<'_>) -> Vec<String> {
    let mut first = BTreeMap::new();
    let mut lines = Vec::new();
    for (path, Found { line, inode }) in files(root) {
        let shown = if path.is_empty() { ".".to_owned() } else { path.escape_ascii().to_string() };
        let Some(inode) = inode else {
            lines.push(format!("{shown} {line}"));
            continue;
        };
        let of = first.entry(inode).or_insert_with(|| shown.clone());
        lines.push(match inode.2 {
            _ if *of != shown => format!("{shown} = {of}"),
            1 => format!("{shown} {line}"),
            links => format!("{shown} {line} x{links}"),
        });
    }
    lines
}

/// All files of a tree by their paths.
pub(crate) fn files(root: BorrowedFd<'_>) -> BTreeMap<Vec<u8>, Found> {
    let mut found = BTreeMap::new();
    walk(root, b"", &mut found);
    found
}

fn walk(dir: BorrowedFd<'_>, path: &[u8], found: &mut BTreeMap<Vec<u8>, Found>) {
    let stat = rustix::fs::fstat(dir).unwrap();
    found.insert(path.to_vec(), Found { line: line(dir, b".", &stat), inode: None });
    for entry in rustix::fs::Dir::read_from(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
        let inner = [path, separator, name].concat();
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            walk(open(dir, name, OFlags::DIRECTORY).as_fd(), &inner, found);
        } else {
            let inode = Some((stat.st_dev, stat.st_ino, stat.st_nlink));
            found.insert(inner, Found { line: line(dir, name, &stat), inode });
        }
    }
}

fn open(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> OwnedFd {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).unwrap()
}

fn line(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> String {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let (letter, mode) = match kind {
        FileType::Directory => ("d", 0o755),
        FileType::RegularFile => ("f", 0o644),
        FileType::Symlink => ("l", 0o777),
        FileType::CharacterDevice => ("c", 0o644),
        FileType::BlockDevice => ("b", 0o644),
        FileType::Fifo => ("p", 0o644),
        other => panic!("{other:?}"),
    };
    let mut words = vec![letter.to_owned()];
    if stat.st_mode & 0o7777 != mode {
        words.push(format!("{:o}", stat.st_mode & 0o7777));
    }
    if (stat.st_uid, stat.st_gid) != (0, 0) {
        words.push(format!("{}:{}", stat.st_uid, stat.st_gid));
    }
    match (stat.st_mtime, stat.st_mtime_nsec) {
        (1_700_000_000, 0) => {}
        (seconds, 0) => words.push(format!("@{seconds}")),
        (seconds, nanos) => words.push(format!("@{seconds}.{nanos:09}")),
    }
    match kind {
        FileType::RegularFile => words.push(content(&open(dir, name, OFlags::empty()), stat)),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).unwrap();
            words.push(format!("-> {}", target.to_bytes().escape_ascii()));
        }
        FileType::CharacterDevice | FileType::BlockDevice => {
            let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            words.push(format!("{major},{minor}"));
        }
        _ => {}
    }
    words.extend(xattrs(dir, name));
    words.join(" ")
}

/// What a file holds: as text, by its checksum, or piece by piece.
fn content(file: &OwnedFd, stat: &Stat) -> String {
    let size = u64::try_from(stat.st_size).unwrap();
    let pieces = pieces(file, size);
    if pieces == [(0, size)] || size == 0 {
        let bytes = read(file, 0, size);
        return match bytes.len() {
            0..=SHOWN => format!("\"{}\"", bytes.escape_ascii()),
            _ => format!("{size} bytes {:08x}", checksum(&bytes)),
        };
    }
    let shown = pieces.iter().map(|&(start, end)| {
        let bytes = read(file, start, end - start);
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        format!(" {start}\"{}\"", bytes[..used].escape_ascii())
    });
    format!("{size} bytes with holes{}", shown.collect::<String>())
}

/// Tells apart what differs by mistake, as a digest does, in a tenth of its time: some trees hold gigabytes.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Where a file has data: start and end of each piece.
fn pieces(file: &OwnedFd, size: u64) -> Vec<(u64, u64)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => panic!("{errno}"),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap();
        found.push((start, end));
        at = end;
    }
    found
}

fn read(file: &OwnedFd, start: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    let mut filled = 0;
    while filled < bytes.len() {
        let count = rustix::io::pread(file, &mut bytes[filled..], start + filled as u64).unwrap();
        assert!(count > 0, "the file is shorter than its size");
        filled += count;
    }
    bytes
}

fn xattrs(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<String> {
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(&path, &mut list).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found: Vec<String> = names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(&path, name, &mut value).unwrap();
            format!("{}=\"{}\"", name.escape_ascii(), value[..length].escape_ascii())
        })
        .collect();
    found.sort();
    found
}
