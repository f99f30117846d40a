//! `linux.devices`, and those that every container has.

use ns_core::{IdMap, Namespaces};
use oci_spec::runtime as oci;
use pivot::{Device, DeviceKind, Devices, Nodes};

use crate::Error;
use crate::idmap::outside;
use crate::namespaces::{OwnNamespaces, in_user_namespace};

/// The devices of a container, ready for the child; `None` where the configuration binds a `/dev` of
/// its own, in which nothing may be made (as runc).
///
/// In a user namespace nobody may make nodes: the host's are bound there, or what the caller can make for
/// `namespaces`.
pub(crate) fn prepare(
    spec: &oci::Spec,
    linux: &oci::Linux,
    namespaces: &OwnNamespaces,
) -> Result<Option<Devices>, Error> {
    if binds_dev(spec) {
        return Ok(None);
    }
    let in_user = namespaces.kinds().contains(Namespaces::USER);
    let nodes = if in_user || in_user_namespace() { Nodes::Bind } else { Nodes::Make };
    Ok(Some(Devices::prepare(&wanted(linux, namespaces.id_maps())?, nodes)?))
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
fn wanted(linux: &oci::Linux, maps: (&[IdMap], &[IdMap])) -> Result<Vec<Device>, Error> {
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
        let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        devices.push(Device {
            path: path.to_owned(),
            kind,
            major: number("major", device.major())?,
            minor: number("minor", device.minor())?,
            mode: device.file_mode().unwrap_or(0o666),
            uid,
            gid,
            made_for: outside(uid, maps.0).zip(outside(gid, maps.1)),
        });
    }
    Ok(devices)
}
