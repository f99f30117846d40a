//! The way of a container onto the record.

use std::os::fd::BorrowedFd;
use std::path::Path;

use cgroup::{Hierarchies, Location};
use rustix::process::Pid;

use crate::home::Lock;
use crate::hooks::Hooks;
use crate::record::Record;
use crate::{CgroupDriver, Config, Created, Error, ExecConfig, Home, Recorded, Scope, group, spec};

/// A container that is being made: on record, locked, without a process yet. Whoever dies here leaves a
/// stopped container, to be deleted as any other.
#[derive(Debug)]
pub struct Making {
    container: Recorded,
    lock: Lock,
    hierarchies: Hierarchies,
    location: Location,
    scope: Option<Scope>,
    /// What a further program in it is given, to be written down.
    exec: Option<Vec<u8>>,
    /// What came of writing its process down, so that it need but be put in its place.
    staged: Option<Result<(), Error>>,
}

impl Making {
    /// Puts the container `id`, of the configuration `config` in the absolute path `bundle`, on record;
    /// `created` is the time, as RFC 3339; `driver` makes its cgroup.
    ///
    /// # Errors
    /// [`Error::Id`]; [`Error::ContainerExists`]; the record cannot be written; systemd is to make the cgroup, and
    /// cannot be asked ([`Error::Systemd`]).
    pub fn begin(
        home: &Home,
        id: &str,
        bundle: &Path,
        config: &Config,
        created: String,
        driver: CgroupDriver,
    ) -> Result<Self, Error> {
        let spec = config.spec();
        let hierarchies = Hierarchies::find()?;
        let (scope, location) = match driver {
            // As linux.cgroupsPath says, or else under its id below the caller's own (as runc).
            CgroupDriver::Cgroupfs => {
                let path = spec.linux().as_ref().and_then(group::path);
                (None, group::locate(&hierarchies, path.as_deref().unwrap_or(id))?)
            }
            CgroupDriver::Systemd { user } => {
                let (scope, location) = Scope::locate(spec, id, user, &hierarchies)?;
                (Some(scope), location)
            }
        };
        let rootfs = spec.root().as_ref().map(|root| bundle.join(root.path()));
        let record = Record {
            oci_version: spec.version().clone(),
            pid: 0,
            pid_start: 0,
            bundle: bundle.to_owned(),
            rootfs: rootfs.unwrap_or_default(),
            created,
            annotations: spec.annotations().clone().unwrap_or_default(),
            uid: rustix::process::geteuid().as_raw(),
            cgroup: location.to_string(),
            unit: scope.as_ref().map(Scope::known),
            poststop: Hooks::has_poststop(spec),
            shares_processes: shares_processes(spec),
        };
        let (place, lock) = home.make(id)?;
        if let Err(error) = refuse_others_group(&hierarchies, &location) {
            return place.remove(lock).and(Err(error));
        }
        let failed = Error::io("writing the configuration of", place.path());
        let exec = ExecConfig::encode(config);
        let config = config.to_json().map_err(|error| failed(error.into()))?;
        let mut container = Recorded::new(place, record);
        container.hierarchies = hierarchies.clone().into();
        let making = Self { container, lock, hierarchies, location, scope, exec, staged: None };
        // The record last: what has none is of no use to anybody.
        match making.container.place.write_config(&config).and_then(|()| making.container.write()) {
            Ok(()) => Ok(making),
            Err(error) => making.abandon().and(Err(error)),
        }
    }

    /// Where its cgroup is to lie ([`Prepared::group`](crate::Prepared::group)).
    pub fn group(&self) -> (Hierarchies, Location) {
        (self.hierarchies.clone(), self.location.clone())
    }

    /// What systemd is asked for its cgroup by ([`Prepared::scope`](crate::Prepared::scope)), once.
    pub fn take_scope(&mut self) -> Option<Scope> {
        self.scope.take()
    }

