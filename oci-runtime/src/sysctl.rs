//! `linux.sysctl`: kernel parameters of the container's own namespaces.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;

use ns_core::Namespaces;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::fscontext::FsContext;
use sys::{Failure, Step};

use crate::Error;

/// Of an IPC namespace (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Parameters to be written, and the procfs to write them to: one that is mounted nowhere, so that neither an
/// image nor another container can have put anything into its place (CVE-2019-16884, CVE-2023-27561).
#[derive(Debug, Default)]
pub(crate) struct Sysctls {
    proc: Option<OwnedFd>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Below the procfs: `sys/net/ipv4/ip_forward`.
    path: CString,
    value: Vec<u8>,
}

impl Sysctls {
    /// Prepares what `wanted` says for a container with `own` namespaces, which are not the caller's.
    ///
    /// # Errors
    /// A parameter that is not one of these namespaces would be the whole host's (CVE-2022-0811); a
    /// value that is no value.
    pub(crate) fn prepare(
        wanted: Option<&HashMap<String, String>>,
        own: Namespaces,
        in_user: bool,
    ) -> Result<Self, Error> {
        let mut entries = Vec::new();
        for (key, value) in wanted.into_iter().flatten() {
            let refuse = |reason: &str| Err(Error::field(format!("linux.sysctl[{key:?}]"), reason));
            let path = path(key);
            if let Err(reason) = allowed(&path, own) {
                return refuse(reason);
            }
            if value.contains(['\0', '\n']) {
                return refuse("its value has a NUL byte or a line break");
            }
            let Ok(path) = CString::new(format!("sys/{path}")) else {
                return refuse("it has a NUL byte");
            };
            entries.push(Entry { path, value: value.clone().into_bytes() });
        }
        // For one order of all runs.
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        // In a user namespace the container's own may be made only; it is made there.
        let proc = (!entries.is_empty() && !in_user).then(|| procfs().map_err(failed));
        let proc = proc.transpose()?;
        Ok(Self { proc, entries })
    }

    /// Child side, in the container's namespaces. Writes all. The failure's index is the parameter's.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let made;
        let proc = match &self.proc {
            Some(proc) => proc,
            None => {
                made = procfs()?;
                &made
            }
        };
        for (index, entry) in self.entries.iter().enumerate() {
            let of_entry = |failure: Failure| failure.of(0, index as u32);
            let resolve = ResolveFlags::BENEATH
                | ResolveFlags::NO_XDEV
                | ResolveFlags::NO_SYMLINKS
                | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat2(proc, &entry.path, flags, Mode::empty(), resolve)
                .step("opening the kernel parameter")
                .map_err(of_entry)?;
            // In one write: a second one would be a second value.
            match rustix::io::retry_on_intr(|| rustix::io::write(&file, &entry.value)) {
                Ok(count) if count == entry.value.len() => {}
                Ok(_) => {
                    return Err(of_entry(Failure::new(
                        "writing all of the kernel parameter",
                        Errno::INVAL,
                    )));
                }
                Err(errno) => {
                    return Err(of_entry(Failure::new("writing the kernel parameter", errno)));
                }
            }
        }
        Ok(())
    }

    /// `the kernel parameter net/ipv4/ip_forward = 1`: what the failure of `index` is about.
    pub(crate) fn describe(&self, index: u32) -> String {
        match self.entries.get(index as usize) {
            Some(entry) => format!(
                "the kernel parameter {} = {}",
                entry.path.to_string_lossy().trim_start_matches("sys/"),
                String::from_utf8_lossy(&entry.value)
            ),
            None => "the container's kernel parameters".to_owned(),
        }
    }
}

/// A procfs that is mounted nowhere.
fn procfs() -> Result<OwnedFd, Failure> {
    let context = FsContext::open(c"proc")?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    context.mount(flags)
}

fn failed(failure: Failure) -> Error {
    Error::io("making a proc file system for linux.sysctl, as", "/proc")(failure.errno.into())
}

/// The parameter as a path: where the first separator is a dot, dots separate, and a slash stands for
/// a dot in a name (sysctl.d(5)).
fn path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'.' => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// Whether the parameter belongs to a namespace of the container's own.
fn allowed(path: &str, own: Namespaces) -> Result<(), &'static str> {
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it is no name of a parameter");
    }
    let needs = if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        (Namespaces::IPC, "it needs an IPC namespace of the container's own, or would be another's")
    } else if path.starts_with("net/") {
        (
            Namespaces::NETWORK,
            "it needs a network namespace of the container's own, or would be the host's",
        )
    } else if path == "kernel/domainname" {
        (Namespaces::UTS, "it needs a UTS namespace of the container's own, or would be the host's")
    } else if path == "kernel/hostname" {
        return Err("use the field hostname");
    } else {
        return Err("it is not of a namespace, and would change the whole host; there are net.*, \
             fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm* and kernel.domainname");
    };
    if own.contains(needs.0) { Ok(()) } else { Err(needs.1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(key: &str, value: &str, own: Namespaces) -> Result<Sysctls, String> {
        let wanted = HashMap::from([(key.to_owned(), value.to_owned())]);
        Sysctls::prepare(Some(&wanted), own, false).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_written_in_both_forms() {
        for (key, expected) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("kernel", "kernel"),
        ] {
            assert_eq!(path(key), expected, "{key}");
        }
    }

    #[test]
    fn what_is_the_hosts_is_refused() {
        let all = Namespaces::all();
        for key in [
            "kernel.core_pattern",
            "kernel/core_pattern",
            "vm.swappiness",
            "fs.file-max",
            "net/../kernel/core_pattern",
            "net.ipv4./.",
            "net//ipv4",
            "/net/ipv4",
            "net.",
            "net",
            "",
            "fs.mqueue",
            "kernel.shm_rmid_forced.x",
            "kernel.hostname",
        ] {
            let error = prepare(key, "1", all).unwrap_err();
            assert!(error.contains("linux.sysctl["), "{key}: {error}");
        }
        assert!(prepare("net.core.somaxconn", "1\0", all).unwrap_err().contains("NUL"));
        assert!(prepare("net.core.somaxconn", "1\nx", all).unwrap_err().contains("line break"));
        assert!(prepare("net.a\0", "1", all).unwrap_err().contains("NUL"));
        for (key, kind) in [
            ("net.core.somaxconn", Namespaces::NETWORK),
            ("kernel.sem", Namespaces::IPC),
            ("fs.mqueue.msg_max", Namespaces::IPC),
            ("kernel.domainname", Namespaces::UTS),
        ] {
            assert!(prepare(key, "1", all - kind).unwrap_err().contains("namespace"), "{key}");
        }
        assert!(Sysctls::prepare(None, all, false).unwrap().proc.is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_allowed_path_leads_elsewhere(key in "(net|fs/mqueue|kernel)[./a-z]{0,20}") {
            let path = path(&key);
            if allowed(&path, Namespaces::all()).is_ok() {
                proptest::prop_assert!(!path.split('/').any(|part| part == ".." || part.is_empty()));
            }
        }
    }
}
