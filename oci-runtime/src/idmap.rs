//! User namespaces as values: whose id maps translate the owners of a mount (mount_setattr(2),
//! MOUNT_ATTR_IDMAP; Linux 5.12).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ns_core::{Event, IdMap, Namespaces, Spawn};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::Failure;

use crate::Error;

/// Of users, and of groups.
pub(crate) type Maps = (Vec<IdMap>, Vec<IdMap>);

/// The namespaces that were made, each once.
#[derive(Debug, Default)]
pub(crate) struct IdMaps {
    made: Vec<(Maps, OwnedFd)>,
}

impl IdMaps {
    /// A user namespace with these maps. No process is in it.
    pub(crate) fn namespace(
        &mut self,
        uids: &[IdMap],
        gids: &[IdMap],
    ) -> Result<BorrowedFd<'_>, Error> {
        let key = (uids.to_vec(), gids.to_vec());
        let found = self.made.iter().position(|(other, _)| *other == key);
        let at = match found {
            Some(at) => at,
            None => {
                self.made.push((key, make(uids, gids)?));
                self.made.len() - 1
            }
        };
        Ok(self.made[at].1.as_fd())
    }
}

/// Reads crun's form of a mount's maps, `uids=0-1-10#10-100-5;gids=@0-1-10`: the first id in the file system, the
/// first that it is on the host, how many; behind `@`, the second counts in the user namespace of the
/// container, whose maps are `container`. The inner error says what is wrong.
pub(crate) fn read(text: &str, container: (&[IdMap], &[IdMap])) -> Result<Maps, String> {
    let (mut uids, mut gids) = (None, None);
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (maps, list, own) = match part.split_once('=') {
            Some(("uids", list)) => (&mut uids, list, container.0),
            Some(("gids", list)) => (&mut gids, list, container.1),
            _ => return Err(format!("{part:?} is neither uids=… nor gids=…")),
        };
        *maps = Some(list.split('#').map(|map| triplet(map, own)).collect::<Result<_, _>>()?);
    }
    match (uids, gids) {
        (Some(uids), Some(gids)) => Ok((uids, gids)),
        _ => Err("it needs uids=… and gids=…".to_owned()),
    }
}

/// Whether the id of the inside is one of the map's.
fn holds(map: &IdMap, inside: u32) -> bool {
    inside.checked_sub(map.inside).is_some_and(|at| at < map.count)
}

/// What an id of the inside is outside; none where it is not mapped.
pub(crate) fn outside(id: u32, maps: &[IdMap]) -> Option<u32> {
    let map = maps.iter().find(|map| holds(map, id))?;
    map.outside.checked_add(id - map.inside)
}

fn triplet(text: &str, container: &[IdMap]) -> Result<IdMap, String> {
    let wrong =
        || format!("{text:?} is not of the form 0-1000-10 (in the files, on the host, count)");
    let relative = text.strip_prefix('@');
    let numbers = relative.unwrap_or(text).split('-').map(str::parse::<u32>);
    let numbers = numbers.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
    let [inside, mut outside, count] = numbers[..] else { return Err(wrong()) };
    if relative.is_some() {
        let map = container.iter().find(|map| holds(map, inside)).ok_or_else(|| {
            format!(
                "{text:?}: the container's user namespace has no id {inside}, or is none of its own"
            )
        })?;
        outside = (u64::from(outside) + u64::from(map.outside))
            .checked_sub(map.inside.into())
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(wrong)?;
    }
    let ends = inside.checked_add(count).is_some() && outside.checked_add(count).is_some();
    if count == 0 || !ends {
        return Err(wrong());
    }
    Ok(IdMap { inside, outside, count })
}

/// It is made by a process that does nothing else, and stays as long as its descriptor.
fn make(uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd, Error> {
    const THERE: u8 = 1;
    let spawn = Spawn::new().namespaces(Namespaces::USER).id_maps(uids, gids);
    let mut child = spawn.spawn(|gate| {
        gate.wait(THERE)?;
        Err(Failure::new("ending", Errno::CANCELED))
    })?;
    let there = child.next()?;
    let path = format!("/proc/{}/ns/user", child.pid());
    let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::io("opening the user namespace", &path)(errno.into()));
    child.wait()?;
    match there {
        Event::Failed(report) => Err(Error::Process(ns_core::Error::Child(report))),
        _ => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_the_option_are_read() {
        let map = |inside, outside, count| IdMap { inside, outside, count };
        let own = [map(0, 1000, 1), map(1, 5000, 10)];
        let read = |text| read(text, (&own, &own));
        let (uids, gids) = read("uids=0-2-10#10-100-5;gids=@1-3-10").unwrap();
        assert_eq!(uids, [map(0, 2, 10), map(10, 100, 5)]);
        assert_eq!(gids, [map(1, 5002, 10)]);
        // A sign says nothing (as crun's tests have it).
        assert_eq!(read("uids=+0-1-2;gids=0-+1-2").unwrap().0, [map(0, 1, 2)]);
        for text in [
            "uids=0-1-2",
            "uids=0-1;gids=0-1-2",
            "uids=0-1-0;gids=0-1-2",
            "uids=x-1-2;gids=0-1-2",
            "uids=4294967295-0-1;gids=0-1-2",
            "uids=@11-0-1;gids=0-1-2",
            "pids=0-1-2",
            "",
        ] {
            read(text).unwrap_err();
        }
    }
}
