//! `linux.namespaces`: which are new, which are another container's, which are the caller's.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ns_core::{IdMap, Namespaces, NetworkAhead, Spawn};
use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags};

use crate::{Error, MountBase};

/// Where namespaces come from.
#[derive(Debug)]
pub(crate) struct OwnNamespaces {
    pub(crate) new: Namespaces,
    /// New, or another's than the caller's: what is changed in them is not changed for the caller.
    pub(crate) apart: Namespaces,
    /// Others', open.
    joined: Vec<(OwnedFd, Namespaces)>,
    /// The new network namespace, while it is made and then.
    ahead: Option<NetworkAhead>,
    network: Option<OwnedFd>,
    /// Of which the new mount namespace is a copy, if not of the caller's.
    base: Option<MountBase>,
    uid_map: Vec<IdMap>,
    gid_map: Vec<IdMap>,
    /// As `/proc/PID/timens_offsets` takes them.
    time_offsets: String,
}

/// The kinds by the specification's names.
pub(crate) const KINDS: [(oci::LinuxNamespaceType, Namespaces, &str); 8] = {
    use oci::LinuxNamespaceType as Type;
    [
        (Type::Cgroup, Namespaces::CGROUP, "cgroup"),
        (Type::Ipc, Namespaces::IPC, "ipc"),
        (Type::Mount, Namespaces::MOUNT, "mount"),
        (Type::Network, Namespaces::NETWORK, "network"),
        (Type::Pid, Namespaces::PID, "pid"),
        (Type::Time, Namespaces::TIME, "time"),
        (Type::User, Namespaces::USER, "user"),
        (Type::Uts, Namespaces::UTS, "uts"),
    ]
};

