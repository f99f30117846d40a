//! What is different beside many containers.

use std::os::unix::fs::MetadataExt;

use crate::harness::Root;

/// From this many on, a container's mounts are no copy of the host's (engine/src/base.rs).
const MANY: usize = 128;

/// The mount namespace that is on record, as somebody has it open.
fn recorded(root: &Root) -> Option<(String, u64)> {
    let text = std::fs::read(root.store().join("mounts.json")).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let path = format!("/proc/{}/fd/{}", record["pid"], record["fd"]);
    let inode = std::fs::metadata(&path).ok()?.ino();
    assert_eq!(Some(inode), record["inode"].as_u64());
    Some((path, inode))
}

#[test]
fn of_many_containers_the_mounts_are_copied_from_a_namespace_without_the_hosts() {
    let root = Root::new();
    let look = ["sh", "-c", "cat /proc/self/mounts | sed 's/upperdir=[^ ]*//'; ls /; pwd"];
    let host = root.host_dir("data");
    std::fs::write(host.join("file"), "").unwrap();
    let volume = format!("{}:/data:ro", host.display());
    let options = ["--rm", "-v", &volume];
    let few = root.busybox(&options, &look);
    let first = root.sleeper("first", &[]);
    assert!(recorded(&root).is_none());
    for number in 0..MANY {
        root.ok(["create", "--name", &format!("c{number}"), "busybox"]);
    }
    let second = root.sleeper("second", &["-v", &volume]);
    let (_, made) = recorded(&root).unwrap();
    // The others find it.
    let many = root.busybox(&options, &look);
    assert_eq!(many.stdout, few.stdout);
    assert!(many.stdout.contains(" /data "), "{}", many.stdout);
    root.sleeper("third", &[]);
    assert_eq!(recorded(&root).unwrap().1, made);
    // What works in a container works in one of these.
    assert_eq!(root.ok(["exec", "second", "ls", "/data"]), "file");
    root.ok(["cp", "second:/etc/passwd", root.dir().join("passwd").to_str().unwrap()]);
    assert!(root.ok(["ps", "-q", "--no-trunc"]).contains(&first));
    // Who had it is gone, and the third, which has it too, is not on record: another is made.
    root.ok(["kill", &second]);
    root.wait_for_exit("second");
    root.sleeper("fourth", &[]);
    recorded(&root).unwrap();
    // A record that is none, or somebody else's, is no reason not to start.
    for wrong in ["", "{", "{\"pid\":1,\"pid_start\":1,\"fd\":0,\"inode\":1}"] {
        std::fs::write(root.store().join("mounts.json"), wrong).unwrap();
        assert_eq!(root.ok(["run", "--rm", "busybox", "echo", "x"]), "x", "{wrong}");
    }
}

#[test]
fn ps_reads_many_by_several_threads() {
    let root = Root::new();
    root.sleeper("first", &[]);
    let mut names = vec!["first".to_owned()];
    for number in 0..MANY {
        names.push(format!("c{number}"));
        root.ok(["create", "--name", &names[number + 1], "busybox"]);
    }
    root.ok(["pause", "first"]);
    names.reverse();
    let listed = root.ok(["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
    assert_eq!(
        root.ok(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).lines().last(),
        Some("first paused")
    );
    root.ok(["unpause", "first"]);
    // One whose record is damaged is told of, whichever thread read it.
    let id = root.ok(["create", "--name", "last", "busybox"]);
    let path = root.store().join("containers").join(&id).join("container.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, "{").unwrap();
    root.fails(1, &["container.json", &id], ["ps", "-a"]);
    std::fs::write(&path, whole).unwrap();
    root.ok(["ps", "-a"]);
}
