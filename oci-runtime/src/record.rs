//! What is on record of a container, and the state that is told of it (runtime.md, "State").

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;

use cgroup::Hierarchies;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::home::{CONFIG, Lock, Place};
use crate::hooks::Hooks;
use crate::scope::Known;
use crate::{Error, ExecConfig, Home, config, spec};

/// `state.json` in a container's directory.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) oci_version: String,
    /// 0 until there is a process.
    pub(crate) pid: i32,
    /// When that process was started, in ticks: a number alone may be another process's by now.
    pub(crate) pid_start: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// As RFC 3339.
    pub(crate) created: String,
    #[serde(default)]
    pub(crate) annotations: HashMap<String, String>,
    /// Who created it.
    pub(crate) uid: u32,
    /// Where its cgroup lies ([`cgroup::Location`]); empty where it has none.
    #[serde(default)]
    pub(crate) cgroup: String,
    /// The unit by which systemd made it, where systemd did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<Known>,
    /// Whether its configuration has `poststop` hooks: who removes it need not read it otherwise.
    #[serde(default = "perhaps")]
    pub(crate) poststop: bool,
    /// Whether it has no PID namespace that was made for it.
    #[serde(default = "perhaps")]
    pub(crate) shares_processes: bool,
}

/// Records of earlier versions do not say it.
fn perhaps() -> bool {
    true
}

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Somebody is making it.
    Creating,
    /// Its process waits for the start.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// The state of a container, as runc prints it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct State {
    /// The version of the specification that its configuration follows.
    pub oci_version: String,
    /// Its id.
    pub id: String,
    /// The number of its first process, as the caller sees it; 0 where there is none.
    pub pid: i32,
    /// How far it is.
    pub status: Status,
    /// The absolute path of its bundle.
    pub bundle: PathBuf,
    /// The absolute path of its root.
    pub rootfs: PathBuf,
    /// When it was created, as RFC 3339.
    pub created: String,
    /// Those of its configuration.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// The name of the user who created it; the number where it has no name.
    pub owner: String,
}

/// A container that is on record.
#[derive(Debug)]
pub struct Recorded {
    pub(crate) place: Place,
    pub(crate) record: Record,
    /// The caller's, once they were looked for.
    pub(crate) hierarchies: OnceLock<Hierarchies>,
}

impl Recorded {
    pub(crate) fn new(place: Place, record: Record) -> Self {
        Self { place, record, hierarchies: OnceLock::new() }
    }

    /// The container `id` of `home`.
    ///
    /// # Errors
    /// [`Error::Id`]; [`Error::NoSuchContainer`]; its record cannot be read.
    pub fn open(home: &Home, id: &str) -> Result<Self, Error> {
        let place = home.open(id)?;
        match read(&place)? {
            Some(record) => Ok(Self::new(place, record)),
            None => Err(home.no_such(id)),
        }
    }

