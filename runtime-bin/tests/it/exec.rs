//! `exec` and its options.

use crate::harness::{Root, Started, arg, busybox, wait_until};
use crate::host;

#[test]
fn output_status_and_options() {
    let root = Root::new();
    root.sleeper("c", &["-e", "OF_RUN=1", "-w", "/etc"]);
    let out = root.call(["exec", "c", "sh", "-c", "echo out; echo err >&2; exit 9"]);
    assert_eq!((out.code, &*out.stdout, &*out.stderr), (9, "out\n", "err\n"));
    // It starts where the container does, with its environment and its own.
    let shown = root.ok(["exec", "-e", "NEW=2", "--env", "OF_RUN=3", "c", "env"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.contains(&"NEW=2") && lines.contains(&"OF_RUN=3"), "{shown}");
    assert!(lines.contains(&"HOME=/root"), "{shown}");
    assert_eq!(root.ok(["exec", "c", "pwd"]), "/etc");
    assert_eq!(root.ok(["exec", "-w", "/tmp", "c", "pwd"]), "/tmp");
    assert_eq!(root.ok(["exec", "--workdir", "/", "c", "pwd"]), "/");
    let script = "id -u; id -g; echo $HOME";
    assert_eq!(root.ok(["exec", "-u", "www-data", "c", "sh", "-c", script]), "33\n33\n/var/www");
    assert_eq!(root.ok(["exec", "--user", "5:6", "c", "sh", "-c", script]), "5\n6\n/");
    // Options after the container are the command's.
    assert_eq!(root.ok(["exec", "c", "echo", "-i", "-t"]), "-i -t");
    // By id, and by the start of it.
    let id = root.ok(["ps", "-q", "--no-trunc"]);
    assert_eq!(root.ok(["exec", &id, "echo", "id"]), "id");
    assert_eq!(root.ok(["exec", &id[..12], "echo", "short"]), "short");
}

#[test]
fn it_is_in_all_of_the_containers_namespaces() {
    let root = Root::new();
    root.sleeper("c", &[]);
    let script = "for n in mnt pid ipc uts net cgroup user; do readlink /proc/self/ns/$n; done";
    let shown = root.ok(["exec", "c", "sh", "-c", script]);
    let own = host::namespaces(root.pid("c"));
    let order = ["mnt", "pid", "ipc", "uts", "net", "cgroup", "user"];
    assert_eq!(shown.lines().collect::<Vec<_>>(), order.map(|name| own[name].as_str()));
    // It is a process of the container, and seen there.
    assert_ne!(root.ok(["exec", "c", "sh", "-c", "echo $$"]), "1");
    let fds = root.ok(["exec", "c", "ls", "/proc/self/fd"]);
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]); // 3 is ls's own
}

#[test]
fn interactive() {
    let root = Root::new();
    root.sleeper("c", &[]);
    let out = root.call_with_input(["exec", "-i", "c", "cat"], b"words\n");
    assert_eq!((out.code, &*out.stdout), (0, "words\n"));
    let out = root.call_with_input(["exec", "c", "cat"], b"words\n");
    assert_eq!((out.code, &*out.stdout), (0, ""));
}

#[test]
fn detached() {
    let root = Root::new();
    root.sleeper("c", &[]);
    assert_eq!(root.ok(["exec", "-d", "c", "sh", "-c", "sleep 1; echo x > /made"]), "");
    wait_until("the file", || root.call(["exec", "c", "test", "-s", "/made"]).code == 0);
    // One that goes on ends with the container.
    root.ok(["exec", "-d", "c", "sleep", "1000"]);
    let sleeps = || host::processes_of(root.dir()).iter().filter(|p| p.1 == "sleep 1000 ").count();
    wait_until("the sleep", || sleeps() == 2);
    root.ok(["rm", "-f", "c"]);
    root.assert_nothing_left();
}

#[test]
fn commands_that_cannot_be_executed() {
    let root = Root::new();
    root.sleeper("c", &[]);
    root.fails(127, &["no-such-command"], ["exec", "c", "no-such-command"]);
    root.fails(127, &["/no/such"], ["exec", "c", "/no/such"]);
    root.fails(126, &["/etc/passwd"], ["exec", "c", "/etc/passwd"]);
    for user in ["nosuch", "4294967296", "-1", "1:"] {
        let out = root.call(["exec", &format!("--user={user}"), "c", "true"]);
        assert!((125..=126).contains(&out.code) || out.code == 1, "{user}: {out:?}");
        assert!(out.stderr.contains(user), "{user}: {out:?}");
    }
    // The container goes on.
    assert_eq!(root.ok(["exec", "c", "echo", "well"]), "well");
}

#[test]
fn in_a_container_that_has_ended() {
    let root = Root::new();
    root.ok(["run", "--name", "c", arg(&busybox()), "true"]);
    root.fails(1, &["c", "not running"], ["exec", "c", "true"]);
    root.ok(["rm", "c"]);
}

/// The end of the container is the end of what runs in it, and `exec` says so.
#[test]
fn the_container_ends_meanwhile() {
    let root = Root::new();
    root.sleeper("c", &["--rm"]);
    let exec = Started::new(root.command(["exec", "c", "sleep", "1000"]), None);
    let sleeps = || host::processes_of(root.dir()).iter().filter(|p| p.1 == "sleep 1000 ").count();
    wait_until("the sleep", || sleeps() == 2);
    root.ok(["kill", "c"]);
    assert_eq!(exec.wait().code, 137);
    root.assert_nothing_left();
}

#[test]
fn signals_are_passed_on() {
    let root = Root::new();
    root.sleeper("c", &[]);
    let script = "trap 'exit 7' TERM; echo x > /ready; while :; do sleep 1; done";
    let exec = root.start(["exec", "c", "sh", "-c", script]);
    wait_until("the trap", || root.call(["exec", "c", "test", "-s", "/ready"]).code == 0);
    exec.signal(rustix::process::Signal::TERM);
    let out = exec.wait();
    assert_eq!(out.code, 7, "{out:?}");
    assert_eq!(root.ok(["exec", "c", "echo", "well"]), "well");
}
