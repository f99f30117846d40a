//! create, start, state, kill, delete, run, list.

use std::process::Stdio;

use super::{Oci, WAITS, lives, read_soon};
use crate::harness::{Started, wait_until};

#[test]
fn a_container_waits_runs_stops_and_goes() {
    let oci = Oci::new(&["sh", "-c", "hostname; exec sleep 1000"]);
    let output = oci.create(&["one"]);
    let state = oci.state("one");
    let bundle = oci.bundle();
    assert_eq!((&state["id"], &state["status"]), (&"one".into(), &"created".into()));
    assert_eq!(state["ociVersion"], "1.0.2");
    assert_eq!(state["bundle"], bundle.to_str().unwrap());
    assert_eq!(state["rootfs"], bundle.join("rootfs").to_str().unwrap());
    assert_eq!(state["annotations"]["org.example.key"], "value");
    assert_eq!(state["owner"], "root");
    assert!(state["created"].as_str().unwrap().starts_with("20"), "{state}");
    let pid = state["pid"].as_i64().unwrap();
    assert!(lives(pid));
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "", "its program does not run yet");

    oci.ok(&["start", "one"]);
    assert_eq!(read_soon(&output), "contained\n");
    assert_eq!(oci.state("one")["pid"], pid, "it is the same process");
    assert_eq!(oci.status("one"), "running");
    oci.fails(1, &["cannot start an already running container"], &["start", "one"]);
    oci.fails(1, &["cannot delete container that is not stopped"], &["delete", "one"]);

    oci.ok(&["kill", "one", "KILL"]);
    oci.wait_for("one", "stopped");
    assert_eq!(oci.state("one")["pid"], 0);
    oci.fails(1, &["cannot start a container that has stopped"], &["start", "one"]);
    oci.fails(1, &["container not running"], &["kill", "one", "KILL"]);
    oci.ok(&["delete", "one"]);
    assert!(oci.names().is_empty());
    for verb in ["state", "start", "kill", "delete"] {
        oci.fails(1, &["container does not exist"], &[verb, "one"]);
    }
    oci.ok(&["delete", "--force", "one"]);
}

#[test]
fn what_waits_or_runs_is_deleted_with_its_process() {
    let oci = Oci::new(&WAITS);
    oci.create(&["waits"]);
    let waits = oci.state("waits")["pid"].as_i64().unwrap();
    oci.ok(&["delete", "waits"]);
    assert!(!lives(waits));

    oci.create(&["runs"]);
    oci.ok(&["start", "runs"]);
    let runs = oci.state("runs")["pid"].as_i64().unwrap();
    oci.ok(&["delete", "-f", "runs"]);
    assert!(!lives(runs));
    assert!(oci.names().is_empty());
}

/// Who has read a program's last word does not have to wait until it is gone as well.
#[test]
fn what_is_about_to_end_is_deleted() {
    let oci = Oci::new(&["sh", "-c", "echo last word; sleep 0.05"]);
    for id in ["a", "b", "c"] {
        let output = oci.create(&[id]);
        oci.ok(&["start", id]);
        assert_eq!(read_soon(&output), "last word\n");
        oci.ok(&["delete", id]);
    }
    assert!(oci.names().is_empty());
}

/// Also as the init of its PID namespace, to which the kernel gives no signal without a handler.
#[test]
fn what_waits_is_ended_by_a_signal() {
    let oci = Oci::new(&WAITS);
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        oci.create(&["a"]);
        oci.ok(&["kill", "a", signal]);
        oci.wait_for("a", "stopped");
        oci.fails(1, &["cannot start a container that has stopped"], &["start", "a"]);
        oci.ok(&["delete", "a"]);
    }
    // The others leave it waiting; and its program gets all of them.
    let script = "grep SigBlk /proc/self/status; trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
    oci.configure(|_| {}, &["sh", "-c", script]);
    let output = oci.create(&["a"]);
    oci.ok(&["kill", "a", "WINCH"]);
    assert_eq!(oci.status("a"), "created");
    oci.ok(&["start", "a"]);
    wait_until("it is ready", || std::fs::read_to_string(&output).unwrap().ends_with("ready\n"));
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "SigBlk:\t0000000000000000\nready\n");
    oci.ok(&["kill", "a", "TERM"]);
    oci.wait_for("a", "stopped");
}

