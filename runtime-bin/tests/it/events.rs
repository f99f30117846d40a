//! `events`: what happens is told, in order, to who reads later and to who waits.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{BIN, Root, arg, busybox, wait_until};
use crate::image::Archive;

/// All events so far.
fn all(root: &Root, filters: &[&str]) -> Vec<Value> {
    let mut args = vec!["events", "--format", "json", "--since", "0", "--until", "0s"];
    args.extend(filters.iter().flat_map(|filter| ["-f", *filter]));
    let text = root.ok(args);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn actions(events: &[Value]) -> Vec<String> {
    let action = |event: &Value| {
        format!("{} {}", event["Type"].as_str().unwrap(), event["Action"].as_str().unwrap())
    };
    events.iter().map(action).collect()
}

fn find<'a>(events: &'a [Value], action: &str) -> &'a Value {
    let found = events.iter().find(|event| event["Action"] == action);
    &found.unwrap_or_else(|| panic!("no {action} in {events:#?}"))["Actor"]
}

#[test]
fn the_life_of_a_container_is_told_in_order() {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    let script = "trap 'exit 7' TERM; trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    let id = root.ok([
        "create",
        "--name",
        "old",
        "-l",
        "team=a",
        "-v",
        "data:/data",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    // A first process that has no handler yet does not hear a signal.
    let hears = |name, times| {
        let is_ready = || root.ok(["logs", name]).matches("ready").count() == times;
        wait_until("its handlers", is_ready);
    };
    root.ok(["start", "old"]);
    hears("old", 1);
    root.ok(["rename", "old", "box"]);
    root.call(["exec", "box", "sh", "-c", "exit 3"]);
    root.ok(["kill", "-s", "USR1", "box"]);
    wait_until("its end", || root.inspect("box")["State"]["Status"] == "exited");
    root.ok(["restart", "box"]);
    hears("box", 2);
    root.ok(["stop", "box"]);
    root.ok(["rm", "box"]);
    root.ok(["volume", "rm", "data"]);
    let events = all(&root, &[]);
    let order = [
        "image load",
        "container create",
        "volume create",
        "volume mount",
        "container start",
        "container rename",
        "container exec_create: sh -c exit 3",
        "container exec_start: sh -c exit 3",
        "container exec_die",
        "container kill",
        "container die",
        "volume unmount",
        // It did not run: restart has nothing to stop.
        "volume mount",
        "container start",
        "container restart",
        "container kill",
        "container die",
        "volume unmount",
        "container stop",
        "container destroy",
        "volume destroy",
    ];
    assert_eq!(actions(&events), order);
    assert!(
        events.windows(2).all(|pair| pair[0]["timeNano"].as_i64() <= pair[1]["timeNano"].as_i64())
    );
    let known = json!({"image": "busybox", "name": "old", "team": "a"});
    assert_eq!(*find(&events, "create"), json!({"ID": id, "Attributes": known}));
    let start = events.iter().find(|event| event["Action"] == "start").unwrap();
    assert_eq!((&start["status"], &start["id"]), (&json!("start"), &json!(id)));
    assert_eq!((&start["from"], &start["scope"]), (&json!("busybox"), &json!("local")));
    let renamed = json!({"image": "busybox", "name": "box", "team": "a", "oldName": "/old"});
    assert_eq!(find(&events, "rename")["Attributes"], renamed);
    let exec = &find(&events, "exec_die")["Attributes"];
    assert_eq!((&exec["exitCode"], &exec["name"]), (&json!("3"), &json!("box")));
    assert_eq!(exec["execID"], find(&events, "exec_create: sh -c exit 3")["Attributes"]["execID"]);
    assert_eq!(find(&events, "kill")["Attributes"]["signal"], "10");
    let die = &find(&events, "die")["Attributes"];
    assert_eq!((&die["exitCode"], &die["name"]), (&json!("9"), &json!("box")));
    assert!(die["execDuration"].as_str().unwrap().parse::<u64>().is_ok());
    let mount = json!({
        "container": id, "destination": "/data", "driver": "local", "propagation": "rprivate",
        "read/write": "true",
    });
    assert_eq!(*find(&events, "mount"), json!({"ID": "data", "Attributes": mount}));
    let second: Vec<_> = all(&root, &["event=die", "event=kill"]);
    assert_eq!(second[2]["Actor"]["Attributes"]["signal"], "15");
    assert_eq!(second[3]["Actor"]["Attributes"]["exitCode"], "7");
}

