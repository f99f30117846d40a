//! Containers' names: symbolic links below `names/` to ids, made and removed under the root's lock.

use std::io::ErrorKind;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use sys::erase::Removed;

use super::{Root, unlink};
use crate::Error;

impl Root {
    /// Gives `name` to the container `id`; the id of the one that has it, if it is taken.
    pub(crate) fn take_name(&self, name: &str, id: &str) -> Result<Option<String>, Error> {
        let link = self.link(name);
        let failed = |error| Error::system("make the name", &link, error);
        let _held = self.lock()?;
        loop {
            match std::os::unix::fs::symlink(id, &link) {
                Ok(()) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
            match self.named(name)? {
                Some(owner) if self.dir(&owner).path.exists() => return Ok(Some(owner)),
                // Its container is gone: somebody was killed between the two.
                _ => unlink(&link).map_err(failed)?,
            }
        }
    }

    fn link(&self, name: &str) -> PathBuf {
        self.path.join("names").join(name)
    }

    /// The id of the container that has `name`.
    pub(crate) fn named(&self, name: &str) -> Result<Option<String>, Error> {
        let link = self.link(name);
        match std::fs::read_link(&link) {
            Ok(id) => Ok(id.to_str().map(str::to_owned)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
                Ok(None)
            }
            Err(error) => Err(Error::system("read the name", link, error)),
        }
    }

    /// Takes `name` from the container `id`, if that has it.
    pub(crate) fn drop_name(
        &self,
        name: &str,
        id: &str,
        removed: &mut Removed,
    ) -> Result<(), Error> {
        let _held = self.lock()?;
        if self.named(name)?.as_deref() != Some(id) {
            return Ok(());
        }
        self.unlink_name(name, removed)
    }

    /// Takes all names from the container `id`, of which no record says what it is called.
    pub(crate) fn drop_names_of(&self, id: &str) -> Result<(), Error> {
        let path = self.path.join("names");
        let failed = |error| Error::system("list", &path, error);
        let _held = self.lock()?;
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str()
                && self.named(name)?.as_deref() == Some(id)
            {
                self.unlink_name(name, &mut Removed::default())?;
            }
        }
        Ok(())
    }

    fn unlink_name(&self, name: &str, removed: &mut Removed) -> Result<(), Error> {
        let link = self.link(name);
        match removed.unlink(CWD, &link, AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => {
                Err(Error::system("remove the name", link, errno))
            }
            _ => Ok(()),
        }
    }
}
