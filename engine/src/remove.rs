//! A container goes, with what was made for it.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use sys::erase::Removed;

use crate::dir::{Dir, Root};
use crate::target::Target;
use crate::{Container, Error, State, Status, group, volumes};

/// How long a killed process may take to be gone: it ends at once, unless the kernel holds it.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Removes a container whose process has ended, or ends it: mount, name, directory, and `with_volumes`
/// the volumes that were made for it alone. May be called again after it was interrupted. Gives what is gone and
/// takes room still ([`Removed`]).
///
/// The caller holds the container's lock, or has just seen its holder go.
pub(crate) fn remove(
    root: &Root,
    dir: &Dir,
    container: Option<&Container>,
    with_volumes: bool,
) -> Result<Removed, Error> {
    let state = dir.state()?;
    let with_volumes = with_volumes || state.volumes_too;
    end(dir, &state)?;
    release(dir)?;
    let changes = dir.volume_changes()?;
    let names: BTreeSet<&str> =
        container.into_iter().flat_map(volumes::anonymous).chain(changes.anonymous()).collect();
    if dir.path().exists() {
        // So that a removal that is interrupted goes on, as it does without a state, which is less work: what is
        // written over another file goes to the disk. It takes no room there either: who wants to make room must be
        // able to. But whether the volumes go too is to be known as long as there are any.
        let removing = State {
            status: Status::Removing,
            pid: 0,
            pid_start: 0,
            volumes_too: with_volumes,
            ..state
        };
        if names.is_empty() || dir.write_state(&removing).is_err() {
            dir.remove_state()?;
        }
    }
    let mut removed = Removed::default();
    if let Some(container) = container {
        if with_volumes && !names.is_empty() {
            remove_volumes(root, dir, &names)?;
        }
        // Its name of now: it may have been renamed since the caller has read the record.
        let now = dir.container()?.unwrap_or_else(|| container.clone());
        root.drop_name(&now.name, &now.id, &mut removed)?;
        root.remove(dir, &mut removed)?;
        root.events().container(&now, "destroy", &[]);
    } else {
        root.drop_names_of(dir.id())?;
        root.remove(dir, &mut removed)?;
    }
    Ok(removed)
}

/// Removes the volumes of a container that nobody else has.
fn remove_volumes(root: &Root, dir: &Dir, names: &BTreeSet<&str>) -> Result<(), Error> {
    let volumes = bindvol::Volumes::open(&root.volumes())?;
    for name in names {
        // Of --volumes-from: it stays for that one, as a volume with a name.
        let mut unknown = None;
        let unused = || match is_had(root, name, Some(dir)) {
            Ok(used) => !used,
            Err(error) => {
                unknown = Some(error);
                false
            }
        };
        let removed = volumes.remove_if(name, unused);
        if let Some(error) = unknown {
            return Err(error);
        }
        match removed {
            Ok(true) => root.events().volume("destroy", name),
            Ok(false) | Err(bindvol::Error::NoVolume { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a container, other than that of `except`, has the volume by its record, or nobody knows.
pub(crate) fn is_used(root: &Root, volume: &str, except: Option<&Dir>) -> bool {
    is_had(root, volume, except).unwrap_or(true)
}

/// As [`is_used`], for who tells why nobody knows.
///
/// # Errors
/// The containers cannot be listed.
fn is_had(root: &Root, volume: &str, except: Option<&Dir>) -> Result<bool, Error> {
    let has = |other: &Dir| match other.container() {
        Ok(container) => {
            let mounts = container.iter().flat_map(|container| &container.mounts);
            mounts.filter_map(|mount| mount.name.as_deref()).any(|name| name == volume)
        }
        Err(_) => true,
    };
    let others = |other: &&Dir| except.is_none_or(|except| except.id() != other.id());
    Ok(root.dirs()?.iter().filter(others).any(has))
}

/// Takes away what a container whose first process has ended has on the host: its cgroup, with other
/// processes that are left, the socket of its supervisor, and its mounts.
pub(crate) fn release(dir: &Dir) -> Result<(), Error> {
    group::remove(dir)?;
    dir.unlisten()?;
    dir.unmount()
}

/// Ends the process that a state names, if there is one, and waits until it is gone.
pub(crate) fn end(dir: &Dir, state: &State) -> Result<(), Error> {
    Target::of(state)?.map_or(Ok(()), |target| kill(dir, &target))
}

/// Ends a container's process by SIGKILL, also a frozen one, and waits until it is gone.
pub(crate) fn kill(dir: &Dir, target: &Target) -> Result<(), Error> {
    target.signal(Signal::KILL)?;
    group::thaw(dir)?;
    match target.wait(KILL_LIMIT)? {
        true => Ok(()),
        false => Err(Error::Unkillable { pid: target.pid.as_raw_nonzero().get() }),
    }
}
