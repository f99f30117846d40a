//! The directory of all containers (runc's `--root`): one directory per id, with what is known of the
//! container that has the id.
//!
//! | file | is |
//! |---|---|
//! | `state.json` | the [`Record`](crate::Record); written by rename, the first thing and the last |
//! | `config.json` | the configuration as it was at create, whatever happens to the bundle |
//! | `exec` | what of it a further program is given ([`ExecConfig`](crate::ExecConfig)); it may be missing |
//! | `start` | the socket at which a created container's process waits |
//! | `lock` | held by whoever changes something |
//! | `root` | its root, mounted while it is restored |
//!
//! Beside them is `@seccomp`, which is no id: a cache of compiled filters.
//!
//! The lock is one of fcntl(2), which a child does not inherit: a container's process never holds it, and
//! it dies with its holder. A directory without `state.json` is one whose making or removal was
//! interrupted, and is made or removed by the next who wants to.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, fcntl_lock};
use rustix::io::Errno;
use seccomp_oci::{Arch, Compiled, Kept};
use serde_json::value::RawValue;

use crate::notify::NOTIFY;
use crate::{Config, Error, seccomp};

const STATE: &str = "state.json";
pub(crate) const CONFIG: &str = "config.json";
const EXEC: &str = "exec";
const LOCK: &str = "lock";
/// Where the root of a container is mounted while it is restored.
pub(crate) const RESTORE_ROOT: &str = "root";
/// No container's id.
const PROGRAMS: &str = "@seccomp";
/// Bytes of an id: those of a file's name (NAME_MAX of linux/limits.h).
const LONGEST_ID: usize = 255;

/// The directory of all containers.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// The one at `path`; made by the first container.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the compiled program of the seccomp filter of `config` is to be kept ([`Prepared::with_config`]);
    /// `None` where there is no filter, where its program is found already, or where there is no place for it, which costs
    /// time alone.
    ///
    /// [`Prepared::with_config`]: crate::Prepared::with_config
    #[must_use]
    pub fn programs(&self, config: &Config) -> Option<OwnedFd> {
        if !config.wants_program() {
            return None;
        }
        self.open_programs().or_else(|| {
            // Another one may be at it, too.
            let _ = DirBuilder::new().mode(0o700).create(self.path.join(PROGRAMS));
            self.open_programs()
        })
    }

    fn open_programs(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(self.path.join(PROGRAMS), flags, Mode::empty()).ok()
    }

    /// The program that is kept of a filter.
    pub(crate) fn program(&self, filter: &RawValue) -> Option<Compiled> {
        seccomp::find(&Kept::of(&filter, Arch::native()?, self.open_programs()?.as_fd())?)
    }

    /// Makes the place for a new container, and locks it.
    ///
    /// # Errors
    /// [`Error::Id`]; [`Error::ContainerExists`], also where somebody is making it.
    pub(crate) fn make(&self, id: &str) -> Result<(Place, Lock), Error> {
        check_id(id)?;
        let mut builder = DirBuilder::new();
        builder
            .mode(0o700)
            .recursive(true)
            .create(&self.path)
            .map_err(Error::io("making the directory of the containers", &self.path))?;
        builder.recursive(false);
        let exists = || Error::ContainerExists { id: id.to_owned() };
        let path = self.path.join(id);
        let made = match builder.create(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(Error::io("making the container's directory", path)(error)),
        };
        let locked = self.open(id).and_then(|place| Ok((place.try_lock()?, place)));
        if made && locked.is_err() {
            // What somebody else has put something into meanwhile is not removed by this.
            let _ = std::fs::remove_dir(&path);
        }
        let (lock, place) = locked?;
        let lock = lock.ok_or_else(exists)?;
        match place.has(STATE) {
            Ok(true) => Err(exists()),
            Ok(false) => Ok((place, lock)),
            Err(error) => {
                if made {
                    let _ = place.remove_if_empty(lock);
                }
                Err(error)
            }
        }
    }

    /// The place of the container `id`.
    ///
    /// # Errors
    /// [`Error::Id`]; [`Error::NoSuchContainer`].
    pub(crate) fn open(&self, id: &str) -> Result<Place, Error> {
        check_id(id)?;
        let path = self.path.join(id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(dir) => Ok(Place { id: id.to_owned(), path, dir }),
            Err(Errno::NOENT) => Err(self.no_such(id)),
            Err(errno) => Err(Error::io("opening the container's directory", path)(errno.into())),
        }
    }

    pub(crate) fn no_such(&self, id: &str) -> Error {
        Error::NoSuchContainer { id: id.to_owned(), home: self.path.clone() }
    }

    /// The ids of all containers, in alphabetical order.
    ///
    /// # Errors
    /// The directory cannot be read. One that is not there has none.
    pub fn ids(&self) -> Result<Vec<String>, Error> {
        let failed = || Error::io("listing the containers in", &self.path);
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed())?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            // What has another name is none of ours.
            let name = entry.map_err(failed())?.file_name().into_string();
            ids.extend(name.ok().filter(|name| check_id(name).is_ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

/// The name of a file that is to have the name `name`.
fn new_name(name: &str) -> String {
    format!("{name}.new")
}

/// As runc: the characters of `[\w+-\.]`, and no name that a path has a meaning for.
fn check_id(id: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | ',' | '-' | '.');
    let reason = match id {
        "" => "it is empty",
        "." | ".." => "it means a directory",
        _ if !id.chars().all(fits) => "only letters, digits and _ + , - . may stand in it",
        _ if id.len() > LONGEST_ID => "it is longer than 255 characters",
        _ => return Ok(()),
    };
    Err(Error::Id { id: id.chars().take(LONGEST_ID).collect(), reason })
}

/// A container's directory, open.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: String,
    path: PathBuf,
    dir: OwnedFd,
}

