//! Row 12: what is left when a container ends, in whatever way.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{BIN, Root, Started, arg, busybox, image, wait_until};
use crate::host;
use crate::image::{Archive, Layer};

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The process that watches over the container.
fn supervisor(container: i32) -> i32 {
    let parent = host::parent(container);
    // By its file: what it runs from is a mount without a path.
    let file = |path: &str| fs::metadata(path).map(|data| (data.dev(), data.ino())).unwrap();
    let program = file(&format!("/proc/{parent}/exe"));
    assert_eq!(program, file(crate::harness::BIN), "the parent of the container's process");
    parent
}

/// What a container holds of the machine while it runs.
struct Held {
    namespaces: Vec<String>,
    cgroups: Vec<String>,
    processes: Vec<i32>,
}

impl Held {
    fn of(pid: i32) -> Held {
        let own = host::namespaces(i32::try_from(std::process::id()).unwrap());
        let own: Vec<_> = own.into_values().collect();
        let namespaces = host::namespaces(pid).into_values().filter(|n| !own.contains(n)).collect();
        let processes = vec![pid, supervisor(pid)];
        let cgroups = host::own_cgroups(pid);
        assert!(cgroups.iter().any(|group| Path::new(group).exists()), "{cgroups:?}");
        Held { namespaces, cgroups, processes }
    }

    #[track_caller]
    fn assert_gone(&self) {
        wait_until("the end of the namespaces", || !host::is_held(&self.namespaces));
        assert!(self.cgroups.iter().all(|group| !Path::new(group).exists()), "{:?}", self.cgroups);
        let alive: Vec<_> = self.processes.iter().filter(|pid| host::is_alive(**pid)).collect();
        assert!(alive.is_empty(), "{alive:?}");
    }
}

/// A container with a volume of the host, one with a name, and `--rm`.
fn with_volumes(root: &Root) -> (i32, Held) {
    let volume = root.host_dir("volume");
    let spec = format!("{}:/volume", arg(&volume));
    root.sleeper("box", &["--rm", "-v", &spec, "-v", "/anonymous"]);
    root.ok(["exec", "box", "sh", "-c", "echo kept > /volume/file; echo gone > /anonymous/file"]);
    let pid = root.pid("box");
    (pid, Held::of(pid))
}

#[track_caller]
fn assert_all_gone(root: &Root, held: &Held) {
    root.assert_nothing_left();
    held.assert_gone();
    assert_eq!(fs::read_to_string(root.dir().join("volume/file")).unwrap(), "kept\n");
    assert_eq!(root.ok(["ps", "-a", "-q"]), "");
}

#[test]
fn after_a_normal_end() {
    let root = Root::new();
    let volume = root.host_dir("volume");
    let spec = format!("{}:/volume", arg(&volume));
    root.shell(&["-v", &spec], "echo kept > /volume/file");
    root.assert_nothing_left();
    assert_eq!(fs::read_to_string(volume.join("file")).unwrap(), "kept\n");
}

#[test]
fn after_stop() {
    let root = Root::new();
    let (_, held) = with_volumes(&root);
    root.ok(["stop", "box"]);
    assert_all_gone(&root, &held);
}

#[test]
fn after_kill_9_of_the_containers_process() {
    let root = Root::new();
    let (pid, held) = with_volumes(&root);
    kill(pid);
    assert_all_gone(&root, &held);
}

#[test]
fn after_kill_9_of_the_supervisor_and_one_command() {
    let root = Root::new();
    let (pid, held) = with_volumes(&root);
    kill(supervisor(pid));
    wait_until("the supervisor's end", || !host::is_alive(held.processes[1]));
    assert_eq!(root.ok(["ps", "-a", "-q"]), "");
    assert_all_gone(&root, &held);
}

#[test]
fn after_kill_9_of_both_and_one_command() {
    let root = Root::new();
    let (pid, held) = with_volumes(&root);
    kill(supervisor(pid));
    if host::is_alive(pid) {
        kill(pid);
    }
    wait_until("their end", || held.processes.iter().all(|pid| !host::is_alive(*pid)));
    root.ok(["ps"]);
    assert_all_gone(&root, &held);
}

#[test]
fn nginx_after_kill_9_of_the_supervisor() {
    let root = Root::new();
    root.ok(["run", "-d", "--rm", "--name", "web", arg(&image("nginx", "docker-oci"))]);
    let pid = root.pid("web");
    let held = Held::of(pid);
    // The workers too.
    let processes = || host::processes_of(root.dir());
    wait_until("nginx's workers", || processes().iter().any(|(_, line)| line.contains("worker")));
    kill(supervisor(pid));
    wait_until("the supervisor's end", || !host::is_alive(held.processes[1]));
    root.ok(["ps"]);
    root.assert_nothing_left();
    held.assert_gone();
}

/// Without `--rm` a container stays, as one that has ended.
#[test]
fn a_container_to_keep_after_kill_9_of_the_supervisor() {
    let root = Root::new();
    root.sleeper("box", &[]);
    root.ok(["exec", "box", "sh", "-c", "echo kept > /file"]);
    let pid = root.pid("box");
    let held = Held::of(pid);
    kill(supervisor(pid));
    wait_until("the supervisor's end", || !host::is_alive(held.processes[1]));
    assert_eq!(root.ok(["ps", "-q"]), "");
    assert_eq!(root.ok(["ps", "-a", "-q"]).lines().count(), 1);
    held.assert_gone();
    assert_eq!(root.traces(), Vec::<String>::new());
    let state = root.inspect("box")["State"].clone();
    assert_eq!((&state["Status"], &state["Running"]), (&"exited".into(), &false.into()), "{state}");
    assert_ne!(state["ExitCode"], 0, "{state}");
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}

