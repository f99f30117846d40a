//! Options of `run` that concern the host: what of it a container has, and what it shares with others.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::json;

use crate::harness::{Root, arg, busybox, wait_until};

fn image() -> &'static str {
    static IMAGE: LazyLock<PathBuf> = LazyLock::new(busybox);
    arg(&IMAGE)
}

#[test]
fn files_of_variables_labels_and_ids() {
    let root = Root::new();
    let (env, labels) = (root.dir().join("env"), root.dir().join("labels"));
    fs::write(&env, "# no\nA=file\nB=b c\nGONE\nPATH\n").unwrap();
    fs::write(&labels, "a=file\nb=file\n").unwrap();
    let (cid, pid) = (root.dir().join("cid"), root.dir().join("pid"));
    let options = [
        "--env-file",
        arg(&env),
        "-e",
        "A=typed",
        "--label-file",
        arg(&labels),
        "-l",
        "b=typed",
        "--cidfile",
        arg(&cid),
        "--pidfile",
        arg(&pid),
        "--stop-timeout",
        "3",
    ];
    let id = root.sleeper("box", &options);
    assert_eq!(fs::read_to_string(&cid).unwrap(), id);
    assert_eq!(fs::read_to_string(&pid).unwrap(), root.pid("box").to_string());
    let value = root.inspect("box");
    assert_eq!(value["Config"]["Labels"], json!({"a": "file", "b": "typed"}));
    assert_eq!(value["Config"]["StopTimeout"], 3);
    assert_eq!(value["HostConfig"]["ContainerIDFile"], arg(&cid));
    let shown = root.ok(["exec", "box", "sh", "-c", "echo $A/$B/${GONE-none}/${PATH:+path}"]);
    assert_eq!(shown, "typed/b c/none/path");
    fs::write(&env, "A=of exec\n").unwrap();
    let script = "echo $A; grep CapEff /proc/self/status";
    let shown =
        root.ok(["exec", "--privileged", "--env-file", arg(&env), "box", "sh", "-c", script]);
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().to_owned();
    assert_eq!(shown, format!("of exec\nCapEff:{all}"));
    let fails = |options: &[&str], words: &[&str]| {
        let args = [&["run", "--rm"], options, &[image(), "true"]].concat();
        root.fails(125, words, args)
    };
    fails(&["--cidfile", arg(&cid)], &["container ID file found", arg(&cid)]);
    fails(&["--env-file", "/no/such"], &["/no/such"]);
    fs::write(&env, "A B=1").unwrap();
    fails(&["--env-file", arg(&env)], &["line 1", "white space"]);
    // Without a container there is no file.
    let none = root.dir().join("none");
    fails(&["--cidfile", arg(&none), "--name", "box"], &["already in use"]);
    assert!(!none.exists());
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn privileges() {
    let root = Root::new();
    let script = "grep -E 'CapEff|NoNewPrivs' /proc/self/status; ls /dev | wc -l; ls /proc/kcore; \
        (echo -n > /proc/sys/kernel/core_pattern) 2>&1 | grep -o 'Read-only'; mount | grep ' /sys '";
    let plain = root.shell(&[], script);
    assert!(plain.contains("00000000a80425fb") && plain.contains("Read-only"), "{plain}");
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let script = "grep CapEff /proc/self/status; mount | grep -E ' /(sys|proc/sys|proc/kcore) '; \
        test -w /proc/sys/kernel/domainname && echo writable; ls -l /dev/null /dev/zero | wc -l";
    let shown = root.shell(&["--privileged"], script);
    assert!(shown.contains(all) && shown.contains("writable"), "{shown}");
    assert!(!shown.contains("ro,") && !shown.contains("/proc/sys "), "{shown}");
    // Each of the host's devices that no file system of the container's own has.
    let is_node = |entry: &fs::DirEntry| {
        use std::os::unix::fs::FileTypeExt;
        let kind = entry.file_type().unwrap();
        kind.is_char_device() || kind.is_block_device()
    };
    let nodes = fs::read_dir("/dev").unwrap().map(Result::unwrap).filter(is_node);
    let nodes: Vec<_> = nodes
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !matches!(&name[..], "console" | "ptmx"))
        .collect();
    let shown = root.shell(&["--privileged"], "ls /dev");
    for name in nodes {
        assert!(shown.lines().any(|line| line == name), "no {name}: {shown}");
    }

    let status = |options: &[&str]| root.shell(options, "grep NoNewPrivs /proc/self/status");
    assert_eq!(status(&["--security-opt", "no-new-privileges"]), "NoNewPrivs:\t1");
    assert_eq!(status(&["--security-opt", "seccomp=unconfined"]), "NoNewPrivs:\t0");
    let open = root
        .shell(&["--security-opt", "systempaths=unconfined"], "mount | grep -c ' /proc/' || true");
    assert_eq!(open, "0");
    for (option, words) in [("label=user:x", "not there yet"), ("nonsense", "no-new-privileges")] {
        let args = ["run", "--rm", "--security-opt", option, image(), "true"];
        root.fails(125, &["--security-opt", words], args);
    }
    root.assert_nothing_left();
}

