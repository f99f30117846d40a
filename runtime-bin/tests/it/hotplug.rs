//! `mount` and `umount`: volumes that come and go while a container runs.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::harness::{Root, arg, wait_until};

fn targets(root: &Root) -> Vec<String> {
    let mounts = root.inspect("box")["Mounts"].clone();
    let mounts = mounts.as_array().unwrap().iter();
    mounts.map(|mount| mount["Destination"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_volume_is_added_and_taken_away() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    fs::create_dir(dir.join("below")).unwrap();
    let below = dir.join("below");
    mount("of-the-test", &below, "tmpfs", MountFlags::empty(), None).unwrap();
    root.sleeper("box", &["-v", "old:/old"]);
    let exec = |script: &str| root.call(["exec", "box", "sh", "-c", script]);
    root.ok(["mount", "box", "-v", &format!("{}:/new/place:ro", arg(&dir))]);
    // Seen at once, and what is written later too.
    fs::write(dir.join("file"), "written on the host").unwrap();
    assert_eq!(exec("cat /new/place/file").stdout, "written on the host");
    // Read-only with all that is mounted below it.
    for path in ["/new/place/x", "/new/place/below/x"] {
        let out = exec(&format!("echo x > {path}"));
        assert!(out.stderr.contains("Read-only file system"), "{path}: {out:?}");
    }
    let shown = root.ok(["mounts", "box"]);
    assert!(shown.contains(&format!("bind: {}", arg(&dir))), "{shown}");
    // Named volumes and a tmpfs, by all three options; a file.
    let file = dir.join("file");
    let bind = format!("type=bind,src={},dst=/file", arg(&file));
    root.ok(["mount", "box", "-v", "data:/data", "--mount", &bind, "--tmpfs", "/t:size=1m"]);
    assert_eq!(exec("echo x > /data/x; echo y > /t/y; cat /file").stdout, "written on the host");
    assert!(root.store().join("volumes/data/_data/x").exists());
    assert_eq!(targets(&root), ["/old", "/data", "/file", "/t", "/new/place"]);
    // Not twice, and not on what is mounted already.
    for target in ["/data", "/old", "/proc/..//data", "/dev", "/etc/hosts"] {
        let spec = format!("{}:{target}", arg(&dir));
        root.fails(1, &["something is mounted there already"], ["mount", "box", "-v", &spec]);
    }
    // In use is also what is mounted below: by the host's own mount there.
    let stay = "cd /new/place/below; touch /in; while test ! -e /go; do sleep 0.1; done";
    root.ok(["exec", "-d", "box", "sh", "-c", &format!("({stay}); cd /; rm /in")]);
    wait_until("a process is below", || exec("test -e /in").code == 0);
    root.fails(1, &["in use by"], ["umount", "box", "/new/place"]);
    root.ok(["exec", "box", "touch", "/go"]);
    wait_until("nobody is below", || exec("test -e /in").code == 1);
    // Away again: those that were added, and one that the container was made with.
    root.ok(["umount", "box", "/new/place", "/file", "/t", "/old", "/data/"]);
    assert_eq!(targets(&root), [""; 0]);
    assert_eq!(exec("ls -A /new/place /data /old /t; test ! -s /file").code, 0);
    let seen = exec("cat /proc/self/mounts").stdout;
    assert!(!seen.contains("/new/place") && !seen.contains("/data"), "{seen}");
    assert!(dir.join("file").exists() && root.store().join("volumes/data/_data/x").exists());
    root.fails(1, &["none of the container's volumes"], ["umount", "box", "/etc/hosts"]);
    root.fails(1, &["none of the container's volumes"], ["umount", "box", "/"]);
    unmount(&below, UnmountFlags::DETACH).unwrap();
}

#[test]
fn what_is_in_use_stays_unless_asked_otherwise() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    fs::write(dir.join("file"), "busy").unwrap();
    root.sleeper("box", &[]);
    root.ok(["mount", "box", "-v", &format!("{}:/v", arg(&dir))]);
    let script =
        "exec 9< /v/file; touch /ready; while test ! -e /go; do sleep 0.1; done; cat <&9 > /out";
    root.ok(["exec", "-d", "box", "sh", "-c", script]);
    let there = |path: &str| root.call(["exec", "box", "test", "-s", path]).code == 0;
    wait_until("the file is open", || root.call(["exec", "box", "test", "-e", "/ready"]).code == 0);
    let said = root.fails(1, &["in use by", "pid", "--lazy"], ["umount", "box", "/v"]);
    assert!(said.contains("sh ("), "{said}");
    assert_eq!(targets(&root), ["/v"]);
    root.ok(["umount", "--lazy", "box", "/v"]);
    assert!(!there("/v/file"));
    root.ok(["exec", "box", "touch", "/go"]);
    wait_until("the open file was read", || there("/out"));
    assert_eq!(root.ok(["exec", "box", "cat", "/out"]), "busy");
}

#[test]
fn what_cannot_be_mounted_changes_nothing() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    root.fails(1, &["No such container"], ["mount", "box", "-v", "/tmp:/x"]);
    root.sleeper("box", &["--read-only"]);
    let missing = format!("{}/no/such:/x", arg(&dir));
    root.fails(1, &["there is no", "dir/no\""], ["mount", "box", "-v", &missing]);
    root.fails(1, &["nothing to mount"], ["mount", "box"]);
    root.fails(1, &["/proc"], ["mount", "box", "-v", &format!("{}:/proc/1", arg(&dir))]);
    // The root is read-only, and has no such directory.
    let said = root.fails(1, &["Read-only"], ["mount", "box", "-v", "new:/not/there"]);
    assert!(said.contains("/not/there"), "{said}");
    assert_eq!(targets(&root), [""; 0]);
    assert!(!root.store().join("volumes/new").exists(), "a volume was left behind");
    // On what is there it can be.
    root.ok(["mount", "box", "-v", &format!("{}:/tmp", arg(&dir))]);
    root.ok(["stop", "-t", "0", "box"]);
    root.fails(1, &["not running"], ["mount", "box", "-v", "new:/x"]);
    root.fails(1, &["not running"], ["umount", "box", "/tmp"]);
    // The record stays for the next start.
    assert_eq!(targets(&root), ["/tmp"]);
}

/// What was made for the container goes with it, wherever it is mounted by then.
#[test]
fn anonymous_volumes_go_with_the_container() {
    let root = Root::new();
    root.sleeper("box", &["--rm", "-v", "/first"]);
    root.ok(["mount", "box", "-v", "/second", "-v", "/third"]);
    root.ok(["umount", "box", "/first", "/third"]);
    assert_eq!(fs::read_dir(root.store().join("volumes")).unwrap().count(), 3);
    root.ok(["kill", "box"]);
    root.assert_nothing_left();
}

/// The target is a link of the container's that leads out of its root.
#[test]
fn a_target_behind_a_link_stays_inside() {
    let root = Root::new();
    let (dir, canary) = (root.host_dir("dir"), root.host_dir("canary"));
    root.sleeper("box", &[]);
    let link = format!("ln -s {} /out; ln -s ../../../../../.. /up", arg(&canary));
    root.ok(["exec", "box", "sh", "-c", &link]);
    for target in ["/out/x".to_owned(), format!("/up{}/y", arg(&canary))] {
        root.ok(["mount", "box", "-v", &format!("{}:{target}", arg(&dir))]);
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(arg(Path::new(&canary))), "mounted on the host");
}
