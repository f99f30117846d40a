//! Seccomp filters: Docker's default one, the user's own, and none.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Root, arg, busybox};

const STATUS: &str = "grep -E '^(Seccomp|NoNewPrivs|CapEff|CapPrm|CapBnd):' /proc/self/status";
/// What a user namespace is made with needs no capability: only a filter denies it.
const UNSHARE: &str = "unshare -U true 2>&1 && echo unshared";
const UNCONFINED: &[&str] = &["--security-opt", "seccomp=unconfined"];

#[test]
fn docker_s_default_is_the_default() {
    let root = Root::new();
    let shown = root.shell(&[], STATUS);
    assert_eq!(
        shown,
        "CapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n\
         NoNewPrivs:\t0\nSeccomp:\t2"
    );
    let denied = |options: &[&str], script: &str| {
        let shown = root.shell(options, &format!("{script}; true"));
        assert!(shown.contains("not permitted"), "{script}: {shown}");
    };
    denied(&[], UNSHARE);
    denied(&["-u", "1234"], UNSHARE);
    denied(&["--security-opt", "seccomp=builtin"], UNSHARE);
    denied(&["--security-opt", "no-new-privileges"], UNSHARE);
    denied(&[], "dmesg 2>&1");
    // Ordinary programs do not notice.
    let script = "mkdir /x && cd /x && echo a > b && cp b c && chown 1:1 c && chroot / true && \
        (sleep 0.01 & wait) && ln -s b l && tar cf t b && mknod n p && su -s /bin/sh nobody -c id; \
        echo $?";
    let shown = root.shell(&[], script);
    assert!(shown.ends_with('0'), "{shown}");
    root.assert_nothing_left();
}

#[test]
fn capabilities_open_their_calls_and_privileged_containers_have_no_filter() {
    let root = Root::new();
    let mount = "mkdir /mnt; mount -t tmpfs x /mnt && grep -c ' /mnt tmpfs' /proc/mounts";
    assert_eq!(root.shell(&["--cap-add", "SYS_ADMIN"], mount), "1");
    // The capability without its calls is of no use.
    let file = root.dir().join("deny.json");
    let deny = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}]});
    fs::write(&file, deny.to_string()).unwrap();
    let option = format!("seccomp={}", arg(&file));
    let options = ["--cap-add", "SYS_ADMIN", "--security-opt", &option];
    let shown = root.shell(&options, "mkdir /mnt; mount -t tmpfs x /mnt 2>&1; true");
    assert!(shown.to_lowercase().contains("quota"), "{shown}");

    let seccomp = |options: &[&str]| root.shell(options, "grep ^Seccomp: /proc/self/status");
    assert_eq!(seccomp(&["--privileged"]), "Seccomp:\t0");
    assert_eq!(seccomp(&["--privileged", "--security-opt", &option]), "Seccomp:\t2");
    assert_eq!(seccomp(UNCONFINED), "Seccomp:\t0");
    // By which it is seen that the filter was what denied it.
    assert_eq!(root.shell(UNCONFINED, UNSHARE), "unshared");
    root.assert_nothing_left();
}

#[test]
fn a_profile_of_the_users_is_kept_with_the_container() {
    let root = Root::new();
    let file = root.dir().join("profile.json");
    // In Docker's form: what it includes depends on the container.
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO",
             "errnoRet": 122, "args": null},
            {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122,
             "excludes": {"caps": ["CAP_SYS_CHROOT"]}},
        ],
    });
    fs::write(&file, serde_json::to_string_pretty(&profile).unwrap()).unwrap();
    let option = format!("seccomp={}", arg(&file));
    let script = "mkdir /x 2>&1; chroot / true 2>&1; true";
    let shown = root.shell(&["--security-opt", &option], script).to_lowercase();
    assert_eq!(shown.matches("quota").count(), 1, "{shown}");
    let options = ["--security-opt", &option, "--cap-drop", "SYS_CHROOT"];
    let shown = root.shell(&options, script).to_lowercase();
    assert_eq!(shown.matches("quota").count(), 2, "{shown}");

    let image = busybox();
    let args = ["create", "--name", "box", "--security-opt", &option, arg(&image), "mkdir", "/x"];
    root.ok(args);
    fs::remove_file(&file).unwrap();
    let recorded = root.inspect("box")["HostConfig"]["SecurityOpt"][0].clone();
    let recorded = recorded.as_str().unwrap().strip_prefix("seccomp=").unwrap().to_owned();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&recorded).unwrap(), profile);
    for _ in 0..2 {
        let out = root.call(["start", "-a", "box"]);
        assert_eq!(out.code, 1, "{out:?}");
        assert!(out.stderr.to_lowercase().contains("quota"), "{out:?}");
    }
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}

#[test]
fn wrong_profiles_are_told_by_file_and_field() {
    let root = Root::new();
    let file = root.dir().join("bad.json");
    let option = format!("seccomp={}", arg(&file));
    let image = busybox();
    let fails = |words: &[&str]| {
        let args = ["run", "--rm", "--security-opt", &option, arg(&image), "true"];
        root.fails(125, words, args);
    };
    fails(&["bad.json", "No such file"]);
    for (text, words) in [
        ("nothing", &["bad.json", "line 1"][..]),
        ("{}", &["defaultAction"]),
        (r#"{"defaultAction": "SCMP_ACT_DENY"}"#, &["defaultAction", "SCMP_ACT_DENY"]),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_LOG"},
                {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1000000}]}"#,
            &["syscalls[1].errnoRet", "1000000"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            &["listenerPath"],
        ),
    ] {
        fs::write(&file, text).unwrap();
        fails(words);
    }
    root.fails(125, &["--security-opt"], ["run", "--security-opt", "seccomp", arg(&image)]);
    root.assert_nothing_left();
}

#[test]
fn exec_has_the_containers_filter() {
    let root = Root::new();
    root.sleeper("box", &[]);
    let shown = root.ok(["exec", "box", "sh", "-c", STATUS]);
    assert!(
        shown.contains("Seccomp:\t2") && shown.contains("CapEff:\t00000000a80425fb"),
        "{shown}"
    );
    for options in [&["exec"][..], &["exec", "-u", "1234"], &["exec", "--privileged"]] {
        let out = root.call([options, &["box", "sh", "-c", UNSHARE]].concat());
        assert!(out.stdout.contains("not permitted"), "{options:?}: {out:?}");
    }
    root.ok(["rm", "-f", "box"]);
    root.sleeper("open", UNCONFINED);
    assert_eq!(root.ok(["exec", "open", "sh", "-c", UNSHARE]), "unshared");
    root.ok(["rm", "-f", "open"]);
    root.assert_nothing_left();
}

/// A program is compiled once, and what is kept of it is not believed unseen.
#[test]
fn programs_are_kept_below_the_root() {
    let root = Root::new();
    let dir = root.store().join("seccomp");
    let only = || -> PathBuf {
        let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = entries.collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    };
    let works = || {
        let shown = root.shell(&[], &format!("{UNSHARE}; {STATUS}"));
        assert!(shown.contains("not permitted") && shown.contains("Seccomp:\t2"), "{shown}");
    };
    works();
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700);
    let file = only();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    let (whole, inode) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().ino());
    works();
    assert_eq!(fs::metadata(only()).unwrap().ino(), inode, "it was taken");
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    works();
    assert_eq!(fs::read(only()).unwrap(), whole);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    works();
    assert_eq!(fs::metadata(only()).unwrap().mode() & 0o7777, 0o600);
    // Without a place for it, it is compiled each time.
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "").unwrap();
    works();
    root.assert_nothing_left();
}
