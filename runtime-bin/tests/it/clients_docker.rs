//! Docker, with a daemon whose default runtime is `runtime-oci`.

use std::process::Command;

use crate::clients::{BUSYBOX, Client, Daemon, LIMITS, RUNTIME, archive};
use crate::harness::wait_until;

/// A daemon of the test's own, without a network.
fn docker() -> (Client, Daemon) {
    let client = Client::new("docker", |dir| {
        vec!["-H".to_owned(), format!("unix://{}/sock", dir.display())]
    });
    let below = |name: &str| client.dir().join(name).to_str().unwrap().to_owned();
    let mut daemon = Command::new("dockerd");
    daemon
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"])
        .args(["--data-root", &below("data"), "--exec-root", &below("exec")])
        .args(["--pidfile", &below("pid"), "-H", &format!("unix://{}", below("sock"))])
        .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
        .args(["--add-runtime", &format!("tested={RUNTIME}"), "--default-runtime", "tested"]);
    let log = client.dir().join("log");
    let daemon = Daemon::start(daemon, &log, || client.call(&["version"]).code == 0);
    client.ok(&["load", "-q", "-i", &archive()]);
    (client, daemon)
}

/// `docker run` with these options and this command.
fn run<'a>(options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    let first = [&["run", "--net=none"][..], &LIMITS].concat();
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
