//! `wait`: until a container has ended.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::dir::{self, Dir};
use crate::target::Target;
use crate::{Engine, Error, Status};

/// A process may run longer than any clock.
const FOREVER: Duration = Duration::from_secs(1 << 31);
/// How often it is looked whether the supervisor of an ended process has written that down.
const PAUSE: Duration = Duration::from_millis(5);

/// A container whose end is waited for; see [`Engine::watch`].
#[derive(Debug)]
pub struct Wait {
    dir: Dir,
    lock: Option<OwnedFd>,
    running: Option<(Target, u64)>,
}

impl Engine {
    /// Takes hold of a container, so that its end can be waited for ([`Wait::wait`]) whatever becomes of
    /// its name meanwhile.
    ///
    /// # Errors
    /// There is no such container.
    pub fn watch(&self, container: &str) -> Result<Wait, Error> {
        let (dir, _) = self.find(container)?;
        let lock = dir.open_lock()?;
        let state = dir.state()?;
        let running = Target::of(&state)?.map(|target| (target, state.pid_start));
        Ok(Wait { dir, lock, running })
    }
}

impl Wait {
    /// Waits until its process has ended and its supervisor has written that down, and gives the exit
    /// status: of a container that does not run the last one, and 0 if it never ran. It is known of one
    /// that is removed at its end too.
    ///
    /// # Errors
    /// A system call fails, or a record is damaged.
    pub fn wait(self) -> Result<i32, Error> {
        let Some((target, start)) = &self.running else { return Ok(self.dir.state()?.exit_code) };
        target.wait(FOREVER)?;
        loop {
            // The supervisor is done, or goes on with another process.
            let done = match &self.lock {
                Some(lock) => dir::is_free(lock)?,
                None => true,
            };
            let state = self.dir.state()?;
            // Its record goes before its directory.
            let removing = matches!(state.status, Status::Removing | Status::Creating)
                || !self.dir.path().exists();
            let written = state.pid_start != *start && !removing;
            if done && removing {
                let noted = self.lock.as_ref().map(dir::noted).transpose()?.flatten();
                return Ok(noted.unwrap_or(137));
            }
            if done || written {
                return Ok(state.exit_code);
            }
            std::thread::sleep(PAUSE);
        }
    }
}
