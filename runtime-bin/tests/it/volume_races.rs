//! Volumes that are removed while containers get them. Who waits for a volume's lock, which the test has, is
//! in the middle of it.

use std::fs::{self, File};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::harness::{Root, arg, busybox, wait_until};
use crate::host;

fn loaded() -> Root {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    root
}

fn content(root: &Root, volume: &str) -> PathBuf {
    root.store().join("volumes").join(volume).join("_data")
}

/// A volume with a file in it.
fn volume(root: &Root, name: &str) {
    root.ok(["volume", "create", name]);
    fs::write(content(root, name).join("file"), "kept").unwrap();
}

fn lock(root: &Root, volume: &str) -> File {
    let file = File::open(root.store().join("volumes").join(volume)).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}

/// Waits until a process waits for the lock on `file`.
fn wait_for_waiter(file: &File) {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{} ", file.metadata().unwrap().ino());
    wait_until("a process that waits for the volume", || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.contains(&inode))
    });
}

#[test]
fn prune_sees_the_containers_that_came_meanwhile() {
    let root = loaded();
    volume(&root, "a");
    volume(&root, "z");
    let held = lock(&root, "a");
    let prune = root.start(["volume", "prune", "-a", "-f"]);
    wait_for_waiter(&held);
    root.sleeper("box", &["-v", "z:/z"]);
    drop(held);
    let out = prune.wait();
    assert_eq!(out.code, 0, "{out:?}");
    assert!(out.stdout.contains("Volumes:\na\n"), "{out:?}");
    assert_eq!(root.ok(["volume", "ls", "-q"]), "z");
    assert_eq!(root.ok(["exec", "box", "cat", "/z/file"]), "kept");
}

#[test]
fn a_container_in_the_making_has_its_volumes() {
    let root = loaded();
    volume(&root, "slow");
    volume(&root, "old");
    let held = lock(&root, "slow");
    let args =
        ["create", "--name", "box", "-v", "slow:/a", "-v", "old:/b", "busybox", "cat", "/b/file"];
    let create = root.start(args);
    wait_for_waiter(&held);
    root.fails(1, &["old"], ["volume", "rm", "old"]);
    assert!(root.ok(["volume", "prune", "-a", "-f"]).starts_with("Total reclaimed"));
    drop(held);
    assert_eq!(create.wait().code, 0);
    assert_eq!(root.call(["start", "-a", "box"]).stdout, "kept");
}

/// Its maker writes the record once more: a name that was given before would be lost.
#[test]
fn a_container_in_the_making_is_not_renamed() {
    let root = loaded();
    volume(&root, "slow");
    let held = lock(&root, "slow");
    let create = root.start(["create", "--name", "one", "-v", "slow:/v", "busybox", "true"]);
    wait_for_waiter(&held);
    root.fails(1, &["container one"], ["rename", "one", "two"]);
    drop(held);
    assert_eq!(create.wait().code, 0);
    root.ok(["rename", "one", "two"]);
    assert_eq!(root.ok(["ps", "-a", "--format", "{{.Names}}"]), "two");
    root.ok(["create", "--name", "one", "busybox", "true"]);
}

#[test]
fn a_rename_beside_changes_of_the_volumes_loses_none() {
    let root = loaded();
    root.sleeper("n0", &["-v", "data:/data"]);
    let id = root.inspect("n0")["Id"].as_str().unwrap().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=20 {
                root.ok(["rename", &id, &format!("n{number}")]);
            }
        });
        for _ in 0..10 {
            root.ok(["umount", &id, "/data"]);
            root.ok(["mount", &id, "-v", "data:/data"]);
        }
    });
    assert_eq!(root.inspect(&id)["Name"], "/n20");
    assert_eq!(root.inspect(&id)["Mounts"].as_array().unwrap().len(), 1);
    root.ok(["umount", &id, "/data"]);
    assert_eq!(root.inspect(&id)["Mounts"].as_array().unwrap().len(), 0);
}

#[test]
fn a_volume_that_is_just_being_added_is_used() {
    let root = loaded();
    volume(&root, "late");
    root.sleeper("box", &[]);
    let held = lock(&root, "late");
    let adding = root.start(["mount", "box", "-v", "late:/late"]);
    wait_for_waiter(&held);
    root.fails(1, &["late"], ["volume", "rm", "late"]);
    drop(held);
    assert_eq!(adding.wait().code, 0);
    assert_eq!(root.ok(["exec", "box", "cat", "/late/file"]), "kept");
}

/// As Docker: only what has no name goes with a container that could not be made.
#[test]
fn what_fails_keeps_volumes_with_names() {
    let root = loaded();
    let bad = "type=volume,src=part,dst=/y,volume-subpath=none";
    root.fails(
        125,
        &["none"],
        ["run", "-v", "n:/x", "-v", "/anon", "--mount", bad, "busybox", "true"],
    );
    assert_eq!(root.ok(["volume", "ls", "-q"]), "n\npart");
    root.sleeper("box", &[]);
    root.fails(
        1,
        &["none"],
        ["mount", "box", "--mount", "type=volume,src=m,dst=/m,volume-subpath=none"],
    );
    root.fails(1, &["/proc"], ["mount", "box", "-v", "/proc"]);
    assert_eq!(root.ok(["volume", "ls", "-q"]), "m\nn\npart");
    root.ok(["rm", "-f", "box"]);
    root.ok(["volume", "prune", "-a", "-f"]);
    root.assert_nothing_left();
}

#[test]
fn one_that_cannot_be_removed_does_not_keep_the_others() {
    let root = loaded();
    volume(&root, "a");
    volume(&root, "z");
    let place = content(&root, "a").join("mounted");
    fs::create_dir(&place).unwrap();
    mount("of-the-test", &place, "tmpfs", MountFlags::empty(), None).unwrap();
    let out = root.call(["volume", "prune", "-a", "-f"]);
    for mount in host::mounts_below(root.dir()) {
        unmount(&mount.target, UnmountFlags::DETACH).unwrap();
    }
    assert!(out.code == 1 && out.stderr.contains("busy"), "{out:?}");
    assert!(out.stdout.contains("Volumes:\nz\n"), "{out:?}");
    assert_eq!(root.ok(["volume", "ls", "-q"]), "");
}

/// A volume goes at any time while all are looked at.
#[test]
fn lists_are_read_while_volumes_come_and_go() {
    let root = loaded();
    std::thread::scope(|scope| {
        let coming = scope.spawn(|| {
            for _ in 0..30 {
                root.ok(["volume", "create", "v"]);
                root.ok(["volume", "rm", "v"]);
            }
        });
        while !coming.is_finished() {
            root.ok(["volume", "ls"]);
            root.ok(["system", "df"]);
        }
    });
}
