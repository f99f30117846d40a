//! Commands that meet: while a container is made, ends or is removed, and where nothing can be written.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Root, arg, busybox, wait_until};
use crate::host;

/// Who makes a container has its lock, and keeps it while the container runs.
#[test]
fn stop_and_rm_of_a_container_in_the_making_do_not_wait_for_its_end() {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    for verb in [&["stop", "-t", "0"][..], &["rm", "-f"]] {
        for round in 0..6 {
            let name = format!("{}-{round}", verb[0]);
            let run = root.start(["run", "-d", "--name", &name, arg(&busybox()), "sleep", "1000"]);
            wait_until("the name", || root.store().join("names").join(&name).is_symlink());
            let words: Vec<_> = verb.iter().copied().chain([&name[..]]).collect();
            wait_until("a record", || {
                let out = root.call(&words);
                out.code == 0 || !out.stderr.contains("No such container")
            });
            run.wait();
        }
    }
    assert_eq!(root.ok(["ps", "-q"]), "");
}

/// Whatever was killed, and when: the next command finds it.
#[test]
fn killed_at_any_moment_nothing_is_left() {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    for round in 0..60_u64 {
        let image = busybox();
        let run = ["run", "--rm", "--name", "box", "-v", "/volume", arg(&image), "sleep", "1000"];
        let mut run = root.start(run);
        std::thread::sleep(Duration::from_micros(round * 700));
        // Again until none is left: a process may be split off while they are looked for.
        wait_until("the end of all processes", || {
            let processes = host::processes_of(root.dir());
            for (pid, _) in &processes {
                let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
            }
            processes.is_empty() && run.has_ended()
        });
        // A process that is being killed loses its command line a moment before its locks.
        wait_until("nothing but images", || {
            root.ok(["ps"]);
            root.leftovers().is_empty()
        });
    }
}

/// A program that cannot be started leaves no volume of its container's alone.
#[test]
fn volumes_of_a_start_that_failed_are_gone() {
    let root = Root::new();
    root.fails(127, &["nowhere"], ["run", "-v", "/volume", arg(&busybox()), "/nowhere"]);
    root.assert_nothing_left();
}

/// A container that ends just then does not run; that is said, and not which step found it gone.
#[test]
fn exec_in_a_container_that_ends_says_that_it_does_not_run() {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    for round in 0..30 {
        let name = format!("box-{round}");
        let time = format!("0.0{:02}", round % 10 * 4);
        root.ok(["run", "-d", "--name", &name, arg(&busybox()), "sleep", &time]);
        let out = root.call(["exec", &name, "true"]);
        let known = matches!(out.code, 0 | 137) || out.stderr.contains("is not running");
        assert!(known, "{time}: {out:?}");
    }
}

/// Directories nested deeper than a path can name, and than descriptors last.
#[test]
fn a_container_with_deep_directories_can_be_removed() {
    let root = Root::new();
    root.sleeper("deep", &[]);
    let nest = "x=a/a/a/a/a/a/a/a; cd /tmp; for i in $(seq 40); do mkdir -p $x/$x/$x/$x; mv t $x/$x/$x/$x/; \
        mv a t; done 2>/dev/null; ls";
    assert_eq!(root.ok(["exec", "deep", "sh", "-c", nest]), "t");
    let command = root.command(["rm", "-f", "deep"]);
    let line = "ulimit -n 256; exec \"$0\" \"$@\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", line]).arg(command.get_program()).args(command.get_args());
    let out = limited.output().unwrap();
    assert!(out.status.success(), "{out:?}");
    root.assert_nothing_left();
}

fn log(root: &Root, name: &str) -> String {
    root.call(["logs", name]).stdout
}

/// What is still on its way through a terminal when its process ends.
#[test]
fn the_end_of_the_output_to_a_terminal_in_the_background_is_logged() {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    for round in 0..10 {
        let name = format!("box-{round}");
        root.ok(["run", "-d", "-t", "--name", &name, arg(&busybox()), "seq", "5000"]);
        assert_eq!(root.wait_for_exit(&name), 0);
        let log = log(&root, &name);
        assert_eq!(log.lines().count(), 5000);
        assert!(log.lines().last().unwrap().contains("5000"));
    }
}

/// A process may close its terminal and open it later.
#[test]
fn a_terminal_in_the_background_that_is_closed_for_a_while_is_read_later() {
    let root = Root::new();
    let script = "exec 0<&- 1>&- 2>&-; sleep 0.3; exec 1>/dev/console; seq 50000";
    root.ok(["run", "-d", "-t", "--name", "box", arg(&busybox()), "sh", "-c", script]);
    assert_eq!(root.wait_for_exit("box"), 0);
    assert!(log(&root, "box").lines().last().unwrap().contains("50000"));
}

