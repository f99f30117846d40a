//! A container's cgroup, from the configuration to its process in it.

use std::path::PathBuf;

use cgroup::{Group, Hierarchies, Join, Limits, Location};
use oci_spec::runtime as oci;
use sys::Failure;

use crate::parts::PART_GROUP;
use crate::scope::{Holder, Known, Scope};
use crate::{Error, resources};

/// Where limits are in the configuration.
const FIELD: &str = "linux.resources";

/// A group that is to be made: where, and with which limits.
#[derive(Debug)]
pub(crate) struct OwnGroup {
    place: Place,
    limits: Limits,
    /// Whether the configuration asks for limits.
    limited: bool,
    /// Whether it says where the group lies.
    named: bool,
    /// Whether the caller may have no right to make groups.
    rootless: bool,
}

#[derive(Debug)]
enum Place {
    None,
    /// `linux.cgroupsPath`.
    Path(String),
    /// Where the caller wants it; and who makes it, where that is systemd.
    At(Hierarchies, Location, Option<Box<Scope>>),
}

/// Where the group of `linux.cgroupsPath` lies.
pub(crate) fn locate(hierarchies: &Hierarchies, path: &str) -> Result<Location, Error> {
    let wrong = |error: cgroup::Error| Error::field("linux.cgroupsPath", error.to_string());
    hierarchies.locate(path).map_err(wrong)
}

/// `linux.cgroupsPath`, where there is one.
pub(crate) fn path(linux: &oci::Linux) -> Option<String> {
    let path = linux.cgroups_path().as_ref().map(|path| path.to_string_lossy().into_owned());
    path.filter(|path| !path.is_empty())
}

impl OwnGroup {
    pub(crate) fn prepare(linux: &oci::Linux) -> Result<Self, Error> {
        let place = path(linux).map_or(Place::None, Place::Path);
        let resources = linux.resources().as_ref();
        let limits = resources::limits(resources)?;
        let limited = resources.map(resources::given).transpose()?;
        let limited = limited.is_some_and(|limits| limits != Limits::default());
        let named = matches!(place, Place::Path(_));
        Ok(Self { place, limits, limited, named, rootless: false })
    }

    /// Lets the container be without a group where the caller may make none, and nothing was asked of one (as
    /// runc).
    pub(crate) fn rootless(&mut self) {
        self.rootless = true;
    }

    pub(crate) fn put_at(&mut self, hierarchies: Hierarchies, location: Location) {
        self.place = Place::At(hierarchies, location, None);
    }

    /// Lets systemd make it, where it is to lie.
    pub(crate) fn in_scope(&mut self, scope: Scope) {
        if let Place::At(.., maker) = &mut self.place {
            *maker = Some(Box::new(scope));
        }
    }

    /// Makes it, with its limits but for those of [`Made::limit_devices`]; none where the configuration asks for no group
    /// and no limits.
    pub(crate) fn make(&mut self) -> Result<Option<Made>, Error> {
        if let Place::At(hierarchies, location, maker) = &mut self.place
            && let Some(scope) = maker.take()
        {
            let (hierarchies, location) = (hierarchies.clone(), location.clone());
            return self.make_by(*scope, &hierarchies, &location).map(Some);
        }
        let made = match &self.place {
            Place::None if self.limited => {
                return Err(Error::field(
                    "linux.cgroupsPath",
                    "it is missing, and linux.resources asks for limits, which a cgroup has; give the path",
                ));
            }
            Place::None => return Ok(None),
            Place::Path(path) => {
                let hierarchies = Hierarchies::find()?;
                hierarchies.create(&locate(&hierarchies, path)?)
            }
            Place::At(hierarchies, location, _) => hierarchies.create(location),
        };
        let group = match made {
            Err(error) if self.rootless && !self.named && error.is_permission() => {
                return match self.limited {
                    true => Err(Error::field(
                        FIELD,
                        format!(
                            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: \
                         {error}; leave them out, or have a cgroup delegated to you"
                        ),
                    )),
                    false => Ok(None),
                };
            }
            group => group?,
        };
        match self.furnish(&group) {
            Ok((join, devices)) => {
                let rootless = self.rootless;
                Ok(Some(Made { group, join, devices, rootless, unit: None, holder: None }))
            }
            Err(error) => {
                // What made it fail is told.
                let _ = group.remove();
                Err(error)
            }
        }
    }

