//! The root directory: made, checked, opened, locked.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use image_unpack::Digest;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::Error;
use crate::dir::{Dir, system};
use crate::record::{DamagedImage, Images};
use crate::staging;

/// The file that marks a store, and its lock.
pub(crate) const LOCK: &str = "image-store.lock";
/// The lock of `tags.json`.
pub(crate) const TAGS_LOCK: &str = "tags.lock";

/// A store of images below one root directory. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct Store(Arc<Dirs>);

/// The directories of a store.
#[derive(Debug)]
pub(crate) struct Dirs {
    pub(crate) root: Dir,
    pub(crate) images: Dir,
    pub(crate) layers: Dir,
    pub(crate) blobs: Dir,
    pub(crate) mounts: Dir,
    pub(crate) links: Dir,
    pub(crate) sources: Dir,
    pub(crate) staging: Dir,
}

/// While this lives, nothing is removed from the store. Made by [`Store::hold`].
#[derive(Debug)]
pub struct Hold(#[allow(dead_code, reason = "the lock is in the descriptor")] OwnedFd);

/// An exclusive lock on a file of the root.
#[derive(Debug)]
pub(crate) struct Exclusive(#[allow(dead_code, reason = "the lock is in the descriptor")] OwnedFd);

impl Store {
    /// Opens the store below `root`, made with mode 0700 if it is not there, removes what dead
    /// processes left in `staging/`, and goes on with what they were removing. A relative path counts from the working
    /// directory of now.
    ///
    /// # Errors
    /// The directory is another user's ([`Error::Owner`]), has something else in it
    /// ([`Error::NotAStore`]), or a system call fails.
    pub fn open(root: &Path) -> Result<Store, Error> {
        let path = std::path::absolute(root).map_err(|source| Error::System {
            op: "find the path of",
            path: root.into(),
            source,
        })?;
        let root = match Dir::open(&path) {
            Err(Error::System { source, .. }) if source.kind() == ErrorKind::NotFound => {
                make_root(&path)?;
                Dir::open(&path)?
            }
            other => other?,
        };
        check_root(&root)?;
        let dirs = Dirs {
            images: root.ensure("images", 0o700)?,
            layers: root.ensure("layers", 0o700)?,
            blobs: root.ensure("blobs", 0o700)?,
            mounts: root.ensure("mounts", 0o700)?,
            links: root.ensure("l", 0o700)?,
            sources: root.ensure("sources", 0o700)?,
            staging: root.ensure("staging", 0o700)?,
            root,
        };
        let store = Store(Arc::new(dirs));
        staging::collect(&store.0.staging, |name, dir| store.finish_removal(name, dir))?;
        Ok(store)
    }

    /// The root directory, an absolute path.
    pub fn root(&self) -> &Path {
        self.0.root.path()
    }

    /// The root directory; [`StoredLayer::link`](crate::StoredLayer::link) is relative to it.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.0.root.as_fd()
    }

    /// Keeps everything that the store has from being removed until the [`Hold`] is dropped. Waits
    /// while a removal is under way.
    ///
    /// A container's start takes it, looks the image up, writes down that it uses the image, and
    /// drops it. Do not call [`Store::remove`] with it: that would wait for itself. The lock belongs
    /// to the descriptor, which is closed by exec and inherited by a plain fork.
    ///
    /// # Errors
    /// A system call fails.
    pub fn hold(&self) -> Result<Hold, Error> {
        self.lock(LOCK, FlockOperation::LockShared).map(Hold)
    }

    /// All images, the newest first, and apart from them those whose own files are damaged: by a power cut, say.
    ///
    /// # Errors
    /// A system call fails, or the file of names is damaged ([`Error::Damaged`]).
    pub fn images(&self) -> Result<Images, Error> {
        let tags = self.tags()?;
        let mut images = Images::default();
        for id in self.ids()? {
            match self.image(&id, &tags) {
                Ok(image) => images.whole.extend(image),
                Err(why @ Error::Damaged { .. }) => {
                    let own = tags.iter().filter(|(_, of)| **of == id);
                    let tags = own.map(|(name, _)| name.clone()).collect();
                    images.damaged.push(DamagedImage { id, tags, why });
                }
                Err(error) => return Err(error),
            }
        }
        images.whole.sort_by(|a, b| b.created.cmp(&a.created).then(a.id.cmp(&b.id)));
        Ok(images)
    }

    pub(crate) fn dirs(&self) -> &Dirs {
        &self.0
    }

    /// The ids of all images, sorted.
    ///
    /// # Errors
    /// A system call fails.
    pub fn ids(&self) -> Result<Vec<Digest>, Error> {
        let names = self.0.images.names()?;
        let mut ids: Vec<_> = names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    pub(crate) fn exclusive(&self, name: &'static str) -> Result<Exclusive, Error> {
        self.lock(name, FlockOperation::LockExclusive).map(Exclusive)
    }

    /// `None` where somebody else has it, or waits for nothing to be removed.
    pub(crate) fn try_exclusive(&self, name: &'static str) -> Result<Option<Exclusive>, Error> {
        match self.lock(name, FlockOperation::NonBlockingLockExclusive) {
            Err(Error::System { source, .. }) if source.kind() == ErrorKind::WouldBlock => Ok(None),
            lock => lock.map(|lock| Some(Exclusive(lock))),
        }
    }

    fn lock(&self, name: &'static str, operation: FlockOperation) -> Result<OwnedFd, Error> {
        let root = &self.0.root;
        let open = || {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(root, name, flags, Mode::empty())
        };
        let mut file = open();
        if matches!(file, Err(Errno::NOENT)) {
            root.mark(name)?;
            file = open();
        }
        let file = file.map_err(|errno| root.failed("open the lock", name, errno))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))
            .map_err(|errno| root.failed("take the lock", name, errno))?;
        Ok(file)
    }
}

fn make_root(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::System { op: "make the directory", path: path.into(), source };
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Checks that the directory is a store of this user, or makes an empty one into a store.
fn check_root(root: &Dir) -> Result<(), Error> {
    let path = || root.path().to_owned();
    let stat = rustix::fs::fstat(root).map_err(|errno| system("look at", path(), errno))?;
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user {
        return Err(Error::Owner { path: path(), owner: stat.st_uid, user });
    }
    if !root.has(LOCK)? {
        // A new file system has lost+found. The mark is the first thing that a new store gets, so
        // whoever finds something else without a mark after this looks again before it complains.
        let other = |name: &String| name != "lost+found";
        if root.names()?.iter().any(other) && !root.has(LOCK)? {
            return Err(Error::NotAStore { path: path(), marker: LOCK });
        }
        root.mark(LOCK)?;
    }
    if stat.st_mode & 0o777 != 0o700 {
        rustix::fs::fchmod(root, Mode::RWXU)
            .map_err(|errno| system("set mode 0700 on", path(), errno))?;
    }
    Ok(())
}
