//! Row 11: how the container's mount namespace comes about, as strace(1) sees it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{BIN, Root, Started, arg, busybox, wait_until};
use crate::host;

/// `run --rm busybox COMMAND` below strace with these options.
fn traced(root: &Root, options: &[&str], log: &Path, command: &[&str]) -> Started {
    let mut strace = Command::new("strace");
    let found = strace.arg("-V").stdout(std::process::Stdio::null()).status();
    assert!(found.is_ok(), "this test needs strace: install it (apt-get install strace)");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "4096"]).args(options).arg("-o").arg(log);
    strace.arg(BIN).arg("--root").arg(root.store()).args(["run", "--rm", arg(&busybox())]);
    strace.args(command).current_dir(root.dir());
    Started::new(strace, None)
}

#[test]
fn pivot_root_and_no_chroot() {
    let root = Root::new();
    let log = root.dir().join("log");
    let calls =
        "trace=chroot,pivot_root,clone,clone3,unshare,mount,move_mount,open_tree,umount2,execve";
    let out = traced(&root, &["-e", calls], &log, &["true"]).wait();
    assert_eq!(out.code, 0, "{out:?}");
    let log = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let find = |what: &str| lines.iter().position(|line| line.contains(what));
    let expect = |what: &str| find(what).unwrap_or_else(|| panic!("no {what} in\n{log}"));
    assert_eq!(find("chroot("), None, "{log}");
    // A new mount namespace with the process, by clone.
    let clone =
        lines.iter().position(|line| line.contains("clone") && line.contains("CLONE_NEWNS"));
    let clone = clone.unwrap_or_else(|| panic!("no clone with CLONE_NEWNS in\n{log}"));
    // The overlay is mounted on the host before, and a clone of its mount goes to the child.
    let overlay = expect("lowerdir=");
    let tree = lines
        .iter()
        .position(|line| line.contains("open_tree(") && line.contains("OPEN_TREE_CLONE"));
    // In the child; before, an image's index may be attached.
    let moved = lines.iter().skip(clone).position(|line| line.contains("move_mount("));
    let moved = clone + moved.unwrap_or_else(|| panic!("no move_mount by the child in\n{log}"));
    // A call may be in two lines, where another process's stands in between.
    let pivot = expect("pivot_root(\".\", \".\"");
    let done = lines.iter().any(|line| line.contains("pivot_root") && line.ends_with("= 0"));
    assert!(done, "{log}");
    let detach = lines.iter().skip(pivot).position(|line| line.contains("MNT_DETACH"));
    assert!(detach.is_some(), "the old root is not detached:\n{log}");
    let command = lines.iter().rposition(|line| line.contains("execve(")).unwrap();
    assert!(overlay < clone, "{log}");
    assert!(tree.is_some_and(|tree| tree < pivot), "{log}");
    assert!(clone < moved && moved < pivot && pivot < command, "{log}");
    // One process did it: the one that becomes the command.
    let pid = |line: usize| lines[line].split(' ').next().unwrap().to_owned();
    assert_eq!(pid(pivot), pid(command), "{log}");
    root.assert_nothing_left();
}

/// Held at its pivot_root, the child still has a copy of every mount of the host; after it, only what
/// lies below its root.
#[test]
fn the_table_is_a_copy_and_then_only_what_lies_below() {
    let root = Root::new();
    let log = root.dir().join("log");
    let hold = ["-e", "trace=pivot_root", "-e", "inject=pivot_root:delay_enter=4000000"];
    let mut run = traced(&root, &hold, &log, &["cat", "/proc/self/mountinfo"]);
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let shared = |pid: i32| {
        fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|namespace| namespace == own)
    };
    let mut child = Vec::new();
    wait_until("a child in a mount namespace of its own", || {
        assert!(!run.has_ended(), "it has ended: {}", fs::read_to_string(&log).unwrap());
        let processes = host::processes_of(root.dir()).into_iter();
        let mut apart = processes.filter(|(pid, _)| !shared(*pid));
        // The overlay lies over the host's root as soon as it is moved there.
        child = apart.next().map(|(pid, _)| host::mounts_of(&pid.to_string())).unwrap_or_default();
        child.iter().any(|mount| mount.target == "/" && mount.kind == "overlay")
            && child.iter().any(|mount| mount.kind != "overlay" && mount.target == "/")
    });
    let host: BTreeSet<_> = host::mounts_of("self")
        .into_iter()
        // What others' tests mount and unmount meanwhile is no matter.
        .filter(|mount| !mount.target.starts_with("/tmp/") && !mount.target.contains("merged"))
        .map(|mount| (mount.source, mount.target, mount.kind))
        .collect();
    let copied: BTreeSet<_> =
        child.iter().map(|m| (m.source.clone(), m.target.clone(), m.kind.clone())).collect();
    let missing: Vec<_> = host.difference(&copied).collect();
    assert!(missing.is_empty(), "not copied: {missing:#?}\nthere: {copied:#?}");

    let out = run.wait();
    assert_eq!(out.code, 0, "{out:?}");
    let lines: Vec<Vec<&str>> = out.stdout.lines().map(|line| line.split(' ').collect()).collect();
    let ids: BTreeSet<&str> = lines.iter().map(|fields| fields[0]).collect();
    let roots: Vec<_> = lines.iter().filter(|fields| !ids.contains(fields[1])).collect();
    // One mount alone has no parent in the list: the root, and it is the overlay.
    let [top] = &roots[..] else { panic!("{}", out.stdout) };
    assert_eq!(top[4], "/");
    assert!(top.contains(&"overlay"), "{top:?}");
    let old = |fields: &&Vec<&str>| fields[4] == "/" && !fields.contains(&"overlay");
    assert!(!lines.iter().any(|fields| old(&fields)), "the old root is there: {}", out.stdout);
    root.assert_nothing_left();
}
