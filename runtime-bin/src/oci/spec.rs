//! `spec`: a configuration to begin with.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cli::SpecArgs;

/// Writes config.json into the bundle.
pub(crate) fn spec(args: &SpecArgs) -> anyhow::Result<u8> {
    let path = args.bundle.join("config.json");
    if path.exists() {
        bail!("File {} exists. Remove it first", path.display());
    }
    let text = serde_json::to_string_pretty(&configuration(args.rootless))?;
    std::fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    Ok(0)
}

/// runc's: a shell in a terminal, in namespaces of its own, with few capabilities.
fn configuration(rootless: bool) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut spec = json!({
        "ociVersion": oci_runtime::SPEC_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm"
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runtime-oci",
        "mounts": mounts(rootless),
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi"
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    });
    let linux = &mut spec["linux"];
    match rootless {
        true => {
            let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
            linux["uidMappings"] = map(rustix::process::geteuid().as_raw());
            linux["gidMappings"] = map(rustix::process::getegid().as_raw());
        }
        false => linux["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]}),
    }
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        // A user's own network namespace would have no way out.
        namespaces.push(json!({"type": if rootless { "user" } else { "network" }}));
        if is_unified() {
            namespaces.push(json!({"type": "cgroup"}));
        }
    }
    spec
}

/// Whether the machine has cgroup v2 alone.
fn is_unified() -> bool {
    /// CGROUP2_SUPER_MAGIC of linux/magic.h.
    const MAGIC: u64 = 0x6367_7270;
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|found| found.f_type as u64 == MAGIC)
}

fn mounts(rootless: bool) -> Value {
    let mut terminals =
        vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let mut sys = json!({
        "destination": "/sys", "type": "sysfs", "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", "ro"]
    });
    if rootless {
        // The group is not mapped, and the network is the host's, whose sysfs cannot be mounted.
        terminals.pop();
        sys = json!({
            "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]
        });
    }
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]
        },
        {
            "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": terminals
        },
        {
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
        },
        {
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]
        },
        sys,
        {
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]
        }
    ])
}
