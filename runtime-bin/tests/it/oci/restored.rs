//! A checkpoint and what is restored of it, with CRIU itself, which works on the kernels of the virtual machine, and on others
//! perhaps.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::checkpoint::{configure, directory, goes_on, running, text};
use super::terminal::{read_until, receive};
use super::{Oci, lives};
use crate::harness::{arg, wait_until, write_script};

/// Counts in a file of the volume, as long as it lives: a number in memory that a new start would lose.
const COUNTS: [&str; 3] = [
    "sh",
    "-c",
    "trap 'exit 3' TERM; i=1000; while :; do i=$((i+1)); echo $i >/vol/new; mv /vol/new /vol/count; sleep 0.05; done",
];

/// Whether CRIU works here. Its version of Debian 12 does not on kernels that are much later; in the virtual machine it must.
fn works() -> bool {
    let checked = Command::new("criu").arg("check").output();
    let works = checked.as_ref().is_ok_and(|output| output.status.success());
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let must = release.lines().any(|line| line == "ID=test-vm");
    assert!(works || !must, "CRIU is to work here: {checked:?}");
    works
}

/// Where CRIU does not work, its failure is told, and the container goes on.
fn is_told_that_it_does_not(oci: &Oci) {
    oci.fails(1, &["CRIU"], &["checkpoint", "--image-path", arg(&oci.dir().join("images")), "a"]);
    goes_on(oci);
}

fn count(volume: &Path) -> u64 {
    let text = std::fs::read_to_string(volume.join("count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Restores `a`, without this process's pipes.
#[track_caller]
fn restore(oci: &Oci, options: &[&str]) {
    let images = oci.dir().join("images");
    let output = File::create(oci.dir().join("restored")).unwrap();
    let mut command =
        oci.command(&[&["restore", "-d", "--image-path", arg(&images)], options, &["a"]].concat());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    let status = command.status().unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(oci.dir().join("restored")).unwrap());
}

/// Standard input, output and error of its own: files of the host are none of a container's.
fn quiet(args: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    all[2] = format!("exec </dev/null >/dev/null 2>&1; {}", all[2]);
    all
}

#[test]
fn a_restored_container_goes_on_from_where_it_was() {
    let args = quiet(&COUNTS);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (oci, volume) = running(&args, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "cgroup"}));
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/sys", "type": "sysfs"}));
        config["linux"]["resources"] = json!({"pids": {"limit": 40}});
        config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/acpi"]);
        config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    });
    wait_until("it counts", || count(&volume) > 1010);
    if !works() {
        return is_told_that_it_does_not(&oci);
    }
    let (images, pid_file) = (oci.dir().join("images"), oci.dir().join("pid"));
    let before = oci.state("a");
    let groups = || {
        let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.lines()
            .filter(|line| line.contains(" - cgroup2 "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let groups_before = groups();
    // Twice: what was restored can be checkpointed.
    for _ in 0..2 {
        let pid = oci.state("a")["pid"].as_i64().unwrap();
        oci.ok(&["checkpoint", "--image-path", arg(&images), "a"]);
        assert!(oci.names().is_empty() && !lives(pid) && oci.groups().is_empty());
        let stopped = count(&volume);
        assert!(stopped > 1010);

        restore(&oci, &["--pid-file", arg(&pid_file)]);
        wait_until("it counts on", || count(&volume) > stopped);
        assert!(count(&volume) < stopped + 1000, "it counts from where it was");
        let state = oci.state("a");
        assert_eq!(state["status"], "running");
        assert_eq!(
            (&state["bundle"], &state["annotations"]),
            (&before["bundle"], &before["annotations"])
        );
        assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), state["pid"].to_string());
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
        assert!(group.trim_end().ends_with(&oci.group()), "{group}");
    }
    assert_eq!(groups(), groups_before, "all of the machine has the options that it had");
    let inside = |script: &str| oci.ok(&["exec", "a", "sh", "-c", script]);
    assert_eq!(inside("hostname; echo $$ >/dev/null; cat /proc/1/comm"), "contained\nsh\n");
    assert_eq!(
        inside("cat /proc/kcore | wc -c; ls /proc/acpi | wc -l"),
        "0\n0\n",
        "masks are there"
    );
    assert!(inside("cat /sys/class/net/lo/flags").starts_with("0x9"), "the loopback device is up");
    oci.fails(1, &[], &["exec", "a", "sh", "-c", "echo x >/proc/sys/kernel/hostname"]);
    let limit =
        |group: &PathBuf| std::fs::read_to_string(group.join("pids.max")).unwrap_or_default();
    assert!(oci.groups().iter().any(|group| limit(group) == "40\n"));
    oci.ok(&["pause", "a"]);
    assert_eq!(oci.status("a"), "paused");
    oci.ok(&["resume", "a"]);
    oci.fails(1, &["cannot delete container that is not stopped"], &["delete", "a"]);
    oci.ok(&["kill", "a", "TERM"]);
    oci.wait_for("a", "stopped");
    oci.ok(&["delete", "a"]);
}

