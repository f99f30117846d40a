//! containerd, whose shim calls `runtime-oci` (`--runc-binary`): the way of Kubernetes, too.

use std::process::Command;

use crate::clients::{BUSYBOX, Client, Daemon, RUNTIME, archive, serve};
use crate::harness::wait_until;
use crate::systemd::View;

/// A client, and its daemon's configuration: it has directories of its own.
fn client() -> (Client, String) {
    let client = Client::new("ctr", |dir| {
        vec!["--address".to_owned(), dir.join("sock").to_str().unwrap().to_owned()]
    });
    let dir = client.dir().display();
    let config = format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{dir}/opt\"\n\
         [grpc]\naddress = \"{dir}/sock\"\n[ttrpc]\naddress = \"{dir}/ttrpc\"\n"
    );
    let file = client.dir().join("config.toml");
    std::fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (client, file)
}

/// A daemon of the test's own.
fn containerd() -> (Client, Daemon) {
    let (client, config) = client();
    let mut daemon = Command::new("containerd");
    daemon.args(["--config", &config]);
    let log = client.dir().join("log");
    let daemon = Daemon::start(daemon, &log, || client.call(&["version"]).code == 0);
    client.ok(&["images", "import", "--snapshotter", "native", &archive()]);
    (client, daemon)
}

/// `ctr run` of the container `id` with these options and this command.
fn run<'a>(options: &[&'a str], id: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    let first = ["run", "--runc-binary", RUNTIME, "--snapshotter", "native"];
    [&first[..], options, &[BUSYBOX, id], command].concat()
}

#[test]
fn containerd_runs_and_manages_containers() {
    // The daemon ends first.
    let (ctr, _daemon) = containerd();
    // Ids, and cgroups by them, are the machine's.
    let id = |name: &str| format!("{}-{name}", ctr.dir().file_name().unwrap().display());
    assert_eq!(ctr.ok(&run(&["--rm"], &id("a"), &["echo", "hello"])), "hello");
    ctr.ends(5, &run(&["--rm"], &id("b"), &["sh", "-c", "exit 5"]));
    let out = ctr.ends(1, &run(&["--rm"], &id("c"), &["nosuch"]));
    assert!(out.stderr.contains("executable file not found in $PATH"), "{}", out.stderr);
    ctr.shows("/dev/pts/0", "", 3, &run(&["--rm", "-t"], &id("d"), &["sh", "-c", "tty; exit 3"]));

    let one = id("one");
    ctr.ok(&run(&["-d", "--seccomp"], &one, &["sleep", "1000"]));
    let status = || {
        let list = ctr.ok(&["task", "ls"]);
        let line = list.lines().find(|line| line.starts_with(&one)).unwrap_or_default().to_owned();
        line.split_whitespace().nth(2).unwrap_or_default().to_owned()
    };
    assert_eq!(status(), "RUNNING");
    let exec = ["task", "exec", "--exec-id", "x", &one, "grep", "Seccomp:", "/proc/self/status"];
    assert_eq!(ctr.ok(&exec).split_whitespace().nth(1), Some("2"));
    ctr.ends(9, &["task", "exec", "--exec-id", "y", &one, "sh", "-c", "exit 9"]);
    ctr.ok(&["task", "pause", &one]);
    assert_eq!(status(), "PAUSED");
    ctr.ok(&["task", "resume", &one]);
    assert_eq!(ctr.ok(&["task", "ps", &one]).lines().count(), 2);
    let used =
        if View::full() == View::Unified { "memory.usage " } else { "memory.usage_in_bytes " };
    assert!(ctr.ok(&["task", "metrics", &one]).contains(used));
    ctr.ok(&["task", "kill", "-s", "KILL", &one]);
    wait_until("it ends", || status() == "STOPPED");
    // It passes on the status, 128 and the signal.
    ctr.ends(0, &["task", "rm", &one]);
    ctr.ok(&["container", "rm", &one]);
}

/// As on a machine that systemd started, and as the kubelet wants it there (`SystemdCgroup = true`).
#[test]
fn under_systemd_its_containers_are_scopes() {
    // It always asks for a share of the processors.
    let view = View::full();
    let (mut ctr, config) = client();
    let systemd = serve(&mut ctr, view, "containerd", &format!("--config {config}"));
    ctr.ok(&["images", "import", "--snapshotter", "native", &archive()]);

    let scope = ["--runc-systemd-cgroup", "--cgroup", "system.slice:ctr:one"];
    let limits = ["-d", "--memory-limit", "67108864", "--cpus", "0.5"];
    ctr.ok(&run(&[&scope[..], &limits].concat(), "one", &["sleep", "1000"]));
    let (unit, group) = ("ctr-one.scope", "/system.slice/ctr-one.scope");
    assert_eq!(systemd.show(unit, "ActiveState"), "active");
    assert_eq!(systemd.show(unit, "ControlGroup"), group);
    let memory = if view == View::Unified { "MemoryMax" } else { "MemoryLimit" };
    assert_eq!(systemd.show(unit, memory), "67108864");
    assert_eq!(systemd.show(unit, "CPUQuotaPerSecUSec"), "500ms");
    ctr.ends(9, &["task", "exec", "--exec-id", "x", "one", "sh", "-c", "exit 9"]);
    let task = || ctr.ok(&["task", "ls"]).lines().last().unwrap_or_default().to_owned();
    let pid = task().split_whitespace().nth(1).unwrap_or_default().to_owned();
    let groups = systemd.ok(&["cat", &format!("/proc/{pid}/cgroup")]);
    assert!(groups.lines().any(|line| line == format!("0::{group}")), "{groups}");
    ctr.ok(&["task", "pause", "one"]);
    assert!(task().ends_with("PAUSED"), "{}", task());
    ctr.ok(&["task", "resume", "one"]);
    ctr.ok(&["task", "kill", "-s", "KILL", "one"]);
    wait_until("it ends", || task().ends_with("STOPPED"));
    ctr.ok(&["task", "rm", "one"]);
    ctr.ok(&["container", "rm", "one"]);
    let units = || systemd.ok(&["systemctl", "list-units", "--all", "--no-legend", "ctr-*"]);
    wait_until("systemd has forgotten it", || units().is_empty());
    // And again, under the same name of a unit.
    let once = [&scope[..], &["--rm"]].concat();
    ctr.ends(5, &run(&once, "two", &["sh", "-c", "exit 5"]));
    wait_until("systemd has forgotten it", || units().is_empty());
    systemd.ok(&["systemctl", "stop", "engine.service"]);
}
