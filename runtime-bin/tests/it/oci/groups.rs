//! What is done by a container's cgroup: pause, ps, kill --all, update, events, delete.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Oci, WAITS, lives};
use crate::harness::{Started, wait_until};

/// A container that runs.
fn running(args: &[&str]) -> Oci {
    let oci = Oci::new(args);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    oci
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_paused_container_does_nothing_until_it_goes_on() {
    let oci = running(&["sh", "-c", "while :; do echo x; sleep 0.01; done"]);
    let output = oci.dir.path().join("output");
    let size = || std::fs::metadata(&output).unwrap().len();
    wait_until("it runs", || size() > 0);
    oci.fails(1, &["container not paused"], &["resume", "a"]);
    oci.ok(&["pause", "a"]);
    assert_eq!(oci.status("a"), "paused");
    let before = size();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(size(), before, "it is frozen");
    oci.fails(255, &["cannot exec in a paused container"], &["exec", "a", "true"]);
    oci.fails(1, &["container not running or created"], &["pause", "a"]);
    oci.fails(1, &["cannot delete container that is not stopped"], &["delete", "a"]);
    oci.ok(&["resume", "a"]);
    assert_eq!(oci.status("a"), "running");
    wait_until("it goes on", || size() > before);
    oci.ok(&["pause", "a"]);
    oci.ok(&["delete", "--force", "a"]);
}

#[test]
fn ps_shows_the_containers_processes_and_no_others() {
    let oci = running(&["sh", "-c", "sleep 2345 & exec sleep 1234"]);
    let lists = || json(&oci.ok(&["ps", "--format", "json", "a"])).as_array().unwrap().clone();
    wait_until("both are there", || lists().len() == 2);
    assert!(lists().contains(&oci.state("a")["pid"]));
    wait_until("both sleep", || oci.ok(&["ps", "a"]).matches("sleep ").count() == 2);
    let table = oci.ok(&["ps", "a"]);
    let title: Vec<_> = table.lines().next().unwrap().split_ascii_whitespace().collect();
    assert_eq!(title, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    let table = oci.ok(&["ps", "a", "-e", "-o", "pid,args"]);
    assert!(table.contains("sleep 1234") && table.contains("sleep 2345"), "{table}");
    oci.fails(1, &["no column PID"], &["ps", "a", "-e", "-o", "args"]);
}

/// Without a PID namespace of its own the container's other processes do not end with the first.
#[test]
fn no_process_is_left() {
    let oci = Oci::new(&[]);
    let shared = |config: &mut Value| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    };
    let script = "(trap '' TERM; sleep 1000) & exec sleep 1000";
    oci.configure(|config| own_group(shared, config, &oci), &["sh", "-c", script]);
    for end in [&["delete", "--force", "a"][..], &["kill", "--all", "a", "KILL"]] {
        oci.create(&["a"]);
        oci.ok(&["start", "a"]);
        let pids = || json(&oci.ok(&["ps", "--format", "json", "a"])).as_array().unwrap().clone();
        wait_until("both are there", || pids().len() >= 2);
        let pids: Vec<i64> = pids().iter().map(|pid| pid.as_i64().unwrap()).collect();
        oci.ok(end);
        wait_until("all have ended", || pids.iter().all(|pid| !lives(*pid)));
        oci.ok(&["delete", "--force", "a"]);
    }
}

/// `change`, with the group of the test.
fn own_group(change: impl FnOnce(&mut Value), config: &mut Value, oci: &Oci) {
    config["linux"]["cgroupsPath"] = oci.group().into();
    change(config);
}

/// A container of two processes that sees the host's.
fn two_of_the_hosts() -> Oci {
    let oci = Oci::new(&[]);
    let shared = |config: &mut Value| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    };
    let script = "sleep 1000 & exec sleep 1000";
    oci.configure(|config| own_group(shared, config, &oci), &["sh", "-c", script]);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    wait_until("both are there", || pids(&oci) == 2);
    oci
}

fn pids(oci: &Oci) -> usize {
    json(&oci.ok(&["ps", "--format", "json", "a"])).as_array().unwrap().len()
}

