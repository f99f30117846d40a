//! A container on record and its cgroup: its processes, pause and resume, numbers.

use cgroup::{Group, Hierarchies, Join, Limits, Location, OomWatch, Stats};
use rustix::process::{Pid, Signal};

use crate::{Error, Home, Recorded, Status};

impl Recorded {
    /// The caller's hierarchies, looked for once.
    pub(crate) fn hierarchies(&self) -> Result<&Hierarchies, Error> {
        match self.hierarchies.get() {
            Some(found) => Ok(found),
            None => {
                let found = Hierarchies::find()?;
                Ok(self.hierarchies.get_or_init(|| found))
            }
        }
    }

    /// Its group, as far as it is there.
    pub(crate) fn group(&self) -> Result<Option<Group>, Error> {
        if self.record.cgroup.is_empty() {
            return Ok(None);
        }
        let location: Location = self.record.cgroup.parse()?;
        match self.hierarchies()?.open(&location) {
            Ok(group) => Ok(Some(group)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Its group, for what cannot be done without it.
    fn own_group(&self) -> Result<Group, Error> {
        self.group()?.ok_or_else(|| Error::NoGroup { id: self.id().to_owned() })
    }

    /// What a further process of it needs to begin in its cgroup; none where it has none.
    ///
    /// # Errors
    /// The group cannot be opened.
    pub fn join(&self) -> Result<Option<Join>, Error> {
        Ok(self.group()?.map(|group| group.join()).transpose()?)
    }

    /// As [`Recorded::join`], in groups below its own, which must be there: each is `PATH` for all
    /// hierarchies or `CONTROLLERS:PATH` (as runc's `exec --cgroup`).
    ///
    /// # Errors
    /// A path leads out of the container's group; there is no such group or controller.
    pub fn join_below(&self, groups: &[String]) -> Result<Option<Join>, Error> {
        let wrong =
            |group: &String, reason: String| Error::field(format!("--cgroup {group}"), reason);
        let mut lines: Vec<String> = self.record.cgroup.lines().map(str::to_owned).collect();
        for group in groups {
            let (names, path) = group.split_once(':').unwrap_or(("", group));
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            if parts.iter().any(|part| matches!(*part, "." | "..")) {
                return Err(wrong(group, format!("cgroup path {path} is not a sub cgroup path")));
            }
            let mut found = false;
            let own = self.record.cgroup.lines();
            for (line, own) in lines.iter_mut().zip(own) {
                let controllers = own.split(':').nth(1).unwrap_or_default();
                let mut names = names.split(',');
                if names.clone().eq([""])
                    || names.any(|name| controllers.split(',').any(|c| c == name))
                {
                    *line = [&[own], &parts[..]].concat().join("/");
                    found = true;
                }
            }
            if !found {
                return Err(wrong(group, format!("unknown controller {names}")));
            }
        }
        let location: Location = lines.join("\n").parse()?;
        let group = match self.hierarchies()?.open(&location) {
            Err(error) if error.is_not_found() => None,
            group => Some(group?),
        };
        let there = group.as_ref().map(Group::paths).unwrap_or_default();
        for (line, given) in lines.iter().zip(self.record.cgroup.lines()) {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) =
                (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            // What the container's own group does not have needs no group below.
            if line != given && !there.iter().any(|(name, _)| name == controllers) {
                let reason =
                    format!("adding pid to {path}/cgroup.procs: no such file or directory");
                return Err(wrong(&groups.join(" "), reason));
            }
        }
        Ok(group.map(|group| group.join()).transpose()?)
    }

    /// Whether its processes are frozen.
    pub(crate) fn is_paused(&self) -> Result<bool, Error> {
        match self.group()? {
            Some(group) => Ok(group.is_frozen()?),
            None => Ok(false),
        }
    }

    /// As [`Recorded::is_paused`], of one that is not just being frozen, by fewer system calls.
    pub(crate) fn stands_still(&self) -> Result<bool, Error> {
        if self.record.cgroup.is_empty() {
            return Ok(false);
        }
        match self.hierarchies()?.stands_still(&self.record.cgroup.parse()?) {
            Err(error) if error.is_not_found() => Ok(false),
            still => Ok(still?),
        }
    }

    /// All its processes, as the caller sees them.
    ///
    /// # Errors
    /// It has no cgroup ([`Error::NoGroup`]).
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        Ok(self.own_group()?.processes()?)
    }

    /// What it uses.
    ///
    /// # Errors
    /// It has no cgroup ([`Error::NoGroup`]).
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(self.own_group()?.stats()?)
    }

    /// Tells of its processes that are killed for want of memory.
    ///
    /// # Errors
    /// It has no cgroup ([`Error::NoGroup`]), or its memory is not counted.
    pub fn watch_oom(&self) -> Result<OomWatch, Error> {
        Ok(self.own_group()?.watch_oom()?)
    }

    /// Sends all its processes a signal, also those that are left when the first one has ended. One that
    /// has none left is no error.
    ///
    /// # Errors
    /// The signal may not be sent.
    pub fn kill_all(&self, signal: Signal) -> Result<(), Error> {
        match self.group()? {
            Some(group) if signal == Signal::KILL => Ok(group.kill_all()?),
            Some(group) => Ok(group.signal_each(signal).map(drop)?),
            None if self.process()?.is_some() => self.kill(signal),
            None => Ok(()),
        }
    }

    /// Freezes all processes of the container `id`.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; it does not run ([`Error::Refused`]); it has no cgroup.
    pub fn pause(home: &Home, id: &str) -> Result<(), Error> {
        let (container, lock) = Self::open_locked(home, id)?;
        match container.status_locked(&lock)? {
            Status::Running | Status::Created => Ok(container.own_group()?.freeze()?),
            status => Err(container.refuse("container not running or created", status)),
        }
    }

    /// Lets the processes of the paused container `id` go on.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; it is not paused ([`Error::Refused`]).
    pub fn resume(home: &Home, id: &str) -> Result<(), Error> {
        let (container, lock) = Self::open_locked(home, id)?;
        match container.status_locked(&lock)? {
            Status::Paused => Ok(container.own_group()?.thaw()?),
            status => Err(container.refuse("container not paused", status)),
        }
    }

    /// Changes the limits of the container `id`: those that are given, and no others.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; it has stopped ([`Error::Refused`]); the kernel refuses a limit.
    pub fn update(home: &Home, id: &str, limits: &Limits) -> Result<(), Error> {
        let (container, lock) = Self::open_locked(home, id)?;
        match container.status_locked(&lock)? {
            status @ (Status::Stopped | Status::Creating) => {
                Err(container.refuse("container not running", status))
            }
            _ => match (&container.record.unit, container.own_group()?) {
                (Some(unit), group) => unit.update(container.hierarchies()?, &group, limits),
                (None, group) => Ok(group.apply(limits)?),
            },
        }
    }
}
