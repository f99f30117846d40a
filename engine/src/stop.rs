//! `stop`, `kill`, `rm`: the end of a container.

use std::time::Duration;

use rustix::process::Signal;

use crate::dir::{Attempt, Dir, Lock};
use crate::remove::{kill, remove};
use crate::target::Target;
use crate::tidy::abandoned;
use crate::{Container, Engine, Error, Status, group, signal};

/// How long `stop` waits before it kills, if nothing is said, neither here nor by `--stop-timeout`: as Docker.
const STOP: Duration = Duration::from_secs(10);

/// How often it is looked whether a container in the making runs.
const LOOK: Duration = Duration::from_millis(5);

/// How a container stands that nobody is just making.
pub(crate) enum Standing {
    /// Its supervisor has the lock, and this is its process.
    Runs(Target),
    /// Its supervisor has the lock, and waits before it starts the process again.
    Waits,
    /// The lock was free, and is ours.
    Rests(Lock),
    /// It was removed meanwhile.
    Gone,
}

impl Engine {
    /// Ends a container: by its own stop signal, and by SIGKILL if it has not ended within `timeout`
    /// (default: the container's own, 10 s). Returns when its supervisor has tidied up. One that does not run is left as
    /// it is.
    ///
    /// # Errors
    /// There is no such container, or its process cannot be signalled or does not end.
    pub fn stop(&self, container: &str, timeout: Option<Duration>) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        // Also for one that just ends: its policy must not start it again.
        dir.mark_stopped()?;
        let events = self.root.events();
        let target = match self.standing(&dir)? {
            Standing::Runs(target) => target,
            // It sees the mark.
            Standing::Waits => {
                dir.lock()?;
                events.container(&container, "stop", &[]);
                return Ok(());
            }
            // Its supervisor may have been killed since this program tidied up.
            Standing::Rests(_lock) => return abandoned(&self.root, &dir),
            Standing::Gone => return Ok(()),
        };
        let signal = signal::stop(&container)?;
        // Before it is sent: the container's end comes after it.
        events.signal(&container, signal);
        target.signal(signal)?;
        group::thaw(&dir)?;
        if !target.wait(timeout.unwrap_or_else(|| own_timeout(&container)))? {
            events.signal(&container, Signal::KILL);
            kill(&dir, &target)?;
        }
        // Its supervisor tidies up, and lets go.
        dir.lock()?;
        events.container(&container, "stop", &[]);
        Ok(())
    }

    /// Sends a signal (`KILL`, `SIGHUP`, `9` …) to a container's process.
    ///
    /// # Errors
    /// There is no such container or signal, or the container does not run ([`Error::NotRunning`]).
    pub fn kill(&self, container: &str, signal: &str) -> Result<(), Error> {
        let signal = signal::parse(signal)?;
        let (dir, container) = self.find(container)?;
        // As Docker: what is to end it also wakes it.
        let ends = signal == Signal::KILL || signal == signal::stop(&container)?;
        if ends {
            dir.mark_stopped()?;
        }
        let not_running = || Error::not_running(&container);
        let target = Target::of(&dir.state()?)?.ok_or_else(not_running)?;
        self.root.events().signal(&container, signal);
        match target.signal(signal)? {
            true if ends => group::thaw(&dir),
            true => Ok(()),
            false => Err(not_running()),
        }
    }

    /// Removes a container; with `force` one that runs too, and with `volumes` those that were made
    /// for it alone.
    ///
    /// # Errors
    /// There is no such container, or it runs and `force` is not given ([`Error::Running`]).
    pub fn remove(&self, container: &str, force: bool, volumes: bool) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        let _lock = match self.standing(&dir)? {
            Standing::Runs(_) | Standing::Waits if !force => {
                return Err(Error::Running { name: container.name, id: container.id });
            }
            standing @ (Standing::Runs(_) | Standing::Waits) => {
                dir.mark_stopped()?;
                if let Standing::Runs(target) = standing {
                    self.root.events().signal(&container, Signal::KILL);
                    kill(&dir, &target)?;
                }
                match dir.lock()? {
                    Attempt::Taken(lock) => lock,
                    // With --rm, its supervisor was faster.
                    Attempt::Held | Attempt::Gone => return Ok(()),
                }
            }
            Standing::Rests(lock) => lock,
            Standing::Gone => return Ok(()),
        };
        let volumes = volumes || container.host_config.auto_remove;
        remove(&self.root, &dir, Some(&container), volumes).map(drop)
    }

    /// How a container stands. Waits while somebody makes the container, or tidies up behind it. Not for
    /// its lock: who makes one keeps that until the container has ended.
    pub(crate) fn standing(&self, dir: &Dir) -> Result<Standing, Error> {
        loop {
            match dir.try_lock()? {
                Attempt::Taken(lock) => return Ok(Standing::Rests(lock)),
                Attempt::Gone => return Ok(Standing::Gone),
                Attempt::Held => {}
            }
            let state = dir.state()?;
            match state.status {
                Status::Restarting => return Ok(Standing::Waits),
                Status::Running => {
                    if let Some(target) = Target::of(&state)? {
                        return Ok(Standing::Runs(target));
                    }
                }
                _ => {}
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// How long `stop` waits if it is not told: `--stop-timeout`, where -1 is no limit.
fn own_timeout(container: &Container) -> Duration {
    let seconds = container.config.stop_timeout;
    seconds.map_or(STOP, |seconds| {
        Duration::from_secs(u64::try_from(seconds).unwrap_or(u32::MAX.into()))
    })
}
