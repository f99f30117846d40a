//! One file of an image, copied with all that belongs to it, and nothing followed.

use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use sys::{Failure, Step};

/// Most bytes handed to the kernel, or through this program, at once.
const CHUNK: usize = 1 << 20;

/// The attributes that are not copied: the host's policy labels the volume, and overlayfs's marks
/// mean something in an overlay only.
const LEFT_OUT: [&[u8]; 3] = [b"security.selinux", b"trusted.overlay.", b"user.overlay."];

/// Makes `to` in `stage`, which nobody else writes to, of what `name` in `from` is; no directory.
/// `stat` is what was seen there.
pub(crate) fn file(
    from: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    stage: BorrowedFd<'_>,
    to: &CStr,
) -> Result<(), Failure> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::RegularFile => regular(from, name, stat, stage, to)?,
        FileType::Symlink => {
            let target =
                rustix::fs::readlinkat(from, name, Vec::new()).step("reading the symbolic link")?;
            rustix::fs::symlinkat(target, stage, to).step("making the symbolic link")?;
        }
        _ => {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(stage, to, kind, mode, stat.st_rdev).step("making the node")?;
        }
    }
    let (owner, group) = owner(stat);
    rustix::fs::chownat(stage, to, owner, group, AtFlags::SYMLINK_NOFOLLOW)
        .step("setting the owner")?;
    if kind != FileType::Symlink {
        // After the owner, whose change takes set-user-id bits and capabilities away.
        rustix::fs::chmodat(stage, to, mode(stat), AtFlags::empty()).step("setting the mode")?;
    }
    attributes(&path(from, name), &path(stage, to))?;
    rustix::fs::utimensat(stage, to, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
        .step("setting the times")
}

/// Gives directory `to` the owner, mode, attributes and times of directory `from`.
pub(crate) fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Failure> {
    let stat = rustix::fs::fstat(from).step("looking at the directory")?;
    let (owner, group) = owner(&stat);
    rustix::fs::fchown(to, owner, group).step("setting the directory's owner")?;
    rustix::fs::fchmod(to, mode(&stat)).step("setting the directory's mode")?;
    attributes(&path(from, c"."), &path(to, c"."))?;
    rustix::fs::futimens(to, &times(&stat)).step("setting the directory's times")
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, tv_nsec: u64| Timespec { tv_sec, tv_nsec: tv_nsec as _ };
    Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    }
}

/// A path to `name` in the open directory `dir`, for calls that take no descriptor.
fn path(dir: BorrowedFd<'_>, name: &CStr) -> std::path::PathBuf {
    sys::process::proc_path(dir).join(OsStr::from_bytes(name.to_bytes()))
}

fn regular(
    from: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    stage: BorrowedFd<'_>,
    to: &CStr,
) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = rustix::fs::openat(from, name, flags, Mode::empty()).step("finding the file")?;
    let there = rustix::fs::fstat(&entry).step("looking at the file")?;
    let is_it = (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino);
    let source = sys::below::open_regular(&entry).step("opening the file")?.filter(|_| is_it);
    let Some(source) = source else {
        return Err(Failure::new("opening the file, which is another one now", Errno::STALE));
    };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy =
        rustix::fs::openat(stage, to, flags, Mode::from_raw_mode(0o600)).step("making the file")?;
    content(&source, &copy).step("copying the content")
}

/// Copies what is data, and leaves holes where holes are (lseek(2) with SEEK_DATA).
fn content(source: &OwnedFd, copy: &OwnedFd) -> Result<(), Errno> {
    let size = rustix::fs::fstat(source)?.st_size as u64;
    rustix::fs::ftruncate(copy, size)?;
    let mut at = 0;
    while at < size {
        let (data, end) = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(()), // a hole up to the end
            Err(Errno::INVAL | Errno::NOTSUP) => (at, size),
            result => {
                let data = result?;
                (data, rustix::fs::seek(source, SeekFrom::Hole(data))?)
            }
        };
        range(source, copy, data, end)?;
        at = end;
    }
    Ok(())
}