impl OwnNamespaces {
    /// Opens those that the configuration has a path for.
    ///
    /// # Errors
    /// A kind stands there twice; a path leads to no namespace of its kind; id maps or clocks belong to
    /// no namespace.
    pub(crate) fn prepare(linux: &oci::Linux) -> Result<Self, Error> {
        let mut own = Self {
            new: Namespaces::empty(),
            apart: Namespaces::empty(),
            joined: Vec::new(),
            ahead: None,
            network: None,
            base: None,
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            time_offsets: String::new(),
        };
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let field = |name: &str| format!("linux.namespaces[{index}].{name}");
            let kind = KINDS.iter().find(|(typ, ..)| *typ == namespace.typ());
            let kind = kind.map_or(Namespaces::empty(), |(_, kind, _)| *kind);
            if own.kinds().contains(kind) {
                return Err(Error::field(field("type"), "this kind stands there twice"));
            }
            match namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
                None => {
                    own.new |= kind;
                    own.apart |= kind;
                }
                Some(path) => {
                    let file = open(path, kind, &field("path"))?;
                    own.apart.set(kind, !is_callers(&file, kind, path)?);
                    own.joined.push((file, kind));
                }
            }
        }
        own.map_ids(linux)?;
        own.set_clocks(linux)?;
        Ok(own)
    }

    fn map_ids(&mut self, linux: &oci::Linux) -> Result<(), Error> {
        self.uid_map = id_map("linux.uidMappings", linux.uid_mappings().as_deref())?;
        self.gid_map = id_map("linux.gidMappings", linux.gid_mappings().as_deref())?;
        let maps = [("linux.uidMappings", &self.uid_map), ("linux.gidMappings", &self.gid_map)];
        if self.new.contains(Namespaces::USER) {
            if let Some((field, _)) = maps.iter().find(|(_, map)| map.is_empty()) {
                let reason = "a new user namespace needs it: without, nobody is anybody in there";
                return Err(Error::field(*field, reason));
            }
            return Ok(());
        }
        if let Some((field, _)) = maps.iter().find(|(_, map)| !map.is_empty())
            && !self.kinds().contains(Namespaces::USER)
        {
            let reason = "there is no user namespace for it; add {\"type\": \"user\"} to \
                          linux.namespaces";
            return Err(Error::field(*field, reason));
        }
        // A user namespace that is joined has its maps already.
        self.uid_map.clear();
        self.gid_map.clear();
        Ok(())
    }

    fn set_clocks(&mut self, linux: &oci::Linux) -> Result<(), Error> {
        let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty())
        else {
            return Ok(());
        };
        if !self.new.contains(Namespaces::TIME) {
            let reason = "there is no new time namespace that has these clocks; add {\"type\": \
                          \"time\"} to linux.namespaces";
            return Err(Error::field("linux.timeOffsets", reason));
        }
        for (clock, offset) in offsets {
            let field = |name: &str| format!("linux.timeOffsets.{clock}{name}");
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                let reason = "no such clock can be set; there are monotonic and boottime";
                return Err(Error::field(field(""), reason));
            }
            let nanoseconds = offset.nanosecs().unwrap_or(0);
            if nanoseconds >= 1_000_000_000 {
                return Err(Error::field(field(".nanosecs"), "a second has 1000000000"));
            }
            // Writing to a String cannot fail.
            let seconds = offset.secs().unwrap_or(0);
            let _ = writeln!(self.time_offsets, "{clock} {seconds} {nanoseconds}");
        }
        Ok(())
    }

    /// Those that are not the caller's.
    pub(crate) fn kinds(&self) -> Namespaces {
        self.joined.iter().fold(self.new, |all, (_, kind)| all | *kind)
    }

    /// The id maps of a new user namespace; empty where it has none of its own.
    pub(crate) fn id_maps(&self) -> (&[IdMap], &[IdMap]) {
        (&self.uid_map, &self.gid_map)
    }

    /// The user namespace that is joined.
    pub(crate) fn joined_user(&self) -> Option<&OwnedFd> {
        let user = self.joined.iter().find(|(_, kind)| *kind == Namespaces::USER);
        user.map(|(fd, _)| fd)
    }

    /// Takes what was begun, where it is of use.
    pub(crate) fn ahead(&mut self, ahead: Ahead) {
        if self.new.contains(Namespaces::NETWORK) && !self.kinds().contains(Namespaces::USER) {
            self.ahead = ahead.0;
        }
    }

    /// Makes the new mount namespace as a copy of `base`, where the two have one owner; says whether they have.
    pub(crate) fn copy_mounts_of(&mut self, base: MountBase) -> bool {
        let copies =
            self.new.contains(Namespaces::MOUNT) && !self.kinds().contains(Namespaces::USER);
        self.base = copies.then_some(base);
        copies
    }

    /// Waits for what was begun; the process has one thread again.
    ///
    /// # Errors
    /// The kernel makes no network namespace.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        if let Some(ahead) = self.ahead.take() {
            self.network = Some(ahead.wait()?);
        }
        Ok(())
    }

    /// A process in them.
    pub(crate) fn spawn(&self) -> Spawn<'_> {
        let mut new = self.new;
        new.set(Namespaces::NETWORK, new.contains(Namespaces::NETWORK) && self.network.is_none());
        let spawn = Spawn::new()
            .namespaces(new)
            .id_maps(&self.uid_map, &self.gid_map)
            .time_offsets(self.time_offsets.as_bytes());
        let spawn = self.base.iter().fold(spawn, |spawn, base| spawn.mounts_of(base.as_fd()));
        let network = self.network.iter().map(|fd| (fd, Namespaces::NETWORK));
        let spawn = network.fold(spawn, |spawn, (fd, kind)| spawn.join(fd.as_fd(), kind));
        self.joined.iter().fold(spawn, |spawn, (fd, kind)| spawn.join(fd.as_fd(), *kind))
    }

    /// A host or domain name, which only a UTS namespace other than the caller's may get.
    ///
    /// # Errors
    /// It would be the name of the host; it has a NUL byte.
    pub(crate) fn name(
        &self,
        field: &str,
        name: &Option<String>,
    ) -> Result<Option<CString>, Error> {
        let name = name.as_deref().filter(|name| !name.is_empty()).map(CString::new).transpose();
        match name.map_err(|_| Error::field(field, "it has a NUL byte"))? {
            Some(_) if !self.apart.contains(Namespaces::UTS) => {
                let reason = "it would be that of the host: leave it out, or add {\"type\": \
                              \"uts\"} to linux.namespaces";
                Err(Error::field(field, reason))
            }
            name => Ok(name),
        }
    }
}