/// The first process is sent a signal alone, and its container is stopped; what is left gets the signal.
#[test]
fn kill_all_reaches_what_the_first_process_left_behind() {
    let oci = two_of_the_hosts();
    oci.ok(&["kill", "a", "TERM"]);
    oci.wait_for("a", "stopped");
    assert_eq!(pids(&oci), 1);
    oci.fails(1, &["container not running"], &["kill", "a", "TERM"]);
    oci.ok(&["kill", "--all", "a", "TERM"]);
    wait_until("the other has ended", || pids(&oci) == 0);
    oci.ok(&["kill", "--all", "a", "0"]);
}

/// No namespace ends with the first process: nothing is to be left of what was killed.
#[test]
fn kill_ends_all_that_sees_the_hosts_processes() {
    let oci = two_of_the_hosts();
    oci.ok(&["kill", "a", "KILL"]);
    wait_until("both have ended", || pids(&oci) == 0);
    oci.fails(1, &["container not running"], &["kill", "a", "KILL"]);
    oci.ok(&["delete", "a"]);

    let oci = two_of_the_hosts();
    oci.ok(&["kill", "a", "TERM"]);
    oci.wait_for("a", "stopped");
    oci.ok(&["kill", "a", "KILL"]);
    wait_until("the other has ended", || pids(&oci) == 0);
}

