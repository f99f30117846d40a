//! Small files, read whole: records, and those of /proc and of cgroups.
//!
//! `std::fs::read` asks for a file's size first, and reads one that says 0, as those of /proc do, 32 bytes at a time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};

/// Most of them are shorter, bytes.
const ROOM: usize = 4096;

/// The bytes of the open file, from where it stands to its end. Allocates.
///
/// # Errors
/// read(2) fails.
pub fn read(file: impl AsFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(ROOM);
    while rustix::io::retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut bytes)))? > 0 {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.capacity());
        }
    }
    Ok(bytes)
}

/// The bytes of the file at `path`. Allocates.
///
/// # Errors
/// It cannot be opened, or read.
pub fn read_path(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read(open(path.as_ref())?)
}

/// As [`record`], of the file at `path`.
///
/// # Errors
/// It cannot be opened, or read.
pub fn read_record(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    record(open(path.as_ref())?)
}

/// The bytes of an open record: a regular file, which ends where less is read than there was room for, so that
/// it is not asked for more. Allocates.
///
/// # Errors
/// read(2) fails.
pub fn record(file: impl AsFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(ROOM);
    loop {
        rustix::io::retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut bytes)))?;
        if bytes.len() < bytes.capacity() {
            return Ok(bytes);
        }
        bytes.reserve(bytes.capacity());
    }
}

/// As [`read_path`], as text.
///
/// # Errors
/// It cannot be opened or read, or is no UTF-8 ([`io::ErrorKind::InvalidData`]).
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    text(read_path(path)?)
}

/// Bytes as text.
///
/// # Errors
/// They are no UTF-8 ([`io::ErrorKind::InvalidData`]).
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(rustix::fs::CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_size_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0, 1, ROOM - 1, ROOM, ROOM + 1, 5 * ROOM] {
            let (path, bytes) = (dir.path().join("file"), vec![7; size]);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read_path(&path).unwrap(), bytes, "{size}");
            assert_eq!(read_record(&path).unwrap(), bytes, "{size}");
        }
        assert!(read_text("/proc/self/mountinfo").unwrap().ends_with('\n'));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert_eq!(read_path("/no/such").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read_path("/proc/self").unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), [0xff]).unwrap();
        let error = read_text(dir.path().join("file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
