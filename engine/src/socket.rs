//! The socket in a container's directory, by which clients find its supervisor.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::Error;
use crate::dir::{Dir, unlink};

/// Its name.
const ATTACH: &str = "attach";

impl Dir {
    /// Listens for clients. What a supervisor that was killed has left is replaced.
    pub(crate) fn listen(&self) -> Result<OwnedFd, Error> {
        let failed = |errno| Error::system("listen at", self.path().join(ATTACH), errno);
        let dir = self.open(".")?;
        match sys::message::listen(dir.as_fd(), ATTACH) {
            Err(Errno::ADDRINUSE) => {
                self.unlisten()?;
                sys::message::listen(dir.as_fd(), ATTACH).map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    /// Connects to its supervisor; `None` where nobody listens.
    pub(crate) fn connect(&self) -> Result<Option<OwnedFd>, Error> {
        match sys::message::connect(self.open(".")?.as_fd(), ATTACH) {
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(errno) => Err(Error::system("connect to", self.path().join(ATTACH), errno)),
            Ok(socket) => Ok(Some(socket)),
        }
    }

    /// Removes what [`Dir::listen`] made.
    pub(crate) fn unlisten(&self) -> Result<(), Error> {
        let path = self.path().join(ATTACH);
        unlink(&path).map_err(|error| Error::system("remove", path, error))
    }
}
