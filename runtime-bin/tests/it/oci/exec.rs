//! `exec`.

use std::process::Stdio;

use serde_json::json;

use super::{Oci, WAITS, config, lives, read_soon};
use crate::harness::{Started, wait_until};

/// A container that runs.
fn running() -> Oci {
    let oci = Oci::new(&WAITS);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    oci
}

#[test]
fn a_further_program_runs_in_the_container() {
    let oci = running();
    assert_eq!(oci.ok(&["exec", "a", "hostname"]), "contained\n");
    assert_eq!(oci.ok(&["exec", "a", "sh", "-c", "echo $FROM; pwd"]), "config\n/\n");
    let out = oci.call(&["exec", "a", "sh", "-c", "echo no >&2; exit 9"]);
    assert_eq!((out.code, &*out.stderr), (9, "no\n"));
    let out = Started::new(oci.command(&["exec", "a", "cat"]), Some(b"input")).wait();
    assert_eq!((out.code, &*out.stdout), (0, "input"));
    assert_eq!(oci.ok(&["exec", "a", "sh", "-c", "echo $HOME"]), "/root\n");
    assert_eq!(oci.ok(&["exec", "-e", "HOME=/x", "a", "sh", "-c", "echo $HOME"]), "/x\n");
    assert_eq!(oci.ok(&["exec", "-u", "4321", "a", "sh", "-c", "echo $HOME"]), "/\n");
    let env = oci.ok(&["exec", "-e", "FROM=exec", "a", "env"]);
    assert!(env.contains("FROM=exec\n") && !env.contains("FROM=config"), "{env}");
    let namespaces = "for n in mnt pid net ipc uts; do readlink /proc/$P/ns/$n; done";
    let own = oci.ok(&["exec", "--env", "P=self", "a", "sh", "-c", namespaces]);
    assert_eq!(own, oci.ok(&["exec", "-e", "P=1", "a", "sh", "-c", namespaces]));
    // Options that look like the program's own are the command's.
    assert_eq!(oci.ok(&["exec", "a", "echo", "--cwd", "-t", "--"]), "--cwd -t --\n");
}

