//! Podman, with `--runtime`.

use crate::clients::{BUSYBOX, Client, LIMITS, RUNTIME, archive};
use crate::harness::wait_until;
use crate::systemd::{Systemd, View};

fn podman() -> Client {
    let client = client("cgroupfs");
    client.ok(&["load", "-q", "-i", &archive()]);
    client
}

/// Its containers and images are below the test's directory.
fn client(cgroup_manager: &str) -> Client {
    let manager = format!("--cgroup-manager={cgroup_manager}");
    Client::new("podman", |dir| {
        let below = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(dir.join("tmp")).unwrap();
        [
            ["--runtime".to_owned(), RUNTIME.to_owned()],
            ["--root".to_owned(), below("root")],
            ["--runroot".to_owned(), below("run")],
            ["--tmpdir".to_owned(), below("tmp")],
        ]
        .concat()
        .into_iter()
        .chain(["--storage-driver=vfs", &manager, "--events-backend=file"].map(str::to_owned))
        .collect()
    })
}

/// `podman run` with these options and this command.
fn run<'a>(options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    let first = [&["run", "--net=none"][..], &LIMITS].concat();
    [&first[..], options, &[BUSYBOX], command].concat()
}

/// Removes the containers; and the groups that Podman itself leaves behind where it can.
fn end(client: &Client) {
    client.ok(&["rm", "-f", "-a", "-t", "0"]);
}

#[test]
fn run_gives_output_input_and_the_status() {
    let podman = podman();
    assert_eq!(podman.ok(&run(&["--rm"], &["echo", "hello"])), "hello");
    podman.ends(5, &run(&["--rm"], &["sh", "-c", "exit 5"]));
    podman.ends(127, &run(&["--rm"], &["nosuch"]));
    podman.ends(126, &run(&["--rm"], &["/etc"]));
    let command = podman.command(run(&["--rm", "-i"], &["cat"]));
    let out = crate::harness::Started::new(command, Some(b"input\n")).wait();
    assert_eq!((out.code, &*out.stdout), (0, "input\n"), "{}", out.stderr);
    podman.shows("/dev/pts/0", "", 3, &run(&["--rm", "-it"], &["sh", "-c", "tty; exit 3"]));
    let seccomp = podman.ok(&run(&["--rm"], &["grep", "Seccomp:", "/proc/self/status"]));
    assert_eq!(seccomp.split_whitespace().nth(1), Some("2"), "its filter is installed");
    end(&podman);
}

#[test]
fn a_container_in_the_background_is_managed() {
    let podman = podman();
    let host = podman.dir().join("shared");
    std::fs::create_dir(&host).unwrap();
    let volume = format!("{}:/shared", host.display());
    let script = "trap 'exit 7' TERM; echo from inside >/shared/file; \
                  while :; do sleep 1000 & wait $!; done";
    let options = ["-d", "--name", "one", "-v", &volume, "-m", "64m", "--pids-limit", "30"];
    podman.ok(&run(&options, &["sh", "-c", script]));
    wait_until("the volume is written to", || host.join("file").exists());
    let status = || podman.ok(&["inspect", "one", "--format", "{{.State.Status}}"]);
    assert_eq!(status(), "running");

    assert_eq!(podman.ok(&["exec", "one", "cat", "/shared/file"]), "from inside");
    podman.ends(9, &["exec", "one", "sh", "-c", "exit 9"]);
    podman.ends(127, &["exec", "one", "nosuch"]);
    podman.shows(
        "got typed",
        "typed\n",
        0,
        &["exec", "-it", "one", "sh", "-c", "read x; echo got $x"],
    );
    assert!(podman.ok(&["top", "one"]).contains("sleep 1000"));
    assert!(podman.ok(&["stats", "--no-stream", "one"]).contains("67.11MB"));

    podman.ok(&["pause", "one"]);
    assert_eq!(status(), "paused");
    podman.ok(&["unpause", "one"]);
    assert_eq!(status(), "running");

    std::fs::write(podman.dir().join("in"), "copied\n").unwrap();
    let source = podman.dir().join("in");
    podman.ok(&["cp", source.to_str().unwrap(), "one:/tmp/in"]);
    assert_eq!(podman.ok(&["exec", "one", "cat", "/tmp/in"]), "copied");

    podman.ok(&["stop", "one"]);
    assert_eq!(podman.ok(&["inspect", "one", "--format", "{{.State.ExitCode}}"]), "7");
    podman.ok(&["start", "one"]);
    assert_eq!(status(), "running");
    podman.ok(&["kill", "-s", "KILL", "one"]);
    wait_until("it ends", || status() == "exited");
    podman.ok(&["rm", "one"]);
    end(&podman);
}

#[test]
fn a_health_check_is_run() {
    let podman = podman();
    let options = [
        "-d",
        "--name",
        "one",
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "disable",
    ];
    podman.ok(&run(&options, &["sleep", "1000"]));
    podman.ends(1, &["healthcheck", "run", "one"]);
    podman.ok(&["exec", "one", "touch", "/tmp/well"]);
    podman.ok(&["healthcheck", "run", "one"]);
    end(&podman);
}

/// As on every machine that systemd started: Podman's own way there.
#[test]
fn under_systemd_its_containers_are_scopes() {
    let view = View::full();
    let systemd = Systemd::start(view);
    let mut podman = client("systemd");
    podman.prefix = systemd.prefix();
    podman.ok(&["load", "-q", "-i", &archive()]);
    let command = ["cat", "/proc/self/cgroup"];
    let scope = |id: &str| format!("/machine.slice/libpod-{id}.scope");
    let options = ["-d", "--name", "one", "-m", "64m", "--pids-limit", "30", "--cgroupns=host"];
    let id = podman.ok(&run(&options, &["sleep", "1000"]));
    let unit = format!("libpod-{id}.scope");
    assert_eq!(systemd.show(&unit, "TasksMax"), "30");
    let memory = if view == View::Unified { "MemoryMax" } else { "MemoryLimit" };
    assert_eq!(systemd.show(&unit, memory), "67108864");
    let groups = podman.ok(&[&["exec", "one"], &command[..]].concat());
    assert!(groups.lines().any(|line| line == format!("0::{}", scope(&id))), "{groups}");
    assert!(podman.ok(&["stats", "--no-stream", "one"]).contains("67.11MB"));
    podman.ok(&["pause", "one"]);
    podman.ok(&["unpause", "one"]);
    podman.ok(&["stop", "-t", "0", "one"]);
    podman.ok(&["start", "one"]);
    podman.ends(5, &run(&["--rm"], &["sh", "-c", "exit 5"]));
    podman.ends(127, &run(&["--rm"], &["nosuch"]));
    end(&podman);
    let units = || systemd.ok(&["systemctl", "list-units", "--all", "--no-legend", "libpod-*"]);
    wait_until("systemd has forgotten all of them", || units().is_empty());
}
