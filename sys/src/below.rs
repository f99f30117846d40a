//! Paths below a root: whatever symbolic links and `..` they hold, and whoever changes them
//! meanwhile, what is opened or made lies below the root's descriptor (openat2(2), Linux 5.6).
//!
//! A path is taken as a process with that root would take it: absolute and relative mean the same,
//! `..` at the root stays there, an absolute symbolic link starts again at the root. Magic links
//! (`/proc/PID/fd/N`) are refused (ELOOP).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// Longest path, bytes (PATH_MAX of limits.h).
const PATH_MAX: usize = 4096;
/// Symbolic links followed in one path (as the kernel: path_resolution(7)).
const MAX_LINKS: usize = 40;
/// openat2 answers EAGAIN when a `..` raced with a rename; it is asked again this often.
const RETRIES: usize = 128;

/// What a mount target has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything that is no directory; where nothing is, an empty regular file is made.
    File,
}

/// Opens `path` below `root` with `flags` (CLOEXEC is added). The last component is followed unless
/// `flags` has NOFOLLOW.
pub fn open(root: impl AsFd, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_with(root.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
}

/// Opens what is at `path` below `root`, which may be longer than the kernel takes at once; none of its
/// components is a link or `..`. An empty path is the root itself.
///
/// ELOOP, or ENOTDIR, where a component is a link.
pub fn open_plain(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let open = |from: BorrowedFd<'_>, path: &[u8], flags| {
        open_with(from, if path.is_empty() { b"." } else { path }, flags, Mode::empty(), resolve)
    };
    let mut prefix = None;
    let mut rest = path;
    while rest.len() >= PATH_MAX {
        let cut = rest[..PATH_MAX].iter().rposition(|&byte| byte == b'/');
        let cut = cut.filter(|&cut| cut > 0).ok_or(Errno::NAMETOOLONG)?;
        let from = prefix.as_ref().map_or(root.as_fd(), OwnedFd::as_fd);
        prefix = Some(open(from, &rest[..cut], OFlags::PATH | OFlags::DIRECTORY)?);
        rest = &rest[cut + 1..];
    }
    open(prefix.as_ref().map_or(root.as_fd(), OwnedFd::as_fd), rest, flags)
}

/// The file that the O_PATH descriptor `entry` stands for, opened for reading, if it is a regular one; `None`
/// where it is anything else, which is not opened: to open a device can already do something (it starts a
/// watchdog, or rewinds a tape), and whoever made the node need not be able to open it himself.
///
/// By the caller's own `/proc`: not for a child in a container.
pub fn open_regular(entry: impl AsFd) -> Result<Option<OwnedFd>, Errno> {
    // Not by value: an owned descriptor would be closed before its path is used.
    let fd = entry.as_fd();
    if FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(crate::process::proc_path(fd), flags, Mode::empty()).map(Some)
}

fn open_with(
    root: BorrowedFd<'_>,
    path: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RETRIES {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// An O_PATH descriptor of `path` below `root`, made as `kind` where it is missing, and its missing
/// parents as directories of `mode` (files get `mode` without the x bits). Directories that are
/// there keep theirs. Dangling symbolic links are followed, below the root.
///
/// ENOTDIR or EISDIR when something of the other kind is there.
pub fn make(root: impl AsFd, path: &CStr, kind: Kind, mode: Mode) -> Result<OwnedFd, Errno> {
    let root = root.as_fd();
    let found = match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => Walk::new(root, path)?.make(kind, mode)?,
        result => result?,
    };
    match (kind, FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode)) {
        (Kind::Directory, FileType::Directory) => Ok(found),
        (Kind::Directory, _) => Err(Errno::NOTDIR),
        (Kind::File, FileType::Directory) => Err(Errno::ISDIR),
        (Kind::File, _) => Ok(found),
    }
}

/// A path being walked by hand, without allocation: `done` holds no symbolic link, `rest` is what
/// is still to come.
struct Walk<'fd> {
    root: BorrowedFd<'fd>,
    done: Buffer,
    rest: Buffer,
    links: usize,
}

/// Bytes of a path and the NUL behind them.
struct Buffer {
    bytes: [u8; PATH_MAX],
    len: usize,
}

impl Buffer {
    const EMPTY: Self = Self { bytes: [0; PATH_MAX], len: 0 };

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, more: &[u8]) -> Result<(), Errno> {
        let end = self.len + more.len();
        if end >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes[self.len..end].copy_from_slice(more);
        self.bytes[end] = 0;
        self.len = end;
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.len = len;
        self.bytes[len] = 0;
    }

    fn as_cstr(&self) -> Result<&CStr, Errno> {
        CStr::from_bytes_with_nul(&self.bytes[..=self.len]).map_err(|_| Errno::INVAL)
    }
}

