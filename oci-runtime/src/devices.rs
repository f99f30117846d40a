//! `linux.devices`, and those that every container has.

use oci_spec::runtime as oci;
use pivot::{Device, DeviceKind, Devices, Nodes};

use crate::Error;

/// The devices of a container, ready for the child; `None` where the configuration binds a `/dev` of
/// its own, in which nothing may be made (as runc).
///
/// In a user namespace nobody may make nodes: the host's are bound there.
pub(crate) fn prepare(
    spec: &oci::Spec,
    linux: &oci::Linux,
    in_user: bool,
) -> Result<Option<Devices>, Error> {
    if binds_dev(spec) {
        return Ok(None);
    }
    let nodes = if in_user || in_user_namespace() { Nodes::Bind } else { Nodes::Make };
    Ok(Some(Devices::prepare(&wanted(linux)?, nodes)?))
}

/// Whether the calling process is in a user namespace other than the initial one: whose map is not
/// the whole (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map");
    map.is_ok_and(|map| map.split_whitespace().ne(["0", "0", "4294967295"]))
}

fn binds_dev(spec: &oci::Spec) -> bool {
    let is_bind = |mount: &oci::Mount| {
        let options = mount.options().iter().flatten();
        mount.typ().as_deref() == Some("bind")
            || options.into_iter().any(|word| matches!(word.as_str(), "bind" | "rbind"))
    };
    let mut mounts = spec.mounts().iter().flatten();
    mounts.any(|mount| {
        let destination = mount.destination().to_string_lossy();
        destination.trim_matches('/') == "dev" && is_bind(mount)
    })
}

/// The specification's default devices and those that the configuration adds.
fn wanted(linux: &oci::Linux) -> Result<Vec<Device>, Error> {
    use oci::LinuxDeviceType as Type;
    let mut devices = pivot::standard::devices();
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        let field = |name: &str| format!("linux.devices[{index}].{name}");
        let kind = match device.typ() {
            Type::B => DeviceKind::Block,
            Type::C | Type::U => DeviceKind::Char,
            Type::P => DeviceKind::Fifo,
            Type::A => return Err(Error::field(field("type"), "\"a\" is no kind of a node")),
        };
        let number = |name: &str, number: i64| {
            let wrong = |_| Error::field(field(name), format!("{number} is no device number"));
            u32::try_from(number).map_err(wrong)
        };
        let Some(path) = device.path().to_str() else {
            return Err(Error::field(field("path"), "it is not UTF-8"));
        };
        // It is a link into the container's own devpts, whatever is asked for (as runc).
        if path == "/dev/ptmx" {
            continue;
        }
        devices.retain(|other| other.path != path);
        devices.push(Device {
            path: path.to_owned(),
            kind,
            major: number("major", device.major())?,
            minor: number("minor", device.minor())?,
            mode: device.file_mode().unwrap_or(0o666),
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    Ok(devices)
}
