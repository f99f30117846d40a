//! `run`: from an image to a process.

use std::os::fd::{AsFd, OwnedFd};

use image_store::{Progress, StoredImage};
use oci_runtime::spec::{BoxBuilder, Process};
use oci_runtime::{Prepared, Stdio};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::dir::{Dir, Lock};
use crate::remove::remove;
use crate::report::Report;
use crate::supervise::{Output, Supervisor};
use crate::{
    Container, Engine, Error, RunRequest, Session, attach, config, etc, group, names, shared, spec,
    volumes,
};

/// How many made-up names are tried.
const NAMES: u32 = 100;

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
        let request = &self.with_others(request)?;
        // While this is held, the image cannot be removed.
        let hold = self.store.hold()?;
        let (image, image_name) =
            self.resolve(&request.image, request.platform.as_ref(), progress)?;
        let id = names::id()?;
        let (dir, lock) = self.root.make(&id)?;
        let made = self.make(&dir, request, &image, &image_name);
        drop(hold); // the container's record keeps the image from now on
        let started = made.and_then(|made| self.start(&dir, lock, made, request));
        if started.is_err() {
            // What went wrong first is what is told; the next command tries this again.
            let _ = remove(&self.root, &dir, dir.container().ok().flatten().as_ref(), true);
        }
        started
    }

    /// Makes all of a container but its process.
    fn make(
        &self,
        dir: &Dir,
        request: &RunRequest,
        image: &StoredImage,
        image_name: &str,
    ) -> Result<Made, Error> {
        let name = self.name(request.name.as_deref(), dir.id())?;
        let id_of = |name: &str| Ok(self.container(name)?.id);
        let made = config::container(dir.id(), &name, request, image, image_name, &id_of);
        let mut container = match made {
            Ok(container) => container,
            Err(error) => {
                self.root.drop_name(&name, dir.id())?;
                return Err(error);
            }
        };
        // From here on a failure, or a kill, finds the name in the record.
        dir.write_container(&container)?;
        self.make_root(dir, &container)?;
        let merged = dir.open("merged")?;
        let volumes = bindvol::Volumes::open(&self.root.volumes())?;
        let record = |container: &Container| dir.write_container(container);
        let subpaths = volumes::resolve(&mut container, request, &volumes, merged.as_fd(), record)?;
        dir.write_container(&container)?;
        let own = rustix::fs::open(dir.path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::system("open", dir.path(), errno))?;
        etc::write(&container, own.as_fd())?;
        let shared = shared::open(&self.root, dir, &container)?;
        let mut spec = spec::build(&container, dir.path(), merged.as_fd(), &subpaths, &shared)?;
        if let Some(process) = spec.process_mut() {
            set_size(process);
        }
        dir.write("config.json", &spec)?;
        let (stdio, output) = stdio(request)?;
        let prepared =
            Prepared::new(dir.path(), &spec, stdio)?.cgroup(group::make(dir, &container)?);
        Ok(Made { container, prepared, output })
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

    /// Makes the container's own directory, and mounts the root.
    fn make_root(&self, dir: &Dir, container: &Container) -> Result<(), Error> {
        for name in ["diff", "work", "merged"] {
            dir.make(name)?;
        }
        if let Some(top) = container.lowers.first() {
            dir.copy_root_attributes(&self.root.path().join(&top.link))?;
        }
        self.mount_root(dir, container)
    }

    /// Splits the supervisor off, and waits until it says that the program runs.
    fn start(
        &self,
        dir: &Dir,
        lock: Lock,
        made: Made,
        request: &RunRequest,
    ) -> Result<Session, Error> {
        let (own, channel) = sys::message::pair()
            .map_err(|errno| Error::system("make", "a pair of sockets", errno))?;
        let Made { container, prepared, output } = made;
        let (root, supervised) = (self.root.clone(), dir.clone());
        let output = Output { terminal: request.tty && request.detach, ..output };
        let mut supervisor =
            Some(Supervisor { root, dir: supervised, container, prepared, channel, output, lock });
        let mut own = Some(own);
        if !request.detach {
            attach::hold_signals()?;
        }
        ns_core::split(|| {
            // A copy of the starter's end would hide that the starter is gone.
            drop(own.take());
            supervisor.take().map_or(1, Supervisor::run)
        })?;
        drop(supervisor); // with this process's copies of what the supervisor has
        let lost = || Error::Supervisor { container: dir.id().to_owned() };
        let own = own.ok_or_else(lost)?;
        match Report::receive(own.as_fd())? {
            Some((Report::Started, [Some(pidfd), terminal])) => {
                Ok(Session::supervised(dir.id(), terminal, pidfd, own))
            }
            Some((Report::Failed { message, code }, _)) => Err(Error::Start { message, code }),
            _ => Err(lost()),
        }
    }
}

/// A container that is made, and not started.
struct Made {
    container: Container,
    prepared: Prepared,
    output: Output,
}

/// What the process gets as standard input, output and error, and what the supervisor has of it.
fn stdio(request: &RunRequest) -> Result<(Stdio, Output), Error> {
    let failed = |errno| Error::system("make", "a pipe", errno);
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(failed);
    let mut output = Output::default();
    if request.tty {
        return Ok((Stdio::null()?, output));
    }
    let null = Stdio::null_device()?;
    if !request.detach {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let stdio = match request.interactive {
            true => Stdio::new(stdin, stdout, stderr)?,
            false => Stdio::new(null, stdout, stderr)?,
        };
        return Ok((stdio, output));
    }
    let mut stdin: OwnedFd = null;
    if request.interactive {
        let (read, write) = pipe()?;
        (stdin, output.stdin) = (read, Some(write));
    }
    let (out, stdout) = pipe()?;
    let (err, stderr) = pipe()?;
    output.pipes = vec![(out, "stdout"), (err, "stderr")];
    Ok((Stdio::new(stdin, stdout, stderr)?, output))
}

/// Gives a process's terminal the size of the starter's.
pub(crate) fn set_size(process: &mut Process) {
    let size = attach::window_size(&[std::io::stdout().as_fd(), std::io::stdin().as_fd()]);
    if let Some(size) = size.filter(|_| process.terminal() == Some(true)) {
        let size = BoxBuilder::default().height(size.ws_row).width(size.ws_col).build();
        process.set_console_size(size.ok());
    }
}
