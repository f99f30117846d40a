//! What Docker gives every container, as data: mounts, devices, masked and read-only paths.

use crate::devices::{Device, DeviceKind};
use crate::{Error, Filesystem};

/// A mount as an OCI configuration has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandardMount {
    /// Where, in the container.
    pub target: &'static str,
    /// The file system's type.
    pub fstype: &'static str,
    /// What `mount` shows as the source.
    pub source: &'static str,
    /// The option words.
    pub options: &'static [&'static str],
}

impl StandardMount {
    /// The mount, ready for the child.
    pub fn prepare(&self) -> Result<Filesystem, Error> {
        Filesystem::new(self.fstype, self.target, Some(self.source), self.options)
    }
}

/// The mounts, parents before children, without `/sys/fs/cgroup` ([`CGROUP`]), whose form depends on
/// the host.
pub const MOUNTS: [StandardMount; 6] = [
    StandardMount {
        target: "/proc",
        fstype: "proc",
        source: "proc",
        options: &["nosuid", "nodev", "noexec"],
    },
    StandardMount {
        target: "/dev",
        fstype: "tmpfs",
        source: "tmpfs",
        options: &["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    StandardMount {
        target: "/dev/pts",
        fstype: "devpts",
        source: "devpts",
        options: &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    StandardMount {
        target: "/sys",
        fstype: "sysfs",
        source: "sysfs",
        options: &["nosuid", "nodev", "noexec", "ro"],
    },
    StandardMount {
        target: "/dev/mqueue",
        fstype: "mqueue",
        source: "mqueue",
        options: &["nosuid", "nodev", "noexec"],
    },
    StandardMount {
        target: "/dev/shm",
        fstype: "tmpfs",
        source: "shm",
        options: &["nosuid", "nodev", "noexec", "mode=1777", "size=65536k"],
    },
];

/// The mount of the cgroup file systems, for [`crate::Cgroups::prepare`].
pub const CGROUP: StandardMount = StandardMount {
    target: "/sys/fs/cgroup",
    fstype: "cgroup",
    source: "cgroup",
    options: &["ro", "nosuid", "nodev", "noexec"],
};

/// Paths that a container may not look into.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that a container may read and not change.
pub const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// [`MASKED`], and `thermal_throttle` of each of the host's processors that has it: its counters tell
/// one container what another computes, as those of `/proc/interrupts` do.
pub fn masked_paths() -> Vec<String> {
    const CPUS: &str = "/sys/devices/system/cpu";
    let mut paths: Vec<String> = MASKED.iter().map(|&path| path.to_owned()).collect();
    // A host without the directory has nothing there to mask.
    let entries = std::fs::read_dir(CPUS).into_iter().flatten().flatten();
    let mut cpus: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok())
        .collect();
    cpus.sort_unstable();
    let throttle = cpus.iter().map(|cpu| format!("{CPUS}/cpu{cpu}/thermal_throttle"));
    paths.extend(throttle.filter(|path| std::path::Path::new(path).exists()));
    paths
}

/// The devices that every container has (OCI runtime specification, config-linux.md, "Default
/// Devices"); [`LINKS`] and the console come beside them.
pub fn devices() -> Vec<Device> {
    [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ]
    .map(|(name, major, minor)| Device {
        path: format!("/dev/{name}"),
        kind: DeviceKind::Char,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
        made_for: None,
    })
    .into()
}

/// Symbolic links in `/dev`: name and where it points.
pub const LINKS: [(&str, &str); 6] = [
    ("core", "/proc/kcore"),
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_can_be_prepared() {
        for mount in MOUNTS {
            mount.prepare().unwrap();
        }
        let masked = masked_paths();
        assert_eq!(masked[..MASKED.len()], MASKED);
        assert!(masked[MASKED.len()..].iter().all(|path| path.ends_with("/thermal_throttle")));
        crate::Masks::prepare(&masked, &READ_ONLY).unwrap();
        crate::Devices::prepare(&devices(), crate::Nodes::Bind).unwrap();
    }

    #[test]
    fn parents_come_first() {
        for (index, mount) in MOUNTS.iter().enumerate() {
            let earlier_child = MOUNTS[..index].iter().find(|other| {
                other.target.strip_prefix(mount.target).is_some_and(|rest| rest.starts_with('/'))
            });
            assert_eq!(earlier_child, None);
        }
    }
}