    /// As [`Recorded::open`], when nobody else changes it, and as it is then.
    pub(crate) fn open_locked(home: &Home, id: &str) -> Result<(Self, Lock), Error> {
        let place = home.open(id)?;
        let lock = place.lock()?.ok_or_else(|| home.no_such(id))?;
        match read(&place)? {
            Some(record) => Ok((Self::new(place, record), lock)),
            // The rest of one that is gone, or came to nothing.
            None => place.remove(lock).and_then(|()| Err(home.no_such(id))),
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.place.id
    }

    /// Its first process, by descriptor; `None` where it has ended.
    ///
    /// # Errors
    /// The process cannot be looked at.
    pub fn process(&self) -> Result<Option<(Pid, OwnedFd)>, Error> {
        let Some(pid) = Pid::from_raw(self.record.pid) else { return Ok(None) };
        let path = || format!("/proc/{}", self.record.pid);
        let found = sys::process::find(pid, self.record.pid_start)
            .map_err(|errno| Error::io("opening the process", path())(errno.into()))?;
        Ok(found.map(|pidfd| (pid, pidfd)))
    }

    /// How far it is, now.
    ///
    /// # Errors
    /// As [`Recorded::process`].
    pub fn status(&self) -> Result<Status, Error> {
        if self.record.pid == 0 {
            // Whoever makes it has the lock, and dies with it.
            return Ok(match self.place.try_lock()? {
                Some(_) => Status::Stopped,
                None => Status::Creating,
            });
        }
        if self.process()?.is_none() {
            return Ok(Status::Stopped);
        }
        if self.is_paused()? {
            return Ok(Status::Paused);
        }
        Ok(match self.waits()? {
            true => Status::Created,
            false => Status::Running,
        })
    }

    /// Its process, in whose namespaces a further program may run, also where it is paused if `paused`.
    ///
    /// # Errors
    /// [`Error::Refused`] where none may; as [`Recorded::status`].
    pub fn process_for_exec(&self, paused: bool) -> Result<(Pid, OwnedFd), Error> {
        let Some(process) = self.process()? else {
            return Err(self.refuse("cannot exec in a stopped container", self.status()?));
        };
        if !paused && self.stands_still()? {
            let refusal = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(self.refuse(refusal, Status::Paused));
        }
        Ok(process)
    }

    /// Whether its process waits for the start.
    fn waits(&self) -> Result<bool, Error> {
        use crate::start::DOOR;
        let path = || self.place.path().join(DOOR);
        Ok(self.place.has(DOOR)?
            && sys::message::listens(self.place.dir(), DOOR)
                .map_err(|errno| Error::io("looking for who waits at", path())(errno.into()))?)
    }

    /// Its state, now.
    ///
    /// # Errors
    /// As [`Recorded::status`].
    pub fn state(&self) -> Result<State, Error> {
        let status = self.status()?;
        Ok(self.state_as(status))
    }

    /// Its state, where the status is known.
    pub(crate) fn state_as(&self, status: Status) -> State {
        let Record { oci_version, pid, bundle, rootfs, created, annotations, uid, .. } =
            self.record.clone();
        let pid = if status == Status::Stopped { 0 } else { pid };
        let id = self.id().to_owned();
        let owner = owner(uid);
        State { oci_version, id, pid, status, bundle, rootfs, created, annotations, owner }
    }

    /// Its configuration, as it was when it was created.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn config(&self) -> Result<spec::Spec, Error> {
        crate::load(self.place.path())
    }

    /// What of it a further program in it is given.
    ///
    /// # Errors
    /// As [`Recorded::config`].
    pub fn config_for_exec(&self, home: &Home) -> Result<ExecConfig, Error> {
        let short = self.place.read_exec()?;
        match short.and_then(|bytes| ExecConfig::decode(&bytes)) {
            Some(config) => Ok(config),
            None => ExecConfig::load(&self.config_file(), home),
        }
    }

    /// As [`Recorded::config`], for its start, which puts nothing but hooks under the filter.
    pub(crate) fn config_for_start(&self) -> Result<spec::Spec, Error> {
        config::load_for_hooks(&self.config_file())
    }

    fn config_file(&self) -> PathBuf {
        self.place.path().join(CONFIG)
    }

    /// Whether its start runs programs in it: the `startContainer` hooks.
    ///
    /// # Errors
    /// As [`Recorded::config`].
    pub fn start_enters(&self) -> Result<bool, Error> {
        self.config_for_start().map(|config| Hooks::has_start_container(&config))
    }

    /// Where its bundle is.
    pub fn bundle(&self) -> &std::path::Path {
        &self.record.bundle
    }

    pub(crate) fn write(&self) -> Result<(), Error> {
        self.place.write_state(&self.content()?)
    }

    /// Writes it where nobody finds it yet.
    pub(crate) fn stage(&self) -> Result<(), Error> {
        self.place.stage_state(&self.content()?)
    }

    fn content(&self) -> Result<Vec<u8>, Error> {
        let failed = Error::io("writing the record of", self.place.path());
        serde_json::to_vec(&self.record).map_err(|error| failed(error.into()))
    }

    pub(crate) fn refuse(&self, refusal: &'static str, status: Status) -> Error {
        Error::Refused { refusal, id: self.id().to_owned(), status }
    }
}

fn read(place: &Place) -> Result<Option<Record>, Error> {
    let Some(content) = place.read_state()? else { return Ok(None) };
    let failed = Error::io("reading the record of the container in", place.path());
    serde_json::from_slice(&content).map(Some).map_err(|error| failed(error.into()))
}

/// The name in `/etc/passwd` of the host.
fn owner(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    named.unwrap_or(number)
}