#[test]
fn what_ends_by_itself_by_force_or_by_its_supervisors_end_is_told_too() {
    let root = Root::new();
    assert_eq!(root.busybox(&["--name", "short"], &["sh", "-c", "exit 5"]).code, 5);
    let of_short = actions(&all(&root, &["type=container"]));
    let order = ["create", "attach", "start", "die", "destroy"];
    assert_eq!(of_short, order.map(|action| format!("container {action}")));
    assert_eq!(root.busybox(&["--name", "none"], &["/no/such"]).code, 127);
    let of_none = actions(&all(&root, &["container=none"]));
    assert_eq!(
        of_none,
        ["create", "attach", "destroy"].map(|action| format!("container {action}"))
    );

    root.sleeper("forced", &[]);
    root.ok(["rm", "-f", "forced"]);
    let of_forced = all(&root, &["container=forced"]);
    let order = ["create", "start", "kill", "die", "destroy"];
    assert_eq!(actions(&of_forced), order.map(|action| format!("container {action}")));
    assert_eq!(find(&of_forced, "die")["Attributes"]["exitCode"], "137");

    root.sleeper("orphan", &[]);
    let supervisor = crate::host::parent(root.pid("orphan"));
    kill_process(Pid::from_raw(supervisor).unwrap(), Signal::KILL).unwrap();
    wait_until("it is tidied up", || root.inspect("orphan")["State"]["Status"] == "exited");
    let of_orphan = all(&root, &["container=orphan"]);
    assert_eq!(
        actions(&of_orphan),
        ["create", "start", "die"].map(|action| format!("container {action}"))
    );
    assert_eq!(find(&of_orphan, "die")["Attributes"]["exitCode"], "137");
}

