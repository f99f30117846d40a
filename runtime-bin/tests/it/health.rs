//! Health checks: what they find, their limits, and that nothing of them is left.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Root, arg, wait_until};
use crate::host;
use crate::image::Archive;

fn health(root: &Root, container: &str) -> Value {
    root.inspect(container)["State"]["Health"].clone()
}

fn wait_for(root: &Root, container: &str, status: &str) {
    wait_until(&format!("{container} is {status}"), || health(root, container)["Status"] == status);
}

/// The processes of a container with this word in their command line.
fn running(root: &Root, container: &str, word: &str) -> usize {
    let out = root.ok(["exec", container, "ps"]);
    out.lines().filter(|line| line.contains(word)).count()
}

#[test]
fn a_container_is_healthy_as_long_as_its_check_says_so() {
    let root = Root::new();
    let check = "echo looking as $(id -u) in $PWD for $WHAT; test -f $WHAT";
    root.sleeper(
        "box",
        &[
            "--health-cmd",
            check,
            "--health-interval",
            "50ms",
            "--health-retries",
            "2",
            "-e",
            "WHAT=/ok",
            "-w",
            "/tmp",
            "-u",
            "1000",
        ],
    );
    let config = &root.inspect("box")["Config"]["Healthcheck"];
    assert_eq!(
        *config,
        json!({"Test": ["CMD-SHELL", check], "Interval": 50_000_000, "Retries": 2})
    );
    wait_for(&root, "box", "unhealthy");
    assert!(root.ok(["ps"]).contains("(unhealthy)"));
    let named = |health: &str| root.ok(["ps", "--format", "{{.Names}}", "-f", health]);
    assert_eq!((&*named("health=unhealthy"), &*named("health=none")), ("box", ""));
    root.ok(["exec", "-u", "0", "box", "touch", "/ok"]);
    wait_for(&root, "box", "healthy");
    assert!(root.ok(["ps"]).contains("(healthy)"));
    assert_eq!(health(&root, "box")["FailingStreak"], 0);
    root.ok(["exec", "-u", "0", "box", "rm", "/ok"]);
    wait_for(&root, "box", "unhealthy");
    let found = health(&root, "box");
    assert!(found["FailingStreak"].as_u64().unwrap() >= 2, "{found}");
    let log = found["Log"].as_array().unwrap();
    assert_eq!(log.len(), 5, "{found}");
    let last = log.last().unwrap();
    assert_eq!(last["ExitCode"], 1);
    assert_eq!(last["Output"], "looking as 1000 in /tmp for /ok\n");
    assert!(last["Start"].as_str().unwrap() < last["End"].as_str().unwrap());
    root.ok(["stop", "-t", "10", "box"]);
    assert_eq!(health(&root, "box")["Status"], "unhealthy", "what does not run is not healthy");
    root.ok(["start", "box"]);
    let found = health(&root, "box");
    assert!(found["Status"] == "starting" || found["FailingStreak"] == 2, "{found}");
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn a_check_that_takes_too_long_is_killed_with_all_it_started() {
    let root = Root::new();
    let check = "echo so far; sleep 3333 & sleep 3333";
    root.sleeper(
        "box",
        &["--health-cmd", check, "--health-interval", "10ms", "--health-timeout", "300ms"],
    );
    wait_until("a check was killed", || !health(&root, "box")["Log"][0].is_null());
    let found = health(&root, "box")["Log"][0].clone();
    assert_eq!(found["ExitCode"], -1);
    assert_eq!(found["Output"], "Health check exceeded timeout (300ms): so far\n");
    wait_for(&root, "box", "unhealthy");
    // Of the checks so far, nothing is left but the one that runs now.
    let left = running(&root, "box", "sleep 3333");
    assert!(left <= 3, "{left}");
    // A check that runs does not hold up the end of the container, and ends with it.
    root.ok(["stop", "box"]);
    let log = health(&root, "box")["Log"].clone();
    let killed = |result: &Value| {
        result["Output"].as_str().unwrap().starts_with("Health check exceeded timeout")
    };
    assert!(log.as_array().unwrap().iter().all(killed), "{log}");
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}

#[test]
fn in_its_start_period_a_container_may_fail() {
    let root = Root::new();
    let options = [
        "--health-cmd",
        "exit 3",
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "20ms",
        "--health-interval",
        "1h",
        "--health-retries",
        "1",
    ];
    root.sleeper("box", &options);
    wait_until("five checks", || {
        health(&root, "box")["Log"].as_array().is_some_and(|log| log.len() == 5)
    });
    let found = health(&root, "box");
    assert_eq!((&found["Status"], &found["FailingStreak"]), (&json!("starting"), &json!(0)));
    assert!(root.ok(["ps"]).contains("(health: starting)"));
}

/// Docker's, which the OCI's configuration does not have.
#[test]
fn an_images_check_holds_unless_something_else_is_said() {
    let root = Root::new();
    let archive = |file: &str, check: Value| -> PathBuf {
        let own = Archive::busybox([])
            .with("Healthcheck", check)
            .with("Shell", json!(["/bin/sh", "-ec"]));
        own.with("Cmd", json!(["sleep", "1000"])).write(root.dir(), file)
    };
    let shell = json!({"Test": ["CMD-SHELL", "echo $0 $-"], "Interval": 20_000_000});
    let image = archive("shell.tar", shell);
    root.ok(["run", "-d", "--name", "own", arg(&image)]);
    wait_for(&root, "own", "healthy");
    let output = health(&root, "own")["Log"][0]["Output"].clone();
    assert!(
        output.as_str().unwrap().starts_with("/bin/sh ") && output.as_str().unwrap().contains('e')
    );
    root.ok(["run", "-d", "--name", "other", "--health-cmd", "exit 1", arg(&image)]);
    wait_for(&root, "other", "unhealthy");
    assert_eq!(root.inspect("other")["Config"]["Healthcheck"]["Interval"], 20_000_000);
    root.ok(["run", "-d", "--name", "none", "--no-healthcheck", arg(&image)]);
    let none = root.inspect("none");
    assert_eq!(none["Config"]["Healthcheck"], json!({"Test": ["NONE"]}));
    assert!(none["State"].get("Health").is_none());
    assert!(
        !root.ok(["ps", "--no-trunc"]).lines().any(|l| l.ends_with("none") && l.contains("health"))
    );

    let image = archive("none.tar", json!({"Test": ["NONE"]}));
    root.ok(["run", "-d", "--name", "image-none", arg(&image)]);
    assert!(root.inspect("image-none")["State"].get("Health").is_none());
    let image =
        archive("missing.tar", json!({"Test": ["CMD", "/no/such"], "Interval": 20_000_000}));
    root.ok(["run", "-d", "--name", "missing", arg(&image)]);
    wait_for(&root, "missing", "unhealthy");
    let result = health(&root, "missing")["Log"][0].clone();
    assert_eq!(result["ExitCode"], -1);
    assert!(result["Output"].as_str().unwrap().contains("/no/such"), "{result}");

    let image = archive("wrong.tar", json!({"Test": "x"}));
    root.fails(125, &["health check", "--no-healthcheck"], ["run", arg(&image)]);
    root.ok(["run", "-d", "--no-healthcheck", arg(&image)]);
    let image = archive("short.tar", json!({"Test": ["CMD", "true"], "Timeout": 5}));
    root.fails(125, &["timeout of the health check", "1ms"], ["run", arg(&image)]);
}

#[test]
fn what_is_said_wrong_is_refused() {
    let root = Root::new();
    let image = crate::harness::busybox();
    let run = |options: &[&str]| -> Vec<String> {
        let words = ["run", "--rm"].iter().chain(options).copied().chain([arg(&image)]);
        words.map(str::to_owned).collect()
    };
    root.fails(125, &["--health-interval", "1m30s"], run(&["--health-interval", "5"]));
    root.fails(125, &["--health-timeout", "negative"], run(&["--health-timeout", "-1s"]));
    root.fails(125, &["--health-retries"], run(&["--health-retries", "-1"]));
    root.fails(125, &["interval", "1ms"], run(&["--health-cmd", "x", "--health-interval", "1us"]));
    let both = run(&["--no-healthcheck", "--health-cmd", "x"]);
    root.fails(125, &["--no-healthcheck", "conflicts"], both);
    root.assert_nothing_left();
}

/// Between two checks there is time to freeze it, and to see that none begins.
#[test]
fn no_check_begins_in_what_is_frozen() {
    let root = Root::new();
    let id = root.sleeper("box", &["--health-cmd", "true", "--health-interval", "3s"]);
    let begun = || {
        let words = ["events", "--since", "0", "--until", "0s", "--format", "{{.Action}}"];
        root.ok(words).lines().filter(|line| line.starts_with("exec_create")).count()
    };
    wait_for(&root, "box", "healthy");
    let groups = host::own_cgroups(root.pid("box"));
    let frozen_by = |group: &&String| Path::new(group).join("cgroup.freeze").exists();
    let mut groups = groups.iter().filter(|group| group.contains(&id));
    let group = Path::new(groups.find(frozen_by).unwrap());
    fs::write(group.join("cgroup.freeze"), "1").unwrap();
    let before = begun();
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(begun(), before);
    fs::write(group.join("cgroup.freeze"), "0").unwrap();
    wait_until("it is checked again", || begun() > before);
}

/// A container whose processes are frozen is not asked, and is not unhealthy for it.
#[test]
fn what_is_frozen_is_not_checked() {
    let root = Root::new();
    let id = root.sleeper(
        "box",
        &[
            "--health-cmd",
            "true",
            "--health-interval",
            "20ms",
            "--health-timeout",
            "2s", // a machine without help of the processor takes long for `true` too
            "--health-retries",
            "1",
        ],
    );
    wait_for(&root, "box", "healthy");
    let groups = host::own_cgroups(root.pid("box"));
    let frozen_by = |group: &&String| Path::new(group).join("cgroup.freeze").exists();
    let mut groups = groups.iter().filter(|group| group.contains(&id));
    let group = Path::new(groups.find(frozen_by).unwrap());
    fs::write(group.join("cgroup.freeze"), "1").unwrap();
    wait_until("it is frozen", || {
        fs::read_to_string(group.join("cgroup.events")).unwrap().contains("frozen 1")
    });
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let before = health(&root, "box");
    assert_eq!(before["Status"], "healthy", "{before}");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(health(&root, "box")["Log"], before["Log"]);
    fs::write(group.join("cgroup.freeze"), "0").unwrap();
    wait_until("it is checked again", || health(&root, "box")["Log"] != before["Log"]);
    assert_eq!(health(&root, "box")["Status"], "healthy");
}

/// Each run of a container begins anew, and a check of the last one says nothing about it.
#[test]
fn a_restart_begins_with_nothing_known() {
    let root = Root::new();
    let image = crate::harness::busybox();
    let script = "echo >>/runs; sleep 1; exit 1";
    root.ok([
        "run",
        "-d",
        "--name",
        "box",
        "--restart",
        "always",
        "--health-cmd",
        "cat /runs | wc -l",
        "--health-interval",
        "100ms",
        arg(&image),
        "sh",
        "-c",
        script,
    ]);
    wait_until("a second run that is healthy", || {
        let state = root.inspect("box");
        let log = &state["State"]["Health"]["Log"];
        state["RestartCount"].as_u64() >= Some(1)
            && log.as_array().is_some_and(|log| !log.is_empty())
            && log[0]["Output"] != "1\n"
    });
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

/// Whoever starts it is told of its end, and has its output, as without a check.
#[test]
fn a_container_in_the_foreground_is_checked_too() {
    let root = Root::new();
    let options = ["--health-cmd", "touch /checked", "--health-interval", "20ms"];
    let script = "while ! test -f /checked; do sleep 0.05; done; echo seen; exit 7";
    let out = root.busybox(&options, &["sh", "-c", script]);
    assert_eq!((out.code, &*out.stdout), (7, "seen\n"), "{}", out.stderr);
    root.assert_nothing_left();
}
