//! What cannot be meant: an error that says where, nothing started, nothing left.

use serde_json::{Value, json};

use super::Oci;

#[test]
fn an_id_is_no_path() {
    let oci = Oci::new(&["true"]);
    for id in ["", ".", "..", "a/b", "../a", "/a", "a b", "é"] {
        for verb in ["create", "run", "state", "start", "kill", "delete", "exec"] {
            let args: &[&str] = if verb == "exec" { &[verb, id, "true"] } else { &[verb, id] };
            let code = if verb == "exec" { 255 } else { 1 };
            oci.fails(code, &["invalid container ID format"], args);
        }
    }
    assert!(oci.names().is_empty());
}

#[test]
fn a_bad_configuration_names_its_field() {
    let oci = Oci::new(&["true"]);
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 11] = [
        (|c| drop(c.as_object_mut().unwrap().remove("root")), "root"),
        (|c| c["process"]["args"] = json!([]), "process.args"),
        (|c| c["process"]["args"] = json!("sh"), "process.args"),
        (|c| c["process"]["cwd"] = json!("relative"), "process.cwd"),
        (|c| c["process"]["user"]["uid"] = json!(-1), "process.user.uid"),
        (
            |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]),
            "process.rlimits[0].type",
        ),
        (|c| c["linux"]["namespaces"][0]["type"] = json!("none"), "linux.namespaces[0].type"),
        (|c| c["linux"]["namespaces"][0]["path"] = json!("/none"), "/none"),
        (|c| c["mounts"][0]["type"] = json!("nosuchfs"), "nosuchfs"),
        (|c| c["root"]["path"] = json!("none"), "none"),
        (|c| c["linux"]["sysctl"] = json!({"kernel.panic": "1"}), "kernel.panic"),
    ];
    for (number, (change, words)) in cases.into_iter().enumerate() {
        oci.configure(change, &["true"]);
        for verb in ["create", "run"] {
            oci.fails(1, &[words], &[verb, &format!("c{number}")]);
        }
    }
    for bytes in [&b""[..], b"{", b"[]", b"\xff", b"null", b"{\"ociVersion\": 1}"] {
        oci.write_config(bytes);
        oci.fails(1, &["config"], &["create", "c"]);
    }
    std::fs::remove_file(oci.bundle().join("config.json")).unwrap();
    oci.fails(1, &["config.json", "No such file"], &["create", "c"]);
    oci.fails(1, &["/no/bundle"], &["create", "--bundle", "/no/bundle", "c"]);
    assert!(oci.names().is_empty(), "{:?}", oci.names());
}

/// A command that is not there is told by create, as runc does it.
#[test]
fn a_command_that_is_missing_is_told_at_once() {
    let oci = Oci::new(&["nosuch"]);
    oci.fails(1, &["exec: \"nosuch\": executable file not found in $PATH"], &["create", "a"]);
    oci.configure(|_| {}, &["/no/such"]);
    oci.fails(1, &["exec: \"/no/such\": no such file or directory"], &["create", "a"]);
    // What exists and can be no program, too: Podman tells 126 from the words, and from create's only.
    oci.configure(|_| {}, &["/etc"]);
    oci.fails(1, &["exec: \"/etc\": permission denied", "directory"], &["create", "a"]);
    assert!(oci.names().is_empty());
    // What is there and cannot be executed is known when it is.
    crate::harness::write_script(&oci.bundle().join("rootfs/bin/notes"), "text\n");
    oci.configure(|_| {}, &["notes"]);
    oci.create(&["a"]);
    oci.fails(1, &["exec: \"notes\": exec format error", "#!"], &["start", "a"]);
    oci.wait_for("a", "stopped");
}

#[test]
fn usage_that_is_wrong_is_an_error() {
    let oci = Oci::new(&["true"]);
    for args in [
        &["create"][..],
        &["create", "a", "b"],
        &["create", "--none", "a"],
        &["nosuch"],
        &["--log-format", "xml", "list"],
        &["create", "--preserve-fds", "x", "a"],
    ] {
        oci.fails(1, &["error: "], args);
    }
    // A path for the driver cgroupfs.
    oci.fails(1, &["slice:prefix:name"], &["--systemd-cgroup", "create", "a"]);
    assert!(oci.names().is_empty());
}

/// faccessat2 is Linux 5.8; access(2)'s own call looks as well where the ids are the same.
#[test]
fn a_command_is_looked_for_without_faccessat2_too() {
    let oci = Oci::new(&["no-such-command"]);
    std::thread::scope(|scope| {
        let run = || {
            let filter = sys::seccomp::answer(&[libc::SYS_faccessat2], rustix::io::Errno::NOSYS);
            sys::seccomp::install(&filter).unwrap();
            oci.fails(1, &["executable file not found in $PATH"], &["create", "a"]);
            oci.configure(|_| {}, &["sh", "-c", "echo works"]);
            assert_eq!(oci.ok(&["run", "a"]), "works\n");
        };
        scope.spawn(run).join().unwrap();
    });
    assert!(oci.names().is_empty());
}