#[test]
fn images_and_health_are_told() {
    let root = Root::new();
    let archive = Archive::busybox([])
        .with(
            "Healthcheck",
            json!({"Test": ["CMD", "test", "-f", "/ok"], "Interval": 20_000_000, "Retries": 1}),
        )
        .with("Labels", json!({"kind": "test"}))
        .with("Cmd", json!(["sleep", "1000"]));
    let image = archive.write(root.dir(), "image.tar");
    root.ok(["run", "-d", "--name", "box", arg(&image)]);
    let count = |action: &str| all(&root, &[&format!("event={action}")]).len();
    wait_until("it is unhealthy", || count("health_status: unhealthy") == 1);
    root.ok(["exec", "box", "touch", "/ok"]);
    wait_until("it is healthy", || count("health_status: healthy") == 1);
    // A check is an exec.
    assert!(count("exec_create: test -f /ok") > 1 && count("exec_die") > 1);
    root.ok(["rm", "-f", "box"]);
    // An image that is there already is not loaded again.
    root.ok(["run", "--rm", arg(&image), "true"]);
    root.ok(["tag", "localhost/test", "other:1"]);
    root.ok(["save", "-o", arg(&root.dir().join("saved.tar")), "other:1"]);
    root.ok(["rmi", "other:1"]);
    root.ok(["rmi", "localhost/test"]);
    let events = all(&root, &["type=image"]);
    let order = ["load", "tag", "save", "untag", "untag", "delete"];
    assert_eq!(actions(&events), order.map(|action| format!("image {action}")));
    let load = find(&events, "load");
    assert!(load["ID"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(load["Attributes"], json!({"name": "localhost/test:latest", "kind": "test"}));
    assert_eq!(find(&events, "tag")["Attributes"]["name"], "other:1");
}

#[test]
fn who_reads_back_sees_the_time_that_is_asked_for() {
    let root = Root::new();
    root.ok(["volume", "create", "one"]);
    let template = ["--format", "{{.TimeNano}} {{.Actor.ID}}"];
    let list = |since: &str, until: &str| {
        root.ok(["events", "--since", since, "--until", until].iter().chain(&template))
    };
    let first = list("0", "0s");
    let (time, name) = first.split_once(' ').unwrap();
    assert_eq!(name, "one");
    std::thread::sleep(std::time::Duration::from_millis(20));
    root.ok(["volume", "create", "two"]);
    let at = time.parse::<u64>().unwrap();
    let seconds = |nanoseconds: u64| {
        format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
    };
    assert!(list(&seconds(at + 10_000_000), "0s").ends_with(" two"));
    assert_eq!(list("0", &seconds(at + 10_000_000)), first);
    assert_eq!(list("1h", "0s").lines().count(), 2);
    assert_eq!(list("0s", "0s"), "");
    // A time that is still to come: it ends by itself.
    let start = std::time::Instant::now();
    assert_eq!(list("1h", "-300ms").lines().count(), 2);
    assert!(start.elapsed() > std::time::Duration::from_millis(250));
    let text = root.ok(["events", "--since", "0", "--until", "0s", "-f", "volume=two"]);
    assert!(text.contains(" volume create two (driver=local)"), "{text}");
    root.fails(1, &["--since", "yesterday"], ["events", "--since", "yesterday"]);
    root.fails(1, &["colour"], ["events", "-f", "colour=red"]);
    root.fails(1, &["Nope"], ["events", "--format", "{{.Nope}}"]);
}

#[test]
fn who_follows_sees_what_others_do_and_two_roots_do_not_meet() {
    let root = Root::new();
    let other = Root::new();
    let mut follower =
        root.command(["events", "--since", "0", "--until", "-1h", "--format", "{{.Actor.ID}}"]);
    let out = root.dir().join("followed");
    follower.stdout(fs::File::create(&out).unwrap());
    let mut follower = follower.spawn().unwrap();
    let names: Vec<String> = (0..40).map(|number| format!("volume-{number:02}")).collect();
    other.ok(["volume", "create", "others"]);
    std::thread::scope(|scope| {
        for half in names.chunks(20) {
            let root = &root;
            scope.spawn(move || {
                half.iter().for_each(|name| drop(root.ok(["volume", "create", name])))
            });
        }
    });
    let mut seen = Vec::new();
    wait_until("all are told", || {
        let text = fs::read_to_string(&out).unwrap();
        seen = text.lines().map(str::to_owned).collect();
        seen.len() >= names.len()
    });
    seen.sort();
    assert_eq!(seen, names);
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert_eq!(actions(&all(&other, &[])), ["volume create"]);
}

/// The end of a reader ends the program at the next event.
#[test]
fn nobody_reads_any_more() {
    let root = Root::new();
    root.ok(["volume", "create", "one"]);
    root.ok(["volume", "create", "two"]);
    let script =
        format!("{BIN} --root {} events --since 0 --until=-1h | head -n 1", arg(&root.store()));
    let mut shell = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    // It has written one line, and the second one finds nobody.
    std::thread::sleep(std::time::Duration::from_millis(100));
    root.ok(["volume", "create", "three"]);
    wait_until("its end", || shell.try_wait().unwrap().is_some());
}

/// Whatever stands in the place of the file, and however little room there is.
#[test]
fn events_that_cannot_be_written_disturb_nobody() {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    let file = root.store().join("events");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(root.ok(["run", "--rm", "busybox", "echo", "fine"]), "fine");
    fs::remove_dir(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    assert_eq!(root.ok(["run", "--rm", "busybox", "echo", "fine"]), "fine");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    assert_eq!(root.ok(["run", "--rm", "busybox", "echo", "fine"]), "fine");
    fs::remove_file(&file).unwrap();
    assert_eq!(root.ok(["run", "--rm", "busybox", "echo", "fine"]), "fine");
    assert_eq!(all(&root, &["event=start"]).len(), 1);
}