/// A node can be made of any device; the cgroup says which of them can be opened.
#[test]
fn only_the_devices_that_were_given_can_be_opened() {
    let root = Root::new();
    // Opened for writing, for which the kernel wants no capability.
    let script = "mknod /node c 1 11; (: > /node) 2>&1 | grep -o 'not permitted' || echo open";
    assert_eq!(root.shell(&[], script), "not permitted");
    assert_eq!(root.shell(&["--device", "/dev/kmsg:/dev/x"], script), "open");
    assert_eq!(root.shell(&["--privileged"], script), "open");
    root.assert_nothing_left();
}

#[test]
fn limits_groups_and_devices() {
    let root = Root::new();
    let options = [
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        "--group-add",
        "users",
        "--group-add",
        "4242",
        "--device",
        "/dev/zero:/dev/x/nothing",
        "--shm-size",
        "1m",
        "--oom-score-adj",
        "500",
    ];
    let script = "ulimit -n; ulimit -Hn; ulimit -c; id -G; head -c 3 /dev/x/nothing | wc -c; \
        df -k /dev/shm | tail -n 1; cat /proc/self/oom_score_adj";
    let shown = root.shell(&options, script);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..3], ["100", "200", "0"]);
    assert!(lines[3].split(' ').any(|gid| gid == "4242"), "{shown}");
    assert!(lines[3].split(' ').count() >= 3, "{shown}");
    assert_eq!(lines[4], "3");
    assert!(lines[5].contains(" 1024 "), "{shown}");
    assert_eq!(lines[6], "500");
    root.sleeper("box", &options);
    let host = &root.inspect("box")["HostConfig"];
    assert_eq!(host["Ulimits"][0], json!({"Name": "nofile", "Soft": 100, "Hard": 200}));
    assert_eq!(host["Devices"][0]["PathInContainer"], "/dev/x/nothing");
    assert_eq!(host["GroupAdd"], json!(["users", "4242"]));
    assert_eq!((&host["ShmSize"], &host["OomScoreAdj"]), (&json!(1 << 20), &json!(500)));
    assert!(root.ok(["exec", "box", "id", "-G"]).contains("4242"));
    for (option, value, words) in [
        ("--device", "/dev/no-such", "no such file"),
        ("--device", "/etc/passwd", "no device"),
        ("--ulimit", "nofile=2:1", "soft limit"),
        ("--group-add", "no-such-group", "no-such-group"),
        ("--shm-size", "x", "--shm-size"),
        ("--oom-score-adj", "2000", "-1000 to 1000"),
    ] {
        root.fails(125, &[words], ["run", "--rm", option, value, image(), "true"]);
    }
}