#[test]
fn a_container_may_go_on_after_its_checkpoint() {
    let args = quiet(&COUNTS);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (oci, volume) = running(&args, |_| {});
    wait_until("it counts", || count(&volume) > 1000);
    if !works() {
        return is_told_that_it_does_not(&oci);
    }
    let (images, before) = (oci.dir().join("images"), oci.dir().join("before"));
    let pid = oci.state("a")["pid"].clone();
    oci.ok(&["checkpoint", "--pre-dump", "--image-path", arg(&before), "a"]);
    oci.ok(&["checkpoint", "--leave-running", "--image-path", arg(&images), "a"]);
    let reached = count(&volume);
    wait_until("it goes on", || count(&volume) > reached);
    assert_eq!((oci.status("a"), &oci.state("a")["pid"]), ("running".to_owned(), &pid));
    oci.ok(&["delete", "-f", "a"]);
    // The earlier one is as good as it was, and so is a paused one with what changed since.
    restore(&oci, &[]);
    wait_until("it counts on", || count(&volume) > reached);
    oci.ok(&["pause", "a"]);
    oci.ok(&["checkpoint", "--image-path", arg(&before), "a"]);
    assert!(oci.names().is_empty());
}

#[test]
fn pipes_are_those_of_who_restores() {
    let script = "while read line; do echo got $line; done; echo no more >&2";
    let oci = Oci::new(&["sh", "-c", script]);
    directory(&oci, "vol");
    configure(&oci, &["sh", "-c", script], |_| {});
    let start = |args: &[&str]| {
        let mut command = oci.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let say = |child: &mut std::process::Child, words: &str| {
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), words.as_bytes()).unwrap();
    };
    let mut first = start(&["run", "a"]);
    say(&mut first, "one\n");
    let mut bytes = [0; 8];
    first.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"got one\n");
    if !works() {
        is_told_that_it_does_not(&oci);
        oci.ok(&["delete", "-f", "a"]);
        first.wait().unwrap();
        return;
    }
    let images = oci.dir().join("images");
    oci.ok(&["checkpoint", "--image-path", arg(&images), "a"]);
    first.wait().unwrap();
    // In the foreground: its status is the container's.
    let mut second = start(&["restore", "--image-path", arg(&images), "a"]);
    say(&mut second, "two\n");
    let out = second.wait_with_output().unwrap();
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!((out.status.code(), &*stdout, &*stderr), (Some(0), "got two\n", "no more\n"));
    assert!(oci.names().is_empty());
}

#[test]
fn a_restored_terminal_goes_to_the_console_socket() {
    let script = "tty; while read line; do echo got $line; done";
    let oci = Oci::new(&["sh", "-c", script]);
    directory(&oci, "vol");
    configure(&oci, &["sh", "-c", script], |config| config["process"]["terminal"] = true.into());
    let socket = oci.dir().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    oci.create(&["--console-socket", arg(&socket), "a"]);
    let mut master = File::from(receive(&listener).0);
    oci.ok(&["start", "a"]);
    read_until(&mut master, "/dev/pts/0");
    if !works() {
        return is_told_that_it_does_not(&oci);
    }
    let images = oci.dir().join("images");
    oci.ok(&["checkpoint", "--image-path", arg(&images), "a"]);
    oci.fails(1, &["cannot allocate tty"], &["restore", "-d", "--image-path", arg(&images), "a"]);
    restore(&oci, &["--console-socket", arg(&socket)]);
    let (master, name) = receive(&listener);
    assert_eq!(name, "/dev/ptmx");
    let mut master = File::from(master);
    std::io::Write::write_all(&mut master, b"a line\n").unwrap();
    read_until(&mut master, "got a line");
    assert_eq!(oci.ok(&["exec", "a", "sh", "-c", "[ -c /dev/console ] && echo yes"]), "yes\n");
}