impl<'fd> Walk<'fd> {
    fn new(root: BorrowedFd<'fd>, path: &CStr) -> Result<Self, Errno> {
        let mut rest = Buffer::EMPTY;
        rest.push(path.to_bytes())?;
        Ok(Self { root, done: Buffer::EMPTY, rest, links: 0 })
    }

    /// Takes the first component off `rest`; the range lies in `rest` until it changes.
    fn next(&mut self, start: &mut usize) -> Option<(usize, usize)> {
        let rest = self.rest.as_bytes();
        while rest.get(*start) == Some(&b'/') {
            *start += 1;
        }
        let begin = *start;
        while *start < rest.len() && rest[*start] != b'/' {
            *start += 1;
        }
        (begin < *start).then_some((begin, *start))
    }

    fn only_slashes_after(&self, at: usize) -> bool {
        self.rest.as_bytes()[at..].iter().all(|&byte| byte == b'/')
    }

    /// The directory (or file) that `done` names; nothing in it may be a link any more.
    fn open_done(&self) -> Result<OwnedFd, Errno> {
        let path = if self.done.len == 0 { c"." } else { self.done.as_cstr()? };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        open_with(self.root, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty(), resolve)
    }

    fn make(mut self, kind: Kind, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut current = self.open_done()?;
        let mut at = 0;
        while let Some((begin, end)) = self.next(&mut at) {
            let length = end - begin;
            if length > 255 {
                return Err(Errno::NAMETOOLONG);
            }
            let mut name = [0_u8; 256];
            name[..length].copy_from_slice(&self.rest.as_bytes()[begin..end]);
            match &name[..length] {
                b"." => continue,
                b".." => {
                    let parent = self.done.as_bytes().iter().rposition(|&byte| byte == b'/');
                    self.done.truncate(parent.unwrap_or(0));
                    current = self.open_done()?;
                    continue;
                }
                _ => {}
            }
            let name = CStr::from_bytes_with_nul(&name[..=length]).map_err(|_| Errno::INVAL)?;
            let last = self.only_slashes_after(end);
            let entry = match open_entry(&current, name) {
                Err(Errno::NOENT) => {
                    make_entry(&current, name, if last { kind } else { Kind::Directory }, mode)?;
                    open_entry(&current, name)?
                }
                result => result?,
            };
            match FileType::from_raw_mode(rustix::fs::fstat(&entry)?.st_mode) {
                FileType::Symlink => {
                    at = self.follow(&entry, end)?;
                    current = self.open_done()?;
                }
                FileType::Directory => {
                    if self.done.len > 0 {
                        self.done.push(b"/")?;
                    }
                    self.done.push(name.to_bytes())?;
                    current = entry;
                }
                _ if last => return Ok(entry),
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(current)
    }

    /// Puts the link's target before what is left of the path, and starts over at `rest`'s begin.
    fn follow(&mut self, link: &OwnedFd, rest_at: usize) -> Result<usize, Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let mut target = [std::mem::MaybeUninit::<u8>::uninit(); PATH_MAX];
        let (target, _) = rustix::fs::readlinkat_raw(link, c"", &mut target)?;
        let mut rest = Buffer::EMPTY;
        rest.push(target)?;
        rest.push(b"/")?;
        rest.push(&self.rest.as_bytes()[rest_at..])?;
        if target.first() == Some(&b'/') {
            self.done.truncate(0);
        }
        self.rest = rest;
        Ok(0)
    }
}

/// `name` (one component, not `..`) in `dir`, itself and not what it links to.
fn open_entry(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn make_entry(dir: &OwnedFd, name: &CStr, kind: Kind, mode: Mode) -> Result<(), Errno> {
    let made = match kind {
        Kind::Directory => rustix::fs::mkdirat(dir, name, mode),
        Kind::File => {
            let mode = mode & !(Mode::XUSR | Mode::XGRP | Mode::XOTH);
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, mode).map(drop)
        }
    };
    match made {
        // Somebody was faster; what they made is looked at next.
        Err(Errno::EXIST) => return Ok(()),
        result => result?,
    }
    // The umask of whoever calls must not decide what the container sees.
    if kind == Kind::Directory {
        // By descriptor: where a container can write, the name may be a symbolic link by now.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(made) => {
                // A directory above may pass its group on, and the bit for it (inode(7), "S_ISGID").
                let own = Mode::from_raw_mode(rustix::fs::fstat(&made)?.st_mode & 0o7777);
                let mode = mode | (own & Mode::SGID);
                if own != mode {
                    rustix::fs::fchmod(made, mode)?;
                }
            }
            // Swapped or removed meanwhile; what is there is looked at next.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        let fd = rustix::fs::open(dir.path().join("root"), OFlags::PATH, Mode::empty()).unwrap();
        (dir, fd)
    }

