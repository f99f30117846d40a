//! `start` and `restart`, and how any container gets its supervisor.

use std::time::Duration;

use oci_runtime::Ahead;

use crate::base::Base;
use crate::dir::{Dir, Lock};
use crate::remove::release;
use crate::run::Made;
use crate::session::Watch;
use crate::stop::Standing;
use crate::supervise::{Starter, Supervisor};
use crate::tidy::abandoned;
use crate::{Container, Engine, Error, Session, attach, bundle, group, output};

/// Who gets the input and output of a container that is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartRequest {
    /// `-a`: the caller gets its output, and waits for its end, with [`attach`](crate::attach()).
    pub attach: bool,
    /// `-i`: with the caller's standard input, where the container was made with `-i`.
    pub interactive: bool,
}

impl Engine {
    /// Starts a container that was made or has ended. `None`: it runs already.
    ///
    /// As for [`Engine::run`], the calling program must have a single thread.
    ///
    /// # Errors
    /// There is no such container; it cannot be started, and stays as it is.
    pub fn start(&self, container: &str, request: StartRequest) -> Result<Option<Session>, Error> {
        let (dir, found) = self.find(container)?;
        let lock = match self.standing(&dir)? {
            Standing::Rests(lock) => lock,
            Standing::Runs(_) if group::is_frozen(&dir) => {
                return Err(Error::paused(&found, "it cannot be started"));
            }
            Standing::Runs(_) | Standing::Waits => return Ok(None),
            Standing::Gone => return Err(self.gone(&found)),
        };
        // Its supervisor may have been killed since this program tidied up.
        abandoned(&self.root, &dir)?;
        // As it is now: nobody changes it any more without the lock, but for its name.
        let container = dir.container()?.ok_or_else(|| self.gone(&found))?;
        let starter = match request.attach || request.interactive {
            true => Starter::Attached { input: request.interactive && container.config.open_stdin },
            false => Starter::Passing,
        };
        dir.clear_stopped()?;
        let layers = bundle::layers(&self.store, &container)?;
        bundle::mount(&self.root, &dir, &container)?;
        let started = self.launch(&dir, lock, Made { container, layers }, starter, None);
        if started.is_err() {
            // Where the supervisor has done it already there is nothing to do.
            let _ = release(&dir);
        }
        started.map(Some)
    }

    /// Stops a container, as [`Engine::stop`], and starts it again.
    ///
    /// # Errors
    /// As there, and as [`Engine::start`]. A container with `--rm` goes when it is stopped
    /// ([`Error::RestartAndRemove`]).
    pub fn restart(&self, container: &str, timeout: Option<Duration>) -> Result<(), Error> {
        let (_, found) = self.find(container)?;
        if found.host_config.auto_remove {
            return Err(Error::RestartAndRemove);
        }
        self.stop(&found.id, timeout)?;
        self.start(&found.id, StartRequest::default())?;
        self.root.events().container(&found, "restart", &[]);
        Ok(())
    }

    /// Splits the supervisor of a container whose root is mounted off, and waits until it says that
    /// the program runs. `new`: a new container, with what was begun for it already.
    pub(crate) fn launch(
        &self,
        dir: &Dir,
        lock: Lock,
        made: Made,
        starter: Starter,
        new: Option<Ahead>,
    ) -> Result<Session, Error> {
        let Made { container, layers } = made;
        let (tty, open_stdin) = (container.config.tty, container.config.open_stdin);
        let (stdio, pipes) = output::open(tty, open_stdin)?;
        let prepared = bundle::prepare(&self.root, dir, &container, stdio)?;
        let (new, ahead) = (new.is_some(), new.unwrap_or_default());
        let base = Base::for_one_of(self.containers, &self.root);
        let mut prepared = prepared.ahead(ahead);
        if let Some(base) = &base {
            prepared = prepared.copy_mounts_of(base.mounts());
        }
        if starter != Starter::Passing {
            self.root.events().container(&container, "attach", &[]);
            attach::hold_signals()?;
        }
        // Only a process with one thread can be split.
        prepared.settle()?;
        let (root, own_dir) = (self.root.clone(), dir.clone());
        let supervise = |channel| {
            let dir = own_dir;
            let made = Made { container, layers };
            Supervisor { root, dir, made, prepared, channel, starter, pipes, new, base, lock }.run()
        };
        let session = Session::split(dir.id(), Watch::Supervisor, supervise)?;
        Ok(session.streams(tty, open_stdin))
    }

    /// The error for a container that was removed just now.
    fn gone(&self, container: &Container) -> Error {
        Error::NoSuchContainer { text: container.name.clone(), near: Vec::new() }
    }
}
