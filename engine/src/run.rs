//! `run` and `create`: from an image to a container.

use std::os::fd::AsFd;

use image_store::{Mounted, Progress, StoredImage};
use oci_runtime::Ahead;
use sys::erase::Removed;

use crate::dir::{Dir, Lock};
use crate::remove::remove;
use crate::request::Network;
use crate::supervise::Starter;
use crate::{
    Container, Engine, Error, RestartPolicy, RunRequest, Session, State, Status, bundle, config,
    etc, group, healthcheck, names, volumes,
};

/// How many made-up names are tried.
const NAMES: u32 = 100;

/// A container whose root is mounted.
pub(crate) struct Made {
    pub(crate) container: Container,
    /// Its image's mount, if it needs one.
    pub(crate) layers: Option<Mounted>,
}

impl Engine {
    /// Makes a container of an image and starts it; loads the image first where it is an archive.
    ///
    /// The calling program must have a single thread at that moment, since the container's
    /// supervising process is split off it ([`ns_core::split`]). Unless `request.detach`, the signals
    /// that [`attach`](crate::attach()) passes on are blocked in the calling thread from the
    /// process's start on.
    ///
    /// # Errors
    /// Anything on the way; then nothing of the container is left.
    pub fn run(&self, request: &RunRequest, progress: &dyn Progress) -> Result<Session, Error> {
        let starter = match request.detach {
            true => Starter::Passing,
            false => Starter::Attached { input: request.interactive },
        };
        let ahead = match request.network {
            Network::None => Ahead::network(),
            Network::Host => Ahead::default(),
        };
        self.make(request, progress, |dir, lock, made| {
            self.launch(dir, lock, made, starter, Some(ahead))
        })
    }

    /// Makes a container of an image, to be started by [`Engine::start`]; gives its id.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn create(&self, request: &RunRequest, progress: &dyn Progress) -> Result<String, Error> {
        self.make(request, progress, |dir, _lock, _made| {
            dir.unmount()?;
            dir.write_state(&State { status: Status::Created, ..State::default() })?;
            Ok(dir.id().to_owned())
        })
    }

    /// Makes a container, does `then` with it while its root is mounted, and removes it if anything
    /// fails.
    fn make<T>(
        &self,
        request: &RunRequest,
        progress: &dyn Progress,
        then: impl FnOnce(&Dir, Lock, Made) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if request.remove && request.restart != RestartPolicy::No {
            return Err(Error::RestartAndRemove);
        }
        let request = &self.with_others(request)?;
        // While this is held, the image cannot be removed.
        let hold = self.store.hold()?;
        let (image, image_name) =
            self.resolve(&request.image, request.platform.as_ref(), progress)?;
        let id = names::id()?;
        let (dir, lock) = self.root.make(&id)?;
        let recorded = self.record(&dir, request, &image, &image_name);
        drop(hold); // the container's record keeps the image from now on
        let done = recorded.and_then(|made| then(&dir, lock, made));
        if done.is_err() {
            // What went wrong first is what is told; the next command tries this again.
            let _ = remove(&self.root, &dir, dir.container().ok().flatten().as_ref(), true);
        }
        done
    }

    /// Writes a container down, with its directories and volumes; its root stays mounted.
    fn record(
        &self,
        dir: &Dir,
        request: &RunRequest,
        image: &StoredImage,
        image_name: &str,
    ) -> Result<Made, Error> {
        let name = self.name(request.name.as_deref(), dir.id())?;
        let id_of = |name: &str| Ok(self.container(name)?.id);
        let made = config::container(dir.id(), &name, request, image, image_name, &id_of);
        let made = made.and_then(|made| healthcheck::add(&self.store, made, request, image));
        let made = made.and_then(|made| self.without_what_is_lacking(dir, made));
        let mut container = match made {
            Ok(container) => container,
            Err(error) => {
                self.root.drop_name(&name, dir.id(), &mut Removed::default())?;
                return Err(error);
            }
        };
        // From here on a failure, or a kill, finds the name in the record.
        dir.write_container(&container)?;
        self.root.events().container(&container, "create", &[]);
        for name in ["diff", "work", "merged"] {
            dir.make(name)?;
        }
        // `cp` binds them in a container that was never started.
        etc::write(&container, dir.open(".")?.as_fd())?;
        let layers = bundle::layers(&self.store, &container)?;
        if let Some(top) = container.lowers.first() {
            dir.copy_root_attributes(&self.root.path().join(&top.link))?;
        }
        bundle::mount(&self.root, dir, &container)?;
        let merged = dir.open("merged")?;
        let volumes = bindvol::Volumes::open(&self.root.volumes())?;
        let record = |container: &Container| dir.write_container(container);
        let events = self.root.events();
        let merged = merged.as_fd();
        volumes::resolve(&mut container, request, &volumes, merged, &events, record)?;
        Ok(Made { container, layers })
    }

    /// The container as this kernel can have it.
    fn without_what_is_lacking(&self, dir: &Dir, mut made: Container) -> Result<Container, Error> {
        let limits = &made.host_config.limits;
        if limits.depends_on_kernel() {
            let kernel = group::abilities(dir, &made)?;
            self.warn(&made.host_config.limits.discard(&kernel));
        }
        Ok(made)
    }

    /// Takes the wanted name, or makes one up.
    fn name(&self, wanted: Option<&str>, id: &str) -> Result<String, Error> {
        if let Some(name) = wanted {
            names::check(name)?;
            return match self.root.take_name(name, id)? {
                None => Ok(name.to_owned()),
                Some(owner) => Err(Error::NameInUse { name: name.to_owned(), owner }),
            };
        }
        for attempt in 0..NAMES {
            let name = names::random(attempt)?;
            if self.root.take_name(&name, id)?.is_none() {
                return Ok(name);
            }
        }
        // The id is nobody else's.
        match self.root.take_name(id, id)? {
            None => Ok(id.to_owned()),
            Some(owner) => Err(Error::NameInUse { name: id.to_owned(), owner }),
        }
    }
}
