//! A container's whole life: create, start, restart, its policy, its log.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Root, arg, busybox, is_id, wait_until};
use crate::host;

fn loaded() -> Root {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    root
}

fn status(root: &Root, container: &str) -> String {
    root.inspect(container)["State"]["Status"].as_str().unwrap().to_owned()
}

/// What a container writes into its root and its volumes is there at the next start.
#[test]
fn a_container_is_created_started_and_started_again() {
    let root = loaded();
    let script = "echo again >>/count; echo again >>/v/count; cat /count | wc -l; wc -l </v/count";
    let id = root.ok(["create", "--name", "box", "-v", "/v", "busybox", "sh", "-c", script]);
    assert!(is_id(&id), "{id}");
    assert_eq!(status(&root, "box"), "created");
    assert!(host::mounts_below(root.dir()).is_empty(), "only what runs is mounted");
    root.fails(1, &["box", "is not running"], ["exec", "box", "true"]);
    assert_eq!(root.ok(["logs", "box"]), "");
    for count in 1..=3 {
        let out = root.call(["start", "-a", "box"]);
        assert_eq!((out.code, out.stdout), (0, format!("{count}\n{count}\n")), "{}", out.stderr);
        assert_eq!(status(&root, "box"), "exited");
        assert!(host::mounts_below(root.dir()).is_empty());
    }
    assert_eq!(root.ok(["start", "box"]), "box");
    root.wait_for_exit("box");
    assert_eq!(root.ok(["logs", "box"]), "1\n1\n2\n2\n3\n3\n4\n4");
    root.ok(["rm", "-v", "box"]);
    root.assert_nothing_left();
}

#[test]
fn a_start_that_fails_leaves_the_container_as_it_was() {
    let root = loaded();
    let source = root.host_dir("source");
    let volume = format!("{}:/v", source.display());
    root.ok(["create", "--name", "box", "-v", &volume, "busybox", "ls", "/v"]);
    fs::remove_dir(&source).unwrap();
    root.fails(1, &["source", "does not exist"], ["start", "box"]);
    assert!(host::mounts_below(root.dir()).is_empty());
    assert!(host::processes_of(root.dir()).is_empty());
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    assert_eq!(root.call(["start", "-a", "box"]).stdout, "file\n");
    root.ok(["create", "--name", "none", "busybox", "/no/such"]);
    root.fails(1, &["/no/such", "no such file"], ["start", "none"]);
    assert_eq!(root.inspect("none")["State"]["ExitCode"], 127);
    assert!(root.inspect("none")["State"]["Error"].as_str().unwrap().contains("/no/such"));
    assert!(host::mounts_below(root.dir()).is_empty());
    root.fails(1, &["nobody-has-it"], ["start", "nobody-has-it"]);
}

/// Who was killed while the root of a container at rest was mounted has left it so. A second overlay over the
/// same directories would be undefined.
#[test]
fn a_root_that_was_left_mounted_is_not_mounted_twice() {
    let root = loaded();
    let id = root.ok(["create", "--name", "box", "busybox", "sleep", "1000"]);
    let merged = root.store().join("containers").join(&id).join("merged");
    let leave = || {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("left", &merged, "tmpfs", flags, None).unwrap();
    };
    leave();
    root.ok(["cp", "box:/etc/passwd", "."]);
    assert_eq!(host::mounts_below(root.dir()).len(), 0);
    leave();
    root.ok(["start", "box"]);
    let mounts = host::container_mounts(root.dir());
    assert_eq!(mounts.len(), 1, "one root, and nothing below it");
    root.ok(["stop", "-t", "0", "box"]);
    assert!(host::mounts_below(root.dir()).is_empty());
    leave();
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}

#[test]
fn start_of_what_runs_changes_nothing_and_restart_makes_a_new_process() {
    let root = loaded();
    root.sleeper("box", &[]);
    let first = root.pid("box");
    assert_eq!(root.ok(["start", "box"]), "box");
    assert_eq!(root.pid("box"), first);
    root.ok(["exec", "box", "touch", "/kept"]);
    assert_eq!(root.ok(["restart", "-t", "5", "box"]), "box");
    assert_ne!(root.pid("box"), first);
    root.ok(["exec", "box", "test", "-e", "/kept"]);
    root.ok(["stop", "box"]);
    root.ok(["restart", "box"]);
    assert_eq!(status(&root, "box"), "running");
    // What is removed at its end cannot be started again.
    root.sleeper("gone", &["--rm"]);
    root.fails(1, &["--rm"], ["restart", "gone"]);
    assert_eq!(status(&root, "gone"), "running");
}