/// What of a container's namespaces is made before all else is prepared, on a thread
/// ([`ns_core::NetworkAhead`]).
#[derive(Debug, Default)]
pub struct Ahead(Option<NetworkAhead>);

impl Ahead {
    /// Begins with what `linux.namespaces` asks for: nothing where it has no new network namespace, or has a user
    /// namespace, which is to own it.
    pub fn of(namespaces: &[oci::LinuxNamespace]) -> Self {
        let user = namespaces.iter().any(|one| one.typ() == oci::LinuxNamespaceType::User);
        if !user && namespaces.iter().any(is_new_network) {
            Self::network()
        } else {
            Self::default()
        }
    }

    /// Begins with a network namespace. Without a thread for it, the container's process makes it.
    pub fn network() -> Self {
        Self(NetworkAhead::begin().ok())
    }
}

/// Whether `spec` asks for a network namespace that is new.
pub(crate) fn makes_network(spec: &oci::Spec) -> bool {
    spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()).any(is_new_network)
}

fn is_new_network(namespace: &oci::LinuxNamespace) -> bool {
    let path = namespace.path().as_deref().unwrap_or(Path::new(""));
    namespace.typ() == oci::LinuxNamespaceType::Network && path.as_os_str().is_empty()
}

/// Whether the caller has less than root's rights over the machine: it is another user, or root of a user
/// namespace alone.
pub fn is_rootless() -> bool {
    !rustix::process::geteuid().is_root() || in_user_namespace()
}

/// Whether the calling process is in a user namespace other than the initial one: whose map is not
/// the whole (user_namespaces(7)).
pub(crate) fn in_user_namespace() -> bool {
    let map = sys::whole::read_text("/proc/self/uid_map");
    map.is_ok_and(|map| map.split_whitespace().ne(["0", "0", "4294967295"]))
}

/// The lines of an id map, checked.
pub(crate) fn id_map(
    field: &str,
    mappings: Option<&[oci::LinuxIdMapping]>,
) -> Result<Vec<IdMap>, Error> {
    let line = |(index, mapping): (usize, &oci::LinuxIdMapping)| {
        let (inside, outside, count) = (mapping.container_id(), mapping.host_id(), mapping.size());
        if count == 0 {
            let field = format!("{field}[{index}].size");
            return Err(Error::field(field, "it maps nothing; give the number of ids"));
        }
        if inside.checked_add(count).is_none() || outside.checked_add(count).is_none() {
            let reason = "it goes beyond the last id, 4294967295";
            return Err(Error::field(format!("{field}[{index}]"), reason));
        }
        Ok(IdMap { inside, outside, count })
    };
    mappings.unwrap_or_default().iter().enumerate().map(line).collect()
}

/// As below `/proc/PID/ns`.
fn name(kind: Namespaces) -> &'static str {
    Namespaces::NAMES.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name)
}

