//! `linux.seccomp` by way of an engine's calls.

use std::fs;

use serde_json::{Value, json};

use super::{Oci, WAITS};

fn denies_mkdir(config: &mut Value) {
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO",
             "errnoRet": 122},
        ],
    });
}

const TRY: &str = "grep ^Seccomp: /proc/self/status; mkdir /tmp/x 2>&1; true";

#[test]
fn a_container_and_its_further_programs_have_the_filter() {
    let oci = Oci::new(&WAITS);
    oci.configure(denies_mkdir, &WAITS);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    let text = oci.ok(&["exec", "a", "sh", "-c", TRY]);
    assert!(text.contains("Seccomp:\t2") && text.to_lowercase().contains("quota"), "{text}");
    oci.ok(&["delete", "--force", "a"]);

    oci.configure(denies_mkdir, &["sh", "-c", TRY]);
    let text = oci.ok(&["run", "a"]);
    assert!(text.contains("Seccomp:\t2") && text.to_lowercase().contains("quota"), "{text}");
    // The program is kept, and is no container.
    let kept: Vec<_> = fs::read_dir(oci.home().join("@seccomp")).unwrap().collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(oci.ok(&["list", "-q"]), "");
    fs::remove_dir_all(oci.home().join("@seccomp")).unwrap();
}

#[test]
fn names_that_are_no_calls_are_warnings() {
    let oci = Oci::new(&["true"]);
    oci.configure(denies_mkdir, &["true"]);
    let log = oci.home().with_file_name("log");
    let file = log.to_str().unwrap();
    oci.ok(&["--log", file, "--log-format", "json", "run", "a"]);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("no_such_call") && !text.contains("mkdirat"), "{text}");
    fs::remove_dir_all(oci.home().join("@seccomp")).unwrap();
}

#[test]
fn wrong_filters_are_told_by_field_and_leave_nothing() {
    let oci = Oci::new(&["true"]);
    for (path, value, words) in [
        ("/defaultAction", json!("SCMP_ACT_MAYBE"), "linux.seccomp.defaultAction"),
        ("/syscalls/0/names", json!([]), "linux.seccomp.syscalls[0].names"),
        ("/syscalls/0/errnoRet", json!(5000), "linux.seccomp.syscalls[0].errnoRet"),
        ("/syscalls/0/action", json!("SCMP_ACT_NOTIFY"), "linux.seccomp"),
    ] {
        oci.configure(
            |config| {
                denies_mkdir(config);
                *config["linux"]["seccomp"].pointer_mut(path).unwrap() = value;
            },
            &["true"],
        );
        oci.fails(1, &[words], &["create", "a"]);
        let left = oci.names();
        assert!(left.iter().all(|name| name == "@seccomp"), "{left:?}");
        let _ = fs::remove_dir_all(oci.home().join("@seccomp"));
    }
}
