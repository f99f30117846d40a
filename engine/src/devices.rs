//! The host's devices that a container gets: `--device` and `--privileged`.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};
use rustix::fs::{major, minor};

use crate::{Container, Error};

/// What of `/dev` a container has a file system of its own for, or is none of the host's to give.
const OWN: [&str; 8] = [
    "/dev/pts",
    "/dev/shm",
    "/dev/fd",
    "/dev/mqueue",
    "/dev/console",
    "/dev/.udev",
    "/dev/ptmx",
    "/dev/hugepages",
];
/// How deep directories of `/dev` are looked into.
const DEPTH_MAX: usize = 8;

/// The nodes that the container gets beside those that all have.
///
/// # Errors
/// A device that was asked for is not there, or is none ([`Error::Option`]).
pub(crate) fn list(container: &Container) -> Result<Vec<LinuxDevice>, Error> {
    let host = &container.host_config;
    // By their places in the container: what is asked for by name comes last and holds.
    let mut all = BTreeMap::new();
    if host.privileged {
        below(Path::new("/dev"), "/dev", 0, &mut all)?;
    }
    for mapping in &host.devices {
        let path = Path::new(&mapping.path_on_host);
        let target = &mapping.path_in_container;
        let refuse = |why| Error::option("--device", &mapping.path_on_host, why);
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => refuse("the host has no such file"),
            _ => Error::system("look at the device", path, error),
        })?;
        let before = all.len();
        if metadata.is_dir() {
            below(path, target, 0, &mut all)?;
            if all.len() == before {
                return Err(refuse("there is no device in this directory"));
            }
        } else if let Some(device) = node(&metadata, target)? {
            all.insert(target.clone(), device);
        } else {
            return Err(refuse("it is no device; to mount a file or directory, use -v"));
        }
    }
    Ok(all.into_values().collect())
}

/// The nodes below a directory of the host, which the container gets below `target`.
fn below(
    path: &Path,
    target: &str,
    depth: usize,
    all: &mut BTreeMap<String, LinuxDevice>,
) -> Result<(), Error> {
    let failed = |error| Error::system("list the devices in", path, error);
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let own = entry.path();
        let (Some(name), false) = (
            entry.file_name().to_str().map(str::to_owned),
            OWN.iter().any(|own_dev| own == Path::new(own_dev)),
        ) else {
            continue;
        };
        let target = format!("{}/{name}", target.trim_end_matches('/'));
        // Of the entry itself: links are no nodes. One that has gone meanwhile is none.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            if depth < DEPTH_MAX {
                below(&own, &target, depth + 1, all)?;
            }
        } else if let Some(device) = node(&metadata, &target)? {
            all.insert(target, device);
        }
    }
    Ok(())
}

/// The node with these numbers; `None` for what is no device.
fn node(metadata: &std::fs::Metadata, target: &str) -> Result<Option<LinuxDevice>, Error> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return Ok(None),
    };
    let device = LinuxDeviceBuilder::default()
        .typ(kind)
        .path(target)
        .major(i64::from(major(metadata.rdev())))
        .minor(i64::from(minor(metadata.rdev())))
        .file_mode(metadata.mode() & 0o7777)
        .uid(metadata.uid())
        .gid(metadata.gid());
    Ok(Some(device.build()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::DeviceMapping;
    use crate::testing;

    fn devices(source: &str, target: &str) -> Result<Vec<LinuxDevice>, String> {
        let mut container = testing::container();
        container.host_config.devices = vec![DeviceMapping {
            path_on_host: source.to_owned(),
            path_in_container: target.to_owned(),
            cgroup_permissions: "rwm".to_owned(),
        }];
        list(&container).map_err(|error| error.to_string())
    }

    #[test]
    fn a_device_has_its_numbers_and_its_new_place() {
        let made = devices("/dev/null", "/dev/nothing").unwrap();
        assert_eq!(made.len(), 1);
        assert_eq!((made[0].major(), made[0].minor()), (1, 3));
        assert_eq!(made[0].path(), Path::new("/dev/nothing"));
        assert_eq!(made[0].typ(), LinuxDeviceType::C);
    }

    #[test]
    fn what_is_no_device_is_said() {
        assert!(devices("/dev/no-such", "/x").unwrap_err().contains("no such file"));
        assert!(devices("/etc/passwd", "/x").unwrap_err().contains("no device"));
        let empty = tempfile::tempdir().unwrap();
        assert!(devices(empty.path().to_str().unwrap(), "/x").unwrap_err().contains("no device"));
    }

    #[test]
    fn a_privileged_container_has_those_of_the_host() {
        let mut container = testing::container();
        container.host_config.privileged = true;
        let all = list(&container).unwrap();
        let has = |path: &str| all.iter().any(|device| device.path() == Path::new(path));
        assert!(has("/dev/null") && has("/dev/zero"));
        assert!(!has("/dev/console") && !has("/dev/pts/0") && !has("/dev/ptmx"));
        container.host_config.privileged = false;
        assert_eq!(list(&container).unwrap(), []);
    }
}
