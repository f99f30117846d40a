//! `ps`, `inspect`, `stop`, `kill`, `rm`, `mounts`.

use std::fs;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Root, arg, busybox, image, wait_until};

/// A container that writes the name of each signal that it gets into /volume/signals, and ends at
/// INT, QUIT and TERM.
fn listener(root: &Root, options: &[&str]) -> std::path::PathBuf {
    let volume = root.host_dir("volume");
    let spec = format!("{}:/volume", arg(&volume));
    let script = "for s in HUP USR1 USR2 WINCH; do trap \"echo $s >> /volume/signals\" $s; done; \
        for s in INT QUIT TERM; do trap \"echo $s >> /volume/signals; exit 3\" $s; done; \
        echo ready > /volume/ready; while :; do sleep 1000 & wait $!; done";
    let args = ["run", "-d", "--name", "box", "-v", &spec];
    root.ok([&args[..], options, &[arg(&busybox()), "sh", "-c", script]].concat());
    wait_until("the traps", || volume.join("ready").exists());
    volume.join("signals")
}

#[test]
fn ps_lists_what_runs_and_all() {
    let root = Root::new();
    assert_eq!(root.ok(["ps", "-q"]), "");
    let id = root.sleeper("runs", &[]);
    root.fails(5, &[], ["run", "--name", "ended", arg(&busybox()), "sh", "-c", "exit 5"]);
    assert_eq!(root.ok(["ps", "-q"]), id[..12]);
    assert_eq!(root.ok(["ps", "-a", "-q"]).lines().count(), 2);
    assert_eq!(root.ok(["ps", "-aq", "--no-trunc"]).lines().nth(1), Some(&*id)); // the newest first
    let shown = root.ok(["ps", "-a"]);
    let lines: Vec<&str> = shown.lines().collect();
    let head = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
    let mut at = 0;
    for word in head {
        at += lines[0][at..].find(word).unwrap_or_else(|| panic!("no {word}: {shown}"));
    }
    let line = |name: &str| *lines.iter().find(|line| line.ends_with(name)).unwrap();
    assert!(line("runs").starts_with(&id[..12]) && line("runs").contains("Up "), "{shown}");
    assert!(line("ended").contains("Exited (5) "), "{shown}");
    let shown = root.ok(["ps"]);
    assert!(shown.contains("runs") && !shown.contains("ended"), "{shown}");
}

#[test]
fn inspect_is_dockers_json() {
    let root = Root::new();
    let id = root.sleeper("box", &["-v", "data:/data:ro", "--hostname", "h", "-e", "X=1"]);
    let value = root.inspect("box");
    assert_eq!(value["Id"], id);
    assert_eq!(value["Name"], "/box");
    assert_eq!(value["Driver"], "overlay2");
    let state = &value["State"];
    assert_eq!((&state["Status"], &state["Running"]), (&json!("running"), &json!(true)));
    assert_eq!(state["FinishedAt"], "0001-01-01T00:00:00Z");
    for key in ["Created", "Path", "Args", "Image", "LogPath", "RestartCount", "Config"] {
        assert!(!value[key].is_null(), "{key}: {value:#}");
    }
    let image = value["Image"].as_str().unwrap();
    assert!(image.starts_with("sha256:") && image.len() == 71, "{image}");
    assert_eq!(value["Config"]["Hostname"], "h");
    assert!(value["Config"]["Env"].as_array().unwrap().contains(&json!("X=1")));
    let mount = &value["Mounts"][0];
    assert_eq!(mount["Type"], "volume");
    assert_eq!(mount["Name"], "data");
    assert_eq!(mount["Destination"], "/data");
    assert_eq!(mount["RW"], false);
    assert_eq!(mount["Source"], arg(&root.store().join("volumes/data/_data")));
    // By the start of the id, and two at once.
    assert_eq!(root.inspect(&id[..8])["Id"], id);
    root.sleeper("second", &[]);
    let both: Vec<Value> = serde_json::from_str(&root.ok(["inspect", "box", "second"])).unwrap();
    assert_eq!(both.len(), 2);
    // One that is missing: what there is, and status 1.
    let out = root.call(["inspect", "box", "nosuch"]);
    assert_eq!(out.code, 1);
    assert_eq!(serde_json::from_str::<Vec<Value>>(&out.stdout).unwrap().len(), 1);
    assert!(out.stderr.contains("nosuch"), "{out:?}");
    // After the end.
    root.ok(["stop", "box"]);
    let state = root.inspect("box")["State"].clone();
    assert_eq!((&state["Status"], &state["Pid"]), (&json!("exited"), &json!(0)));
    assert_ne!(state["FinishedAt"], "0001-01-01T00:00:00Z");
}