#[test]
fn names_and_kernel_parameters() {
    let root = Root::new();
    let options = [
        "--add-host",
        "db:192.0.2.7",
        "--dns",
        "192.0.2.1",
        "--dns-search",
        "example",
        "--dns-option",
        "ndots:2",
        "--domainname",
        "test",
        "--hostname",
        "web",
        "--sysctl",
        "net.ipv4.ip_default_ttl=77",
        "--sysctl",
        "kernel.msgmax=4242",
    ];
    let script = "cat /etc/resolv.conf; grep -E 'db|web' /etc/hosts; cat /proc/sys/kernel/domainname \
        /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax";
    let shown = root.shell(&options, script);
    for line in [
        "nameserver 192.0.2.1",
        "search example",
        "options ndots:2",
        "192.0.2.7\tdb",
        "127.0.0.1\tweb.test web",
        "test",
        "77",
        "4242",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "no {line:?} in {shown}");
    }
    for (option, value, words) in [
        ("--sysctl", "kernel.core_pattern=|/x", "whole host"),
        ("--sysctl", "net/../kernel/core_pattern=x", "no name of a parameter"),
        ("--sysctl", "net.ipv4.no_such=1", "net/ipv4/no_such = 1"),
        ("--sysctl", "kernel.hostname=x", "hostname"),
        ("--add-host", "db:nowhere", "no IP address"),
        ("--dns", "nowhere", "no IP address"),
        ("--domainname", "a b", "domain name"),
    ] {
        root.fails(125, &[words], ["run", "--rm", option, value, image(), "true"]);
    }
    let args = ["run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_default_ttl=1"];
    root.fails(125, &["--network host"], [&args[..], &[image(), "true"]].concat());
    root.assert_nothing_left();
}

