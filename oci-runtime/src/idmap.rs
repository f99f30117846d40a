//! User namespaces as values: whose id maps translate the owners of a mount (mount_setattr(2),
//! MOUNT_ATTR_IDMAP; Linux 5.12).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ns_core::{Event, IdMap, Namespaces, Spawn};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::Failure;

use crate::Error;

/// Of users, and of groups.
type Maps = (Vec<IdMap>, Vec<IdMap>);

/// The namespaces that were made, each once.
#[derive(Debug, Default)]
pub(crate) struct IdMaps {
    made: Vec<(Maps, OwnedFd)>,
}

impl IdMaps {
    /// A user namespace with these maps. No process is in it.
    pub(crate) fn namespace(
        &mut self,
        uids: &[IdMap],
        gids: &[IdMap],
    ) -> Result<BorrowedFd<'_>, Error> {
        let key = (uids.to_vec(), gids.to_vec());
        let found = self.made.iter().position(|(other, _)| *other == key);
        let at = match found {
            Some(at) => at,
            None => {
                self.made.push((key, make(uids, gids)?));
                self.made.len() - 1
            }
        };
        Ok(self.made[at].1.as_fd())
    }
}

/// It is made by a process that does nothing else, and stays as long as its descriptor.
fn make(uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd, Error> {
    const THERE: u8 = 1;
    let spawn = Spawn::new().namespaces(Namespaces::USER).id_maps(uids, gids);
    let mut child = spawn.spawn(|gate| {
        gate.wait(THERE)?;
        Err(Failure::new("ending", Errno::CANCELED))
    })?;
    let there = child.next()?;
    let path = format!("/proc/{}/ns/user", child.pid());
    let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::io("opening the user namespace", &path)(errno.into()));
    child.wait()?;
    match there {
        Event::Failed(report) => Err(Error::Process(ns_core::Error::Child(report))),
        _ => opened,
    }
}
