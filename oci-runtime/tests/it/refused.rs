//! Configurations that are refused, and leave nothing.

use std::path::Path;

use oci_runtime::{Error, Prepared, Stdio};
use serde_json::{Value, json};

use crate::{config, run, spec};

fn refusal(config: Value) -> String {
    let stdio = Stdio::null().unwrap();
    Prepared::new(Path::new("/"), &spec(config), stdio).map(drop).unwrap_err().to_string()
}

fn changed(path: &str, value: Value) -> Value {
    let mut config = config(&["true"]);
    *config.pointer_mut(path).unwrap_or(&mut Value::Null) = value.clone();
    if config.pointer(path).is_none() {
        let (parent, key) = path.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
    }
    config
}

#[test]
fn what_is_not_done_is_named() {
    let error = refusal(changed("/linux/intelRdt", json!({"closID": "x"})));
    assert!(error.contains("linux.intelRdt") && error.contains("not supported"), "{error}");
}

#[test]
fn two_domain_names_are_one_too_many() {
    let both = |name: &str| {
        let mut config = changed("/linux/sysctl", json!({"kernel.domainname": "one"}));
        config["domainname"] = name.into();
        config
    };
    let error = refusal(both("two"));
    assert!(error.starts_with("linux.sysctl[\"kernel.domainname\"]"), "{error}");
    assert!(error.contains("\"one\"") && error.contains("\"two\""), "{error}");
    run(both("one")).unwrap();
}

#[test]
fn what_has_no_meaning_is_named() {
    for (path, value, words) in [
        ("/process/args", json!([]), "process.args"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/args", json!(["a\u{0}b"]), "NUL"),
        ("/process/user/uid", json!(u32::MAX), "process.user.uid"),
        ("/linux/namespaces", json!([]), "linux.namespaces"),
        (
            "/linux/namespaces/0",
            json!({"type": "pid", "path": "/proc/self/ns/uts"}),
            "no pid namespace",
        ),
        // It would change the whole host (CVE-2022-0811).
        ("/linux/sysctl", json!({"kernel.core_pattern": "|/x"}), "would change the whole host"),
        ("/linux/sysctl", json!({"net/../kernel/core_pattern": "x"}), "no name of a parameter"),
        ("/linux/rootfsPropagation", json!("rprivate,src=/"), "rprivate,src=/"),
        ("/mounts/0/destination", json!("/"), "root is mounted already"),
        ("/root/path", json!("/no/such/root"), "/no/such/root"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "linux.timeOffsets"),
        ("/linux/namespaces/0", json!({"type": "user"}), "linux.uidMappings"),
        ("/linux/namespaces/0", json!({"type": "mount", "path": "/x"}), "/x"),
        ("/hooks", json!({"prestart": [{"path": "x"}]}), "hooks.prestart[0].path"),
        ("/process/selinuxLabel", json!("x"), "process.selinuxLabel"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]),
            "process.rlimits[0].soft",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 9}),
            "process.ioPriority.priority",
        ),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["X"]}),
            "linux.personality.flags",
        ),
        ("/mounts/3/options", json!(["idmap", "bind"]), "mounts[3].options"),
        (
            "/mounts/3/uidMappings",
            json!([{"containerID": 0, "hostID": 1, "size": 1}]),
            "mounts[3].uidMappings",
        ),
    ] {
        let error = refusal(changed(path, value));
        assert!(error.contains(words), "{path}: {error}");
    }
}

#[test]
fn a_configuration_that_is_no_json_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let error = oci_runtime::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("No such file"), "{error}");
    std::fs::write(dir.path().join("config.json"), "{\"ociVersion\": \"1.0.0\", \"process\": 3}")
        .unwrap();
    let error = oci_runtime::load(dir.path()).unwrap_err();
    assert!(matches!(&error, Error::Json { field, .. } if field == "process"), "{error}");
}

#[test]
fn a_step_that_fails_says_which_mount_it_was_and_what_the_kernel_said() {
    let mut config = changed("/mounts/3/options", json!(["size=nonsense"]));
    config["mounts"][3]["destination"] = json!("/tmp");
    let error = run(config).unwrap_err().to_string();
    assert!(error.contains("the tmpfs file system on /tmp (size=nonsense)"), "{error}");
    assert!(error.contains("the kernel says"), "{error}");
}

/// Where there is AppArmor, by the kernel: it knows no such profile.
#[test]
fn a_profile_that_there_is_not_is_named() {
    let error = run(changed("/process/apparmorProfile", json!("no-such"))).unwrap_err().to_string();
    assert!(error.contains("process.apparmorProfile"), "{error}");
}