fn range(source: &OwnedFd, copy: &OwnedFd, mut at: u64, end: u64) -> Result<(), Errno> {
    while at < end {
        let (mut from, mut to) = (at, at);
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(CHUNK << 10);
        match rustix::fs::copy_file_range(source, Some(&mut from), copy, Some(&mut to), length) {
            Ok(0) => return Ok(()), // it became shorter meanwhile
            Ok(n) => at += n as u64,
            Err(Errno::INTR) => {}
            // Two file systems that do not know each other.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                return by_hand(source, copy, at, end);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn by_hand(source: &OwnedFd, copy: &OwnedFd, mut at: u64, end: u64) -> Result<(), Errno> {
    let mut buffer = vec![0_u8; CHUNK];
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(CHUNK);
        let n = match rustix::io::pread(source, &mut buffer[..length], at) {
            Ok(0) => return Ok(()),
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let mut written = 0;
        while written < n {
            match rustix::io::pwrite(copy, &buffer[written..n], at + written as u64) {
                Err(Errno::INTR) => {}
                result => written += result?,
            }
        }
        at += n as u64;
    }
    Ok(())
}

/// Copies the extended attributes: capabilities, ACLs, and what users have set.
fn attributes(from: &Path, to: &Path) -> Result<(), Failure> {
    let names = match sized(|buffer| rustix::fs::llistxattr(from, buffer)) {
        Err(Errno::NOTSUP) => return Ok(()),
        names => names.step("listing the extended attributes")?,
    };
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if LEFT_OUT.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let value = sized(|buffer| rustix::fs::lgetxattr(from, name, buffer))
            .step("reading an extended attribute")?;
        rustix::fs::lsetxattr(to, name, &value, XattrFlags::empty())
            .step("setting an extended attribute")?;
    }
    Ok(())
}

/// The bytes of a call that fills a buffer, with one that is large enough (XATTR_SIZE_MAX of
/// linux/limits.h).
fn sized(
    call: impl Fn(&mut [MaybeUninit<u8>]) -> Result<(&mut [u8], &mut [MaybeUninit<u8>]), Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut small = [MaybeUninit::uninit(); 1024];
    match call(&mut small) {
        Err(Errno::RANGE) => {}
        result => return result.map(|(bytes, _)| bytes.to_vec()),
    }
    let mut large = vec![MaybeUninit::uninit(); 1 << 16];
    call(&mut large).map(|(bytes, _)| bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn holes_stay_holes() {
        let dir = tempfile::tempdir().unwrap();
        let source = std::fs::File::create_new(dir.path().join("source")).unwrap();
        let copy = std::fs::File::create_new(dir.path().join("copy")).unwrap();
        let (reader, source_fd) =
            (std::fs::File::open(dir.path().join("source")).unwrap(), source.as_fd());
        rustix::io::pwrite(source_fd, b"begin", 0).unwrap();
        rustix::io::pwrite(source_fd, b"middle", 8 << 20).unwrap();
        rustix::fs::ftruncate(source_fd, 64 << 20).unwrap();
        let (reader, copy) = (OwnedFd::from(reader), OwnedFd::from(copy));
        content(&reader, &copy).unwrap();
        let made = dir.path().join("copy");
        assert_eq!(
            std::fs::read(dir.path().join("source")).unwrap(),
            std::fs::read(&made).unwrap()
        );
        assert!(std::fs::metadata(&made).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn bytes_are_copied_by_hand_where_the_kernel_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        std::fs::write(dir.path().join("source"), &bytes).unwrap();
        let source = std::fs::File::open(dir.path().join("source")).unwrap().into();
        let copy = std::fs::File::create_new(dir.path().join("copy")).unwrap().into();
        by_hand(&source, &copy, 0, bytes.len() as u64 + 5).unwrap();
        assert_eq!(std::fs::read(dir.path().join("copy")).unwrap(), bytes);
    }
}
