//! Docker, with a daemon whose default runtime is `runtime-oci`.

use std::process::Command;

use crate::clients::{BUSYBOX, Client, Daemon, LIMITS, RUNTIME, archive, serve};
use crate::harness::wait_until;
use crate::systemd::View;

fn client() -> Client {
    Client::new("docker", |dir| vec!["-H".to_owned(), format!("unix://{}/sock", dir.display())])
}

/// What a client's daemon is called with: it has directories of its own, and no network.
fn arguments(client: &Client) -> Vec<String> {
    let below = |name: &str| client.dir().join(name).to_str().unwrap().to_owned();
    [
        ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"]
            .map(str::to_owned),
        ["--data-root".to_owned(), below("data"), "--exec-root".to_owned(), below("exec")],
        [
            "--pidfile".to_owned(),
            below("pid"),
            "-H".to_owned(),
            format!("unix://{}", below("sock")),
        ],
        [
            "--storage-driver=vfs".to_owned(),
            "--add-runtime".to_owned(),
            format!("tested={RUNTIME}"),
            "--default-runtime=tested".to_owned(),
        ],
    ]
    .concat()
}

/// A daemon of the test's own.
fn docker() -> (Client, Daemon) {
    let client = client();
    let mut daemon = Command::new("dockerd");
    daemon.args(arguments(&client)).args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
    let log = client.dir().join("log");
    let daemon = Daemon::start(daemon, &log, || client.call(&["version"]).code == 0);
    client.ok(&["load", "-q", "-i", &archive()]);
    (client, daemon)
}

/// `docker run` with these options and this command.
fn run<'a>(options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    // Docker's profile for AppArmor is loaded by a program that not every machine with AppArmor has.
    let first =
        [&["run", "--net=none", "--security-opt=apparmor=unconfined"][..], &LIMITS].concat();
    [&first[..], options, &[BUSYBOX], command].concat()
}

#[test]
fn docker_runs_and_manages_containers() {
    // The daemon ends first.
    let (docker, _daemon) = docker();
    assert_eq!(docker.ok(&["info", "-f", "{{.DefaultRuntime}}"]), "tested");
    assert_eq!(docker.ok(&run(&["--rm"], &["echo", "hello"])), "hello");
    docker.ends(5, &run(&["--rm"], &["sh", "-c", "exit 5"]));
    docker.ends(127, &run(&["--rm"], &["nosuch"]));
    docker.ends(126, &run(&["--rm"], &["/etc"]));
    docker.ends(0, &run(&["--rm", "--init"], &["true"]));
    docker.shows("/dev/pts/0", "", 3, &run(&["--rm", "-it"], &["sh", "-c", "tty; exit 3"]));

    let script = "trap 'exit 7' TERM; while :; do sleep 1000 & wait $!; done";
    let options = ["-d", "--name", "one", "-m", "64m", "--cpus", "0.5", "--pids-limit", "30"];
    docker.ok(&run(&options, &["sh", "-c", script]));
    let state =
        |field: &str| docker.ok(&["inspect", "-f", &format!("{{{{.State.{field}}}}}"), "one"]);
    assert_eq!(docker.ok(&["exec", "one", "hostname"]).len(), 12);
    docker.ends(9, &["exec", "one", "sh", "-c", "exit 9"]);
    docker.shows(
        "got typed",
        "typed\n",
        0,
        &["exec", "-it", "one", "sh", "-c", "read x; echo got $x"],
    );
    assert!(docker.ok(&["top", "one"]).contains("sleep 1000"));
    docker.ok(&["pause", "one"]);
    assert_eq!(state("Status"), "paused");
    docker.ok(&["unpause", "one"]);
    docker.ok(&["update", "--memory", "80m", "--memory-swap", "80m", "one"]);
    assert!(docker.ok(&["stats", "--no-stream", "one"]).contains("80MiB"));
    docker.ok(&["stop", "one"]);
    assert_eq!(state("ExitCode"), "7");
    docker.ok(&["start", "one"]);
    docker.ok(&["kill", "one"]);
    wait_until("it ends", || state("Status") == "exited");
    assert_eq!(state("ExitCode"), "137");
    docker.ok(&["rm", "one"]);
    // One that is short of memory.
    let hungry = ["sh", "-c", "x=a; while :; do x=$x$x; done"];
    docker.ends(137, &run(&["--name", "two", "-m", "16m", "--memory-swap", "16m"], &hungry));
    assert_eq!(docker.ok(&["inspect", "-f", "{{.State.OOMKilled}}", "two"]), "true");
    docker.ok(&["rm", "two"]);
}

/// As on a machine that systemd started, whose cgroup driver is systemd: Docker's own choice where v2 is alone.
#[test]
fn under_systemd_its_containers_are_scopes() {
    for view in View::all() {
        let mut docker = client();
        let mut arguments = arguments(&docker);
        if view == View::Hybrid {
            arguments.push("--exec-opt native.cgroupdriver=systemd".to_owned());
        }
        let systemd = serve(&mut docker, view, "dockerd", &arguments.join(" "));
        docker.ok(&["load", "-q", "-i", &archive()]);
        assert_eq!(docker.ok(&["info", "-f", "{{.CgroupDriver}}"]), "systemd");

        let options = ["-d", "--name", "one", "--cgroupns=host"];
        // Docker refuses limits for which there is no controller.
        let limits = ["-m", "64m", "--cpus", "0.5", "--pids-limit", "30"];
        let limited = view == View::full();
        let options = [&options[..], if limited { &limits } else { &[] }].concat();
        let id = docker.ok(&run(&options, &["sleep", "1000"]));
        let unit = format!("docker-{id}.scope");
        let group = format!("/system.slice/{unit}");
        let show = |property: &str| systemd.show(&unit, property);
        assert_eq!(show("ActiveState"), "active");
        assert_eq!(show("ControlGroup"), group);
        let memory = if view == View::Unified { "MemoryMax" } else { "MemoryLimit" };
        if limited {
            assert_eq!(show(memory), "67108864");
            assert_eq!(show("TasksMax"), "30");
            assert_eq!(show("CPUQuotaPerSecUSec"), "500ms");
            docker.ok(&["update", "--memory", "80m", "--memory-swap", "80m", "one"]);
            assert_eq!(show(memory), "83886080");
        }
        let groups = docker.ok(&["exec", "one", "cat", "/proc/self/cgroup"]);
        assert!(groups.lines().any(|line| line == format!("0::{group}")), "{groups}");
        let units = || systemd.ok(&["systemctl", "list-units", "--all", "--no-legend", "docker-*"]);
        docker.ok(&["pause", "one"]);
        docker.ok(&["unpause", "one"]);
        docker.ok(&["stop", "-t", "0", "one"]);
        wait_until("systemd has forgotten the one that was stopped", || units().is_empty());
        docker.ok(&["start", "one"]);
        assert_eq!(show("ControlGroup"), group);
        docker.ok(&["rm", "-f", "one"]);
        docker.ends(5, &run(&["--rm"], &["sh", "-c", "exit 5"]));
        docker.ends(127, &run(&["--rm"], &["nosuch"]));
        wait_until("systemd has forgotten all of them", || units().is_empty());
        systemd.ok(&["systemctl", "stop", "engine.service"]);
    }
}
