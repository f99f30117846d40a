//! A container's cgroup where systemd makes it: a unit, and what is known of it afterwards.
//!
//! A scope begins with a process, and ends when it has none. The container's own process must be in it from its
//! first moment on, as it is in every group (CLONE_INTO_CGROUP): so a process that does nothing but wait holds the
//! scope until then.

use cgroup::limits::Limits;
use cgroup::{Group, Hierarchies, Location};
use ns_core::{Child, Spawn};
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};
use sys::Failure;
use systemd::properties::{self, Machine};
use systemd::{Manager, Property, Unit, annotation};

use crate::container::end;
use crate::{Error, group};

/// Who makes containers' cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// This program, by the files of cgroups.
    #[default]
    Cgroupfs,
    /// systemd: that of the machine, or the caller's own where `user`.
    Systemd {
        /// Whose.
        user: bool,
    },
}

/// The unit of a container that is being made, and the systemd that is asked for it.
#[derive(Debug)]
pub struct Scope {
    unit: Unit,
    manager: Manager,
    user: bool,
    machine: Machine,
    annotations: Vec<Property>,
}

/// What is on record of a container's unit.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Known {
    name: String,
    /// Of the user's systemd.
    user: bool,
}

/// What holds a scope until the container's process is in it.
#[derive(Debug)]
pub(crate) struct Holder {
    child: Child,
    manager: Manager,
    /// What would leave no room for the container's process beside this one.
    late: Limits,
    machine: Machine,
}

impl Scope {
    /// What `linux.cgroupsPath` and the annotations say of the unit, and where its cgroup will lie. Nothing is made.
    ///
    /// # Errors
    /// They name no unit, or no property; systemd does not run, or does not answer.
    pub(crate) fn locate(
        spec: &oci::Spec,
        id: &str,
        user: bool,
        hierarchies: &Hierarchies,
    ) -> Result<(Self, Location), Error> {
        let path = spec.linux().as_ref().and_then(group::path);
        let unit = Unit::parse(path.as_deref().unwrap_or_default(), id, user)?;
        let annotations = annotation::properties(spec.annotations().iter().flatten())?;
        let unified = hierarchies.is_unified();
        if user && !unified {
            return Err(Error::field(
                "linux.cgroupsPath",
                "a user's systemd makes no groups in the hierarchies of cgroup v1, which this machine has; start it \
                 with cgroup v2 alone, or leave --systemd-cgroup out",
            ));
        }
        let mut manager = Manager::connect(user)?;
        let above = manager.control_group()?;
        if user {
            check_own(&above)?;
        }
        let place = above + &unit.path();
        let location = group::locate(hierarchies, &place)?;
        let machine = Machine { unified, version: manager.version()? };
        Ok((Self { unit, manager, user, machine, annotations }, location))
    }

    pub(crate) fn known(&self) -> Known {
        Known { name: self.unit.name().to_owned(), user: self.user }
    }

    /// Makes the unit, with the limits that systemd has properties for. `limits` are what is to be written to the
    /// files then.
    pub(crate) fn start(mut self, limits: &mut Limits) -> Result<Holder, Error> {
        properties::round_quota(limits);
        let late = take_late(limits);
        let mut all = properties::accounting(self.machine);
        all.extend(properties::at_start(limits, self.machine));
        all.extend(properties::of_limits(limits, self.machine));
        all.extend(self.annotations);
        const HOLDS: u8 = 1;
        let child = Spawn::new().spawn(|gate| {
            gate.wait(HOLDS)?;
            Err(Failure::new("ending", rustix::io::Errno::CANCELED))
        })?;
        let first = (!self.unit.is_slice()).then(|| child.pid());
        match self.manager.start(&self.unit, first, &all) {
            Ok(()) => Ok(Holder { child, manager: self.manager, late, machine: self.machine }),
            Err(error) => {
                end(&child);
                Err(error.into())
            }
        }
    }
}

impl Holder {
    /// Lets the scope go, which has the container's process by now.
    pub(crate) fn release(mut self, unit: &Known, group: &Group) -> Result<(), Error> {
        self.end();
        if self.late != Limits::default() {
            group.apply(&self.late)?;
            self.manager.set(&unit.name, &properties::of_limits(&self.late, self.machine))?;
        }
        Ok(())
    }

    pub(crate) fn end(&self) {
        end(&self.child);
    }
}

impl Known {
    /// Lets systemd forget the unit, whose processes have ended.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        Ok(Manager::connect(self.user)?.stop(&self.name)?)
    }

    /// Sets limits: in the files, which tell of what cannot be, and for systemd, which would set the old ones again
    /// otherwise.
    pub(crate) fn update(
        &self,
        hierarchies: &Hierarchies,
        group: &Group,
        limits: &Limits,
    ) -> Result<(), Error> {
        let mut manager = Manager::connect(self.user)?;
        let unified = hierarchies.is_unified();
        let machine = Machine { unified, version: manager.version()? };
        let mut limits = limits.clone();
        group.complete(&mut limits)?;
        properties::round_quota(&mut limits);
        group.apply(&limits)?;
        Ok(manager.set(&self.name, &properties::of_limits(&limits, machine))?)
    }
}

/// Whether the caller is in a group of its systemd's, which are below `above`: only from there the kernel lets a user
/// start a process in another one (cgroup-v2.rst, "Delegation Containment").
fn check_own(above: &str) -> Result<(), Error> {
    let own = Location::of_process("self")?;
    let own = own.unified().unwrap_or("/");
    match own.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')) {
        true => Ok(()),
        false => Err(Error::field(
            "linux.cgroupsPath",
            format!(
                "this process is in the cgroup {own}, and a user may start processes in scopes below {above} only \
                 from there: call it by `systemd-run --user --scope`, as Podman calls itself"
            ),
        )),
    }
}

/// The limits that can be set only when nobody holds the scope: of one process.
fn take_late(limits: &mut Limits) -> Limits {
    const FILE: &str = "pids.max";
    let mut late = Limits::default();
    if limits.pids == Some(1) {
        late.pids = limits.pids.take();
    }
    let one = |text: &String| matches!(text.trim(), "0" | "1");
    if limits.unified.get(FILE).is_some_and(one) {
        late.unified.extend(limits.unified.remove_entry(FILE));
    }
    late
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_one_process_waits() {
        let mut limits = Limits { pids: Some(1), ..Limits::default() };
        limits.unified.insert("pids.max".into(), "1\n".into());
        limits.unified.insert("memory.high".into(), "1".into());
        let late = take_late(&mut limits);
        assert_eq!((limits.pids, late.pids), (None, Some(1)));
        assert_eq!((limits.unified.len(), late.unified.len()), (1, 1));
        let mut two = Limits { pids: Some(2), ..Limits::default() };
        assert_eq!(take_late(&mut two), Limits::default());
    }
}
