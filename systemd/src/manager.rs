//! Calls of systemd's manager (org.freedesktop.systemd1(5)).

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use zvariant::{OwnedObjectPath, OwnedValue, Type, Value};

use crate::bus::Bus;
use crate::message::Target;
use crate::{Error, Property, Unit};

/// What is there where systemd is the init (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// systemd's own socket, for root: where no bus runs.
const PRIVATE: &str = "/run/systemd/private";

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const TARGET: Target<'static> = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: MANAGER,
    member: "",
};

/// A connection to systemd: to that of the machine, or to a user's.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
    version: Option<u32>,
}

impl Manager {
    /// Connects to the machine's systemd by the system bus, or to it directly where there is none; `user`: to the
    /// caller's own, by the caller's bus.
    ///
    /// # Errors
    /// systemd does not run ([`Error::NotRunning`]); there is no bus, or it does not let the caller in.
    pub fn connect(user: bool) -> Result<Self, Error> {
        if !Path::new(BOOTED).is_dir() {
            return Err(Error::NotRunning { directory: BOOTED });
        }
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let places = match user {
            false => places(
                variable("DBUS_SYSTEM_BUS_ADDRESS"),
                Some(SYSTEM_BUS.into()),
                Some(PRIVATE.into()),
            ),
            true => {
                let dir = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
                let below = |name| dir.as_ref().map(|dir| dir.join(name));
                places(variable("DBUS_SESSION_BUS_ADDRESS"), below("bus"), below("systemd/private"))
            }
        };
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let uid = outside(&map, rustix::process::geteuid().as_raw());
        let mut first = None;
        for (path, direct) in places {
            match Bus::connect(&path, uid, direct) {
                Ok(bus) => return Ok(Self { bus, version: None }),
                Err(source) => {
                    let gone =
                        matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
                    let hint = match user {
                        true => {
                            "; a user's containers need the user's own bus: install dbus-user-session, and log in again"
                        }
                        false => "",
                    };
                    let address = format!("the socket {}", path.display());
                    let error = Error::Connect { address, source, hint };
                    if !gone {
                        return Err(error);
                    }
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or(Error::NoUserBus))
    }

    /// Its version: 252.
    ///
    /// # Errors
    /// systemd does not answer, or not with a version.
    pub fn version(&mut self) -> Result<u32, Error> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        let text = self.property("Version")?;
        let wrong =
            || Error::protocol("asking systemd for its version", format!("{text:?} is none"));
        let version = number(&text).ok_or_else(wrong)?;
        self.version = Some(version);
        Ok(version)
    }

    /// Its own cgroup, below which those of its units lie: empty for the root.
    ///
    /// # Errors
    /// systemd does not answer.
    pub fn control_group(&mut self) -> Result<String, Error> {
        self.property("ControlGroup")
    }

    /// Makes the unit, with the process that it begins with in its cgroup, and waits until that is done. A scope
    /// is its container's to make groups in (`Delegate`). `properties` come after those that every unit gets, and
    /// win.
    ///
    /// # Errors
    /// There is a unit of this name; systemd refuses a property ([`Error::Refused`]).
    pub fn start(
        &mut self,
        unit: &Unit,
        first: Option<Pid>,
        properties: &[Property],
    ) -> Result<(), Error> {
        let name = unit.name();
        let call = format!("making the unit {name}");
        let mut all: Vec<(&str, Value<'_>)> = vec![("Description", unit.description().into())];
        match unit.is_slice() {
            // A slice is where its name says.
            true => all.push(("Wants", vec![unit.slice()].into())),
            false => {
                all.extend([("Slice", unit.slice().into()), ("Delegate", true.into())]);
                let number = first.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
                all.extend(number.map(|number| ("PIDs", vec![number].into())));
            }
        }
        // It is no unit that a shutdown is to stop early, and it needs nothing of the machine's start.
        all.push(("DefaultDependencies", false.into()));
        for (name, value) in properties {
            all.push((name, value.try_clone().map_err(|error| Error::protocol(&call, error))?));
        }
        // With which other units, of which there are none.
        let others: Vec<(&str, Vec<Property>)> = Vec::new();
        let body = (name, "replace", all, others);
        let mut start = || self.manager(&call, "StartTransientUnit", &body);
        let job: (OwnedObjectPath,) = match start() {
            // One that failed stays on record until somebody says that it may go.
            Err(error) if error.is("UnitExists") => {
                self.reset_failed(name);
                self.manager(&call, "StartTransientUnit", &body)?
            }
            done => done?,
        };
        let result = self.bus.job(&call, &job.0)?;
        if result == "done" {
            return Ok(());
        }
        self.reset_failed(name);
        Err(Error::Job { call, unit: name.to_owned(), result })
    }

    /// Changes properties of a unit, for as long as the machine runs.
    ///
    /// # Errors
    /// There is no such unit; systemd refuses a property ([`Error::Refused`]).
    pub fn set(&mut self, name: &str, properties: &[Property]) -> Result<(), Error> {
        if properties.is_empty() {
            return Ok(());
        }
        let call = format!("changing the unit {name}");
        self.manager(&call, "SetUnitProperties", &(name, true, properties))
    }

    /// Stops a unit, and waits until that is done; one that is not there is no error. Its processes should have
    /// ended: systemd asks those that are left to end, and waits for them.
    ///
    /// # Errors
    /// systemd does not answer in time, or refuses.
    pub fn stop(&mut self, name: &str) -> Result<(), Error> {
        let call = format!("stopping the unit {name}");
        match self.manager::<_, (OwnedObjectPath,)>(&call, "StopUnit", &(name, "replace")) {
            Err(error) if error.is("NoSuchUnit") => return Ok(()),
            // A scope without processes stops by itself, which ends the job in another way than `done`.
            job => drop(self.bus.job(&call, &job?.0)?),
        }
        self.reset_failed(name);
        Ok(())
    }

    /// Lets systemd forget a unit that failed. Of one that did not there is nothing to forget, which is an error of
    /// systemd's that tells nothing.
    fn reset_failed(&mut self, name: &str) {
        let call = format!("forgetting the unit {name}");
        let _ = self.manager::<_, ()>(&call, "ResetFailedUnit", &(name,));
    }

    fn property(&mut self, name: &str) -> Result<String, Error> {
        let call = format!("asking systemd for its {name}");
        let target =
            Target { interface: "org.freedesktop.DBus.Properties", member: "Get", ..TARGET };
        let (value,): (OwnedValue,) = self.bus.call(&call, target, &(MANAGER, name))?;
        String::try_from(value).map_err(|error| Error::protocol(&call, error))
    }

    fn manager<B, R>(&mut self, call: &str, member: &str, body: &B) -> Result<R, Error>
    where
        B: serde::Serialize + Type,
        R: serde::de::DeserializeOwned + Type,
    {
        self.bus.call(call, Target { member, ..TARGET }, body)
    }
}

/// Where systemd may be heard, the likeliest first; true: without a bus.
fn places(
    address: Option<OsString>,
    bus: Option<PathBuf>,
    direct: Option<PathBuf>,
) -> Vec<(PathBuf, bool)> {
    let bus = match address {
        Some(address) => socket(&address.into_vec()),
        None => bus,
    };
    bus.map(|path| (path, false)).into_iter().chain(direct.map(|path| (path, true))).collect()
}

/// The socket of a bus's address, `unix:path=/run/user/1000/bus,guid=…;…` (the D-Bus specification, "Server
/// Addresses"): the first one that has a path.
fn socket(address: &[u8]) -> Option<PathBuf> {
    address.split(|byte| *byte == b';').find_map(|one| {
        let keys = one.strip_prefix(b"unix:")?;
        let path = keys.split(|byte| *byte == b',').find_map(|key| key.strip_prefix(b"path="))?;
        let mut bytes = Vec::new();
        let mut rest = path;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if *byte == b'%' {
                let (digits, after) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = after;
            } else {
                bytes.push(*byte);
            }
        }
        Some(PathBuf::from(OsString::from_vec(bytes)))
    })
}

/// The number that a user has outside of the caller's user namespace, by the lines of its map: the bus looks at the
/// socket from there, and root of a user namespace is a user to it.
fn outside(map: &str, uid: u32) -> u32 {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u32>().ok());
        let (inside, outside, count) = (fields.next()??, fields.next()??, fields.next()??);
        let above = uid.checked_sub(inside).filter(|above| *above < count)?;
        outside.checked_add(above)
    };
    map.lines().find_map(line).unwrap_or(uid)
}