/// What was added to a container while it ran, and its new name, are its own from then on: whoever
/// starts it again.
#[test]
fn volumes_and_a_name_that_came_later_are_there_at_the_next_start() {
    let root = loaded();
    let id =
        root.ok(["create", "--name", "box", "--restart", "always", "busybox", "sleep", "1000"]);
    root.fails(1, &["box", "is not running"], ["mount", "box", "-v", "data:/data"]);
    root.ok(["start", "box"]);
    root.ok(["mount", "box", "-v", "data:/data", "-v", "other:/other"]);
    root.ok(["exec", "box", "sh", "-c", "mkdir /data/below; echo kept > /data/below/file"]);
    root.ok(["mount", "box", "--mount", "type=volume,src=data,dst=/sub,volume-subpath=below"]);
    root.ok(["umount", "box", "/other"]);
    let read = |name: &str| root.ok(["exec", name, "cat", "/data/below/file", "/sub/file"]);
    root.ok(["restart", "-t", "0", "box"]);
    assert_eq!(read("box"), "kept\nkept");
    assert!(!root.ok(["exec", "box", "mount"]).contains("/other"));

    root.ok(["rename", "box", "renamed"]);
    let pid = root.pid("renamed");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_until("the next process", || {
        let state = &root.inspect("renamed")["State"];
        state["Status"] == "running" && state["Pid"] != pid
    });
    assert_eq!(read("renamed"), "kept\nkept");
    root.ok(["stop", "-t", "0", "renamed"]);
    root.fails(1, &["No such container: box"], ["start", "box"]);
    assert_eq!(root.ok(["start", "renamed"]), "renamed");
    assert_eq!(read("renamed"), "kept\nkept");
    assert_eq!(root.inspect("renamed")["Id"], id);
    assert_eq!(root.inspect("renamed")["Name"], "/renamed");
    root.ok(["rm", "-f", "renamed"]);
    // The name is free, and so are the volumes.
    root.ok(["volume", "rm", "data", "other"]);
    root.ok(["create", "--rm", "--name", "renamed", "busybox", "echo", "once"]);
    assert_eq!(root.call(["start", "-a", "renamed"]).stdout, "once\n");
    root.assert_nothing_left();
}

/// `wait` waits for the end, and not for a start in between.
#[test]
fn wait_goes_on_while_a_policy_brings_a_container_back() {
    let root = loaded();
    let script = "echo x >> /count; test $(wc -l < /count) -gt 3 && exec sleep 1000; exit 3";
    let run = ["run", "-d", "--name", "box", "--restart", "always", "busybox", "sh", "-c", script];
    root.ok(run);
    let mut wait = root.start(["wait", "box"]);
    wait_until("the fourth process", || root.inspect("box")["RestartCount"] == 3);
    assert!(!wait.has_ended());
    root.ok(["stop", "-t", "0", "box"]);
    assert_eq!(wait.wait().stdout, "137\n");
    assert_eq!(root.ok(["wait", "box"]), "137");
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}

/// Killed, it comes back; stopped, it does not, also while it waits for its next start.
#[test]
fn a_policy_brings_a_container_back() {
    let root = loaded();
    root.sleeper("box", &["--restart", "always"]);
    assert_eq!(root.inspect("box")["HostConfig"]["RestartPolicy"]["Name"], "always");
    for restarts in 1..=2 {
        let pid = root.pid("box");
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        wait_until("the next process", || {
            let state = root.inspect("box");
            state["State"]["Status"] == "running"
                && state["State"]["Pid"] != pid
                && state["RestartCount"] == restarts
        });
        root.ok(["exec", "box", "true"]);
    }
    root.ok(["stop", "box"]);
    assert_eq!(status(&root, "box"), "exited");
    assert!(host::processes_of(root.dir()).is_empty());
    // From its sixth start on it waits for seconds.
    root.ok(["run", "-d", "--name", "fails", "--restart", "on-failure", "busybox", "false"]);
    wait_until("a pause", || status(&root, "fails") == "restarting");
    root.fails(1, &["fails", "is running"], ["rm", "fails"]);
    root.ok(["stop", "fails"]);
    assert_eq!(status(&root, "fails"), "exited");
    root.ok(["start", "fails"]);
    root.ok(["rm", "-f", "fails", "box"]);
    root.assert_nothing_left();
}

