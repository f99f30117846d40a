//! `linux.seccomp` by way of an engine's calls.

use std::fs;

use serde_json::{Value, json};

use super::{Oci, WAITS};
use crate::harness::wait_until;

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

/// The words of a string are no fields.
const LIE: &str = r#""linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}"#;

/// From the bundle onto the record, and from there to the exec's process: also where the program is kept already, and where
/// it is gone again.
#[test]
fn a_filter_is_not_lost_on_its_way() {
    let oci = Oci::new(&WAITS);
    let programs = oci.home().join("@seccomp");
    let made = |config: &mut Value| {
        config["annotations"] = json!({"a": LIE, LIE: "\"seccomp\":null"});
        config["hostname"] = "seccomp".into();
        denies_mkdir(config);
    };
    let filter = |path: &std::path::Path| {
        let config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        config["linux"]["seccomp"].clone()
    };
    for (id, lose) in [("new", false), ("kept", false), ("gone", true), ("again", false)] {
        oci.configure(made, &["sh", "-c", &format!("{TRY}; exec sleep 1000")]);
        let output = oci.create(&[id]);
        let record = filter(&oci.home().join(id).join("config.json"));
        assert_eq!(record, filter(&oci.bundle().join("config.json")), "{id}");
        assert_eq!(fs::read_dir(&programs).unwrap().count(), 1, "{id}");
        if lose {
            fs::remove_dir_all(&programs).unwrap();
        }
        oci.ok(&["start", id]);
        let said = || fs::read_to_string(&output).unwrap().to_lowercase();
        wait_until("the program has tried", || said().contains("tmp/x"));
        assert!(said().contains("seccomp:\t2") && said().contains("quota"), "{id}: {}", said());
        // Where the program was known, a further one finds it beside the record, or else by the configuration.
        let short = oci.home().join(id).join("exec");
        assert_eq!(short.exists(), id != "new", "{id}");
        let whole = fs::read(&short).unwrap_or_default();
        for content in [Some(&whole[..]), Some(&whole[..whole.len() / 2]), None] {
            match content {
                Some(content) => fs::write(&short, content).unwrap(),
                None => fs::remove_file(&short).unwrap(),
            }
            let text = oci.ok(&["exec", id, "sh", "-c", TRY]).to_lowercase();
            assert!(text.contains("seccomp:\t2") && text.contains("quota"), "{id}: {text}");
        }
        assert_eq!(fs::read_dir(&programs).unwrap().count(), 1, "exec finds what create has kept");
        oci.ok(&["delete", "--force", id]);
    }
    fs::remove_dir_all(programs).unwrap();
}

#[test]
fn hooks_in_the_container_have_the_filter_whether_its_program_is_kept_or_not() {
    let oci = Oci::new(&WAITS);
    let script = format!("({TRY}) >/seen");
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]);
    let made = |config: &mut Value| {
        config["hooks"] = json!({"startContainer": hook});
        config["root"]["readonly"] = json!(false);
        denies_mkdir(config);
    };
    let seen = oci.bundle().join("rootfs/seen");
    let check = |way: &str| {
        let text = fs::read_to_string(&seen).unwrap().to_lowercase();
        assert!(text.contains("seccomp:\t2") && text.contains("quota"), "{way}: {text}");
        fs::remove_file(&seen).unwrap();
    };
    for way in ["new", "kept"] {
        oci.configure(made, &["true"]);
        oci.ok(&["run", "a"]);
        check(way);
        oci.configure(made, &WAITS);
        oci.create(&["a"]);
        oci.ok(&["start", "a"]);
        check(way);
        oci.ok(&["delete", "--force", "a"]);
    }
    fs::remove_dir_all(oci.home().join("@seccomp")).unwrap();
}

/// One that differs in a number of as many digits, and one that is wrong.
#[test]
fn the_program_of_another_filter_is_not_taken() {
    let oci = Oci::new(&["true"]);
    let with = |errno: u32| {
        let change = |config: &mut Value| {
            denies_mkdir(config);
            config["linux"]["seccomp"]["syscalls"][0]["errnoRet"] = json!(errno);
        };
        oci.configure(change, &["sh", "-c", TRY]);
    };
    for _ in 0..2 {
        for (errno, word) in [(122, "quota"), (110, "timed out"), (111, "refused")] {
            with(errno);
            let text = oci.ok(&["run", "a"]).to_lowercase();
            assert!(text.contains(word), "{errno}: {text}");
        }
    }
    assert_eq!(fs::read_dir(oci.home().join("@seccomp")).unwrap().count(), 3);
    with(9999);
    oci.fails(1, &["linux.seccomp.syscalls[0].errnoRet"], &["run", "a"]);
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