#[test]
fn limits_are_set_changed_and_told() {
    let oci = Oci::new(&[]);
    let limits = |config: &mut Value| {
        config["linux"]["resources"] =
            json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}});
    };
    oci.configure(|config| own_group(limits, config, &oci), &WAITS);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    let stats = || json(&oci.ok(&["events", "--stats", "a"]))["data"].clone();
    assert_eq!(stats()["memory"]["usage"]["limit"], 64 << 20);
    assert_eq!(stats()["pids"]["limit"], 20);
    assert!(stats()["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    oci.ok(&["update", "--memory", "80m", "--pids-limit", "30", "a"]);
    assert_eq!(stats()["memory"]["usage"]["limit"], 80 << 20);
    assert_eq!(stats()["pids"]["limit"], 30);
    let input = json!({"memory": {"limit": 96 << 20}, "cpu": {"shares": 512}}).to_string();
    let command = oci.command(&["update", "a", "--resources", "-"]);
    let out = Started::new(command, Some(input.as_bytes())).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert_eq!(stats()["memory"]["usage"]["limit"], 96 << 20);
    assert_eq!(stats()["pids"]["limit"], 30, "what is not given stays");
    for (args, words) in [
        (&["update", "a", "--memory", "x"][..], "--memory"),
        (&["update", "a", "--resources", "/none"], "/none"),
        (&["update", "a", "--cpuset-cpus", "999999"], "cpu.cpus"),
        (&["events", "a", "--interval", "5000000000000000h"], "--interval"),
    ] {
        oci.fails(1, &[words], args);
    }
    oci.ok(&["kill", "a", "KILL"]);
    oci.wait_for("a", "stopped");
    oci.fails(1, &["container not running"], &["update", "a", "--memory", "80m"]);
    oci.fails(1, &["is not running"], &["events", "a"]);
}

#[test]
fn events_go_on_until_the_containers_end() {
    let oci = running(&WAITS);
    let events = Started::new(oci.command(&["events", "--interval", "50ms", "a"]), None);
    // Time for two lines, on a slow machine too.
    std::thread::sleep(Duration::from_secs(2));
    oci.ok(&["kill", "a", "KILL"]);
    let out = events.wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    let lines: Vec<Value> = out.stdout.lines().map(json).collect();
    assert!(lines.len() >= 2, "{}", out.stdout);
    assert!(lines.iter().all(|event| event["type"] == "stats" && event["id"] == "a"));
    assert!(lines[0]["data"]["cpu"]["usage"]["total"].as_u64().is_some(), "{}", lines[0]);
}

#[test]
fn exec_begins_in_the_containers_group_or_one_below_it() {
    let oci = running(&WAITS);
    let groups = |pid: i64| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut command = oci.command(&["exec", "-d", "--pid-file", "pid", "a", "sleep", "1000"]);
    let null = std::process::Stdio::null;
    assert!(command.stdin(null()).stdout(null()).stderr(null()).status().unwrap().success());
    let pid: i64 = std::fs::read_to_string(oci.bundle().join("pid")).unwrap().parse().unwrap();
    assert_eq!(groups(pid), groups(oci.state("a")["pid"].as_i64().unwrap()));
    for (group, words) in [
        ("..", ".. is not a sub cgroup path"),
        ("none", "/none/cgroup.procs: no such file or directory"),
        ("whatever:/", "unknown controller whatever"),
    ] {
        oci.fails(255, &[words], &["exec", "--cgroup", group, "a", "true"]);
    }
    oci.ok(&["exec", "--cgroup", "/", "a", "true"]);
}

/// Whose processes are in it would be paused and killed with the container's.
#[test]
fn a_group_that_has_processes_is_no_containers() {
    let oci = running(&WAITS);
    oci.fails(1, &["container's cgroup is not empty"], &["create", "b"]);
    assert_eq!(oci.names(), ["a"]);
    assert_eq!(oci.status("a"), "running");
}

#[test]
fn a_frozen_group_is_no_containers() {
    let oci = running(&WAITS);
    oci.ok(&["pause", "a"]);
    oci.fails(1, &["container's cgroup unexpectedly frozen"], &["create", "b"]);
    assert_eq!(oci.names(), ["a"]);
}

#[test]
fn features_are_told() {
    let oci = Oci::new(&["true"]);
    let features = json(&oci.ok(&["features"]));
    assert_eq!(features["ociVersionMin"], "1.0.0");
    for (list, entry) in [
        (&features["hooks"], "poststop"),
        (&features["mountOptions"], "rro"),
        (&features["linux"]["namespaces"], "time"),
        (&features["linux"]["capabilities"], "CAP_CHOWN"),
    ] {
        assert!(list.as_array().unwrap().contains(&entry.into()), "{entry}: {features}");
    }
}

/// As runc: engines give all of linux.resources again, without the devices that every container has.
#[test]
fn an_update_leaves_the_devices_as_they_are() {
    let oci = running(&WAITS);
    let input = json!({
        "devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 50},
    });
    let command = oci.command(&["update", "--resources", "-", "a"]);
    let out = Started::new(command, Some(input.to_string().as_bytes())).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    let stats = json(&oci.ok(&["events", "--stats", "a"]))["data"].clone();
    assert_eq!(stats["pids"]["limit"], 50);
    oci.ok(&["exec", "a", "sh", "-c", "echo x >/dev/null && head -c 1 /dev/zero"]);
}

/// A user in a namespace of its own, to whom no cgroup was delegated, has containers without one, as long as
/// nothing is asked of a cgroup (as runc).
#[test]
fn who_may_make_no_cgroup_has_containers_without_one() {
    const USER: u32 = 54_321;
    let oci = Oci::new(&["sh", "-c", "id -u; cat /proc/self/uid_map"]);
    let configure = |change: fn(&mut Value)| {
        oci.configure(
            |config| {
                config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
                // Another procfs could show what is masked in the caller's.
                config["mounts"][0] = json!({
                    "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"],
                });
                config["process"]["capabilities"] = json!({});
                change(config);
            },
            &["sh", "-c", "id -u; cat /proc/self/uid_map"],
        );
    };
    let chown = |path: &std::path::Path| std::os::unix::fs::chown(path, Some(USER), Some(USER));
    std::fs::create_dir(oci.home()).unwrap();
    for path in [oci.dir.path(), &oci.home(), &oci.bundle(), &oci.bundle().join("rootfs")] {
        chown(path).unwrap();
    }
    let call = |options: &[&str]| {
        let inner = oci.command(&[]);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]).arg(inner.get_program());
        command.args(inner.get_args()).args(options).current_dir(oci.bundle());
        command.uid(USER).gid(USER);
        Started::new(command, None).wait()
    };
    configure(|_| {});
    let out = call(&["run", "a"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let words: Vec<_> = out.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", &USER.to_string(), "1"], "{}", out.stderr);
    let out = call(&["--rootless", "false", "run", "a"]);
    assert!(out.code == 1 && out.stderr.contains("making the cgroup"), "{}", out.stderr);
    configure(|config| config["linux"]["resources"] = json!({"pids": {"limit": 9}}));
    let out = call(&["--rootless=true", "run", "a"]);
    let words =
        "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
    assert!(out.code == 1 && out.stderr.contains(words), "{}", out.stderr);
    let group = oci.group();
    oci.configure(|config| config["linux"]["cgroupsPath"] = group.into(), &["true"]);
    let out = call(&["run", "a"]);
    assert!(out.code == 1 && out.stderr.contains("making the cgroup"), "{}", out.stderr);
    assert!(oci.names().is_empty());
}