/// Hooks, a network of somebody else's, mounts in mounts, a target that is a link.
#[test]
fn what_comes_from_outside_is_there_again() {
    let args = quiet(&COUNTS);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let oci = Oci::new(&args);
    let (hook, heard) = (oci.dir().join("hook"), oci.dir().join("heard"));
    write_script(
        &hook,
        &format!("#!/bin/sh\necho $1 >>{}\ncat >{}.state\n", arg(&heard), arg(&heard)),
    );
    let [volume, outer, nested] = ["vol", "outer", "nested"].map(|name| directory(&oci, name));
    std::fs::create_dir_all(oci.bundle().join("rootfs/real")).unwrap();
    std::os::unix::fs::symlink("/real", oci.bundle().join("rootfs/link")).unwrap();
    let mut keeper = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    let network = format!("/proc/{}/ns/net", keeper.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    wait_until("there is a network", || std::fs::read_link(&network).is_ok_and(|link| link != own));
    configure(&oci, &args, |config| {
        let bind = |to: &str, from: &Path| json!({"destination": to, "type": "bind", "source": arg(from), "options": ["rbind"]});
        let more = [
            bind("/outer", &outer),
            bind("/outer/for/nested", &nested),
            bind("/link", &outer),
            bind("/hook", &hook),
        ];
        config["mounts"].as_array_mut().unwrap().extend(more);
        config["linux"]["namespaces"][4]["path"] = network.as_str().into();
        config["root"]["readonly"] = true.into();
        let run = |word: &str| json!([{"path": arg(&hook), "args": ["hook", word]}]);
        config["hooks"] = json!({
            "prestart": run("prestart"), "createRuntime": run("createRuntime"), "poststart": run("poststart"),
            "poststop": run("poststop"),
        });
    });
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    wait_until("it counts", || count(&volume) > 1000);
    std::fs::write(nested.join("file"), "nested").unwrap();
    let hooks = || std::fs::read_to_string(&heard).unwrap_or_default();
    if works() {
        let images = oci.dir().join("images");
        oci.ok(&["checkpoint", "--image-path", arg(&images), "a"]);
        assert!(hooks().ends_with("poststop\n"), "{}", hooks());
        // What was made for the nested mount is made again.
        std::fs::remove_dir_all(outer.join("for")).unwrap();
        std::fs::remove_file(&heard).unwrap();
        restore(&oci, &[]);
        assert_eq!(hooks(), "prestart\ncreateRuntime\n", "as runc");
        let state: Value =
            serde_json::from_slice(&std::fs::read(oci.dir().join("heard.state")).unwrap()).unwrap();
        assert_eq!((&state["id"], &state["pid"]), (&"a".into(), &oci.state("a")["pid"]));
        let reached = count(&volume);
        wait_until("it counts on", || count(&volume) > reached);
        let network_now =
            std::fs::read_link(format!("/proc/{}/ns/net", oci.state("a")["pid"])).unwrap();
        assert_eq!(network_now, std::fs::read_link(&network).unwrap());
        assert_eq!(oci.ok(&["exec", "a", "cat", "/outer/for/nested/file"]), "nested");
        assert_eq!(oci.ok(&["exec", "a", "ls", "/link"]), "for\n");
        oci.fails(1, &["Read-only"], &["exec", "a", "touch", "/file"]);
    } else {
        is_told_that_it_does_not(&oci);
    }
    oci.ok(&["delete", "-f", "a"]);
    assert!(hooks().ends_with("poststop\n"), "{}", hooks());
    keeper.kill().unwrap();
    keeper.wait().unwrap();
}

/// Between the old processes, which wait until all of their memory is fetched, and the new ones is a `criu lazy-pages`.
#[test]
fn memory_may_come_when_it_is_needed() {
    let args = quiet(&COUNTS);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (oci, volume) = running(&args, |_| {});
    wait_until("it counts", || count(&volume) > 1000);
    if !works() {
        return is_told_that_it_does_not(&oci);
    }
    let (images, status) = (oci.dir().join("images"), oci.dir().join("status"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lazy = ["--lazy-pages", "--manage-cgroups-mode", "ignore", "--image-path", arg(&images)];
    let address = format!("127.0.0.1:{port}");
    let server = ["--page-server", &address, "--status-fd", "1", "a"];
    let mut command = oci.command(&[&["checkpoint"], &lazy[..], &server].concat());
    let mut checkpoint = command.stdout(File::create(&status).unwrap()).spawn().unwrap();
    wait_until("its memory is there", || std::fs::read(&status).is_ok_and(|said| said == [0]));
    let stopped = count(&volume);
    assert_eq!(oci.status("a"), "running", "it is on record as long as it has memory to give");

    let mut pages = Command::new("criu")
        .args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port"])
        .args([&port.to_string(), "-D", arg(&images)])
        .spawn()
        .unwrap();
    configure(&oci, &args, |config| {
        config["linux"]["cgroupsPath"] = format!("{}-b", oci.group()).into();
    });
    wait_until("the memory can be asked for", || images.join("lazy-pages.socket").exists());
    let mut command = oci.command(&[&["restore", "-d"], &lazy[..], &["b"]].concat());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let restored = command.status().unwrap();
    let log = || std::fs::read_to_string(images.join("restore.log")).unwrap_or_default();
    assert!(restored.success(), "{}", log());
    assert!(checkpoint.wait().unwrap().success() && pages.wait().unwrap().success());
    assert_eq!(oci.names(), ["b"], "the old one is gone when all is fetched");
    wait_until("it counts on", || count(&volume) > stopped);
    assert!(count(&volume) < stopped + 1000, "it counts from where it was");
}
