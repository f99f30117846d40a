//! The mount of an image's index: one for each image, below the store, shared by all its containers.
//!
//! It is at `mounts/<id>`. Who uses it holds a shared flock on the image's own directory, so the kernel counts the
//! users, whatever becomes of them; who finds no other takes the mount away. To mount, and to look whether one may
//! unmount, are done with the flock of `mounts/` itself held.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use image_unpack::Digest;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use sys::mount::{Change, Propagation};
use sys::{Failure, Report, Step};

use crate::dir::{Dir, system};
use crate::index::{Devices, INDEX};
use crate::record::ImageRecord;
use crate::store::Store;
use crate::{Error, crash};

/// Longest value that fsconfig(2) takes, bytes.
const VALUE: usize = 255;

/// An image's index, mounted for as long as this or another one of it lives.
///
/// The count is an flock, which a fork shares: it lasts until the last copy of the descriptor is closed.
#[derive(Debug)]
pub struct Mounted {
    store: Store,
    id: Digest,
    /// `images/<id>`, locked.
    lock: Option<Dir>,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.lock = None;
        // What cannot be unmounted now is found by the next command; there is nobody to tell here.
        let _ = self.store.unmount_unused(&self.id);
    }
}

impl Store {
    /// Mounts an image's index at [`StoredIndex::path`](crate::StoredIndex::path), unless it is mounted. `None` for an
    /// image of directories, which needs no mount.
    ///
    /// # Errors
    /// There is no such image; the index or a layer is damaged or lost ([`Error::Damaged`]); the archive that the
    /// layers were left in has changed or is gone ([`Error::Archive`]); the kernel refuses ([`Error::Mount`]).
    pub fn mount(&self, id: &Digest) -> Result<Option<Mounted>, Error> {
        let gone = || self.not_found(&id.to_string(), &Default::default());
        let record = self.image_record(id)?.ok_or_else(gone)?;
        if record.index.is_none() {
            return Ok(None);
        }
        let dirs = self.dirs();
        let image = dirs.images.dir(&id.hex())?.ok_or_else(gone)?;
        let turn = self.turn()?;
        // Nobody has it exclusively but with the turn.
        lock(&image, FlockOperation::LockShared)?;
        let done = is_mounted(&dirs.mounts, &id.hex()).and_then(|mounted| match mounted {
            true => Ok(()),
            false => self.mount_now(&record, &image),
        });
        // It is needed to take the mount away, which is what `mounted` does where this failed.
        drop(turn);
        let mounted = Mounted { store: self.clone(), id: *id, lock: Some(image) };
        done.map(|()| Some(mounted))
    }

    fn mount_now(&self, record: &ImageRecord, image: &Dir) -> Result<(), Error> {
        let Some(index) = &record.index else { return Ok(()) };
        self.look_at(record)?;
        let hex = record.id.hex();
        let target = self.dirs().mounts.ensure(&hex, 0o700)?;
        let source = self.index_file(image, index)?;
        let mut devices = Vec::new();
        for device in Devices::of(record, index).all {
            devices.push(self.device(record, index, &device)?);
        }
        let path = image.path().join(INDEX);
        let name = CString::new(path.as_os_str().as_bytes()).ok();
        let name = name.filter(|name| name.as_bytes().len() <= VALUE);
        let failed = |failure: Failure| match failure.errno {
            // The machine's want is no fault of the image's.
            errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                system("mount the index", path.clone(), errno)
            }
            _ => Error::Mount { image: record.id, why: Report::from(failure).to_string() },
        };
        let borrowed: Vec<BorrowedFd<'_>> = devices.iter().map(AsFd::as_fd).collect();
        let tree =
            crate::erofs::mount(source.as_fd(), name.as_deref(), &borrowed).map_err(failed)?;
        let attached = sys::mount::attach(&tree, &target).step("attaching the index");
        attached.map_err(failed)?;
        crash::point();
        let private = Change { propagation: Some(Propagation::Private), ..Change::default() };
        sys::mount::change(&tree, &private).step("making the mount private").map_err(failed)
    }

    /// Unmounts what nobody uses any more: the mounts of the dead.
    ///
    /// # Errors
    /// A system call fails.
    pub fn unmount_all_unused(&self) -> Result<(), Error> {
        for name in self.dirs().mounts.names()? {
            if let Ok(id) = Digest::from_hex(&name)
                && is_mounted(&self.dirs().mounts, &name)?
            {
                self.unmount_unused(&id)?;
            }
        }
        Ok(())
    }

    /// Unmounts an image's index unless somebody uses it.
    pub(crate) fn unmount_unused(&self, id: &Digest) -> Result<(), Error> {
        let (dirs, hex) = (self.dirs(), id.hex());
        let _turn = self.turn()?;
        if !is_mounted(&dirs.mounts, &hex)? {
            return Ok(());
        }
        if let Some(image) = dirs.images.dir(&hex)?
            && !image.lock(false)?
        {
            return Ok(());
        }
        self.unmount(&hex)
    }

    /// Takes the mount of an image that is gone away, with its place.
    pub(crate) fn forget_mount(&self, hex: &str) -> Result<(), Error> {
        let _turn = self.turn()?;
        if is_mounted(&self.dirs().mounts, hex)? {
            self.unmount(hex)?;
        }
        self.dirs().mounts.rmdir(hex)
    }

    fn unmount(&self, hex: &str) -> Result<(), Error> {
        let mounts = &self.dirs().mounts;
        let path = mounts.path().join(hex);
        match rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Not mounted any more.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(errno) => Err(mounts.failed("unmount", hex, errno)),
        }
    }

    /// The lock under which mounts come and go. It is held for one mount or one look.
    fn turn(&self) -> Result<OwnedFd, Error> {
        let mounts = &self.dirs().mounts;
        // A description of its own: a lock through the store's would be every clone's.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::openat(mounts, ".", flags, Mode::empty())
            .map_err(|errno| mounts.failed("open", "", errno))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&own, FlockOperation::LockExclusive))
            .map_err(|errno| mounts.failed("lock", "", errno))?;
        Ok(own)
    }
}

/// Whether something is mounted at `mounts/<name>`.
pub(crate) fn is_mounted(mounts: &Dir, name: &str) -> Result<bool, Error> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(mounts, name, flags, StatxFlags::TYPE) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(mounts.failed("look at", name, errno)),
    }
}

fn lock(dir: &Dir, operation: FlockOperation) -> Result<(), Error> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(dir, operation))
        .map_err(|errno| dir.failed("lock", "", errno))
}