    /// Where its process may wait ([`Prepared::wait_in`](crate::Prepared::wait_in)).
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.container.place.dir()
    }

    /// Writes the process `pid` down, for [`Making::note`], and what a further program is given: while it still makes its mounts
    /// ([`Prepared::create_while`](crate::Prepared::create_while)). Nobody finds it before: what is half made must not be entered.
    pub fn write_down(&mut self, pid: Pid) {
        let exec = self.exec.as_ref();
        let exec = exec.map_or(Ok(()), |content| self.container.place.write_exec(content));
        let staged =
            exec.and_then(|()| self.take_process(pid)).and_then(|()| self.container.stage());
        self.staged = Some(staged);
    }

    /// Notes the process, before it is let go on: from here on the container is not lost, whatever
    /// happens to the caller.
    ///
    /// # Errors
    /// It has ended; the record cannot be written.
    pub fn note(&mut self, created: &Created) -> Result<(), Error> {
        match self.staged.take() {
            Some(staged) => staged.and_then(|()| self.container.place.put_state()),
            None => self.note_process(created.pid()),
        }
    }

    pub(crate) fn note_process(&mut self, pid: Pid) -> Result<(), Error> {
        self.take_process(pid)?;
        self.container.write()
    }

    fn take_process(&mut self, pid: Pid) -> Result<(), Error> {
        let path = || format!("/proc/{}/stat", pid.as_raw_nonzero());
        let start = sys::process::start_time(pid)
            .map_err(|errno| Error::io("reading", path())(errno.into()))?
            .ok_or_else(|| Error::io("reading", path())(std::io::ErrorKind::NotFound.into()))?;
        self.container.record.pid = pid.as_raw_nonzero().get();
        self.container.record.pid_start = start;
        Ok(())
    }

    pub(crate) fn id(&self) -> &str {
        self.container.id()
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        self.container.place.path()
    }

    pub(crate) fn bundle(&self) -> &Path {
        self.container.bundle()
    }

    pub(crate) fn rootfs(&self) -> &Path {
        &self.container.record.rootfs
    }

    /// Where its group lies in each hierarchy: the controllers, none for v2, and the path.
    pub(crate) fn group_lines(&self) -> Vec<(String, String)> {
        let lines = self.container.record.cgroup.lines();
        let parts = |line: &str| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            Some((controllers.to_owned(), path.to_owned()))
        };
        lines.filter_map(parts).collect()
    }

    /// The container, for others too from now on.
    pub fn finish(self) -> Recorded {
        self.container
    }

    /// Takes it off the record, and its cgroup away with what is left in it: it came to nothing.
    ///
    /// # Errors
    /// Its group, its unit or its directory cannot be removed.
    pub fn abandon(self) -> Result<(), Error> {
        let unit = self.container.end_group()?;
        self.container.place.remove(self.lock)?;
        unit.map_or(Ok(()), Err)
    }
}

/// Whether no PID namespace is made for it.
fn shares_processes(spec: &spec::Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    !namespaces.into_iter().flatten().any(|namespace| {
        namespace.typ() == spec::LinuxNamespaceType::Pid && namespace.path().is_none()
    })
}

/// A group with processes in it is somebody else's, which would be paused and killed with the container's; in
/// a frozen one nothing starts.
fn refuse_others_group(hierarchies: &Hierarchies, location: &Location) -> Result<(), Error> {
    let group = match hierarchies.open(location) {
        Err(error) if error.is_not_found() => return Ok(()),
        group => group?,
    };
    if group.is_frozen()? {
        let reason = "container's cgroup unexpectedly frozen: its process would never get ready; thaw the \
                      group, or give another path";
        return Err(Error::field("linux.cgroupsPath", reason));
    }
    match group.processes()?.len() {
        0 => Ok(()),
        count => {
            let reason = format!(
                "container's cgroup is not empty: {count} process(es) found in it; give another path, \
                 or end them"
            );
            Err(Error::field("linux.cgroupsPath", reason))
        }
    }
}