/// As crun.
#[test]
fn all_whose_ids_match_are_deleted() {
    let oci = Oci::new(&WAITS);
    oci.configure(
        |config| drop(config["linux"].as_object_mut().unwrap().remove("cgroupsPath")),
        &WAITS,
    );
    for id in ["one-a", "one-b", "two", "three"] {
        oci.create(&[id]);
    }
    oci.ok(&["start", "one-b"]);
    oci.fails(
        1,
        &["one-b: cannot delete container that is not stopped"],
        &["delete", "--regex", "^one"],
    );
    let left = || {
        serde_json::from_str::<Vec<serde_json::Value>>(&oci.ok(&["list", "-f", "json"])).unwrap()
    };
    let ids =
        || left().iter().map(|state| state["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(), ["one-b", "three", "two"]);
    oci.ok(&["delete", "--force", "-r", "one-|tw*"]);
    assert!(oci.names().is_empty());
    oci.ok(&["delete", "--regex", "one"]);
    oci.fails(1, &["no regular expression"], &["delete", "--regex", "("]);
}

#[test]
fn each_form_of_a_signal_arrives() {
    let script = "for s in TERM HUP USR1 USR2; do trap \"echo $s\" $s; done; echo ready; \
                  while :; do sleep 1000 & wait $!; done";
    let oci = Oci::new(&["sh", "-c", script]);
    let output = oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    let mut seen = "ready\n".to_owned();
    wait_until("it is ready", || std::fs::read_to_string(&output).unwrap() == seen);
    for (args, name) in [
        (&["kill", "a"][..], "TERM"),
        (&["kill", "a", "1"], "HUP"),
        (&["kill", "a", "SIGUSR1"], "USR1"),
        (&["kill", "a", "usr2"], "USR2"),
    ] {
        oci.ok(args);
        seen += &format!("{name}\n");
        wait_until(name, || std::fs::read_to_string(&output).unwrap() == seen);
    }
    for signal in ["NONE", "65", "SIG"] {
        oci.fails(1, &["unknown signal", signal], &["kill", "a", signal]);
    }
}

/// A number alone may be another process's by now.
#[test]
fn a_process_that_only_has_the_number_is_left_alone() {
    let oci = Oci::new(&WAITS);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    let record = oci.home().join("a/state.json");
    let before = std::fs::read_to_string(&record).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&before).unwrap();
    let start = value["pidStart"].as_u64().unwrap();
    value["pidStart"] = (start + 1).into();
    std::fs::write(&record, value.to_string()).unwrap();
    assert_eq!(oci.status("a"), "stopped");
    oci.fails(1, &["container not running"], &["kill", "a", "KILL"]);
    let pid = value["pid"].as_i64().unwrap();
    assert!(lives(pid));
    std::fs::write(&record, before).unwrap();
    assert_eq!(oci.status("a"), "running");
}

#[test]
fn one_of_many_starts_wins() {
    let oci = Oci::new(&WAITS);
    oci.create(&["a"]);
    let starts: Vec<_> = (0..8).map(|_| Started::new(oci.command(&["start", "a"]), None)).collect();
    let outs: Vec<_> = starts.into_iter().map(Started::wait).collect();
    let won = outs.iter().filter(|out| out.code == 0).count();
    assert_eq!(won, 1, "{outs:?}");
    let told = outs.iter().filter(|out| out.stderr.contains("already running container")).count();
    assert_eq!(told, 7, "{outs:?}");
}

#[test]
fn one_of_many_creates_of_an_id_wins() {
    let oci = Oci::new(&WAITS);
    let creates: Vec<_> = (0..6)
        .map(|_| {
            let mut command = oci.command(&["create", "a"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    let won =
        creates.into_iter().filter_map(|mut child| child.wait().unwrap().success().then_some(()));
    assert_eq!(won.count(), 1);
    assert_eq!(oci.status("a"), "created");
    oci.fails(1, &["container with given ID already exists"], &["create", "a"]);
    assert_eq!(oci.status("a"), "created");
}

/// At whatever point: what is left is removed, its process ends, and the id is free again.
#[test]
fn a_create_that_is_killed_leaves_what_delete_removes() {
    let oci = Oci::new(&WAITS);
    for delay in 0..40 {
        let mut command = oci.command(&["create", "a"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay * 400));
        child.kill().unwrap();
        child.wait().unwrap();
        oci.ok(&["delete", "--force", "a"]);
        assert!(oci.names().is_empty(), "after {delay}");
        wait_until("its process ends", || crate::host::processes_of(oci.dir.path()).is_empty());
    }
    oci.create(&["a"]);
}

#[test]
fn run_passes_on_output_status_and_signals() {
    let oci = Oci::new(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let out = oci.call(&["run", "a"]);
    assert_eq!((out.code, &*out.stdout, &*out.stderr), (7, "out\n", "err\n"));
    assert!(oci.names().is_empty(), "it is removed after its end");

    let out = oci.call(&["run", "--keep", "a"]);
    assert_eq!(out.code, 7);
    assert_eq!(oci.status("a"), "stopped");
    oci.ok(&["delete", "a"]);

    oci.configure(
        |_| {},
        &[
            "sh",
            "-c",
            "trap 'echo got it; exit 3' TERM; echo ready; \
                                          while :; do sleep 1000 & wait $!; done",
        ],
    );
    let running = Started::new(oci.command(&["run", "a"]), None);
    wait_until("it runs", || {
        oci.names() == ["a"] && oci.call(&["exec", "a", "pidof", "sleep"]).code == 0
    });
    running.signal(rustix::process::Signal::TERM);
    let out = running.wait();
    assert_eq!((out.code, &*out.stdout), (3, "ready\ngot it\n"));
}

#[test]
fn run_in_the_background_returns_and_input_arrives_in_the_foreground() {
    let oci = Oci::new(&["cat"]);
    let out = Started::new(oci.command(&["run", "a"]), Some(b"some input\n")).wait();
    assert_eq!((out.code, &*out.stdout), (0, "some input\n"));

    oci.configure(|_| {}, &["sleep", "1000"]);
    let mut command = oci.command(&["run", "-d", "--pid-file", "pid", "a"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    assert_eq!(oci.status("a"), "running");
    let pid = std::fs::read_to_string(oci.bundle().join("pid")).unwrap();
    assert_eq!(pid, oci.state("a")["pid"].to_string());
}

#[test]
fn list_shows_all_containers_as_runc_does() {
    let oci = Oci::new(&WAITS);
    assert_eq!(oci.ok(&["list", "--format", "json"]), "[]\n");
    oci.create(&["b"]);
    let other = format!("{}-other", oci.group());
    oci.configure(|config| config["linux"]["cgroupsPath"] = other.into(), &WAITS);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    assert_eq!(oci.ok(&["list", "-q"]), "a\nb\n");
    let table = oci.ok(&["list"]);
    let lines: Vec<Vec<_>> =
        table.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!((lines[1][0], lines[1][2], lines[1][5]), ("a", "running", "root"));
    assert_eq!((lines[2][0], lines[2][2]), ("b", "created"));
    let json: serde_json::Value =
        serde_json::from_str(&oci.ok(&["list", "--format", "json"])).unwrap();
    assert_eq!((&json[0], &json[1]), (&oci.state("a"), &oci.state("b")));
}

/// What its other hooks made on the host would stay otherwise.
#[test]
fn a_container_that_cannot_be_told_of_has_its_poststop_hooks() {
    let oci = Oci::new(&WAITS);
    let note = |name: &str| {
        let command = format!("echo {name} >>{}", oci.dir.path().join("order").display());
        serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", command]}])
    };
    let hooks = serde_json::json!({"createRuntime": note("make"), "poststop": note("take")});
    oci.configure(|config| config["hooks"] = hooks, &WAITS);
    for verb in ["create", "run"] {
        oci.fails(1, &["writing the pid file"], &[verb, "--pid-file", "/none/pid", "a"]);
        assert!(oci.names().is_empty());
        let order = std::fs::read_to_string(oci.dir.path().join("order")).unwrap();
        assert_eq!(order, "make\ntake\n", "{verb}");
        std::fs::remove_file(oci.dir.path().join("order")).unwrap();
    }
}

/// CVE-2019-5736: a hook in the container gets at the program that runs it.
#[test]
fn a_start_that_enters_the_container_runs_from_where_nobody_can_write() {
    let oci = Oci::new(&WAITS);
    let wait = "echo there; touch /tmp/there; while [ ! -e /tmp/go ]; do sleep 0.01; done";
    let hook = serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", wait],
        "env": ["PATH=/bin:/usr/bin"]}]);
    oci.configure(|config| config["hooks"] = serde_json::json!({"startContainer": hook}), &WAITS);
    oci.create(&["a"]);
    let mut start = oci.command(&["start", "a"]).spawn().unwrap();
    let root = format!("/proc/{}/root/tmp", oci.state("a")["pid"]);
    wait_until("the hook runs", || std::path::Path::new(&root).join("there").exists());
    let program = std::fs::File::open(format!("/proc/{}/exe", start.id())).unwrap();
    let flags = rustix::fs::fstatvfs(program).unwrap().f_flag;
    std::fs::write(format!("{root}/go"), "").unwrap();
    assert!(start.wait().unwrap().success());
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{flags:?}");
}

#[test]
fn a_record_that_cannot_be_read_hides_no_other_container() {
    let oci = Oci::new(&WAITS);
    oci.create(&["a"]);
    std::fs::create_dir(oci.home().join("bad")).unwrap();
    std::fs::write(oci.home().join("bad/state.json"), "{").unwrap();
    let out = oci.call(&["list", "--quiet"]);
    std::fs::remove_dir_all(oci.home().join("bad")).unwrap();
    assert_eq!((out.code, &*out.stdout), (0, "a\n"), "{}", out.stderr);
    assert!(out.stderr.contains("bad"), "{}", out.stderr);
}