/// The right to change a container, until it is dropped.
///
/// fcntl(2): closing any descriptor of the file ends the lock, so a process opens it once only.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: OwnedFd,
}

impl Place {
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    fn failed(&self, op: &'static str, name: &str) -> impl FnOnce(Errno) -> Error {
        let path = self.path.join(name);
        move |errno| Error::io(op, path)(errno.into())
    }

    /// Whether there is such a file. What cannot be looked at is no file that is missing: somebody's record would be
    /// written over.
    pub(crate) fn has(&self, name: &str) -> Result<bool, Error> {
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Error::io("looking at", self.path().join(name))(errno.into())),
        }
    }

    /// Waits until nobody else changes the container. `None` where it was removed meanwhile.
    pub(crate) fn lock(&self) -> Result<Option<Lock>, Error> {
        self.lock_by(FlockOperation::LockExclusive)
    }

    /// As [`Place::lock`]; `None` also where somebody else has the lock.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, Error> {
        self.lock_by(FlockOperation::NonBlockingLockExclusive)
    }

    fn lock_by(&self, operation: FlockOperation) -> Result<Option<Lock>, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = match rustix::fs::openat(&self.dir, LOCK, flags, mode) {
            // A directory that is removed takes no new file.
            Err(Errno::NOENT) => return Ok(None),
            file => file.map_err(self.failed("opening", LOCK))?,
        };
        match rustix::io::retry_on_intr(|| fcntl_lock(&file, operation)) {
            Err(Errno::AGAIN | Errno::ACCESS) => return Ok(None),
            locked => locked.map_err(self.failed("locking", LOCK))?,
        }
        let links = rustix::fs::fstat(&file).map_err(self.failed("looking at", LOCK))?.st_nlink;
        Ok((links > 0).then_some(Lock { _file: file }))
    }

    /// Writes a file by rename: whoever reads finds the old one or the new one.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.stage(name, content)?;
        self.put(name)
    }

    /// Writes a file that nobody finds before [`Place::put`].
    fn stage(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let new = new_name(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, &new, flags, Mode::RUSR | Mode::WUSR)
            .map_err(self.failed("making", &new))?;
        File::from(file).write_all(content).map_err(Error::io("writing", self.path.join(&new)))
    }

    fn put(&self, name: &str) -> Result<(), Error> {
        rustix::fs::renameat(&self.dir, new_name(name), &self.dir, name)
            .map_err(self.failed("renaming the new", name))
    }

    /// The record; `None` where there is none.
    pub(crate) fn read_state(&self) -> Result<Option<Vec<u8>>, Error> {
        self.read(STATE)
    }

    pub(crate) fn write_state(&self, content: &[u8]) -> Result<(), Error> {
        self.write(STATE, content)
    }

    /// Writes a record that nobody finds before [`Place::put_state`].
    pub(crate) fn stage_state(&self, content: &[u8]) -> Result<(), Error> {
        self.stage(STATE, content)
    }

    pub(crate) fn put_state(&self) -> Result<(), Error> {
        self.put(STATE)
    }

    pub(crate) fn write_config(&self, content: &[u8]) -> Result<(), Error> {
        self.write(CONFIG, content)
    }

    /// What of the configuration a further program is given; `None` where it was not written.
    pub(crate) fn read_exec(&self) -> Result<Option<Vec<u8>>, Error> {
        self.read(EXEC)
    }

    pub(crate) fn write_exec(&self, content: &[u8]) -> Result<(), Error> {
        self.write(EXEC, content)
    }

    /// Where the configuration is read from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => file.map_err(self.failed("opening", name))?,
        };
        let failed = |error| Error::io("reading", self.path.join(name))(error);
        sys::whole::record(file).map(Some).map_err(failed)
    }

    /// Removes a file; one that is not there is no error.
    pub(crate) fn remove_file(&self, name: &str) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            done => done.map_err(self.failed("removing", name)),
        }
    }

    /// Removes the directory and all in it: the record last, so that whoever is interrupted leaves
    /// either a record or nothing that anybody misses.
    pub(crate) fn remove(&self, _lock: Lock) -> Result<(), Error> {
        let failed = || Error::io("removing what is in", &self.path);
        for entry in std::fs::read_dir(&self.path).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            match name.to_str() {
                Some(STATE | LOCK) => {}
                Some(RESTORE_ROOT) => {
                    let path = self.path.join(RESTORE_ROOT);
                    crate::restore::unmount(&path)
                        .map_err(Error::io("unmounting what a restore has left at", path))?;
                }
                Some(NOTIFY) => std::fs::remove_dir_all(self.path.join(NOTIFY)).map_err(failed())?,
                Some(name) => self.remove_file(name)?,
                None => return Err(failed()(ErrorKind::InvalidData.into())),
            }
        }
        self.remove_file(STATE)?;
        self.remove_file(LOCK)?;
        self.remove_itself()
    }

    /// Removes the directory if nothing is in it but the lock: it has no record, and gets none while that is held.
    fn remove_if_empty(&self, _lock: Lock) -> Result<(), Error> {
        let failed = |errno: Errno| Error::io("listing what is in", &self.path)(errno.into());
        for entry in rustix::fs::Dir::read_from(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if ![&b"."[..], b"..", LOCK.as_bytes()].contains(&entry.file_name().to_bytes()) {
                return Ok(());
            }
        }
        self.remove_file(LOCK)?;
        self.remove_itself()
    }

    fn remove_itself(&self) -> Result<(), Error> {
        match std::fs::remove_dir(&self.path) {
            // Somebody came for the lock since that was removed: who finds no record then removes the rest.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            done => done.map_err(Error::io("removing the container's directory", &self.path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_name_and_no_path() {
        for id in ["a", "ubuntu01", "a.b-c_d+e,f", "..a", &"x".repeat(255)] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", "a/b", "/a", "../a", "a b", "a\n", "é", "a\0", &"x".repeat(256)]
        {
            let error = check_id(id).unwrap_err().to_string();
            assert!(error.starts_with("invalid container ID format"), "{error}");
        }
    }

    #[test]
    fn an_id_is_taken_once_and_free_after_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        assert!(home.ids().unwrap().is_empty());
        assert!(matches!(home.open("a"), Err(Error::NoSuchContainer { .. })));
        let (place, lock) = home.make("a").unwrap();
        place.write_state(b"{}").unwrap();
        drop(lock);
        assert!(matches!(home.make("a"), Err(Error::ContainerExists { .. })));
        assert_eq!(home.ids().unwrap(), ["a"]);
        assert_eq!(place.read_state().unwrap().unwrap(), b"{}");
        let lock = place.lock().unwrap().unwrap();
        place.write("more", b"").unwrap();
        place.remove(lock).unwrap();
        assert!(place.lock().unwrap().is_none(), "it was removed");
        home.make("a").unwrap();
    }

    #[test]
    fn who_comes_for_the_lock_too_late_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let (place, lock) = home.make("a").unwrap();
        place.remove_file(LOCK).unwrap();
        drop(lock);
        let late = home.open("a").unwrap();
        let lock = late.lock().unwrap().unwrap();
        place.remove_itself().unwrap();
        drop(lock);
        let found = crate::Recorded::open_locked(&home, "a");
        assert!(matches!(found, Err(Error::NoSuchContainer { .. })), "{found:?}");
        assert_eq!(home.ids().unwrap(), [""; 0]);
    }

    /// A broken disk: nobody knows whether there is a record.
    #[test]
    fn what_cannot_be_looked_at_is_not_half_made() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        std::fs::create_dir(dir.path().join("others")).unwrap();
        std::thread::scope(|scope| {
            // A filter is the thread's own, and goes with it.
            let broken = scope.spawn(|| {
                let program = sys::seccomp::answer(&[libc::SYS_newfstatat], Errno::IO);
                sys::seccomp::install(&program).unwrap();
                ["own", "others"].map(|id| home.make(id).unwrap_err().to_string())
            });
            for said in broken.join().unwrap() {
                assert!(said.contains("looking at") && said.contains("error 5"), "{said}");
            }
        });
        assert_eq!(home.ids().unwrap(), ["others"]);
        home.make("own").unwrap();
    }

    /// What an interrupted create or delete leaves.
    #[test]
    fn a_directory_without_a_record_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/config.json"), "{").unwrap();
        let (place, _lock) = home.make("a").unwrap();
        assert!(place.read_state().unwrap().is_none());
    }
}