    const MODE: Mode = Mode::from_raw_mode(0o755);

    #[test]
    fn a_group_that_is_passed_on_is_passed_on_to_what_is_made() {
        let (dir, fd) = root();
        let shared = dir.path().join("root/shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o7755)).unwrap();
        make(&fd, c"shared/a/b", Kind::Directory, MODE).unwrap();
        for made in ["a", "a/b"] {
            let made = std::fs::metadata(shared.join(made)).unwrap();
            assert_eq!(made.permissions().mode() & 0o7777, 0o2755);
        }
    }

    #[test]
    fn missing_parents_are_made() {
        let (dir, fd) = root();
        make(&fd, c"/a//b/./c", Kind::Directory, MODE).unwrap();
        make(&fd, c"x/y/file", Kind::File, MODE).unwrap();
        let made = std::fs::metadata(dir.path().join("root/a/b/c")).unwrap();
        assert_eq!(made.permissions().mode() & 0o7777, 0o755);
        assert!(std::fs::metadata(dir.path().join("root/x/y/file")).unwrap().is_file());
    }

    #[test]
    fn only_regular_files_are_opened() {
        use rustix::fs::{inotify, makedev, mknodat};
        use std::io::Read;
        let (dir, fd) = root();
        let etc = dir.path().join("root/etc");
        std::fs::write(etc.join("file"), "content").unwrap();
        symlink("file", etc.join("link")).unwrap();
        mknodat(&fd, "etc/fifo", FileType::Fifo, MODE, 0).unwrap();
        mknodat(&fd, "etc/device", FileType::CharacterDevice, MODE, makedev(1, 3)).unwrap();
        let queue = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        for name in ["fifo", "device"] {
            inotify::add_watch(&queue, etc.join(name), inotify::WatchFlags::OPEN).unwrap();
        }
        let read = |path: &CStr, flags: OFlags| {
            let file = open_regular(open(&fd, path, OFlags::PATH | flags).unwrap()).unwrap()?;
            let mut text = String::new();
            std::fs::File::from(file).read_to_string(&mut text).unwrap();
            Some(text)
        };
        assert_eq!(read(c"etc/file", OFlags::empty()).as_deref(), Some("content"));
        assert_eq!(read(c"etc/link", OFlags::empty()).as_deref(), Some("content"));
        assert_eq!(read(c"etc/link", OFlags::NOFOLLOW), None);
        for path in [c"etc", c"etc/fifo", c"etc/device"] {
            assert_eq!(read(path, OFlags::empty()), None);
        }
        let mut events = [0; 256];
        assert_eq!(rustix::io::read(&queue, &mut events), Err(Errno::AGAIN), "one was opened");
    }

    #[test]
    fn links_and_dots_stay_below() {
        let (dir, fd) = root();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        symlink("../../outside", dir.path().join("root/up")).unwrap();
        symlink(dir.path().join("outside"), dir.path().join("root/abs")).unwrap();
        symlink("/new/place", dir.path().join("root/dangling")).unwrap();
        make(&fd, c"up/made", Kind::Directory, MODE).unwrap();
        make(&fd, c"abs/made", Kind::Directory, MODE).unwrap();
        make(&fd, c"../../../made", Kind::Directory, MODE).unwrap();
        make(&fd, c"dangling/file", Kind::File, MODE).unwrap();
        make(&fd, c"q/../r", Kind::Directory, MODE).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
        assert!(!dir.path().join("made").exists());
        for name in ["outside/made", "made", "new/place/file", "q", "r"] {
            assert!(dir.path().join("root").join(name).exists(), "{name}");
        }
    }

    #[test]
    fn a_loop_and_a_file_in_the_way_are_errors() {
        let (dir, fd) = root();
        symlink("loop", dir.path().join("root/loop")).unwrap();
        std::fs::write(dir.path().join("root/file"), "").unwrap();
        let make = |path, kind| make(&fd, path, kind, MODE).unwrap_err();
        assert_eq!(make(c"loop/x", Kind::Directory), Errno::LOOP);
        assert_eq!(make(c"file/x", Kind::Directory), Errno::NOTDIR);
        assert_eq!(make(c"file", Kind::Directory), Errno::NOTDIR);
        assert_eq!(make(c"etc", Kind::File), Errno::ISDIR);
    }

    #[test]
    fn magic_links_are_refused() {
        let fd = rustix::fs::open(c"/", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(open(&fd, c"/proc/self/root/etc", OFlags::PATH).unwrap_err(), Errno::LOOP);
    }
}
