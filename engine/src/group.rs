//! A container's cgroup: where it lies, and what is done with it by its record.

use cgroup::{Abilities, Group, Hierarchies, Location};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use serde_json::{Value, json};

use crate::dir::Dir;
use crate::{Container, Error, devices, limits};

/// The v1 controllers that limits and numbers need, where v2 is mounted too: it has all else (the freezer,
/// devices, the end). A group in each costs two system calls, and the process's joining as much.
const LIMITED: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "blkio"];
/// And where v1 is alone.
const ALONE: [&str; 3] = ["cpuacct", "devices", "freezer"];

fn hierarchies() -> Result<Hierarchies, Error> {
    let all = Hierarchies::find()?;
    let needed = if has_unified(&all) { LIMITED.to_vec() } else { [&LIMITED[..], &ALONE].concat() };
    Ok(all.only(&needed))
}

/// The one that stops containers.
pub(crate) fn freezer() -> Result<Hierarchies, Error> {
    let all = Hierarchies::find()?;
    let needed: &[&str] = if has_unified(&all) { &[] } else { &["freezer"] };
    Ok(all.only(needed))
}

fn has_unified(all: &Hierarchies) -> bool {
    all.describe().iter().any(|(controllers, _)| controllers.is_empty())
}

/// Where the group of a container is to lie: written to its record before it is made.
pub(crate) fn locate(dir: &Dir, container: &Container) -> Result<(Hierarchies, Location), Error> {
    let name = format!("runtime-bin-{}", dir.id());
    let path = match &container.host_config.limits.cgroup_parent[..] {
        "" => name,
        parent => format!("{}/{name}", parent.trim_end_matches('/')),
    };
    let hierarchies = hierarchies()?;
    let location = hierarchies.locate(&path)?;
    dir.write_group(&location.to_string())?;
    Ok((hierarchies, location))
}

/// What this kernel's groups can be told, asked of the container's own, which is made for that where it is
/// not there, and taken away again.
pub(crate) fn abilities(dir: &Dir, container: &Container) -> Result<Abilities, Error> {
    if let Some(group) = open(dir)? {
        return Ok(group.abilities()?);
    }
    let (hierarchies, location) = locate(dir, container)?;
    let group = hierarchies.create(&location)?;
    let found = group.abilities();
    group.remove()?;
    Ok(found?)
}

/// What a container may use: its limits, and the devices beside those that all have.
pub(crate) fn resources(container: &Container) -> Result<LinuxResources, Error> {
    let host = &container.host_config;
    let mut resources = limits::resources(&host.limits)?;
    let mut rules = Vec::new();
    if host.privileged {
        rules.push(json!({"allow": true, "access": "rwm"}));
    } else {
        rules.push(json!({"allow": false, "access": "rwm"}));
        for device in devices::list(container)? {
            let mapping = host
                .devices
                .iter()
                .rev()
                .find(|mapping| device.path().starts_with(&mapping.path_in_container));
            let access = mapping.map_or("rwm", |mapping| &mapping.cgroup_permissions);
            rules.push(json!({
                "allow": true, "type": device.typ(), "major": device.major(),
                "minor": device.minor(), "access": access,
            }));
        }
        rules.extend(host.limits.device_cgroup_rules.iter().flatten().map(|text| rule(text)));
    }
    let rules: Result<Vec<LinuxDeviceCgroup>, _> =
        rules.into_iter().map(serde_json::from_value).collect();
    let damaged = |source| Error::Damaged { path: "the devices of the container".into(), source };
    resources.set_devices(Some(rules.map_err(damaged)?));
    Ok(resources)
}

/// `c 1:3 rwm`, which was checked when it was read.
fn rule(text: &str) -> Value {
    let words: Vec<&str> = text.split([' ', ':']).collect();
    let [kind, major, minor, access] = words[..] else { return Value::Null };
    let number = |word: &str| word.parse::<i64>().ok();
    json!({
        "allow": true, "type": kind, "major": number(major), "minor": number(minor),
        "access": access,
    })
}

/// The container's group, as far as it is there; none where it has none (yet).
pub(crate) fn open(dir: &Dir) -> Result<Option<Group>, Error> {
    match dir.group()? {
        Some(record) => open_in(&Hierarchies::find()?, &record),
        None => Ok(None),
    }
}

fn open_in(hierarchies: &Hierarchies, record: &str) -> Result<Option<Group>, Error> {
    let location: Location = record.parse()?;
    match hierarchies.open(&location) {
        Ok(group) => Ok(Some(group)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The group of a container that runs.
pub(crate) fn of_running(dir: &Dir, container: &Container) -> Result<Group, Error> {
    open(dir)?.ok_or_else(|| Error::not_running(container))
}

/// Whether the processes of a container's cgroup are frozen.
pub(crate) fn is_frozen(dir: &Dir) -> bool {
    matches!(open(dir), Ok(Some(group)) if group.is_frozen().unwrap_or(false))
}

/// The same of one of many containers, whose [`freezer`] is looked for once.
pub(crate) fn is_frozen_in(freezer: &Hierarchies, dir: &Dir) -> bool {
    let Ok(Some(record)) = dir.group() else { return false };
    record.parse().is_ok_and(|location| freezer.stands_still(&location).unwrap_or(false))
}

/// Lets the processes of a container go on that are frozen, so that a signal reaches them. One that has
/// ended meanwhile needs none.
pub(crate) fn thaw(dir: &Dir) -> Result<(), Error> {
    match open(dir)? {
        Some(group) if group.is_frozen().unwrap_or(false) => match group.thaw() {
            Err(error) if error.is_not_found() => Ok(()),
            done => Ok(done?),
        },
        _ => Ok(()),
    }
}

/// Removes the cgroup of a container whose first process has ended, if it has one. What is left in it is
/// killed: without a PID namespace of its own, its other processes live on.
pub(crate) fn remove(dir: &Dir) -> Result<(), Error> {
    match open(dir)? {
        Some(group) => Ok(group.destroy()?),
        None => Ok(()),
    }
}
