//! `pause` and `unpause`.

use cgroup::Group;

use crate::dir::Dir;
use crate::events::Events;
use crate::target::Target;
use crate::{Container, Engine, Error, Status, group};

/// A container whose processes stand still, until this is dropped.
pub(crate) struct Still<'a> {
    group: Option<Group>,
    events: Events,
    container: &'a Container,
}

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

impl<'a> Still<'a> {
    /// Stops the processes of a container that runs. Nothing is changed where it is paused already, or has no
    /// processes that could be stopped: then none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn hold(
        engine: &Engine,
        dir: &Dir,
        container: &'a Container,
    ) -> Result<Option<Still<'a>>, Error> {
        if Target::of(&dir.state()?)?.is_none() {
            return Ok(None);
        }
        let Some(group) = group::open(dir)? else { return Ok(None) };
        if group.is_frozen()? {
            return Ok(None);
        }
        match group.freeze() {
            Ok(()) => {}
            // It has just ended.
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => {
                // Some may stand still by now; the first error is told.
                let _ = group.thaw();
                return Err(error.into());
            }
        }
        let events = engine.root.events();
        events.container(container, "pause", &[]);
        Ok(Some(Still { group: Some(group), events, container }))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn end(mut self) -> Result<(), Error> {
        self.thaw()
    }

    fn thaw(&mut self) -> Result<(), Error> {
        match self.group.take().map(|group| group.thaw()) {
            None => return Ok(()),
            // Killed meanwhile.
            Some(Err(error)) if !error.is_not_found() => return Err(error.into()),
            Some(_) => {}
        }
        self.events.container(self.container, "unpause", &[]);
        Ok(())
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        // Another error is told.
        let _ = self.thaw();
    }
}

impl Error {
    pub(crate) fn paused(container: &Container, why: &'static str) -> Error {
        Error::Paused { name: container.name.clone(), id: container.id.clone(), why }
    }
}

/// The status of a container that has this one by its record: paused if its processes are frozen.
pub(crate) fn status(recorded: Status, is_frozen: impl FnOnce() -> bool) -> Status {
    match recorded {
        Status::Running if is_frozen() => Status::Paused,
        other => other,
    }
}
