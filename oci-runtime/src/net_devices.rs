//! `linux.netDevices`: devices of the host that become the container's (config-linux.md, "Network Devices").

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use ns_core::{Child, Gate, Namespaces};
use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::netlink::{self, Address, Device, Devices};
use sys::{Failure, Step};

use crate::Error;
use crate::namespaces::OwnNamespaces;
use crate::parts::Phase;

/// Bytes of a device's name (IFNAMSIZ of linux/if.h, without the NUL byte).
const LONGEST: usize = 15;

/// The devices: what they are called on the host, and in the container.
#[derive(Debug)]
pub(crate) struct NetDevices {
    all: Vec<(String, String)>,
}

impl NetDevices {
    /// # Errors
    /// A name can be none of a device, or two get the same; there is no network namespace for them.
    pub(crate) fn prepare(linux: &oci::Linux, own: &OwnNamespaces) -> Result<Self, Error> {
        let devices = linux.net_devices().iter().flatten();
        let mut all: Vec<(String, String)> = devices
            .map(|(name, device)| {
                let inside = device.name().clone().filter(|name| !name.is_empty());
                (name.clone(), inside.unwrap_or_else(|| name.clone()))
            })
            .collect();
        all.sort();
        if !all.is_empty() && !own.apart.contains(Namespaces::NETWORK) {
            let reason =
                "they would stay the host's; add {\"type\": \"network\"} to linux.namespaces";
            return Err(Error::field("linux.netDevices", reason));
        }
        let mut names = BTreeSet::new();
        for (outside, inside) in &all {
            for (field, name) in [(field(outside), outside), (field(outside) + ".name", inside)] {
                if !is_name(name) {
                    let reason = format!("{name:?} is no name of a network device");
                    return Err(Error::field(field, reason));
                }
            }
            if !names.insert(inside) {
                let reason = format!("two devices would be {inside:?} in the container");
                return Err(Error::field(field(outside) + ".name", reason));
            }
        }
        Ok(Self { all })
    }

    /// Child side: hands out what its network namespace is spoken to by, and waits for the devices.
    pub(crate) fn await_all(&self, gate: Gate<'_>) -> Result<(), Failure> {
        if self.all.is_empty() {
            return Ok(());
        }
        let socket = netlink::socket().step("making a socket for network devices")?;
        gate.tell(Phase::Network as u8, Some(socket.as_fd()))?;
        gate.wait(Phase::Network as u8)
    }

    /// Parent side: moves them to the network namespace of `child`, where `socket` was made; with their lasting
    /// addresses, and up.
    ///
    /// # Errors
    /// One is not there, or cannot be moved; those before it are the host's again then.
    pub(crate) fn give(&self, child: &Child, socket: OwnedFd) -> Result<(), Error> {
        let open = |process: &str| {
            let path = format!("/proc/{process}/ns/net");
            let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            opened.map_err(|errno| Error::io("opening the namespace", path)(errno.into()))
        };
        let here = netlink::socket()
            .map_err(|errno| Error::io("making a socket for", "network devices")(errno.into()))?;
        let mut moves = Moves {
            here: Devices::new(here),
            there: Devices::new(socket),
            own: open("self")?,
            other: open(&child.pid().to_string())?,
        };
        let mut done = Vec::new();
        for (outside, inside) in &self.all {
            let step = moves.give(outside, inside, &mut done);
            if let Err((step, errno)) = step {
                // What cannot be taken back goes with the namespace; the first error is told.
                for given in done.iter().rev() {
                    let _ = moves.take_back(given);
                }
                let reason = format!("{step}: {}", std::io::Error::from(errno));
                return Err(Error::field(field(outside), reason));
            }
        }
        Ok(())
    }
}

/// Between which namespaces devices are moved.
struct Moves {
    here: Devices,
    there: Devices,
    own: OwnedFd,
    other: OwnedFd,
}

/// A device that was moved: its names on the host and in the container, its addresses, whether it was up.
struct Given {
    outside: String,
    inside: String,
    addresses: Vec<Address>,
    up: bool,
}

impl Moves {
    fn give(
        &mut self,
        outside: &str,
        inside: &str,
        done: &mut Vec<Given>,
    ) -> Result<(), (&'static str, Errno)> {
        let tried = |step| move |errno| (step, errno);
        let looking = tried("looking for the device on the host");
        let Device { index, up } = self.here.find(outside).map_err(looking)?;
        let addresses = self.here.addresses(index).map_err(tried("reading its addresses"))?;
        // The kernel would leave it there under its old name.
        if self.there.find(inside).is_ok() {
            return Err(("its name is taken in the container", Errno::EXIST));
        }
        self.here
            .send(index, self.other.as_fd(), inside)
            .map_err(tried("moving it to the container"))?;
        let (outside, inside) = (outside.to_owned(), inside.to_owned());
        done.push(Given { outside, inside, addresses, up });
        let Some(given) = done.last() else { return Ok(()) };
        settle(&mut self.there, &given.inside, &given.addresses, true)
            .map_err(tried("giving it its addresses and setting it up there"))
    }

    fn take_back(&mut self, given: &Given) -> Result<(), Errno> {
        let Device { index, .. } = self.there.find(&given.inside)?;
        self.there.send(index, self.own.as_fd(), &given.outside)?;
        settle(&mut self.here, &given.outside, &given.addresses, given.up)
    }
}

/// Gives a device that was moved what the move took from it.
fn settle(place: &mut Devices, name: &str, addresses: &[Address], up: bool) -> Result<(), Errno> {
    let Device { index, .. } = place.find(name)?;
    addresses.iter().try_for_each(|address| place.add(index, address))?;
    if up { place.set_up(index) } else { Ok(()) }
}

fn field(name: &str) -> String {
    format!("linux.netDevices[{name:?}]")
}

/// As the kernel has it (dev_valid_name in net/core/dev.c).
fn is_name(name: &str) -> bool {
    let plain = |c: char| c != '/' && c != ':' && c != '\0' && !c.is_whitespace();
    (1..=LONGEST).contains(&name.len()) && name != "." && name != ".." && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn error(devices: Value, namespaces: Value) -> String {
        let linux = json!({"netDevices": devices, "namespaces": namespaces});
        let linux: oci::Linux = serde_json::from_value(linux).unwrap();
        let own = OwnNamespaces::prepare(&linux).unwrap();
        NetDevices::prepare(&linux, &own).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_device_names_its_field() {
        let own = json!([{"type": "network"}]);
        let text = error(json!({"eth0": {}}), json!([]));
        assert!(text.starts_with("linux.netDevices") && text.contains("\"network\""), "{text}");
        let text = error(json!({"a/b": {}}), own.clone());
        assert!(text.starts_with("linux.netDevices[\"a/b\"] of"), "{text}");
        let text = error(json!({"a": {"name": "longer-than-fifteen"}}), own.clone());
        assert!(text.starts_with("linux.netDevices[\"a\"].name"), "{text}");
        let text = error(json!({"a": {"name": "c"}, "b": {"name": "c"}}), own);
        assert!(text.starts_with("linux.netDevices[\"b\"].name"), "{text}");
    }
}
