//! `wait`: until a container has ended.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::dir::{self, Dir};
use crate::target::Target;
use crate::{Engine, Error, State, Status};

/// A process may run longer than any clock.
const FOREVER: Duration = Duration::from_secs(1 << 31);
/// How often it is looked whether the supervisor of an ended process has written that down.
const PAUSE: Duration = Duration::from_millis(5);

/// A container whose end is waited for; see [`Engine::watch`].
#[derive(Debug)]
pub struct Wait {
    dir: Dir,
    lock: Option<OwnedFd>,
    /// As it was seen last.
    state: State,
    /// Its process then.
    target: Option<Target>,
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
        let target = Target::of(&state)?;
        Ok(Wait { dir, lock, state, target })
    }
}

impl Wait {
    /// Waits until its process has ended, and is not started again by its restart policy, and its
    /// supervisor has written that down. Gives the exit status: of a container that does not run the
    /// last one, and 0 if it never ran. It is known of one that is removed at its end too.
    ///
    /// # Errors
    /// A system call fails, or a record is damaged.
    pub fn wait(mut self) -> Result<i32, Error> {
        if matches!(self.state.status, Status::Created | Status::Exited) {
            return Ok(self.state.exit_code);
        }
        loop {
            if let Some(target) = self.target.take() {
                target.wait(FOREVER)?;
            }
            // Looked at before the state: what is written by then is the last.
            let supervised = !self.lock.as_ref().map_or(Ok(true), dir::is_free)?;
            let state = self.dir.state()?;
            match state.status {
                // Its record goes before its directory.
                Status::Removing | Status::Creating if supervised => {}
                Status::Removing | Status::Creating => return self.noted(),
                Status::Created | Status::Exited => return Ok(state.exit_code),
                Status::Running if state.pid_start != self.state.pid_start => {
                    if state.restart_count == 0 {
                        return self.noted(); // by somebody who has started it anew
                    }
                    self.target = Target::of(&state)?;
                    self.state = state;
                    continue;
                }
                Status::Running | Status::Paused | Status::Restarting if supervised => {}
                // Its supervisor was killed.
                Status::Running | Status::Paused | Status::Restarting => return Ok(137),
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What the supervisor has left, if it was not killed.
    fn noted(&self) -> Result<i32, Error> {
        let noted = self.lock.as_ref().map(dir::noted).transpose()?.flatten();
        Ok(noted.unwrap_or(137))
    }
}
