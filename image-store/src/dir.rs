//! A directory by descriptor, whose errors know its path.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::Error;
use crate::error::Problem;

/// Largest file that is read from the store, bytes: a configuration has 8 MiB at most.
const LARGEST: u64 = 64 << 20;

/// An open directory of the store. The path is for messages only.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a directory by its path, following symbolic links.
    pub(crate) fn open(path: &Path) -> Result<Dir, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty());
        Ok(Dir { fd: fd.map_err(|errno| system("open", path.into(), errno))?, path: path.into() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The error of `op` on the entry `name`.
    pub(crate) fn failed(&self, op: &'static str, name: &str, errno: Errno) -> Error {
        system(op, self.path.join(name), errno)
    }

    /// The error of a damaged file `name`.
    pub(crate) fn damaged(&self, name: &str, problem: Problem) -> Error {
        Error::Damaged { path: self.path.join(name), problem }
    }

    /// Opens a directory in this one; `None` where there is none.
    pub(crate) fn dir(&self, name: &str) -> Result<Option<Dir>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Dir { fd, path: self.path.join(name) })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("open the directory", name, errno)),
        }
    }

    /// Makes a directory of exactly this mode, whatever the umask is; `false` where the name is taken.
    pub(crate) fn make(&self, name: &str, mode: u32) -> Result<bool, Error> {
        let mode = Mode::from_raw_mode(mode);
        match rustix::fs::mkdirat(&self.fd, name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(errno) => return Err(self.failed("make the directory", name, errno)),
        }
        match rustix::fs::chmodat(&self.fd, name, mode, AtFlags::empty()) {
            // Who collects orphans may have taken it already: the caller finds out when it opens it.
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(errno) => Err(self.failed("set the mode of", name, errno)),
        }
    }

    /// Makes a directory unless it is there, and opens it.
    pub(crate) fn ensure(&self, name: &str, mode: u32) -> Result<Dir, Error> {
        if let Some(dir) = self.dir(name)? {
            return Ok(dir);
        }
        self.make(name, mode)?;
        self.dir(name)?.ok_or_else(|| self.failed("open the directory", name, Errno::NOENT))
    }

    /// Whether the entry is there; a symbolic link is followed.
    pub(crate) fn has(&self, name: &str) -> Result<bool, Error> {
        match rustix::fs::statat(&self.fd, name, AtFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("look at", name, errno)),
        }
    }

    /// Whether the entry `name` is still the directory that `dir` has open.
    pub(crate) fn is(&self, name: &str, dir: &Dir) -> Result<bool, Error> {
        let open =
            rustix::fs::fstat(&dir.fd).map_err(|errno| self.failed("look at", name, errno))?;
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("look at", name, errno)),
        }
    }

    /// Opens a file for reading; `None` where there is none.
    pub(crate) fn file(&self, name: &str) -> Result<Option<std::fs::File>, Error> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("open", name, errno)),
        }
    }

    /// The bytes of a file; `None` where there is none. One without a byte, or of zeros alone, is damaged: nothing is written
    /// so, and what was not on the disk when the machine went down is.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let mut bytes = Vec::with_capacity(8 << 10);
        let limited = io::Read::take(file, LARGEST + 1);
        io::Read::read_to_end(&mut { limited }, &mut bytes).map_err(|source| Error::System {
            op: "read",
            path: self.path.join(name),
            source,
        })?;
        if bytes.len() as u64 > LARGEST {
            return Err(self.damaged(name, Problem::Large(LARGEST)));
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(self.damaged(name, Problem::Lost));
        }
        Ok(Some(bytes))
    }

    /// Writes a file of mode 0600, over what was there. Not atomic: for names that nobody reads yet.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<std::fs::File, Error> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.fd, name, flags, mode)
            .map_err(|errno| self.failed("make the file", name, errno))?;
        rustix::fs::fchmod(&fd, mode)
            .map_err(|errno| self.failed("set the mode of", name, errno))?;
        let mut file = std::fs::File::from(fd);
        io::Write::write_all(&mut file, bytes).map_err(|source| Error::System {
            op: "write",
            path: self.path.join(name),
            source,
        })?;
        Ok(file)
    }

    /// Makes an empty file of mode 0600 unless it is there.
    pub(crate) fn mark(&self, name: &str) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.fd, name, flags, mode)
            .map_err(|errno| self.failed("make the file", name, errno))?;
        rustix::fs::fchmod(&fd, mode).map_err(|errno| self.failed("set the mode of", name, errno))
    }

    /// Moves an entry to a free name of `to`; `false`, and nothing moved, where the name is taken.
    pub(crate) fn commit(&self, name: &str, to: &Dir, new: &str) -> Result<bool, Error> {
        match rustix::fs::renameat_with(&self.fd, name, &to.fd, new, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(to.failed("move into place", new, errno)),
        }
    }

    /// Moves a file over what is at `new` in `to`.
    pub(crate) fn replace(&self, name: &str, to: &Dir, new: &str) -> Result<(), Error> {
        rustix::fs::renameat(&self.fd, name, &to.fd, new)
            .map_err(|errno| to.failed("replace", new, errno))
    }

    /// Removes a file or link; that there is none is fine.
    pub(crate) fn unlink(&self, name: &str) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// Removes an empty directory; that there is none is fine.
    pub(crate) fn rmdir(&self, name: &str) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove the directory", name, errno)),
        }
    }

    /// [`sys::placement::spread`]: a layer that is unpacked after another was removed is not put among its inodes.
    pub(crate) fn spread(&self) {
        sys::placement::spread(&self.fd);
    }

    /// Puts the directory's entries on the disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        rustix::fs::fsync(&self.fd).map_err(|errno| self.failed("sync", "", errno))
    }

    /// Puts all of the file system on the disk.
    pub(crate) fn sync_all(&self) -> Result<(), Error> {
        rustix::fs::syncfs(&self.fd)
            .map_err(|errno| self.failed("sync the file system of", "", errno))
    }

    /// Takes an flock of the directory itself; `false` where `wait` is not set and another has it.
    pub(crate) fn lock(&self, wait: bool) -> Result<bool, Error> {
        let operation = if wait {
            FlockOperation::LockExclusive
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        match rustix::io::retry_on_intr(|| rustix::fs::flock(&self.fd, operation)) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) if !wait => Ok(false),
            Err(errno) => Err(self.failed("lock", "", errno)),
        }
    }

    /// The names in it, without `.` and `..`, in no order. Names of the store's own are all UTF-8.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let names = self.entries()?.into_iter();
        Ok(names.filter_map(|name| name.into_string().ok()).collect())
    }

    fn entries(&self) -> Result<Vec<CString>, Error> {
        let read = |errno| self.failed("read the directory", "", errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(read)? {
            let entry = entry.map_err(read)?;
            if !dots(entry.file_name()) {
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(names)
    }

    /// Removes everything in it.
    ///
    /// Each directory is moved up into this one before it is emptied: so a tree of any depth needs
    /// two descriptors and no stack.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        let mut fresh = 0_u64;
        loop {
            let names = self.entries()?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                self.clear_entry(&name, &mut fresh)?;
            }
        }
    }

    fn clear_entry(&self, name: &CStr, fresh: &mut u64) -> Result<(), Error> {
        let shown = name.to_string_lossy();
        let failed = |errno| self.failed("remove", &shown, errno);
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // EISDIR on Linux, EPERM where POSIX is kept to the letter.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if !rustix::process::geteuid().is_root() {
            // An image may have directories that their owner cannot write.
            rustix::fs::chmodat(&self.fd, name, Mode::RWXU, AtFlags::empty()).map_err(failed)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(failed)?;
        for entry in rustix::fs::Dir::read_from(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let child = entry.file_name();
            if dots(child) {
                continue;
            }
            if entry.file_type() != FileType::Directory {
                match rustix::fs::unlinkat(&dir, child, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::ISDIR | Errno::PERM) => {}
                    Err(errno) => return Err(failed(errno)),
                }
            }
            match rustix::fs::unlinkat(&dir, child, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::NOTEMPTY | Errno::EXIST) => self.lift(&dir, child, fresh)?,
                Err(errno) => return Err(failed(errno)),
            }
        }
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            // Not empty where the directory changed under its reading: the caller reads again.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Moves a directory from below to a free name in this one.
    fn lift(&self, from: &OwnedFd, name: &CStr, fresh: &mut u64) -> Result<(), Error> {
        let failed = |errno| self.failed("move up, to remove it,", &name.to_string_lossy(), errno);
        if !rustix::process::geteuid().is_root() {
            rustix::fs::chmodat(from, name, Mode::RWXU, AtFlags::empty()).map_err(failed)?;
        }
        loop {
            let new = format!("gone-{fresh}");
            *fresh += 1;
            match rustix::fs::renameat_with(from, name, &self.fd, &new, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
}

pub(crate) fn dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

pub(crate) fn system(op: &'static str, path: PathBuf, errno: Errno) -> Error {
    Error::System { op, path, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn clears_a_tree_deeper_than_path_max_and_follows_no_link() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("keep")).unwrap();
        std::fs::write(temp.path().join("keep/canary"), b"x").unwrap();
        std::fs::create_dir(temp.path().join("tree")).unwrap();
        let dir = Dir::open(&temp.path().join("tree")).unwrap();
        let mut at = dir.fd.try_clone().unwrap();
        for level in 0..3000 {
            let name = format!("directory-{}", level % 7);
            rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o500)).unwrap();
            rustix::fs::symlinkat("../../keep", &at, "link").unwrap();
            dir_file(&at, "gone-0");
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            at = rustix::fs::openat(&at, &name, flags, Mode::empty()).unwrap();
        }
        dir.clear().unwrap();
        assert_eq!(dir.names().unwrap(), Vec::<String>::new());
        assert!(temp.path().join("keep/canary").exists());
    }

    fn dir_file(at: &OwnedFd, name: &str) {
        rustix::fs::openat(at, name, OFlags::CREATE | OFlags::WRONLY, Mode::empty()).unwrap();
    }

    #[test]
    fn commit_never_replaces() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert!(dir.make("a", 0o750).unwrap());
        assert!(!dir.make("a", 0o700).unwrap());
        assert_eq!(
            std::fs::metadata(temp.path().join("a")).unwrap().permissions().mode() & 0o7777,
            0o750
        );
        assert!(dir.make("b", 0o700).unwrap());
        assert!(!dir.commit("a", &dir, "b").unwrap());
        assert!(dir.commit("a", &dir, "c").unwrap());
        assert!(dir.has("b").unwrap() && dir.has("c").unwrap() && !dir.has("a").unwrap());
    }
}