#[test]
fn stop_sends_term_by_default() {
    let root = Root::new();
    let signals = listener(&root, &[]);
    assert_eq!(root.ok(["stop", "box"]), "box");
    assert_eq!(fs::read_to_string(signals).unwrap(), "TERM\n");
    assert_eq!(root.inspect("box")["State"]["ExitCode"], 3);
    // It has ended already: nothing to do, and no error.
    root.ok(["stop", "box"]);
}

#[test]
fn stop_sends_the_containers_own_signal() {
    for (option, expected) in [("QUIT", "QUIT\n"), ("SIGINT", "INT\n"), ("3", "QUIT\n")] {
        let root = Root::new();
        let signals = listener(&root, &["--stop-signal", option, "--rm"]);
        root.ok(["stop", "box"]);
        assert_eq!(fs::read_to_string(signals).unwrap(), expected);
        root.assert_nothing_left();
    }
}

/// nginx has SIGQUIT as its own: it ends gracefully, with status 0.
#[test]
fn nginx_is_stopped_by_quit() {
    let root = Root::new();
    root.ok(["run", "-d", "--name", "web", arg(&image("nginx", "docker-oci"))]);
    assert_eq!(root.inspect("web")["Config"]["StopSignal"], "SIGQUIT");
    let running = || root.call(["exec", "web", "test", "-s", "/run/nginx.pid"]).code == 0;
    wait_until("nginx", running);
    root.ok(["stop", "web"]);
    assert_eq!(root.inspect("web")["State"]["ExitCode"], 0);
}

#[test]
fn stop_kills_in_the_end() {
    let root = Root::new();
    // A shell as process 1 that ignores the signal.
    root.ok(["run", "-d", "--name", "box", arg(&busybox()), "sleep", "1000"]);
    let begin = Instant::now();
    root.ok(["stop", "-t", "1", "box"]);
    assert!(begin.elapsed().as_secs() >= 1, "it did not wait");
    assert_eq!(root.inspect("box")["State"]["ExitCode"], 137);
}

#[test]
fn kill_sends_any_signal() {
    let root = Root::new();
    let signals = listener(&root, &[]);
    let expect = |text: &str| {
        let read = || fs::read_to_string(&signals).unwrap_or_default();
        wait_until(text, || read() == text);
    };
    assert_eq!(root.ok(["kill", "-s", "USR1", "box"]), "box");
    expect("USR1\n");
    root.ok(["kill", "--signal", "SIGHUP", "box"]);
    expect("USR1\nHUP\n");
    root.ok(["kill", "-s", "12", "box"]);
    expect("USR1\nHUP\nUSR2\n");
    root.fails(1, &["NONSENSE"], ["kill", "-s", "NONSENSE", "box"]);
    assert_eq!(root.inspect("box")["State"]["Status"], "running");
    root.ok(["kill", "box"]);
    assert_eq!(root.wait_for_exit("box"), 137);
    root.fails(1, &["box", "not running"], ["kill", "box"]);
}

#[test]
fn the_end_by_a_signal_is_128_and_more() {
    let root = Root::new();
    let run = root.start(["run", "--rm", "--name", "box", arg(&busybox()), "sleep", "1000"]);
    wait_until("the container", || root.call(["kill", "box"]).code == 0);
    assert_eq!(run.wait().code, 137);
    root.assert_nothing_left();
}

/// A signal to `run` is one to the command.
#[test]
fn signals_to_run_are_passed_on() {
    let root = Root::new();
    let volume = root.host_dir("volume");
    let spec = format!("{}:/volume", arg(&volume));
    let script = "trap 'echo usr1' USR1; trap 'exit 7' TERM; echo > /volume/ready; \
        while :; do sleep 1000 & wait $!; done";
    let run = root.start(["run", "--rm", "-v", &spec, arg(&busybox()), "sh", "-c", script]);
    wait_until("the traps", || volume.join("ready").exists());
    run.signal(Signal::USR1);
    run.signal(Signal::TERM);
    let out = run.wait();
    assert_eq!(out.code, 7, "{out:?}");
    root.assert_nothing_left();
}