/// Whether the namespace is the one that the calling process is in.
fn is_callers(file: &OwnedFd, kind: Namespaces, path: &Path) -> Result<bool, Error> {
    let own = format!("/proc/self/ns/{}", name(kind));
    let own = rustix::fs::stat(&own).map_err(|errno| Error::io("looking at", own)(errno.into()))?;
    let other = rustix::fs::fstat(file)
        .map_err(|errno| Error::io("looking at the namespace", path)(errno.into()))?;
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// Opens a namespace, and checks that it is one of this kind.
fn open(path: &Path, kind: Namespaces, field: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::io("opening the namespace", path)(errno.into()))?;
    // Not by its name: a namespace that is mounted over a file, as Podman, CNI and `ip netns` keep them, has the file's.
    let found = sys::namespace::kind(file.as_fd())
        .map_err(|errno| Error::io("looking at the namespace", path)(errno.into()))?;
    let other = match found.map(Namespaces::from_bits_retain) {
        Some(found) if found == kind => return Ok(file),
        Some(found) => format!("of the kind {}", name(found)),
        None => "none of any kind".to_owned(),
    };
    let reason = format!("{} is no {} namespace but {other}", path.display(), name(kind));
    Err(Error::field(field, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn prepare(namespaces: &str) -> Result<OwnNamespaces, String> {
        let linux: oci::Linux =
            serde_json::from_str(&format!("{{\"namespaces\": [{namespaces}]}}")).unwrap();
        OwnNamespaces::prepare(&linux).map_err(|error| error.to_string())
    }

    const MOUNT: &str = r#"{"type": "mount"}"#;

    #[test]
    fn each_kind_is_new_joined_or_the_callers() {
        let own = prepare(&format!(
            r#"{MOUNT}, {{"type": "ipc"}}, {{"type": "uts", "path": "/proc/self/ns/uts"}}"#
        ))
        .unwrap();
        assert_eq!(own.new, Namespaces::MOUNT | Namespaces::IPC);
        assert_eq!(own.joined.len(), 1);
        assert_eq!(own.kinds(), own.new | Namespaces::UTS);
        assert!(own.name("hostname", &Some("x".to_owned())).is_err());
        assert!(own.name("hostname", &None).unwrap().is_none());
    }

    #[test]
    fn what_is_no_such_namespace_is_said() {
        for (namespaces, words) in [
            (format!("{MOUNT}, {MOUNT}"), "twice"),
            (
                format!(r#"{MOUNT}, {{"type": "uts", "path": "/proc/self/ns/ipc"}}"#),
                "no uts namespace",
            ),
            (
                format!(r#"{MOUNT}, {{"type": "uts", "path": "/proc/self/stat"}}"#),
                "no uts namespace",
            ),
            (format!(r#"{MOUNT}, {{"type": "uts", "path": "/no/such"}}"#), "/no/such"),
            (format!(r#"{MOUNT}, {{"type": "user"}}"#), "linux.uidMappings"),
        ] {
            let error = prepare(&namespaces).unwrap_err();
            assert!(error.contains(words), "{namespaces}: {error}");
        }
    }

    fn linux(json: serde_json::Value) -> Result<OwnNamespaces, String> {
        let linux: oci::Linux = serde_json::from_value(json).unwrap();
        OwnNamespaces::prepare(&linux).map_err(|error| error.to_string())
    }

    #[test]
    fn id_maps_and_clocks_belong_to_their_namespaces() {
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        let user = json!([{"type": "user"}]);
        let own = linux(json!({"namespaces": user, "uidMappings": map, "gidMappings": map}));
        let one = [IdMap { inside: 0, outside: 1000, count: 1 }];
        assert_eq!(own.unwrap().id_maps(), (one.as_slice(), one.as_slice()));
        let path = json!([{"type": "user", "path": "/proc/self/ns/user"}]);
        let own = linux(json!({"namespaces": path, "uidMappings": map})).unwrap();
        assert_eq!(own.id_maps().0, [], "it has its maps already");
        let none = json!([{"containerID": 0, "hostID": 0, "size": 0}]);
        let far = json!([{"containerID": 0, "hostID": u32::MAX, "size": 2}]);
        let time = json!([{"type": "time"}]);
        for (json, words) in [
            (json!({"uidMappings": map}), "linux.uidMappings"),
            (json!({"namespaces": user, "uidMappings": map}), "linux.gidMappings"),
            (json!({"namespaces": user, "uidMappings": none}), "linux.uidMappings[0].size"),
            (json!({"namespaces": user, "gidMappings": far}), "linux.gidMappings[0]"),
            (json!({"timeOffsets": {"boottime": {"secs": 1}}}), "linux.timeOffsets"),
            (
                json!({"namespaces": time, "timeOffsets": {"realtime": {"secs": 1}}}),
                "linux.timeOffsets.realtime",
            ),
            (
                json!({"namespaces": time, "timeOffsets": {"boottime": {"nanosecs": 2_000_000_000}}}),
                "linux.timeOffsets.boottime.nanosecs",
            ),
        ] {
            let error = linux(json.clone()).unwrap_err();
            assert!(error.starts_with(words), "{json}: {error}");
        }
    }
}
