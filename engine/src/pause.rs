//! `pause` and `unpause`.

use crate::target::Target;
use crate::{Container, Engine, Error, Status, group};

impl Engine {
    /// Stops all processes of a container where they are.
    ///
    /// # Errors
    /// There is no such container; it does not run ([`Error::NotRunning`]), or is paused
    /// ([`Error::Paused`]).
    pub fn pause(&self, container: &str) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        let state = dir.state()?;
        if Target::of(&state)?.is_none() {
            return Err(Error::not_running(&container));
        }
        let group = group::of_running(&dir, &container)?;
        if group.is_frozen()? {
            return Err(Error::paused(&container, "it cannot be paused once more"));
        }
        group.freeze()?;
        self.root.events().container(&container, "pause", &[]);
        Ok(())
    }

    /// Lets the processes of a paused container go on.
    ///
    /// # Errors
    /// There is no such container; it does not run ([`Error::NotRunning`]), or is not paused
    /// ([`Error::NotPaused`]).
    pub fn unpause(&self, container: &str) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        if Target::of(&dir.state()?)?.is_none() {
            return Err(Error::not_running(&container));
        }
        let group = group::of_running(&dir, &container)?;
        if !group.is_frozen()? {
            return Err(Error::NotPaused { name: container.name, id: container.id });
        }
        group.thaw()?;
        self.root.events().container(&container, "unpause", &[]);
        Ok(())
    }
}

impl Error {
    pub(crate) fn paused(container: &Container, why: &'static str) -> Error {
        Error::Paused { name: container.name.clone(), id: container.id.clone(), why }
    }
}

/// The status of a container that runs by its record: paused if its processes are frozen.
pub(crate) fn status(recorded: Status, dir: &crate::dir::Dir) -> Status {
    match recorded {
        Status::Running if group::is_frozen(dir) => Status::Paused,
        other => other,
    }
}
