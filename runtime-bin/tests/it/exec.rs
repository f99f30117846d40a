//! `exec` and its options.

use crate::harness::{Root, Started, arg, busybox, wait_until};
use crate::host;

#[test]
fn output_status_and_options() {
    let root = Root::new();
    root.sleeper("box", &["-e", "OF_RUN=1", "-w", "/etc"]);
    let out = root.call(["exec", "box", "sh", "-c", "echo out; echo err >&2; exit 9"]);
    assert_eq!((out.code, &*out.stdout, &*out.stderr), (9, "out\n", "err\n"));
    // It starts where the container does, with its environment and its own.
    let shown = root.ok(["exec", "-e", "NEW=2", "--env", "OF_RUN=3", "box", "env"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.contains(&"NEW=2") && lines.contains(&"OF_RUN=3"), "{shown}");
    assert!(lines.contains(&"HOME=/root"), "{shown}");
    assert_eq!(root.ok(["exec", "box", "pwd"]), "/etc");
    assert_eq!(root.ok(["exec", "-w", "/tmp", "box", "pwd"]), "/tmp");
    assert_eq!(root.ok(["exec", "--workdir", "/", "box", "pwd"]), "/");
    let script = "id -u; id -g; echo $HOME";
    assert_eq!(root.ok(["exec", "-u", "www-data", "box", "sh", "-c", script]), "33\n33\n/var/www");
    assert_eq!(root.ok(["exec", "--user", "5:6", "box", "sh", "-c", script]), "5\n6\n/");
    // Options after the container are the command's.
    assert_eq!(root.ok(["exec", "box", "echo", "-i", "-t"]), "-i -t");
    // By id, and by the start of it.
    let id = root.ok(["ps", "-q", "--no-trunc"]);
    assert_eq!(root.ok(["exec", &id, "echo", "id"]), "id");
    assert_eq!(root.ok(["exec", &id[..12], "echo", "short"]), "short");
}

#[test]
fn it_is_in_all_of_the_containers_namespaces() {
    let root = Root::new();
    root.sleeper("box", &[]);
    let script = "for n in mnt pid ipc uts net cgroup user; do readlink /proc/self/ns/$n; done";
    let shown = root.ok(["exec", "box", "sh", "-c", script]);
    let own = host::namespaces(root.pid("box"));
    let order = ["mnt", "pid", "ipc", "uts", "net", "cgroup", "user"];
    assert_eq!(shown.lines().collect::<Vec<_>>(), order.map(|name| own[name].as_str()));
    // It is a process of the container, and seen there.
    assert_ne!(root.ok(["exec", "box", "sh", "-c", "echo $$"]), "1");
    let fds = root.ok(["exec", "box", "ls", "/proc/self/fd"]);
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]); // 3 is ls's own
}

#[test]
fn interactive() {
    let root = Root::new();
    root.sleeper("box", &[]);
    let out = root.call_with_input(["exec", "-i", "box", "cat"], b"words\n");
    assert_eq!((out.code, &*out.stdout), (0, "words\n"));
    let out = root.call_with_input(["exec", "box", "cat"], b"words\n");
    assert_eq!((out.code, &*out.stdout), (0, ""));
}

#[test]
fn detached() {
    let root = Root::new();
    root.sleeper("box", &[]);
    assert_eq!(root.ok(["exec", "-d", "box", "sh", "-c", "sleep 1; echo x > /made"]), "");
    wait_until("the file", || root.call(["exec", "box", "test", "-s", "/made"]).code == 0);
    // One that goes on ends with the container.
    root.ok(["exec", "-d", "box", "sleep", "1000"]);
    let sleeps = || host::processes_of(root.dir()).iter().filter(|p| p.1 == "sleep 1000 ").count();
    wait_until("the sleep", || sleeps() == 2);
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn commands_that_cannot_be_executed() {
    let root = Root::new();
    root.sleeper("box", &[]);
    root.fails(127, &["no-such-command"], ["exec", "box", "no-such-command"]);
    root.fails(127, &["/no/such"], ["exec", "box", "/no/such"]);
    root.fails(126, &["/etc/passwd"], ["exec", "box", "/etc/passwd"]);
    for user in ["nosuch", "4294967296", "-1", "1:"] {
        let out = root.call(["exec", &format!("--user={user}"), "box", "true"]);
        assert!((125..=126).contains(&out.code) || out.code == 1, "{user}: {out:?}");
        assert!(out.stderr.contains(user), "{user}: {out:?}");
    }
    // The container goes on.
    assert_eq!(root.ok(["exec", "box", "echo", "well"]), "well");
}

#[test]
fn in_a_container_that_has_ended() {
    let root = Root::new();
    root.ok(["run", "--name", "box", arg(&busybox()), "true"]);
    root.fails(1, &["box", "not running"], ["exec", "box", "true"]);
    root.ok(["rm", "box"]);
}

/// The end of the container is the end of what runs in it, and `exec` says so.
#[test]
fn the_container_ends_meanwhile() {
    let root = Root::new();
    root.sleeper("box", &["--rm"]);
    let exec = Started::new(root.command(["exec", "box", "sleep", "1000"]), None);
    let sleeps = || host::processes_of(root.dir()).iter().filter(|p| p.1 == "sleep 1000 ").count();
    wait_until("the sleep", || sleeps() == 2);
    root.ok(["kill", "box"]);
    assert_eq!(exec.wait().code, 137);
    root.assert_nothing_left();
}

#[test]
fn signals_are_passed_on() {
    let root = Root::new();
    root.sleeper("box", &[]);
    let script = "trap 'exit 7' TERM; echo x > /ready; while :; do sleep 1; done";
    let exec = root.start(["exec", "box", "sh", "-c", script]);
    wait_until("the trap", || root.call(["exec", "box", "test", "-s", "/ready"]).code == 0);
    exec.signal(rustix::process::Signal::TERM);
    let out = exec.wait();
    assert_eq!(out.code, 7, "{out:?}");
    assert_eq!(root.ok(["exec", "box", "echo", "well"]), "well");
}