/// What cannot be a name is the name of no container.
#[test]
fn a_name_that_is_too_long_is_nobodys() {
    let root = Root::new();
    root.fails(1, &["No such object"], ["inspect", &"a".repeat(300)]);
}

/// A small disk, for the store of one test.
struct Disk<'a>(&'a Path);

impl Disk<'_> {
    fn new(path: &Path) -> Disk<'_> {
        std::fs::create_dir(path).unwrap();
        let options = c"size=24m,mode=700";
        rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), options).unwrap();
        Disk(path)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, UnmountFlags::DETACH);
    }
}

/// A full disk: what ran keeps its files, and can be removed to make room.
#[test]
fn a_full_disk_loses_nothing_and_can_be_emptied() {
    let root = Root::new();
    let store = root.store();
    let disk = Disk::new(&store);
    let id = root.sleeper("full", &[]);
    root.sleeper("other", &["--rm"]);
    let fill = "echo kept > /kept; dd if=/dev/zero of=/fill bs=4k; dd if=/dev/zero of=/rest bs=1";
    let _ = root.call(["exec", "full", "sh", "-c", fill]);
    let _ = root.call(["stop", "full"]);
    let kept = store.join("containers").join(&id).join("diff/kept");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "kept\n");
    assert_eq!(root.ok(["ps", "-a", "-q"]).lines().count(), 2);
    assert_eq!(root.ok(["exec", "other", "echo", "well"]), "well");
    root.ok(["rm", "full"]);
    assert_eq!(root.busybox(&[], &["echo", "room"]).stdout, "room\n");
    root.ok(["rm", "-f", "other"]);
    drop(disk);
}

/// Nobody reads what a process of `exec` wrote to its terminal: its container ends all the same.
#[test]
fn a_terminal_that_nobody_reads_does_not_hold_its_container() {
    let root = Root::new();
    root.sleeper("box", &[]);
    let mut command = root.command(["exec", "-t", "box", "head", "-c", "3000000", "/dev/zero"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut exec = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let start = std::time::Instant::now();
    root.ok(["stop", "-t", "1", "box"]);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    drop(exec.stdout.take());
    exec.wait().unwrap();
}

/// What the caller has open beyond standard input and output is not the supervisor's.
#[test]
fn the_supervisor_keeps_nothing_of_its_callers() {
    let root = Root::new();
    let run = format!(
        "exec 7>&1 >/dev/null; exec {} --root {} run -d --rm --name box {} sleep 1000",
        crate::harness::BIN,
        arg(&root.store()),
        arg(&busybox())
    );
    // Waits for the end of the pipe.
    let out = Command::new("timeout").args(["20", "sh", "-c", &run]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    root.pid("box");
}

/// The null device of the host is the host's: root of a container could change its mode.
#[test]
fn standard_input_and_output_are_not_the_hosts_null_device() {
    use std::os::unix::fs::MetadataExt;
    let root = Root::new();
    root.sleeper("box", &[]);
    let look = |fd: u8, options: &[&str]| {
        let script = format!("exec 9>&{fd} 1>/shared/seen; stat -L -c %d:%i /proc/self/fd/9");
        let mut command = root.command([options, &["sh", "-c", &script]].concat());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let shared = root.host_dir("shared");
    let volume = format!("{}:/shared", arg(&shared));
    root.sleeper("with", &["-v", &volume]);
    let image = busybox();
    let host = std::fs::metadata("/dev/null").unwrap();
    let host = format!("{}:{}", host.dev(), host.ino());
    for fd in [0, 1, 2] {
        for options in [
            &["run", "--rm", "-v", &volume, arg(&image)][..],
            &["run", "--rm", "-i", "-v", &volume, arg(&image)],
            &["exec", "with"],
            &["exec", "-d", "with"],
        ] {
            assert!(look(fd, options).status().unwrap().success(), "{options:?}");
            let seen = shared.join("seen");
            let text = || std::fs::read_to_string(&seen).unwrap_or_default();
            wait_until("the answer", || text().ends_with('\n'));
            assert_ne!(text().trim_end(), host, "{fd} {options:?}");
            std::fs::remove_file(seen).unwrap();
        }
    }
    // One that has none is told so, and gets none of the host's.
    root.ok(["exec", "box", "rm", "/dev/null"]);
    root.fails(125, &["/dev/null"], ["exec", "box", "true"]);
}
