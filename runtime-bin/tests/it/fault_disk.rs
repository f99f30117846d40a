//! What a machine runs out of: room and inodes on the store's disk, descriptors, memory; and a store that is read-only.
//! What cannot be done is said, what there was stays whole, and all works again when there is room.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::attack::forms;
use crate::disk::{Disk, run};
use crate::harness::{Out, Root, Started, arg, busybox};

const NO_ROOM: &str = "No space left on device";

/// A disk where the store will be.
fn disk(root: &Root, mebibytes: u64, inodes: u32) -> Disk {
    Disk::new(&root.dir().join("disk"), &root.store(), mebibytes, inodes)
}

/// A failure that says why.
#[track_caller]
fn assert_says(out: &Out, words: &str) {
    assert_ne!(out.code, 0, "{out:?}");
    assert!(out.stderr.contains(words) && !out.stderr.contains("panicked"), "{out:?}");
}

#[track_caller]
fn assert_whole(root: &Root) {
    let out = root.call(["check", "-q"]);
    assert_eq!((out.code, &*out.stdout), (0, ""), "{out:?}");
    let staging = fs::read_dir(root.store().join("staging")).unwrap().count();
    assert_eq!(staging, 0);
}

#[test]
fn a_full_disk() {
    for form in forms() {
        let root = Root::new();
        let disk = disk(&root, 24, 4096);
        let image = busybox();
        let load = ["load", "-q", form, "-i", arg(&image)];
        assert_eq!(root.ok(["images", "-q"]), "");
        let filler = disk.fill();
        assert_says(&root.call(load), NO_ROOM);
        assert_whole(&root);
        assert_eq!(root.ok(["images", "-q"]), "");
        fs::remove_file(&filler).unwrap();
        root.ok(load);
        root.sleeper("box", &[form]);
        root.ok(["exec", "box", "sh", "-c", "echo kept > /kept"]);

        let filler = disk.fill();
        let out = root.call(["run", "--rm", "busybox", "true"]);
        assert_says(&out, NO_ROOM);
        assert_says(&root.call(["create", "--name", "other", "busybox", "true"]), NO_ROOM);
        assert_says(&root.call(["commit", "box", "new:1"]), NO_ROOM);
        // What runs goes on, and can be looked at and ended: somebody wants to make room.
        assert_eq!(root.ok(["exec", "box", "cat", "/kept"]), "kept");
        assert_eq!(root.ok(["ps", "-q"]).lines().count(), 1);
        let out = root.call(["exec", "box", "sh", "-c", "head -c 1000000 /dev/zero > /large"]);
        assert_ne!(out.code, 0, "{out:?}"); // in the words of its own program
        root.ok(["logs", "box"]);
        assert_eq!(root.call(["inspect", "other"]).code, 1);
        root.ok(["rm", "-f", "box"]);
        assert_whole(&root);

        fs::remove_file(&filler).unwrap();
        root.ok(["run", "--rm", "--name", "other", "busybox", "true"]);
        root.ok(["rmi", "busybox"]);
        root.ok(["run", "--rm", form, arg(&image), "true"]);
        assert_whole(&root);
        drop(disk);
    }
}

/// A container that prints more than there is room for is not held up, and what was printed before can be read.
#[test]
fn a_log_on_a_full_disk() {
    let root = Root::new();
    let disk = disk(&root, 24, 4096);
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    let script = "echo before; while [ ! -e /go ]; do sleep 0.01; done; seq 1 2000000; touch /dev/shm/done; sleep 1000";
    root.ok(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]);
    root.ok(["exec", "box", "mkdir", "/go"]);
    let filler = disk.fill();
    crate::harness::wait_until("all is printed", || {
        root.call(["exec", "box", "test", "-e", "/dev/shm/done"]).code == 0
    });
    assert!(root.ok(["logs", "--tail", "1", "box"]).len() < 100);
    assert!(root.ok(["logs", "box"]).starts_with("before\n1\n"));
    root.ok(["rm", "-f", "box"]);
    fs::remove_file(&filler).unwrap();
    root.ok(["run", "--rm", "busybox", "true"]);
    drop(disk);
}