/// The first number in a version: `252.38-1~deb12u1`, `v245.4-1.fc32`.
fn number(text: &str) -> Option<u32> {
    let text = text.trim_start_matches('v');
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_socket() {
        for (address, path) in [
            ("unix:path=/run/user/1000/bus", Some("/run/user/1000/bus")),
            ("unix:path=/a%20b,guid=0f", Some("/a b")),
            ("tcp:host=x;unix:abstract=y;unix:guid=1,path=/z", Some("/z")),
            ("unix:path=/a%2", None),
            ("unix:path=/a%zz", None),
            ("", None),
        ] {
            assert_eq!(socket(address.as_bytes()), path.map(PathBuf::from), "{address}");
        }
    }

    #[test]
    fn roots_of_user_namespaces_are_users() {
        assert_eq!(outside("         0          0 4294967295\n", 7), 7);
        let map = "0 1000 1\n1 100000 65536\n";
        assert_eq!(
            (outside(map, 0), outside(map, 5), outside(map, 70_000)),
            (1000, 100_004, 70_000)
        );
    }

    #[test]
    fn versions_have_a_number() {
        for (text, expected) in [
            ("252.38-1~deb12u1", Some(252)),
            ("v245.4-1.fc32", Some(245)),
            ("239", Some(239)),
            ("x", None),
        ] {
            assert_eq!(number(text), expected);
        }
    }
}
