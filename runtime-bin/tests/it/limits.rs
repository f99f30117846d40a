//! What a container may use, and what it uses: limits, `stats`, `pause`, `update`. With v1's controllers on
//! a hybrid machine, with v2's in the virtual machine.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{Root, arg, busybox, wait_until};
use crate::host;

/// A file of a container's cgroup: of v1's controller where there is one, else of v2.
fn file(pid: i32, controller: &str, v1: &str, v2: &str) -> PathBuf {
    let groups = host::own_cgroups(pid);
    let legacy = format!("/sys/fs/cgroup/{controller}/");
    if let Some(group) = groups.iter().find(|group| group.starts_with(&legacy)) {
        return Path::new(group).join(v1);
    }
    let unified = groups.iter().find(|group| Path::new(group).join("cgroup.events").exists());
    Path::new(unified.expect("a group in v2")).join(v2)
}

fn read(pid: i32, controller: &str, v1: &str, v2: &str) -> String {
    let path = file(pid, controller, v1, v2);
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// The actions of all events so far.
fn actions(root: &Root) -> Vec<String> {
    let words = ["events", "--since", "0", "--until", "0s", "--format", "{{.Action}}"];
    root.ok(words).lines().map(str::to_owned).collect()
}

#[test]
fn limits_are_the_kernels_kept_over_a_restart_and_shown() {
    let root = Root::new();
    let options = [
        "--memory=64m",
        "--memory-swap=96m",
        "--memory-reservation=32m",
        "--cpus=0.5",
        "-c=512",
        "--cpuset-cpus=0",
        "--cpuset-mems=0",
        "--pids-limit=50",
    ];
    root.sleeper("box", &options);
    let check = || {
        let pid = root.pid("box");
        let memory = read(pid, "memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(memory, (64 << 20).to_string());
        let reserved = read(pid, "memory", "memory.soft_limit_in_bytes", "memory.low");
        assert_eq!(reserved, (32 << 20).to_string());
        assert_eq!(read(pid, "pids", "pids.max", "pids.max"), "50");
        let time = read(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(matches!(&time[..], "50000" | "50000 100000"), "{time}");
        let shares = read(pid, "cpu", "cpu.shares", "cpu.weight");
        assert!(matches!(&shares[..], "512" | "59"), "{shares}");
        assert_eq!(read(pid, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
        let allowed = root.ok(["exec", "box", "grep", "Cpus_allowed_list", "/proc/self/status"]);
        assert_eq!(allowed.split_whitespace().last(), Some("0"));
    };
    check();
    root.ok(["restart", "-t", "0", "box"]);
    check();
    let host = root.inspect("box")["HostConfig"].clone();
    for (key, value) in [
        ("Memory", json!(64 << 20)),
        ("MemorySwap", json!(96 << 20)),
        ("MemoryReservation", json!(32 << 20)),
        ("NanoCpus", json!(500_000_000)),
        ("CpuShares", json!(512)),
        ("CpusetCpus", json!("0")),
        ("CpusetMems", json!("0")),
        ("PidsLimit", json!(50)),
        ("CgroupnsMode", json!("private")),
        ("CpuQuota", json!(0)),
    ] {
        assert_eq!(host[key], value, "{key}");
    }
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn a_hog_and_a_fork_bomb_are_stopped() {
    let root = Root::new();
    // In a child: the container goes on.
    let script = "trap 'exit 0' TERM; dd if=/dev/zero of=/dev/null bs=64M count=1; echo done; \
                  while :; do sleep 0.1; done";
    let image = busybox();
    let run = ["run", "-d", "--name", "hog", "-m", "16m", "--memory-swap", "16m", arg(&image)];
    root.ok([&run[..], &["sh", "-c", script]].concat());
    wait_until("its end is told", || actions(&root).contains(&"oom".to_owned()));
    assert_eq!(root.inspect("hog")["State"]["Status"], "running");
    root.ok(["stop", "hog"]);
    let state = &root.inspect("hog")["State"];
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&json!(true), &json!(0)));
    // The first process itself.
    let run = ["run", "--name", "gone", "-m", "16m", "--memory-swap", "16m", arg(&image)];
    let out = root.call([&run[..], &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M"]].concat());
    assert_eq!(out.code, 137, "{out:?}");
    assert_eq!(root.inspect("gone")["State"]["OOMKilled"], true);
    let out = root.busybox(
        &["--pids-limit", "10"],
        &["sh", "-c", "for i in $(seq 30); do sleep 100 & done; echo all"],
    );
    assert!(!out.stdout.contains("all") && out.stderr.contains("fork"), "{out:?}");
    root.ok(["start", "gone"]);
    root.wait_for_exit("gone");
    root.ok(["rm", "hog", "gone"]);
    root.assert_nothing_left();
}

#[test]
fn a_paused_container_stands_still_is_shown_so_and_ends() {
    let root = Root::new();
    root.sleeper("box", &["--health-cmd=true", "--health-interval=1h"]);
    root.ok(["pause", "box"]);
    let state = &root.inspect("box")["State"];
    assert_eq!(
        (&state["Status"], &state["Paused"], &state["Running"]),
        (&json!("paused"), &json!(true), &json!(true))
    );
    let shown = root.ok(["ps", "--format", "{{.State}} {{.Status}}"]);
    assert!(shown.starts_with("paused Up ") && shown.ends_with("(Paused)"), "{shown}");
    assert_eq!(root.ok(["ps", "-q", "-f", "status=running"]), "");
    assert_eq!(root.ok(["ps", "-q", "-f", "status=paused"]).lines().count(), 1);
    root.fails(1, &["is paused", "unpause it"], ["pause", "box"]);
    root.fails(1, &["is paused", "unpause it"], ["exec", "box", "true"]);
    root.fails(1, &["is paused", "unpause it"], ["start", "box"]);
    root.ok(["unpause", "box"]);
    assert_eq!(root.inspect("box")["State"]["Status"], "running");
    assert_eq!(root.ok(["exec", "box", "echo", "goes on"]), "goes on");
    root.fails(1, &["is not paused"], ["unpause", "box"]);
    // Its stop signal reaches it: it ends by itself.
    root.ok(["pause", "box"]);
    root.ok(["stop", "box"]);
    assert_eq!(root.inspect("box")["State"]["ExitCode"], 0);
    root.fails(1, &["is not running"], ["pause", "box"]);
    root.ok(["start", "box"]);
    root.ok(["pause", "box"]);
    root.ok(["kill", "box"]);
    assert_eq!(root.wait_for_exit("box"), 137);
    root.ok(["start", "box"]);
    root.ok(["pause", "box"]);
    root.ok(["rm", "-f", "box"]);
    let all = actions(&root);
    for action in ["pause", "unpause"] {
        assert!(all.iter().any(|found| found == action), "{all:?}");
    }
    root.assert_nothing_left();
}

#[test]
fn an_update_changes_a_container_that_runs_and_its_record() {
    let root = Root::new();
    root.sleeper("box", &["-m", "64m"]);
    root.ok(["update", "--memory", "96m", "--pids-limit", "77", "--cpu-quota", "50000", "box"]);
    let pid = root.pid("box");
    let limit = read(pid, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(limit, (96 << 20).to_string());
    assert_eq!(read(pid, "pids", "pids.max", "pids.max"), "77");
    let host = root.inspect("box")["HostConfig"].clone();
    assert_eq!((&host["Memory"], &host["PidsLimit"]), (&json!(96 << 20), &json!(77)));
    assert_eq!(host["CpuQuota"], 50_000);
    // What breaks a rule changes nothing.
    root.fails(1, &["--memory-swap"], ["update", "--memory", "512m", "box"]);
    root.fails(1, &["--cpus"], ["update", "--cpus", "0.5", "box"]);
    assert_eq!(root.inspect("box")["HostConfig"]["Memory"], 96 << 20);
    root.ok(["update", "--restart", "on-failure:3", "box"]);
    assert_eq!(root.inspect("box")["HostConfig"]["RestartPolicy"]["Name"], "on-failure");
    root.ok(["restart", "-t", "0", "box"]);
    assert_eq!(read(root.pid("box"), "pids", "pids.max", "pids.max"), "77");
    root.fails(1, &["No such container"], ["update", "--memory", "1g", "nosuch"]);
    assert!(actions(&root).contains(&"update".to_owned()));
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn stats_tell_what_is_used() {
    let root = Root::new();
    let image = busybox();
    let spin = ["sh", "-c", "trap 'exit 0' TERM; while :; do :; done"];
    let run = ["run", "-d", "--name", "spins", "-m", "64m", "--cpus", "0.5", arg(&image)];
    root.ok([&run[..], &spin].concat());
    root.ok(["create", "--name", "rests", arg(&image), "true"]);
    let format =
        "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.MemPerc}} {{.PIDs}} {{.NetIO}} {{.BlockIO}}";
    let line = root.ok(["stats", "--no-stream", "--format", format]);
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[0], "spins", "{line}");
    let percent = |text: &str| text.strip_suffix('%').unwrap().parse::<f64>().unwrap();
    // Half a processor, at most; how much it gets is the machine's affair.
    assert!((1.0..75.0).contains(&percent(words[1])), "{line}");
    assert!(words[2] != "0B" && words[4] == "64MiB", "{line}");
    assert!(percent(words[5]) > 0.0 && words[6] == "1", "{line}");
    let table = root.ok(["stats", "--no-stream", "-a"]);
    assert!(table.starts_with("CONTAINER ID   NAME"), "{table}");
    assert!(table.contains("MEM USAGE / LIMIT") && table.contains("rests"), "{table}");
    let json = root.ok(["stats", "--no-stream", "--format", "json", "spins"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["Name"], &json["Container"]), (&json!("spins"), &json!("spins")));
    root.fails(1, &["No such container"], ["stats", "--no-stream", "nosuch"]);
    root.ok(["rm", "-f", "spins", "rests"]);
    root.assert_nothing_left();
}

#[test]
fn devices_by_rule_and_with_less_than_all_access() {
    let root = Root::new();
    // Opened for writing, for which the kernel wants no capability.
    let script = "mknod /node c 1 11; (: > /node) 2>&1 | grep -o 'not permitted' || echo open";
    assert_eq!(root.shell(&["--device-cgroup-rule", "c 1:11 rw"], script), "open");
    assert_eq!(root.shell(&["--device-cgroup-rule", "c 1:* rwm"], script), "open");
    assert_eq!(root.shell(&["--device-cgroup-rule", "c 1:11 r"], script), "not permitted");
    assert_eq!(root.shell(&["--device", "/dev/kmsg:/dev/x:r"], script), "not permitted");
    root.assert_nothing_left();
}

#[test]
fn the_group_lies_where_it_is_asked_for() {
    let root = Root::new();
    let parent = format!("/test-parent-{}", std::process::id());
    let id = root.sleeper("box", &["--cgroup-parent", &parent, "--cgroupns", "host"]);
    let groups = host::own_cgroups(root.pid("box"));
    let below = format!("{parent}/runtime-bin-{id}");
    assert!(!groups.is_empty() && groups.iter().all(|group| group.ends_with(&below)), "{groups:?}");
    // Without a namespace of its own, it sees where it is.
    let seen = root.ok(["exec", "box", "cat", "/proc/self/cgroup"]);
    assert!(seen.contains(&below), "{seen}");
    assert_eq!(root.inspect("box")["HostConfig"]["CgroupParent"], parent);
    root.ok(["rm", "-f", "box"]);
    // The parent is its maker's: as with Docker, it stays.
    for group in groups {
        std::fs::remove_dir(Path::new(&group).parent().unwrap()).unwrap();
    }
    root.assert_nothing_left();
}

#[test]
fn what_cannot_be_names_its_option() {
    let root = Root::new();
    let image = busybox();
    for (options, words) in [
        (&["-m", "1m"][..], "Minimum memory limit allowed is 6MB"),
        (&["-m", "1x"], "--memory"),
        (&["--memory-swap", "1g"], "--memory-swap"),
        (&["--cpus", "1000"], "--cpus"),
        (&["--cpus", "1", "--cpu-quota", "5000"], "--cpus"),
        (&["--cpu-period", "1"], "--cpu-period"),
        (&["--cpuset-cpus", "a"], "--cpuset-cpus"),
        (&["--cpuset-cpus", "4000"], "cpu.cpus"),
        (&["--device-read-bps", "/dev/no-such:1mb"], "/dev/no-such"),
        (&["--device-cgroup-rule", "c 1:3"], "--device-cgroup-rule"),
        (&["--cgroupns", "x"], "--cgroupns"),
    ] {
        let args = [&["run", "--rm"], options, &[arg(&image), "true"]].concat();
        root.fails(125, &[words], args);
    }
    root.assert_nothing_left();
}

/// bfq, the cost model, or v1's memory controller: what there is not is left out with a warning, as by
/// Docker, and the container runs.
#[test]
fn what_only_tunes_a_container_is_left_out_where_the_kernel_lacks_it() {
    let root = Root::new();
    let (image, tuned) = (
        busybox(),
        ["--memory-swappiness=7", "--oom-kill-disable", "--memory=64m", "--blkio-weight=77"],
    );
    let mut words = vec!["run", "-d", "--name=box"];
    words.extend(tuned);
    words.extend([arg(&image), "sleep", "1000"]);
    let output = root.call(words);
    let told = output.stderr;
    assert_eq!(output.code, 0, "{told}");
    let pid = root.pid("box");
    let host = root.inspect("box")["HostConfig"].clone();
    let memory = file(pid, "memory", "memory.swappiness", "memory.max");
    let v1 = memory.ends_with("memory.swappiness");
    assert_eq!(host["MemorySwappiness"], if v1 { json!(7) } else { json!(null) });
    assert_eq!(host["OomKillDisable"] == json!(true), v1);
    assert_eq!(told.contains("Memory swappiness discarded."), !v1, "{told}");
    assert_eq!(told.contains("OomKillDisable discarded."), !v1, "{told}");
    let weights = [("blkio.weight", "io.weight"), ("blkio.bfq.weight", "io.bfq.weight")];
    let weight = weights.iter().any(|(v1, v2)| file(pid, "blkio", v1, v2).exists());
    assert_eq!(host["BlkioWeight"], json!(if weight { 77 } else { 0 }));
    let warned = told.contains("WARNING: Your kernel does not support Block I/O weight or");
    assert_eq!(warned, !weight, "{told}");
    let updated = root.call(["update", "--blkio-weight=99", "box"]);
    assert_eq!(updated.code, 0, "{}", updated.stderr);
    let told = updated.stderr;
    assert_eq!(told.contains("Weight discarded."), !weight, "{told}");
    let host = root.inspect("box")["HostConfig"].clone();
    assert_eq!(host["BlkioWeight"], json!(if weight { 99 } else { 0 }));
    root.ok(["rm", "-f", "box"]);
}
