//! `linux.namespaces`: which are new, which are another container's, which are the caller's.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ns_core::{Namespaces, Spawn};
use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags};

use crate::Error;

/// Where namespaces come from.
#[derive(Debug)]
pub(crate) struct OwnNamespaces {
    pub(crate) new: Namespaces,
    /// Others', open.
    joined: Vec<(OwnedFd, Namespaces)>,
}

impl OwnNamespaces {
    /// Opens those that the configuration has a path for.
    ///
    /// # Errors
    /// A kind stands there twice or is not supported; a path leads to no namespace of its kind; there is
    /// no new mount namespace.
    pub(crate) fn prepare(linux: &oci::Linux) -> Result<Self, Error> {
        use oci::LinuxNamespaceType as Type;
        let mut own = Self { new: Namespaces::empty(), joined: Vec::new() };
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let field = |name: &str| format!("linux.namespaces[{index}].{name}");
            let kind = match namespace.typ() {
                Type::Mount => Namespaces::MOUNT,
                Type::Pid => Namespaces::PID,
                Type::Network => Namespaces::NETWORK,
                Type::Ipc => Namespaces::IPC,
                Type::Uts => Namespaces::UTS,
                Type::Cgroup => Namespaces::CGROUP,
                Type::User | Type::Time => {
                    return Err(Error::Unsupported { field: field("type") });
                }
            };
            if own.kinds().contains(kind) {
                return Err(Error::field(field("type"), "this kind stands there twice"));
            }
            match namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
                None => own.new |= kind,
                Some(_) if kind == Namespaces::MOUNT => {
                    return Err(Error::Unsupported { field: field("path") });
                }
                Some(path) => own.joined.push((open(path, kind, &field("path"))?, kind)),
            }
        }
        if !own.new.contains(Namespaces::MOUNT) {
            let reason =
                "a container needs a mount namespace of its own; add {\"type\": \"mount\"}";
            return Err(Error::field("linux.namespaces", reason));
        }
        Ok(own)
    }

    fn kinds(&self) -> Namespaces {
        self.joined.iter().fold(self.new, |all, (_, kind)| all | *kind)
    }

    /// A process in them.
    pub(crate) fn spawn(&self) -> Spawn<'_> {
        let spawn = Spawn::new().namespaces(self.new);
        self.joined.iter().fold(spawn, |spawn, (fd, kind)| spawn.join(fd.as_fd(), *kind))
    }

    /// A host or domain name, which only a UTS namespace of the container's own may get.
    ///
    /// # Errors
    /// It would be the name of the host, or of another container.
    pub(crate) fn name(
        &self,
        field: &str,
        name: Option<CString>,
    ) -> Result<Option<CString>, Error> {
        match name {
            Some(_) if !self.new.contains(Namespaces::UTS) => {
                let reason = "it would be that of the host, or of another container: leave it out, \
                              or add {\"type\": \"uts\"} to linux.namespaces";
                Err(Error::field(field, reason))
            }
            name => Ok(name),
        }
    }
}

/// Opens a namespace, and checks that it is one of this kind.
fn open(path: &Path, kind: Namespaces, field: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::io("opening the namespace", path)(errno.into()))?;
    let name =
        Namespaces::NAMES.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name);
    // A namespace's file reads as a link to `net:[4026531840]` (namespaces(7)).
    let link =
        std::fs::read_link(sys::process::proc_path(&file)).map_err(Error::io("reading", path))?;
    let is_kind = link
        .to_str()
        .and_then(|link| link.strip_prefix(name)?.strip_prefix(":["))
        .is_some_and(|rest| rest.ends_with(']'));
    if is_kind {
        return Ok(file);
    }
    let reason = format!("{} is no {name} namespace but {}", path.display(), link.display());
    Err(Error::field(field, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(own.name("hostname", Some(c"x".into())).is_err());
        assert!(own.name("hostname", None).unwrap().is_none());
    }

    #[test]
    fn what_is_no_such_namespace_is_said() {
        for (namespaces, words) in [
            (r#"{"type": "pid"}"#.to_owned(), "mount namespace of its own"),
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
            (r#"{"type": "mount", "path": "/proc/self/ns/mnt"}"#.to_owned(), "not supported"),
            (format!(r#"{MOUNT}, {{"type": "user"}}"#), "not supported"),
        ] {
            let error = prepare(&namespaces).unwrap_err();
            assert!(error.contains(words), "{namespaces}: {error}");
        }
    }
}
