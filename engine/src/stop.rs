//! `stop`, `kill`, `rm`: the end of a container.

use std::time::Duration;

use rustix::process::Signal;

use crate::dir::{Attempt, Dir};
use crate::remove::{KILL_LIMIT, end, remove};
use crate::target::Target;
use crate::{Container, Engine, Error, Status, signal};

/// How long `stop` waits before it kills, if nothing is said, neither here nor by `--stop-timeout`: as Docker.
const STOP: Duration = Duration::from_secs(10);

impl Engine {
    /// Ends a container: by its own stop signal, and by SIGKILL if it has not ended within `timeout`
    /// (default: the container's own, 10 s). Returns when its supervisor has tidied up. One that does not run is left as
    /// it is.
    ///
    /// # Errors
    /// There is no such container, or its process cannot be signalled or does not end.
    pub fn stop(&self, container: &str, timeout: Option<Duration>) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        let Some(target) = Target::of(&dir.state()?)? else { return settle(&dir) };
        let stop = container.config.stop_signal.as_deref().unwrap_or("TERM");
        target.signal(signal::parse(stop)?)?;
        if !target.wait(timeout.unwrap_or_else(|| own_timeout(&container)))? {
            target.signal(Signal::KILL)?;
            if !target.wait(KILL_LIMIT)? {
                return Err(Error::Unkillable { pid: target.pid.as_raw_nonzero().get() });
            }
        }
        settle(&dir)
    }

    /// Sends a signal (`KILL`, `SIGHUP`, `9` …) to a container's process.
    ///
    /// # Errors
    /// There is no such container or signal, or the container does not run ([`Error::NotRunning`]).
    pub fn kill(&self, container: &str, signal: &str) -> Result<(), Error> {
        let signal = signal::parse(signal)?;
        let (dir, container) = self.find(container)?;
        match Target::of(&dir.state()?)? {
            Some(target) if target.signal(signal)? => Ok(()),
            _ => Err(Error::NotRunning { name: container.name, id: container.id }),
        }
    }

    /// Removes a container; with `force` one that runs too, and with `volumes` those that were made
    /// for it alone.
    ///
    /// # Errors
    /// There is no such container, or it runs and `force` is not given ([`Error::Running`]).
    pub fn remove(&self, container: &str, force: bool, volumes: bool) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        let state = dir.state()?;
        if state.status == Status::Running {
            if !force {
                return Err(Error::Running { name: container.name, id: container.id });
            }
            end(&state)?;
        }
        self.remove_ended(&dir, &container, volumes)
    }

    /// Waits until the supervisor has done its part, and removes what that left.
    fn remove_ended(&self, dir: &Dir, container: &Container, volumes: bool) -> Result<(), Error> {
        let Attempt::Taken(_lock) = dir.lock()? else {
            return Ok(()); // with --rm, its supervisor was faster
        };
        let volumes = volumes || container.host_config.auto_remove;
        remove(&self.root, dir, Some(container), volumes)
    }
}

/// How long `stop` waits if it is not told: `--stop-timeout`, where -1 is no limit.
fn own_timeout(container: &Container) -> Duration {
    let seconds = container.config.stop_timeout;
    seconds.map_or(STOP, |seconds| {
        Duration::from_secs(u64::try_from(seconds).unwrap_or(u32::MAX.into()))
    })
}

/// Waits until nobody manages the container any more.
fn settle(dir: &Dir) -> Result<(), Error> {
    dir.lock().map(drop)
}