/// The other containers of the store do not notice.
/// A command that is about one of very many containers looks at that one, and one that lists them at all.
#[test]
fn supervisors_that_are_killed_beside_many_containers() {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    for number in 0..40 {
        root.ok(["create", "--name", &format!("other-{number}"), "busybox", "true"]);
    }
    let run = |name: &str| root.ok(["run", "-d", "--name", name, "busybox", "sleep", "1000"]);
    let victims = ["first", "second", "third"].map(|name| (name, run(name)));
    for (name, _) in &victims {
        let own = supervisor(root.pid(name));
        kill(own);
        wait_until("the supervisor's end", || !host::is_alive(own));
    }
    let status = |which: &str| root.ok(["inspect", "--format", "{{.State.Status}}", which]);
    let [first, second, third] = &victims;
    assert_eq!(status(first.0).trim(), "exited");
    // By the start of its id.
    assert_eq!(status(&second.1[..12]).trim(), "exited");
    let listed = root.ok(["ps", "-a", "--filter", "status=exited", "--format", "{{.Names}}"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), [third.0, second.0, first.0]);
    assert_eq!(root.ok(["ps", "-q"]), "");
}

#[test]
fn one_of_two_supervisors_is_killed() {
    let root = Root::new();
    root.sleeper("victim", &["--rm"]);
    root.sleeper("other", &["--rm"]);
    let other = root.pid("other");
    kill(supervisor(root.pid("victim")));
    wait_until("the tidying", || root.ok(["ps", "-a", "-q"]).lines().count() == 1);
    assert_eq!(root.ok(["exec", "other", "echo", "well"]), "well");
    assert_eq!(root.pid("other"), other);
    root.ok(["stop", "other"]);
    root.assert_nothing_left();
}

/// A foreground `run` that is killed takes its container along, at the latest with the next command.
#[test]
fn after_kill_9_of_a_run_in_the_foreground() {
    let root = Root::new();
    let mut run = root.start(["run", "--rm", "--name", "box", arg(&busybox()), "sleep", "1000"]);
    let has_container = || root.call(["inspect", "box"]).stdout.contains("\"running\"");
    wait_until("the container", has_container);
    run.signal(Signal::KILL);
    wait_until("the end of run", || run.has_ended());
    root.ok(["ps"]);
    let list = || root.ok(["ps", "-a", "-q"]);
    // A supervisor of its own may go on, as Docker's daemon does; then `rm -f` ends it.
    for id in list().lines() {
        root.ok(["rm", "-f", id]);
    }
    root.assert_nothing_left();
}

/// Killed while it loads, makes or starts: the next command finds nothing that it cannot tidy up.
#[test]
fn after_kill_9_of_a_run_at_any_moment() {
    let root = Root::new();
    for millis in [0, 3, 10, 20, 40, 60, 80, 100, 120, 150, 200, 300] {
        // Another image each time, so that there is something to load.
        let layer = Layer::new().file("file", 0o644, millis.to_string().repeat(200_000));
        let archive = Archive::busybox([layer]).write(root.dir(), "x.tar");
        let args = ["run", "--rm", "-v", "/anonymous", "--name", "box", arg(&archive), "true"];
        let mut run = root.start(args);
        std::thread::sleep(Duration::from_millis(millis));
        run.signal(Signal::KILL);
        wait_until("the end of run", || run.has_ended());
        root.ok(["ps"]);
        root.assert_nothing_left();
        // The name and the image are free to use.
        root.ok(["run", "--rm", "--name", "box", arg(&archive), "true"]);
    }
    root.assert_nothing_left();
}

/// Each way to end leaves the exit status that it should.
#[test]
fn exit_statuses_are_kept() {
    let root = Root::new();
    for (name, script, status) in
        [("one", "exit 0", 0), ("two", "exit 7", 7), ("three", "exit 255", 255)]
    {
        root.ok(["run", "-d", "--name", name, arg(&busybox()), "sh", "-c", script]);
        assert_eq!(root.wait_for_exit(name), status);
    }
    root.sleeper("four", &[]);
    kill(root.pid("four"));
    assert_eq!(root.wait_for_exit("four"), 137);
    let mounts = host::mounts_below(root.dir());
    assert!(mounts.is_empty(), "containers that have ended are mounted: {mounts:#?}");
    root.ok(["rm", "one", "two", "three", "four"]);
    root.assert_nothing_left();
}

/// Where no hierarchy of cgroup v2 is mounted, the runtime mounts one for itself alone, to make the group
/// and to remove it.
#[test]
fn a_cgroup_goes_where_no_hierarchy_is_mounted() {
    let root = Root::new();
    let script = "grep ' cgroup2 ' /proc/mounts | cut -d' ' -f2 | while read -r mount; do \
        umount -l \"$mount\"; done; ! grep ' cgroup2 ' /proc/mounts && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script, "sh", BIN, "--root", arg(&root.store())]);
    unshare.args(["run", "-d", "--name", "box", arg(&busybox()), "sleep", "1000"]);
    let out = Started::new(unshare, None).wait();
    assert_eq!(out.code, 0, "{out:?}");
    let groups = host::own_cgroups(root.pid("box"));
    assert!(groups.iter().any(|group| Path::new(group).exists()), "{groups:?}");
    root.ok(["kill", "box"]);
    assert_eq!(root.wait_for_exit("box"), 137);
    wait_until("the cgroup's end", || groups.iter().all(|group| !Path::new(group).exists()));
    root.ok(["rm", "box"]);
}
