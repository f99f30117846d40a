//! A container's directory below `containers/`, its records and its lock.
//!
//! Who manages a container holds an exclusive flock(2) on its `lock`: first the process that makes it,
//! then, with the same open file, its supervisor. The lock dies with its holder, whatever killed it.
//! A directory is made and locked under the root's own lock, and its last two steps of removal, the
//! lock file's and its own, are under it too: so that nobody sees one without the other, unless
//! somebody was killed in between, and nobody locks a file that another has removed.

mod names;

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::erase::Removed;

use crate::json::{self, Staged};
use crate::log::Form;
use crate::volume_changes::VolumeChanges;
use crate::{Container, Error, State};

const CONTAINER: &str = "container.json";
const STATE: &str = "state.json";
const GROUP: &str = "cgroup.json";
const LOCK: &str = "lock";
const VOLUMES: &str = "volumes.json";
const VOLUMES_LOCK: &str = "volumes.lock";
/// There while the container is stopped on purpose.
const STOPPED: &str = "stopped";
/// The lock of the root.
const ROOT_LOCK: &str = "engine.lock";

/// The directories of an engine below its root.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    path: PathBuf,
}

/// A lock that is held while this lives.
#[derive(Debug)]
pub(crate) struct Lock(OwnedFd);

/// What came of taking a container's lock.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It is held now.
    Taken(Lock),
    /// Another holds it.
    Held,
    /// There is no such container any more.
    Gone,
}

/// A container's directory.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    id: String,
    path: PathBuf,
}

impl Root {
    /// The root at `path`, which is absolute and there; makes what is missing in it.
    pub(crate) fn open(path: &Path) -> Result<Root, Error> {
        for name in ["containers", "names"] {
            let dir = path.join(name);
            let made = DirBuilder::new().mode(0o700).create(&dir).and_then(|()| File::open(&dir));
            match made {
                // The next container's files are not to be put among the last one's inodes.
                Ok(made) => sys::placement::spread(made),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::system("make the directory", dir, error)),
            }
        }
        Ok(Root { path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.path.join("volumes")
    }

    fn lock(&self) -> Result<Lock, Error> {
        let path = self.path.join(ROOT_LOCK);
        flock(create_lock(&path)?, &path, FlockOperation::LockExclusive)
    }

    /// Makes the directory of a new container, and locks it.
    pub(crate) fn make(&self, id: &str) -> Result<(Dir, Lock), Error> {
        let dir = self.dir(id);
        let _held = self.lock()?;
        DirBuilder::new()
            .mode(0o700)
            .create(&dir.path)
            .map_err(|error| Error::system("make the directory", &dir.path, error))?;
        let file = create_lock(&dir.path.join(LOCK))?;
        let lock = flock(file, &dir.path.join(LOCK), FlockOperation::LockExclusive)?;
        Ok((dir, lock))
    }

    /// Removes a container's directory with all that is in it, its lock last; nothing may be mounted
    /// below it. The caller holds the lock, or there is none.
    pub(crate) fn remove(&self, dir: &Dir, removed: &mut Removed) -> Result<(), Error> {
        let failed = |error| Error::system("remove the directory", &dir.path, error);
        dir.remove_all_but_the_lock(removed).map_err(failed)?;
        let _held = self.lock()?;
        unlink(&dir.path.join(LOCK)).map_err(failed)?;
        let gone = match removed.unlink(CWD, &dir.path, AtFlags::REMOVEDIR) {
            // Something was added meanwhile.
            Err(Errno::NOTEMPTY | Errno::EXIST) => std::fs::remove_dir_all(&dir.path),
            other => other.map_err(io::Error::from),
        };
        match gone {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// Removes a directory that has no lock: who made or removed it was killed in between.
    pub(crate) fn remove_without_lock(&self, dir: &Dir) -> Result<(), Error> {
        {
            let _held = self.lock()?;
            if dir.path.join(LOCK).exists() {
                return Ok(()); // it has just been made
            }
        }
        self.remove(dir, &mut Removed::default())
    }

    /// The directory of the container `id`, there or not.
    pub(crate) fn dir(&self, id: &str) -> Dir {
        Dir { id: id.to_owned(), path: self.path.join("containers").join(id) }
    }

    /// The directories of all containers, complete or not.
    pub(crate) fn dirs(&self) -> Result<Vec<Dir>, Error> {
        let path = self.path.join("containers");
        let failed = |error| Error::system("list", &path, error);
        let mut dirs = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            dirs.extend(name.to_str().map(|id| self.dir(id)));
        }
        Ok(dirs)
    }

    /// How many containers there are, complete or not, without listing them: most file systems count the directories in a
    /// directory (its links but two, inode(7)). `None` where they do not, as Btrfs.
    pub(crate) fn count(&self) -> Result<Option<usize>, Error> {
        let path = self.path.join("containers");
        let links = std::fs::metadata(&path)
            .map_err(|error| Error::system("look at", &path, error))?
            .nlink();
        Ok(links.checked_sub(2).and_then(|count| count.try_into().ok()))
    }

    /// Waits until nobody is between making a directory and locking it.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        self.lock().map(drop)
    }
}

pub(crate) fn unlink(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn unmount(place: &Path) -> Result<(), Error> {
    use rustix::mount::UnmountFlags;
    loop {
        match rustix::mount::unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // EINVAL: nothing is mounted there.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Error::system("unmount", place, errno)),
        }
    }
}

const LOCK_FLAGS: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

fn create_lock(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, LOCK_FLAGS | OFlags::CREATE, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| Error::system("open the lock", path, errno))
}