/// The first number of `readlink` on a namespace of this process.
fn own(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn namespaces_are_the_hosts_or_anothers() {
    let root = Root::new();
    let links = "for n in pid ipc uts; do readlink /proc/self/ns/$n; done";
    let shown = root
        .shell(&["--pid", "host", "--ipc", "host", "--uts", "host"], &format!("{links}; hostname"));
    let name = rustix::system::uname();
    let name = name.nodename().to_str().unwrap();
    assert_eq!(shown.lines().collect::<Vec<_>>(), [&own("pid"), &own("ipc"), &own("uts"), name]);

    root.sleeper("donor", &["--ipc", "shareable"]);
    root.ok(["exec", "donor", "sh", "-c", "echo shared > /dev/shm/file"]);
    let options = ["--pid", "container:donor", "--ipc", "container:donor"];
    let script = format!("{links}; cat /dev/shm/file; ps | grep -q 'sleep 1000' && echo seen");
    let shown = root.shell(&options, &script);
    let of_donor = root.ok(["exec", "donor", "sh", "-c", links]);
    assert_eq!(
        shown.lines().take(2).collect::<Vec<_>>(),
        of_donor.lines().take(2).collect::<Vec<_>>()
    );
    assert_ne!(shown.lines().nth(2), of_donor.lines().nth(2));
    assert!(shown.ends_with("shared\nseen"), "{shown}");
    assert_eq!(root.shell(&["--ipc", "none"], "mount | grep -c /dev/shm || true"), "0");
    let id = root.inspect("donor")["Id"].as_str().unwrap().to_owned();
    root.sleeper("guest", &options);
    assert_eq!(root.inspect("guest")["HostConfig"]["PidMode"], format!("container:{id}"));
    assert_eq!(root.inspect("donor")["HostConfig"]["IpcMode"], "shareable");
    root.sleeper("private", &[]);
    for (option, value, words) in [
        ("--ipc", "container:private", "not shareable"),
        ("--pid", "container:nosuch", "No such container: nosuch"),
        ("--pid", "nonsense", "invalid --pid"),
        ("--uts", "container:donor", "invalid --uts"),
    ] {
        root.fails(125, &[words], ["run", "--rm", option, value, image(), "true"]);
    }
    let args = ["run", "--rm", "--uts", "host", "--hostname", "x", image(), "true"];
    root.fails(125, &["--uts host"], args);
    for name in ["guest", "donor", "private"] {
        root.ok(["rm", "-f", name]);
    }
    root.assert_nothing_left();
}

/// Without a PID namespace of its own, the end of the first process does not end the others: the
/// supervisor does, or who tidies up for it.
#[test]
fn no_process_stays_behind_in_the_hosts_namespace() {
    let root = Root::new();
    let marker = root.host_dir("marker");
    let volume = format!("{}:/marker", arg(&marker));
    let script = "(trap '' HUP TERM; touch /marker/up; while :; do sleep 1; done) & \
        while ! test -e /marker/up; do sleep 0.1; done; exit 5";
    let image = image();
    let args = ["run", "--pid", "host", "-v", &volume, "--name", "box", image, "sh", "-c", script];
    root.fails(5, &[], args);
    assert!(marker.join("up").exists());
    assert_eq!(root.traces(), Vec::<String>::new());
    root.ok(["rm", "box"]);

    fs::remove_file(marker.join("up")).unwrap();
    let script = "(trap '' HUP TERM; while :; do sleep 1; done) & touch /marker/up; sleep 1000";
    root.ok(["run", "-d", "--pid=host", "-v", &volume, "--name", "box", image, "sh", "-c", script]);
    wait_until("the processes", || marker.join("up").exists());
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn volumes_of_other_containers() {
    let root = Root::new();
    let host = root.host_dir("host");
    let bind = format!("{}:/bind", arg(&host));
    root.ok([
        "run",
        "--name",
        "data",
        "-v",
        "named:/named",
        "-v",
        "/made-up",
        "-v",
        &bind,
        "--tmpfs",
        "/scratch",
        image(),
        "sh",
        "-c",
        "for d in named made-up bind; do echo $d > /$d/file; done",
    ]);
    let shown = root.shell(
        &["--volumes-from", "data"],
        "cat /named/file /made-up/file /bind/file; ls -d /scratch 2>&1 || true",
    );
    assert!(
        shown.starts_with("named\nmade-up\nbind\n") && shown.contains("No such file"),
        "{shown}"
    );
    // The container with --rm went, and took nothing along.
    let script = "cat /made-up/file; (echo x > /named/new) 2>&1; (echo x > /bind/new) 2>&1; echo own > /own/x";
    let shown = root.shell(&["--volumes-from", "data:ro", "-v", "/own"], script);
    assert!(shown.starts_with("made-up") && shown.matches("Read-only").count() == 2, "{shown}");
    // What is typed for a target holds.
    let over = root.host_dir("over");
    let spec = format!("{}:/named", arg(&over));
    assert_eq!(root.shell(&["--volumes-from", "data", "-v", &spec], "ls /named | wc -l"), "0");
    let image = image();
    root.fails(125, &["No such container"], ["run", "--volumes-from", "nosuch", image, "true"]);
    root.fails(125, &["--volumes-from"], ["run", "--volumes-from", "data:x", image, "true"]);
    // A made-up volume stays as long as another container has it.
    root.ok(["run", "--name", "heir", "--volumes-from", "data", image, "true"]);
    root.ok(["rm", "-v", "data"]);
    assert_eq!(root.ok(["volume", "ls", "-q"]).lines().count(), 2);
    root.ok(["rm", "-v", "heir"]);
    root.ok(["volume", "prune", "-af"]);
    root.assert_nothing_left();
}

#[test]
fn what_is_to_come_is_refused_with_its_reason() {
    let root = Root::new();
    for (options, words) in [
        (&["-p", "80:80"][..], "networks"),
        (&["--kernel-memory", "1g"], "--memory"),
        (&["-P"], "--publish-all"),
        (&["--userns", "host"], "user namespaces"),
        (&["--gpus", "all"], "graphics cards"),
    ] {
        let args = [&["run"], options, &["nosuch", "true"]].concat();
        root.fails(125, &[words, "leave it out"], args);
    }
    assert!(!root.store().exists(), "it makes a store");
    let log = |driver: &str| {
        let args = ["run", "-d", "--name", driver, "--log-driver", driver, image(), "echo", "x"];
        root.ok(args);
        root.wait_for_exit(driver);
        let value = root.inspect(driver);
        (
            value["HostConfig"]["LogConfig"]["Type"].clone(),
            value["LogPath"].as_str().unwrap().is_empty(),
        )
    };
    assert_eq!(log("none"), (json!("none"), true));
    assert_eq!(log("json-file"), (json!("json-file"), false));
    let args = [
        "run",
        "--log-opt",
        "max-size=1m",
        "--log-opt",
        "max-file=3",
        "--name",
        "box",
        image(),
        "true",
    ];
    root.ok(args);
    let config = json!({"Type": "local", "Config": {"max-size": "1m", "max-file": "3"}});
    assert_eq!(root.inspect("box")["HostConfig"]["LogConfig"], config);
    root.fails(125, &["--log-driver"], ["run", "--log-driver", "syslog", image(), "true"]);
}