    /// Lets systemd make it, and makes what of it systemd does not: groups in hierarchies that it leaves alone.
    fn make_by(
        &mut self,
        scope: Scope,
        hierarchies: &Hierarchies,
        location: &Location,
    ) -> Result<Made, Error> {
        let unit = scope.known();
        let holder = scope.start(&mut self.limits)?;
        let made = hierarchies.create(location).map_err(Error::from);
        match made.and_then(|group| Ok((self.furnish(&group)?, group))) {
            Ok(((join, devices), group)) => {
                let (rootless, unit, holder) = (self.rootless, Some(unit), Some(holder));
                Ok(Made { group, join, devices, rootless, unit, holder })
            }
            Err(error) => {
                holder.end();
                // As above.
                let _ = hierarchies.open(location).map(|group| group.remove());
                let _ = unit.stop();
                Err(error)
            }
        }
    }

    /// Sets the limits, but for those of devices that it gives, and opens what the container's process needs.
    fn furnish(&mut self, group: &Group) -> Result<(Join, Limits), Error> {
        let devices = Limits { devices: self.limits.devices.take(), ..Limits::default() };
        group.apply(&self.limits).map_err(|error| error.below(FIELD))?;
        let later = match group.limits_devices_at_once() {
            true => devices,
            // The process opens some of them, and must not find all of them closed.
            false => {
                limit_devices(group, &devices, self.rootless)?;
                Limits::default()
            }
        };
        Ok((group.join()?, later))
    }
}

fn limit_devices(group: &Group, limits: &Limits, rootless: bool) -> Result<(), Error> {
    match group.apply(limits) {
        // Of a user who can make no nodes, and has those of the host that are the user's anyway (as runc).
        Err(error) if rootless && error.is_permission() => Ok(()),
        done => done.map_err(|error| error.below(FIELD).into()),
    }
}

/// A group that was made for a process that is not there yet.
#[derive(Debug)]
pub(crate) struct Made {
    group: Group,
    pub(crate) join: Join,
    devices: Limits,
    rootless: bool,
    /// Where systemd made it.
    unit: Option<Known>,
    holder: Option<Holder>,
}

impl Made {
    /// Its directories on the host, by their controllers, v2's under the empty name.
    pub(crate) fn paths(&self) -> Vec<(String, PathBuf)> {
        self.group.paths()
    }

    /// Sets the limits of devices that are not set yet, which the container's program must not be without: while its
    /// process makes its mounts, for the kernel takes its time over v2's program.
    pub(crate) fn limit_devices(&self) -> Result<(), Error> {
        limit_devices(&self.group, &self.devices, self.rootless)
    }

    /// Does what waits for the process to be in it.
    pub(crate) fn has_process(&mut self) -> Result<(), Error> {
        match (self.holder.take(), &self.unit) {
            (Some(holder), Some(unit)) => holder.release(unit, &self.group),
            _ => Ok(()),
        }
    }

    /// For a further process of the container.
    pub(crate) fn join_again(&self) -> Result<Join, Error> {
        Ok(self.group.join()?)
    }

    /// Ends what is left in it, and takes it away.
    pub(crate) fn destroy(&self) -> Result<(), Error> {
        self.group.destroy()?;
        self.unit.as_ref().map_or(Ok(()), Known::stop)
    }

    /// Takes it away again, after its process has ended: with what another may have in it, it stays.
    pub(crate) fn take_back(&self) {
        self.holder.iter().for_each(Holder::end);
        // The caller tells of another error.
        let _ = self.group.remove();
        if let Some(unit) = &self.unit {
            let _ = unit.stop();
        }
    }
}

/// Child side: joins the cgroups that a process joins by itself.
pub(crate) fn enter(join: Option<&Join>) -> Result<(), Failure> {
    let of_group = |failure: Failure| failure.of(PART_GROUP, failure.index);
    join.map_or(Ok(()), |join| join.apply().map_err(of_group))
}