fn flock(file: OwnedFd, path: &Path, operation: FlockOperation) -> Result<Lock, Error> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))
        .map_err(|errno| Error::system("take the lock", path, errno))?;
    Ok(Lock(file))
}

impl Lock {
    /// Writes an exit status into the lock's file: who has it open can read it ([`noted`]) when the
    /// container is gone.
    pub(crate) fn note(&self, status: i32) -> Result<(), Error> {
        // Of one length, over what was there: what is written after a truncation goes to the disk when the file is
        // closed (ext4's auto_da_alloc), and the removal would wait for it.
        let text = format!("{status:<11}");
        rustix::io::pwrite(&self.0, text.as_bytes(), 0)
            .map(drop)
            .map_err(|errno| Error::system("write the exit status to", LOCK, errno))
    }
}

/// What [`Lock::note`] wrote to the lock that is open as `file`.
pub(crate) fn noted(file: &OwnedFd) -> Result<Option<i32>, Error> {
    let mut bytes = [0; 16];
    let count = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut bytes, 0))
        .map_err(|errno| Error::system("read the exit status from", LOCK, errno))?;
    Ok(std::str::from_utf8(&bytes[..count]).ok().and_then(|text| text.trim_end().parse().ok()))
}

/// Whether nobody holds the lock that is open as `file`.
pub(crate) fn is_free(file: &OwnedFd) -> Result<bool, Error> {
    let flock = |operation| rustix::fs::flock(file, operation);
    match flock(FlockOperation::NonBlockingLockShared) {
        Ok(()) => {}
        Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
        Err(errno) => return Err(Error::system("try the lock", LOCK, errno)),
    }
    flock(FlockOperation::Unlock).map_err(|errno| Error::system("leave the lock", LOCK, errno))?;
    Ok(true)
}

impl Dir {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the container's root is mounted on the host.
    pub(crate) fn merged(&self) -> PathBuf {
        self.path.join("merged")
    }

    /// Where the `/dev/shm` is mounted on the host that other containers can share.
    pub(crate) fn shm(&self) -> PathBuf {
        self.path.join("shm")
    }

    pub(crate) fn log(&self, form: Form) -> PathBuf {
        self.path.join(form.file_name(&self.id))
    }

    /// Takes the lock as soon as nobody has it, unless the container goes meanwhile.
    pub(crate) fn lock(&self) -> Result<Attempt, Error> {
        self.take_lock(FlockOperation::LockExclusive)
    }

    /// Takes the lock, if nobody has it.
    pub(crate) fn try_lock(&self) -> Result<Attempt, Error> {
        self.take_lock(FlockOperation::NonBlockingLockExclusive)
    }

