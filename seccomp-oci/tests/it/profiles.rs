//! Docker's and Podman's form of profiles.

use seccomp_oci::{Action, Arch, Filter, Profile, Situation, Version, compile};

use crate::model::{self, ALLOW, call, errno};

/// In the form of Podman's own file: nulls, names of errnos, rules that exclude each other.
const PODMAN: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64",
         "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}
    ],
    "syscalls": [
        {"names": ["bdflush", "keyctl", "query_module"], "action": "SCMP_ACT_ERRNO", "args": [],
         "comment": "", "includes": {}, "excludes": {}, "errnoRet": 1, "errno": "EPERM"},
        {"names": ["read", "write", "exit_group", "futex_waitv", "socketcall"],
         "action": "SCMP_ACT_ALLOW", "args": null, "includes": null, "excludes": null},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM",
         "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW",
         "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["set_tls"], "action": "SCMP_ACT_ALLOW",
         "includes": {"arches": ["arm", "arm64"]}},
        {"name": "ptrace", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "errno": "EINVAL",
         "args": [{"index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_EQ"},
                  {"index": 2, "value": 9, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
         "excludes": {"caps": ["CAP_AUDIT_WRITE"]}},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 2, "value": 9, "valueTwo": 0, "op": "SCMP_CMP_NE"}],
         "excludes": {"caps": ["CAP_AUDIT_WRITE"]}},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_NE"}],
         "excludes": {"caps": ["CAP_AUDIT_WRITE"]}}
    ]
}"#;

fn resolve(text: &str, capabilities: &[&str], machine: Arch, kernel: &str) -> Filter {
    let capabilities: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
    let kernel: Version = kernel.parse().unwrap();
    let situation = Situation { capabilities: &capabilities, machine, kernel };
    serde_json::from_str::<Profile>(text).unwrap().resolve(&situation).unwrap()
}

#[test]
fn rules_are_taken_by_capability_machine_and_kernel() {
    let of = |filter: &Filter, name: &str, args: &[u64]| {
        let program = compile(filter, Arch::X86_64).unwrap().program;
        program.answer(&call(Arch::X86_64, name, args), true).unwrap()
    };
    let plain = resolve(PODMAN, &[], Arch::X86_64, "6.1.0-13-amd64");
    assert_eq!(plain.architectures, [Arch::X86_64, Arch::X86, Arch::X32]);
    assert_eq!(of(&plain, "mount", &[]), errno(1));
    assert_eq!(of(&plain, "arch_prctl", &[]), ALLOW);
    assert_eq!(of(&plain, "ptrace", &[]), ALLOW);
    assert_eq!(of(&plain, "keyctl", &[]), errno(1));
    assert_eq!(of(&plain, "bpf", &[]), errno(38));
    assert_eq!(of(&plain, "socket", &[16, 3, 9]), errno(22));
    assert_eq!(of(&plain, "socket", &[16, 3, 0]), ALLOW);
    assert_eq!(of(&plain, "socket", &[2, 3, 9]), ALLOW);
    let admin = resolve(PODMAN, &["CAP_SYS_ADMIN", "CAP_AUDIT_WRITE"], Arch::X86_64, "4.7");
    assert_eq!(of(&admin, "mount", &[]), ALLOW);
    assert_eq!(of(&admin, "ptrace", &[]), errno(38));
    assert_eq!(of(&admin, "socket", &[2]), errno(38), "no rule is left");
    let arm = resolve(PODMAN, &[], Arch::Aarch64, "6.1");
    assert_eq!(arm.architectures, [Arch::Aarch64, Arch::Arm]);
    assert!(arm.syscalls.iter().any(|rule| rule.names == ["set_tls"]));
    assert!(!arm.syscalls.iter().any(|rule| rule.names == ["arch_prctl"]));
}

/// Every number, and the arguments that the rules are about.
#[test]
fn every_call_is_decided_as_the_rules_say() {
    let filter = resolve(PODMAN, &[], Arch::X86_64, "6.1");
    let program = compile(&filter, Arch::X86_64).unwrap().program;
    for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64] {
        for number in (0..700).chain(0x4000_0000..0x4000_0300).chain([u32::MAX - 1, u32::MAX]) {
            for args in [[0; 3], [16, 0, 9], [16, 0, 0], [2, 0, 9], [1 << 32 | 16, 0, 9]] {
                let call = model::by_number(arch, number, &args);
                let expected = model::answer(&filter, Arch::X86_64, &call);
                assert_eq!(program.answer(&call, true), Some(expected), "{call:x?}");
            }
        }
    }
}

#[test]
fn a_filter_of_the_specification_is_a_profile() {
    let text = r#"{"defaultAction": "SCMP_ACT_LOG", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/agent", "listenerMetadata": "x",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY", "errnoRet": 1}]}"#;
    let filter = resolve(text, &[], Arch::X86_64, "6.1");
    assert_eq!(filter.default_action, Action::Log);
    // Docker's file with its default action changed has a value that the new one does not take.
    assert_eq!(filter.default_errno_ret, None);
    assert_eq!(filter.architectures, [Arch::X86]);
    assert_eq!(filter.listener_path.as_deref(), Some("/run/agent"));
    let flags = compile(&filter, Arch::X86_64).unwrap().program.flags();
    use sys::seccomp::Flags;
    assert_eq!(flags, Flags::LOG | Flags::NEW_LISTENER);
}

#[test]
fn wrong_profiles_are_told_by_field() {
    let of = |text: &str| {
        let situation = Situation {
            capabilities: &[],
            machine: Arch::X86_64,
            kernel: Version { major: 6, minor: 1 },
        };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        match serde_path_to_error::deserialize::<_, Profile>(&mut deserializer) {
            Err(error) => error.to_string(),
            Ok(profile) => profile.resolve(&situation).unwrap_err().to_string(),
        }
    };
    let rule =
        |rule: &str| of(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#));
    for (error, part) in [
        (of(r#"{"defaultAction": "ALLOW"}"#), "defaultAction: unknown variant `ALLOW`"),
        (of("{}"), "missing field `defaultAction`"),
        (
            of(r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#),
            "archMap of the seccomp filter",
        ),
        (
            rule(r#"{"names": ["a"], "name": "b", "action": "SCMP_ACT_LOG"}"#),
            "syscalls[0].name of the seccomp filter",
        ),
        (rule(r#"{"action": "SCMP_ACT_LOG"}"#), "syscalls[0].names of the seccomp filter"),
        (
            rule(r#"{"names": ["a"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}}"#),
            "syscalls[0].includes.minKernel: \"new\" is no version",
        ),
        (
            rule(r#"{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errno": "EWHAT"}"#),
            "syscalls[0].errno of the seccomp filter: \"EWHAT\"",
        ),
        (
            rule(
                r#"{"names": ["a"], "action": "SCMP_ACT_LOG", "excludes": {"arches": ["amd64"]},
                    "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            "syscalls[0].args[0].index of the seccomp filter: 9",
        ),
    ] {
        assert!(error.contains(part), "{error} has no {part}");
    }
}