#[test]
fn options_change_the_process() {
    let oci = running();
    let script = "id -u; id -g; id -G; pwd; echo $A; grep -E 'CapEff|NoNewPrivs' /proc/self/status";
    let text = oci.ok(&[
        "exec",
        "--user",
        "33:44",
        "-g",
        "55",
        "--additional-gids",
        "66",
        "--cwd",
        "/tmp",
        "-e",
        "A=b",
        "--no-new-privs",
        "a",
        "sh",
        "-c",
        script,
    ]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..5], ["33", "44", "44 55 66", "/tmp", "b"]);
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
    let effective = |options: &[&str]| {
        let args = [&["exec"], options, &["a", "grep", "CapEff", "/proc/self/status"]].concat();
        let text = oci.ok(&args);
        u64::from_str_radix(text.split_ascii_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(effective(&[]), 1 << 5, "CAP_KILL");
    assert_eq!(effective(&["--cap", "CAP_CHOWN", "-c", "CAP_NET_RAW"]), 1 << 5 | 1 | 1 << 13);
    let unknown = oci.call(&["exec", "--cap", "CAP_NONE", "a", "true"]);
    assert_eq!(unknown.code, 0, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("no such capability; it is left out"), "{}", unknown.stderr);
    for (options, words) in [
        (&["--user", "root"][..], "--user"),
        (&["--user", "4294967295"], "process.user.uid"),
        (&["--user", "4294967296"], "--user"),
        (&["--user", "1:"], "--user"),
        (&["-g", "x"], "--additional-gids"),
        (&["--cwd", "relative"], "process.cwd"),
        (&["--cwd", "/none"], "/none"),
        (&["--cwd", "/proc/self/fd/3"], "working directory"),
    ] {
        oci.fails(255, &[words], &[&["exec"], options, &["a", "true"]].concat());
    }
    oci.fails(255, &["no command"], &["exec", "a"]);
}

#[test]
fn a_process_comes_from_a_file() {
    let oci = running();
    let file = oci.dir.path().join("process.json");
    let mut process = config(&["sh", "-c", "echo $0 $FILE; id -u"])["process"].clone();
    process["env"] = json!(["PATH=/bin:/usr/bin", "FILE=yes"]);
    process["user"] = json!({"uid": 7, "gid": 7});
    std::fs::write(&file, process.to_string()).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(oci.ok(&["exec", "--process", path, "a"]), "sh yes\n7\n");
    assert_eq!(oci.ok(&["exec", "a", "-p", path]), "sh yes\n7\n");
    for (bad, words) in [
        ("{", "process.json"),
        (r#"{"user": {"uid": "x", "gid": 0}, "cwd": "/", "args": ["true"]}"#, "user.uid"),
        (r#"{"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": []}"#, "process.args"),
    ] {
        std::fs::write(&file, bad).unwrap();
        oci.fails(255, &[words], &["exec", "--process", path, "a"]);
    }
    oci.fails(255, &["/none.json"], &["exec", "--process", "/none.json", "a"]);
}

#[test]
fn a_process_in_the_background_outlives_its_starter() {
    let oci = running();
    let mut command =
        oci.command(&["exec", "-d", "--pid-file", "exec.pid", "a", "sh", "-c", "exec sleep 1000"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    let pid: i64 = std::fs::read_to_string(oci.bundle().join("exec.pid")).unwrap().parse().unwrap();
    assert!(lives(pid));
    assert_ne!(pid, oci.state("a")["pid"].as_i64().unwrap());
    let of = |pid: i64| std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_eq!(of(pid), of(oci.state("a")["pid"].as_i64().unwrap()));
    oci.ok(&["delete", "--force", "a"]);
    wait_until("it ends with the container", || !lives(pid));
}

/// The words by which engines tell 127 from 126, and 255 from both.
#[test]
fn what_cannot_run_is_said_in_words_that_engines_know() {
    let oci = running();
    std::fs::write(oci.bundle().join("rootfs/notes"), "text\n").unwrap();
    for (command, words) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/no/such", "exec: \"/no/such\": no such file or directory"),
        ("/notes", "exec: \"/notes\": permission denied"),
        ("/etc", "exec: \"/etc\": permission denied"),
    ] {
        oci.fails(255, &[words], &["exec", "a", command]);
    }
    oci.fails(255, &["container does not exist"], &["exec", "b", "true"]);
    oci.ok(&["kill", "a", "KILL"]);
    oci.wait_for("a", "stopped");
    oci.fails(255, &["cannot exec in a stopped container"], &["exec", "a", "true"]);
}

/// As runc: a created container has its namespaces and mounts already.
#[test]
fn exec_works_in_a_container_that_waits() {
    let oci = Oci::new(&["sh", "-c", "cat /tmp/left; exec sleep 1000"]);
    let output = oci.create(&["a"]);
    oci.ok(&["exec", "a", "sh", "-c", "echo before >/tmp/left"]);
    assert_eq!(oci.status("a"), "created");
    oci.ok(&["start", "a"]);
    assert_eq!(read_soon(&output), "before\n");
}

/// As runc: what the file says nothing of is the container's.
#[test]
fn a_process_from_a_file_has_no_more_than_the_container() {
    let oci = Oci::new(&WAITS);
    let of_container = |config: &mut serde_json::Value| {
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}]);
        config["process"]["oomScoreAdj"] = json!(555);
    };
    oci.configure(of_container, &WAITS);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    let file = oci.dir.path().join("process.json");
    let script = "ulimit -n; cat /proc/self/oom_score_adj; grep CapEff /proc/self/status";
    let mut process = json!({
        "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh", "-c", script],
        "env": ["PATH=/bin:/usr/bin"],
    });
    let exec = |process: &serde_json::Value| {
        std::fs::write(&file, process.to_string()).unwrap();
        oci.ok(&["exec", "--process", file.to_str().unwrap(), "a"])
    };
    let own = format!("77\n555\nCapEff:\t{:016x}\n", 1 << 5);
    assert_eq!(oci.ok(&["exec", "a", "sh", "-c", script]), own);
    assert_eq!(exec(&process), own);
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 66, "hard": 66}]);
    process["oomScoreAdj"] = json!(666);
    process["capabilities"] = json!({});
    assert_eq!(exec(&process), format!("66\n666\nCapEff:\t{:016x}\n", 0));
}