    /// The lock's file, without the lock; `None` when the container is gone.
    pub(crate) fn open_lock(&self) -> Result<Option<OwnedFd>, Error> {
        let path = self.path.join(LOCK);
        match rustix::fs::open(&path, LOCK_FLAGS, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some).map_err(|errno| Error::system("open the lock", &path, errno)),
        }
    }

    fn take_lock(&self, operation: FlockOperation) -> Result<Attempt, Error> {
        let path = self.path.join(LOCK);
        let Some(file) = self.open_lock()? else { return Ok(Attempt::Gone) };
        let lock = match flock(file, &path, operation) {
            Err(Error::System { source, .. })
                if source.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) =>
            {
                return Ok(Attempt::Held);
            }
            other => other?,
        };
        // The one who had it may have removed the container.
        let stat = rustix::fs::fstat(&lock.0)
            .map_err(|errno| Error::system("look at the lock", &path, errno))?;
        Ok(if stat.st_nlink == 0 { Attempt::Gone } else { Attempt::Taken(lock) })
    }

    fn remove_all_but_the_lock(&self, removed: &mut Removed) -> io::Result<()> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let own = File::open(&self.path)?;
        for entry in entries {
            let entry = entry?;
            if entry.file_name() == LOCK {
                continue;
            }
            match entry.file_type()?.is_dir() {
                // What a program has made there may be nested deeper than descriptors last.
                true => {
                    removed.erase(own.as_fd(), &CString::new(entry.file_name().as_bytes())?)?;
                }
                false => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    /// The record, with the volumes that the container has by now; `None` where there is none (yet, or
    /// any more).
    pub(crate) fn container(&self) -> Result<Option<Container>, Error> {
        let Some(mut container) = self.read::<Container>(CONTAINER)? else { return Ok(None) };
        self.volume_changes()?.apply(&mut container);
        Ok(Some(container))
    }

    /// Whether a power cut took the record: its name is there, and its bytes are not.
    pub(crate) fn has_lost_its_record(&self) -> Result<bool, Error> {
        let path = self.path.join(CONTAINER);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) => Ok(meta.len() == 0),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::system("look at", path, error)),
        }
    }

    /// Writes the record; the volumes that were added later have a file of their own.
    pub(crate) fn write_container(&self, container: &Container) -> Result<(), Error> {
        let changes = self.volume_changes()?;
        match changes.is_empty() {
            true => self.write(CONTAINER, container),
            false => self.write(CONTAINER, &changes.without(container)),
        }
    }

    /// What was added to the container's volumes, and taken from them, since it was made.
    pub(crate) fn volume_changes(&self) -> Result<VolumeChanges, Error> {
        Ok(self.read(VOLUMES)?.unwrap_or_default())
    }

    pub(crate) fn write_volume_changes(&self, changes: &VolumeChanges) -> Result<(), Error> {
        self.write(VOLUMES, changes)
    }

    /// The lock of who changes the volumes of the container, which its supervisor does not hold.
    pub(crate) fn lock_volumes(&self) -> Result<Lock, Error> {
        let path = self.path.join(VOLUMES_LOCK);
        flock(create_lock(&path)?, &path, FlockOperation::LockExclusive)
    }

    /// The state; that of one in the making where there is none.
    pub(crate) fn state(&self) -> Result<State, Error> {
        Ok(self.read(STATE)?.unwrap_or_default())
    }

    /// Where the container's cgroup lies ([`cgroup::Location`]); `None` where it has none (yet).
    pub(crate) fn group(&self) -> Result<Option<String>, Error> {
        self.read(GROUP)
    }

    pub(crate) fn write_group(&self, location: &str) -> Result<(), Error> {
        self.write(GROUP, &location)
    }

    pub(crate) fn write_state(&self, state: &State) -> Result<(), Error> {
        self.write(STATE, state)
    }

    /// Writes a state that nobody finds before it is put there.
    pub(crate) fn stage_state(&self, state: &State) -> Result<Staged, Error> {
        Staged::new(&self.path, STATE, state)
    }

    /// Removes the state: that of a container in the making is left.
    pub(crate) fn remove_state(&self) -> Result<(), Error> {
        let path = self.path.join(STATE);
        unlink(&path).map_err(|error| Error::system("remove", path, error))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        json::read(&self.path, name)
    }

    /// Replaces a JSON file: who reads it sees the old one or the new one.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        json::write(&self.path, name, value)
    }

    /// Writes down that the container is stopped on purpose, so that no policy starts it again.
    pub(crate) fn mark_stopped(&self) -> Result<(), Error> {
        let path = self.path.join(STOPPED);
        File::create(&path).map(drop).map_err(|error| Error::system("make", path, error))
    }

    /// Whether that was written down since the last start.
    pub(crate) fn is_stopped(&self) -> bool {
        self.path.join(STOPPED).exists()
    }

    /// Forgets it.
    pub(crate) fn clear_stopped(&self) -> Result<(), Error> {
        let path = self.path.join(STOPPED);
        unlink(&path).map_err(|error| Error::system("remove", path, error))
    }

    /// Makes a directory in it.
    pub(crate) fn make(&self, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        let made = DirBuilder::new().mode(0o755).create(&path);
        made.map_err(|error| Error::system("make the directory", path, error))
    }

    /// An O_PATH descriptor of a directory in it.
    pub(crate) fn open(&self, name: &str) -> Result<OwnedFd, Error> {
        let path = self.path.join(name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| Error::system("open the directory", path, errno))
    }

    /// Unmounts the container's root, and what others share of it, from the host, if they are mounted
    /// there.
    pub(crate) fn unmount(&self) -> Result<(), Error> {
        unmount(&self.merged())?;
        self.unmount_shm()
    }

    /// Unmounts what others share of it alone.
    pub(crate) fn unmount_shm(&self) -> Result<(), Error> {
        unmount(&self.shm())
    }

    /// Gives the upper directory the attributes of the image's root, which the container's root
    /// shows: an overlay takes them from its topmost directory.
    pub(crate) fn copy_root_attributes(&self, lower: &Path) -> Result<(), Error> {
        let stat = rustix::fs::stat(lower)
            .map_err(|errno| Error::system("look at the layer", lower, errno))?;
        let diff = self.open("diff")?;
        let path = sys::process::proc_path(&diff);
        let failed = |errno| Error::system("give the image root's attributes to", &path, errno);
        let owner =
            (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chown(&path, Some(owner.0), Some(owner.1)).map_err(failed)?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(failed)
    }
}