/// The signal that stops a container, as `kill` sends it, is meant to end it.
#[test]
fn a_container_that_is_killed_by_its_stop_signal_stays_ended() {
    let root = loaded();
    let script = "trap 'exit 7' TERM; touch /ready; while :; do sleep 0.05; done";
    root.ok(["run", "-d", "--name", "box", "--restart", "always", "busybox", "sh", "-c", script]);
    wait_until("the trap", || root.call(["exec", "box", "test", "-e", "/ready"]).code == 0);
    root.ok(["kill", "-s", "TERM", "box"]);
    assert_eq!(root.wait_for_exit("box"), 7);
    assert_eq!(
        (status(&root, "box"), root.inspect("box")["RestartCount"].as_i64()),
        ("exited".to_owned(), Some(0))
    );
}

#[test]
fn a_policy_that_cannot_be_followed_says_why() {
    let root = loaded();
    let source = root.host_dir("source");
    root.sleeper("box", &["--restart", "always", "-v", &format!("{}:/v", source.display())]);
    fs::remove_dir(&source).unwrap();
    kill_process(Pid::from_raw(root.pid("box")).unwrap(), Signal::KILL).unwrap();
    wait_until("its end", || status(&root, "box") == "exited");
    let state = root.inspect("box")["State"].clone();
    let error = state["Error"].as_str().unwrap();
    assert!(error.contains("source") && error.contains("does not exist"), "{state}");
    assert_eq!(state["ExitCode"], 125);
    assert!(host::mounts_below(root.dir()).is_empty());
    assert!(host::processes_of(root.dir()).is_empty());
}

#[test]
fn a_policy_counts_failures() {
    let root = loaded();
    root.ok([
        "run",
        "-d",
        "--name",
        "box",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo x; exit 3",
    ]);
    assert_eq!(root.wait_for_exit("box"), 3);
    assert_eq!(root.inspect("box")["RestartCount"], 2);
    assert_eq!(root.ok(["logs", "box"]), "x\nx\nx");
    root.ok(["run", "-d", "--name", "well", "--restart", "on-failure", "busybox", "true"]);
    assert_eq!(root.wait_for_exit("well"), 0);
    assert_eq!(root.inspect("well")["RestartCount"], 0);
    root.fails(
        125,
        &["restart policy", "\"often\""],
        ["run", "-d", "--restart", "often", "busybox"],
    );
    root.fails(125, &["--rm"], ["run", "-d", "--rm", "--restart", "always", "busybox", "true"]);
}

#[test]
fn the_log_keeps_both_streams_apart() {
    let root = loaded();
    let script = "echo one; echo error >&2; echo two; printf end";
    root.ok(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]);
    root.wait_for_exit("box");
    let out = root.call(["logs", "box"]);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("one\ntwo\nend", "error\n"));
    assert_eq!(root.call(["logs", "--tail", "1", "box"]).stdout, "end");
    assert_eq!(root.call(["logs", "-n", "0", "box"]).stdout, "");
    let timed = root.call(["logs", "-t", "--tail", "1", "box"]).stdout;
    let (time, text) = timed.split_once(' ').unwrap();
    assert_eq!((time.len(), text), (30, "end"), "{timed}");
    assert_eq!(root.call(["logs", "--since", "1h", "box"]).stdout, "one\ntwo\nend");
    assert_eq!(root.call(["logs", "--until", "1h", "box"]).stdout, "");
    root.fails(1, &["--since", "yesterday"], ["logs", "--since", "yesterday", "box"]);
    root.fails(1, &["--tail", "few"], ["logs", "--tail", "few", "box"]);
}

/// Every byte of what is printed while it is followed arrives, and the end is seen.
#[test]
fn a_log_is_followed_to_the_end() {
    let root = loaded();
    let script = "read start </dev/null; seq 1 30000; sleep 0.2; seq 30001 30100";
    root.ok(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]);
    let out = root.call(["logs", "-f", "box"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let expected: String = (1..=30_100).map(|number| format!("{number}\n")).collect();
    assert!(out.stdout == expected, "{} bytes and not {}", out.stdout.len(), expected.len());
}