#[test]
fn no_inode_left() {
    for form in forms() {
        let root = Root::new();
        // A directory and a file at a time, until there is no inode for the next one.
        let disk = disk(&root, 24, 96);
        let image = busybox();
        let load = ["load", "-q", form, "-i", arg(&image)];
        root.ok(["images"]);
        let taken: Vec<PathBuf> = (0..)
            .map(|number| root.store().join(format!("inode-{number}")))
            .take_while(|path| File::create(path).is_ok())
            .collect();
        // The store is one by its mark, whatever else is in it.
        assert_says(&root.call(load), NO_ROOM);
        assert_whole(&root);
        for path in &taken[..taken.len() / 8] {
            fs::remove_file(path).unwrap();
        }
        // A few are left, which is not enough for a directory of 300 files; an index needs no more than them.
        let out = root.call(load);
        if form.ends_with("dir") {
            assert_says(&out, NO_ROOM);
        }
        assert_whole(&root);
        taken.iter().for_each(|path| drop(fs::remove_file(path)));
        drop(disk);
    }
}

#[test]
fn a_store_that_is_read_only() {
    const READ_ONLY: &str = "Read-only file system";
    let root = Root::new();
    let disk = disk(&root, 32, 4096);
    let image = busybox();
    root.ok(["load", "-q", "-i", arg(&image)]);
    root.ok(["run", "--name", "box", "busybox", "echo", "printed"]);
    disk.remount("ro");
    for args in [
        &["run", "--rm", "busybox", "true"][..],
        &["create", "busybox", "true"],
        &["start", "box"],
        &["commit", "box", "new:1"],
        &["rm", "box"],
        &["rmi", "-f", "busybox"],
        &["tag", "busybox", "other:1"],
    ] {
        assert_says(&root.call(args), READ_ONLY);
    }
    let copy = root.dir().join("copy.tar");
    run("cp", &[arg(&image), arg(&copy)]);
    assert_says(&root.call(["load", "-q", "-i", arg(&copy)]), READ_ONLY);
    // What only looks goes on.
    assert_eq!(root.ok(["logs", "box"]), "printed");
    assert_eq!(root.ok(["images", "-q"]).lines().count(), 1);
    assert_eq!(root.ok(["ps", "-a", "-q"]).lines().count(), 1);
    assert_eq!(root.inspect("box")["State"]["Status"], "exited");
    disk.remount("rw");
    assert_whole(&root);
    root.ok(["start", "-a", "box"]);
    root.ok(["rm", "box"]);
    root.ok(["run", "--rm", arg(&copy), "true"]);
    drop(disk);
}

/// A command with a limit of its own, by prlimit(1), and with a descriptor of the number 250.
fn limited(root: &Root, limit: &str, args: &[&str]) -> Out {
    let own = root.command(args);
    let mut command = Command::new("bash");
    command.args(["-c", "exec 250</dev/null prlimit \"$@\"", "bash"]);
    command.arg(limit).arg(own.get_program()).args(own.get_args()).current_dir(root.dir());
    for (key, value) in own.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    Started::new(command, None).wait()
}

/// With each number of descriptors from none on: all is done, or nothing, and that is said, with the limit. Among them is
/// one that was inherited and is beyond the limit, as from a shell that keeps one at a high number.
#[test]
fn few_descriptors() {
    for form in forms() {
        let root = Root::new();
        let image = busybox();
        let run = ["run", "--rm", form, arg(&image), "true"];
        let mut done = 0;
        for limit in (4..48).step_by(3).chain([256, 1024]) {
            let out = limited(&root, &format!("--nofile={limit}"), &run);
            match out.code {
                0 => done += 1,
                code => {
                    assert_says(&out, "Too many open files");
                    assert_says(&out, &format!("at most {limit} descriptors may be open here"));
                    assert_eq!(code, 125);
                }
            }
            // What could not be taken away without a descriptor, the next command takes.
            root.ok(["ps"]);
            root.assert_nothing_left();
            assert_whole(&root);
            root.call(["rmi", "-f", "busybox"]);
        }
        assert!(done > 0 && done < 17, "{done}");
    }
}

/// With each size of memory, from too little to start on: what is cut off leaves nothing, as after a kill.
#[test]
fn little_memory() {
    let root = Root::new();
    let image = busybox();
    let run = ["run", "--rm", arg(&image), "true"];
    let mut done = 0;
    let sizes: Vec<u64> =
        (1..24).step_by(2).map(|step| step << 20).chain([64 << 20, 256 << 20]).collect();
    for size in &sizes {
        let out = limited(&root, &format!("--as={size}"), &run);
        done += usize::from(out.code == 0);
        assert!(!out.stderr.contains("panicked"), "{out:?}");
        root.ok(["ps"]);
        root.assert_nothing_left();
        assert_whole(&root);
        root.call(["rmi", "-f", "busybox"]);
    }
    assert!(done > 0 && done < sizes.len(), "{done} of {}", sizes.len());
}
