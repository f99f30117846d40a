//! What this runtime can do, as a document (features.md, features-linux.md).

use seccomp_oci::{Action, Arch, Flag, Op};
use serde_json::{Value, json};

use crate::hooks::HookKind;
use crate::namespaces::KINDS;
use crate::version;

/// The document that `features` prints. Nothing of it depends on a container; what depends on the machine
/// (AppArmor, SELinux) says what is compiled in, as the specification asks, not what the kernel has.
pub fn features() -> Value {
    json!({
        "ociVersionMin": version::MIN,
        "ociVersionMax": version::MAX,
        "hooks": HookKind::ALL.map(|(_, name)| name),
        "mountOptions": pivot::KNOWN.as_slice(),
        "linux": {
            "namespaces": KINDS.map(|(.., name)| name),
            "capabilities": capabilities(),
            "cgroup": {
                "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true,
            },
            "seccomp": seccomp(),
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
            "memoryPolicy": memory_policy(),
        },
        "annotations": {},
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

/// What `linux.memoryPolicy` may say (features-linux.md, "Memory Policy").
fn memory_policy() -> Value {
    json!({
        "modes": [
            "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
            "MPOL_PREFERRED_MANY", "MPOL_LOCAL",
        ],
        "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
    })
}

/// What filters may say (features-linux.md, "Seccomp").
fn seccomp() -> Value {
    let actions = [
        Action::Kill,
        Action::KillProcess,
        Action::KillThread,
        Action::Trap,
        Action::Errno,
        Action::Trace,
        Action::Allow,
        Action::Log,
        Action::Notify,
    ];
    let operators = [
        Op::NotEqual,
        Op::Less,
        Op::LessOrEqual,
        Op::Equal,
        Op::GreaterOrEqual,
        Op::Greater,
        Op::MaskedEqual,
    ];
    let flags = [Flag::Tsync, Flag::Log, Flag::SpecAllow, Flag::WaitKillableRecv];
    let architectures = Arch::ALL.iter().map(|arch| arch.name());
    json!({
        "enabled": Arch::native().is_some(), "actions": actions, "operators": operators,
        "archs": architectures.collect::<Vec<_>>(), "knownFlags": flags, "supportedFlags": flags,
    })
}

/// The names that are understood, by their numbers.
fn capabilities() -> Vec<String> {
    let mut all: Vec<caps::Capability> = caps::all().into_iter().collect();
    all.sort_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_of_the_specifications_form() {
        let document = features();
        let read: oci_spec::runtime::Features = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(read.hooks().as_ref().unwrap().len(), 6);
        let actions = &document["linux"]["seccomp"]["actions"];
        assert_eq!(actions.as_array().unwrap().len(), 9);
        assert!(actions.as_array().unwrap().iter().any(|action| action == "SCMP_ACT_NOTIFY"));
        let linux = read.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 8);
        let capabilities = linux.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.first().unwrap(), "CAP_CHOWN");
        for name in capabilities {
            let known =
                serde_json::from_value::<oci_spec::runtime::Capability>(name.clone().into());
            assert!(known.is_ok(), "{name}");
        }
        let options = document["mountOptions"].as_array().unwrap();
        assert!(options.iter().any(|word| word == "rro"));
        assert_eq!(document["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }
}