#[test]
fn rm_and_rm_f() {
    let root = Root::new();
    let id = root.sleeper("box", &["-v", "/anonymous", "-v", "named:/named"]);
    root.fails(1, &["box", "running"], ["rm", "box"]);
    assert_eq!(root.ok(["exec", "box", "echo", "well"]), "well");
    assert_eq!(root.ok(["rm", "-f", "box"]), "box");
    root.fails(1, &["No such object"], ["inspect", &id]);
    // Volumes stay, without -v.
    let volumes = || fs::read_dir(root.store().join("volumes")).unwrap().count();
    assert_eq!(volumes(), 2);
    root.ok(["run", "--name", "second", "-v", "/anonymous", arg(&busybox()), "true"]);
    assert_eq!(volumes(), 3);
    root.ok(["rm", "-v", "second"]);
    assert_eq!(volumes(), 2);
    assert_eq!(root.traces(), Vec::<String>::new());
    // Several at once: each is done, those that are missing are named.
    root.sleeper("third", &[]);
    root.sleeper("fourth", &[]);
    let out = root.call(["rm", "-f", "third", "nosuch", "fourth"]);
    assert_eq!((out.code, &*out.stdout), (1, "third\nfourth\n"), "{out:?}");
    assert!(out.stderr.contains("nosuch"));
    assert_eq!(root.ok(["ps", "-a", "-q"]), "");
}

/// `rm -f` twice at the same time, and `stop` beside it: one wins, nothing is left.
#[test]
fn removals_that_race() {
    let root = Root::new();
    for _ in 0..5 {
        root.sleeper("box", &["--rm"]);
        let many: Vec<_> = ["rm -f", "rm -f", "stop", "kill"]
            .map(|verb| root.start(verb.split(' ').chain(["box"])))
            .into();
        for started in many {
            let out = started.wait();
            assert!(out.code == 0 || out.code == 1, "{out:?}");
            assert!(!out.stderr.contains("panicked"), "{out:?}");
        }
        root.assert_nothing_left();
    }
}

#[test]
fn mounts_says_where_each_comes_from() {
    let root = Root::new();
    let volume = root.host_dir("of-the-host");
    let spec = format!("{}:/volume:ro", arg(&volume));
    root.sleeper("box", &["-v", &spec, "-v", "data:/data", "--tmpfs", "/scratch"]);
    let text = root.ok(["mounts", "box"]);
    for word in ["/volume", arg(&volume), "/data", "data", "/scratch", "/proc/sys", "overlay"] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colour, and it is no terminal");
    let value: Value =
        serde_json::from_str(&root.ok(["mounts", "--format", "json", "box"])).unwrap();
    let mounts = value.as_array().unwrap();
    let targets: Vec<&str> = mounts.iter().map(|m| m["target"].as_str().unwrap()).collect();
    let table = root.ok(["exec", "box", "cat", "/proc/self/mounts"]);
    let mut seen: Vec<&str> = table.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let mut sorted = targets.clone();
    sorted.sort_unstable();
    seen.sort_unstable();
    assert_eq!(sorted, seen);
    root.ok(["stop", "box"]);
    root.fails(1, &["box", "not running"], ["mounts", "box"]);
}

#[test]
fn help_and_version() {
    let root = Root::new();
    assert!(root.ok(["--help"]).contains("run"));
    assert!(root.ok(["run", "--help"]).contains("--volume"));
    assert!(root.ok(["--version"]).contains(env!("CARGO_PKG_VERSION")));
    let out = root.call(["no-such-verb"]);
    assert_ne!(out.code, 0);
    assert!(out.stderr.contains("no-such-verb"), "{out:?}");
    assert!(!root.store().exists(), "help makes a store");
}

#[test]
fn wait_knows_the_status_of_what_ended_a_moment_ago() {
    let root = Root::new();
    for number in 0..10 {
        // `wait` may come between the process's end and the supervisor's word of it.
        let name = format!("box-{number}");
        root.ok(["run", "-d", "--name", &name, arg(&busybox()), "sleep", "1000"]);
        root.ok(["kill", &name]);
        assert_eq!(root.ok(["wait", &name]).trim(), "137");
    }
}
