//! A `/proc` that is none, kernel parameters and cgroups of the host, namespaces of a container's own making.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use crate::attack::{Canary, forms};
use crate::harness::{Root, arg};
use crate::image::{Archive, Layer};
use crate::oci::{Oci, WAITS};

/// The parameter of namespaces that these tests set, and their value of it.
const TTL: &str = "net.ipv4.ip_default_ttl";
const VALUE: &str = "77";

/// What the kernel has for the network namespace of a process, whatever that process sees.
fn ttl_of(pid: i32) -> String {
    let read = || {
        let namespace = File::open(format!("/proc/{pid}/ns/net")).unwrap();
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).unwrap();
        fs::read_to_string("/proc/thread-self/net/../../../sys/net/ipv4/ip_default_ttl").unwrap()
    };
    std::thread::scope(|scope| scope.spawn(read).join().unwrap()).trim().to_owned()
}

/// A directory that looks like a procfs, with what a runtime writes to: labels, parameters, groups.
fn fake_proc(dir: &Path) -> PathBuf {
    let fake = dir.join("fake");
    let files = [
        "sys/net/ipv4/ip_default_ttl",
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "1/attr/exec",
        "self/setgroups",
        "self/uid_map",
        "self/oom_score_adj",
        "thread-self/attr/exec",
        "self/fd/0",
        "sysrq-trigger",
    ];
    for file in files {
        let path = fake.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "fake").unwrap();
    }
    fake
}

#[track_caller]
fn assert_fake(fake: &Path) {
    for entry in
        ["sys/net/ipv4/ip_default_ttl", "self/attr/exec", "self/oom_score_adj", "sysrq-trigger"]
    {
        assert_eq!(fs::read_to_string(fake.join(entry)).unwrap(), "fake", "{entry} was written to");
    }
}

/// 2019-16884, 2019-19921, 2023-28642, 2025-52881: what is written to the kernel arrives there, or nothing starts.
#[test]
fn a_proc_that_is_none() {
    for form in forms() {
        let root = Root::new();
        let fake = fake_proc(root.dir());
        let canary = Canary::new(root.dir());
        let volume = Archive::busybox([Layer::new().file("proc/self/attr/exec", 0o666, "fake")])
            .with("Volumes", json!({"/proc": {}}))
            .write(root.dir(), "volume.tar");
        let link = |to: &str, name: &str| {
            Archive::busybox([Layer::new().symlink("proc", to)]).write(root.dir(), name)
        };
        let links = [link(canary.path(), "a.tar"), link("etc", "b.tar"), link("proc", "c.tar")];
        let file =
            Archive::busybox([Layer::new().file("proc", 0o644, "")]).write(root.dir(), "d.tar");
        let plain = Archive::busybox([]).write(root.dir(), "e.tar");
        let bind = format!("{}:/proc", arg(&fake));
        let below = format!("{}/sys:/proc/sys", arg(&fake));
        let mut cases: Vec<(&Path, Vec<&str>)> = vec![
            (&volume, vec![]),
            (&file, vec![]),
            (&plain, vec!["-v", &bind]),
            (&plain, vec!["-v", "data:/proc"]),
            (&plain, vec!["--tmpfs", "/proc"]),
            (&plain, vec!["-v", &below]),
            (&plain, vec!["-v", "/proc/sys:/proc/sys", "--security-opt", "systempaths=unconfined"]),
        ];
        cases.extend(links.iter().map(|image| (&**image, vec![])));
        for (image, options) in cases {
            let parameter = format!("{TTL}={VALUE}");
            let mut args = vec![
                "run",
                "-d",
                "--name",
                "box",
                form,
                "--sysctl",
                &parameter,
                "--oom-score-adj",
                "5",
            ];
            args.extend(&options);
            args.extend([arg(image), "sleep", "1000"]);
            let out = root.call(&args);
            assert!(
                matches!(out.code, 0 | 125) && !out.stderr.contains("panicked"),
                "{args:?}: {out:?}"
            );
            if out.code == 0 {
                let pid = root.pid("box");
                assert_eq!(ttl_of(pid), VALUE, "{args:?}");
                let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
                assert_eq!(score.trim(), "5", "{args:?}");
                root.ok(["exec", "box", "true"]);
            }
            root.call(["rm", "-f", "-v", "box"]);
            assert_fake(&fake);
            canary.assert_untouched();
        }
        root.call(["volume", "rm", "data"]);
        root.assert_nothing_left();
    }
}

/// A configuration in which something is changed, and the usual waiting shell.
pub(crate) fn with(oci: &Oci, change: impl FnOnce(&mut Value)) {
    oci.configure(
        |config| {
            config["linux"]["sysctl"] = json!({TTL: VALUE});
            config["process"]["oomScoreAdj"] = json!(5);
            change(config);
        },
        &WAITS,
    );
}

/// `create` and `start`; what the container's process is, if it came about.
pub(crate) fn started(oci: &Oci) -> Option<i32> {
    let output = File::create(oci.dir().join("said")).unwrap();
    let mut command = oci.command(&["create", "a"]);
    command.stdin(std::process::Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let created = command.status().unwrap().success();
    let said = fs::read_to_string(oci.dir().join("said")).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    if !created {
        assert!(said.contains("level=error"), "{said}");
        return None;
    }
    oci.ok(&["start", "a"]);
    Some(i32::try_from(oci.state("a")["pid"].as_i64().unwrap()).unwrap())
}

pub(crate) fn delete(oci: &Oci) {
    oci.call(&["delete", "--force", "a"]);
    assert!(oci.names().is_empty());
}

#[test]
fn a_proc_that_is_none_for_runtime_oci() {
    let oci = Oci::new(&WAITS);
    let fake = fake_proc(oci.dir());
    let canary = Canary::new(oci.dir());
    let bind =
        json!({"destination": "/proc", "type": "bind", "source": arg(&fake), "options": ["rbind"]});
    let tmpfs = json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"});
    let below = json!({"destination": "/proc/sys", "type": "bind", "source": arg(&fake.join("sys")), "options": ["bind"]});
    let masks = json!(["/proc/sysrq-trigger", "/proc/self/attr/exec"]);
    // In place of the procfs, and over it.
    for (mount, replaces) in
        [(&bind, true), (&bind, false), (&tmpfs, true), (&tmpfs, false), (&below, false)]
    {
        with(&oci, |config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            if replaces {
                mounts[0] = mount.clone();
            } else {
                mounts.insert(1, mount.clone());
            }
            config["linux"]["readonlyPaths"] = masks.clone();
        });
        if let Some(pid) = started(&oci) {
            assert_eq!(ttl_of(pid), VALUE, "{mount}");
            let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
            assert_eq!(score.trim(), "5", "{mount}");
            oci.call(&["exec", "a", "true"]);
        }
        delete(&oci);
        assert_fake(&fake);
    }
    for to in [canary.path(), "etc", "/proc", "proc"] {
        let proc = oci.bundle().join("rootfs/proc");
        let _ = fs::remove_dir(&proc);
        let _ = fs::remove_file(&proc);
        symlink(to, &proc).unwrap();
        with(&oci, |_| {});
        assert_eq!(started(&oci), None, "/proc is a link to {to}");
        delete(&oci);
        canary.assert_untouched();
    }
}

/// CRI-O 2022-0811: what is the whole host's is refused, however it is written.
#[test]
fn kernel_parameters_of_the_host() {
    let parameters =
        ["kernel/core_pattern", "vm/overcommit_memory", "fs/suid_dumpable", "kernel/hostname"];
    let read = || {
        parameters
            .map(|name| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default())
    };
    let before = read();
    let root = Root::new();
    let oci = Oci::new(&["true"]);
    let image = Archive::busybox([]).write(root.dir(), "x.tar");
    for (key, value) in [
        ("kernel.core_pattern", "|/x"),
        ("kernel/core_pattern", "|/x"),
        ("net.ipv4.../../../kernel.core_pattern", "|/x"),
        ("net/../kernel/core_pattern", "|/x"),
        ("net.ipv4.ip_default_ttl\nkernel.core_pattern", "|/x"),
        ("net.ipv4.ip_default_ttl", "1\n|/x"),
        ("net.ipv4.ip_default_ttl=1+kernel.core_pattern", "|/x"),
        ("net.ipv4.ip_default_ttl", "1+kernel.core_pattern=|/x"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x"),
        ("vm.overcommit_memory", "1"),
        ("fs.suid_dumpable", "2"),
        ("kernel.hostname", "x"),
        ("fs.mqueue.../../kernel.core_pattern", "|/x"),
        ("./kernel/core_pattern", "|/x"),
        ("//kernel/core_pattern", "|/x"),
    ] {
        let option = format!("{key}={value}");
        let out = root.call(["run", "--rm", "--sysctl", &option, arg(&image), "true"]);
        assert!(out.code == 125 && !out.stderr.contains("panicked"), "{option}: {out:?}");
        oci.configure(|config| config["linux"]["sysctl"] = json!({key: value}), &["true"]);
        let out = oci.call(&["run", "a"]);
        assert!(out.code == 1 && !out.stderr.contains("panicked"), "{option}: {out:?}");
        assert_eq!(read(), before, "{option}");
    }
    for options in [&["--network", "host"][..], &["--ipc", "host"]] {
        for parameter in ["net.ipv4.ip_default_ttl=1", "kernel.shmmax=1", "fs.mqueue.msg_max=1"] {
            let host_net = options[1] == "host" && options[0] == "--network";
            if host_net == parameter.starts_with("net") {
                let args =
                    [&["run", "--rm"], options, &["--sysctl", parameter, arg(&image), "true"]]
                        .concat();
                root.fails(125, &[], args);
            }
        }
    }
    root.assert_nothing_left();
}

/// 2023-25809: cgroups that are the host's cannot be written to, in each hierarchy, also in a user namespace that
/// maps root to root.
#[test]
fn cgroups_of_the_host_are_read_only() {
    let script = "for f in $(find /sys/fs/cgroup -name cgroup.procs -o -name tasks -o -name release_agent -o \
                  -name notify_on_release -o -name pids.max); do (echo 1 >$f) 2>/dev/null && echo wrote $f; done; \
                  for d in $(find /sys/fs/cgroup -type d); do mkdir $d/new 2>/dev/null && echo made $d; done; \
                  ls /sys/fs/cgroup | wc -l";
    let oci = Oci::new(&["sh", "-c", script]);
    for (user, own) in [(false, false), (true, false), (true, true), (false, true)] {
        oci.configure(
            |config| {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                if user {
                    namespaces.push(json!({"type": "user"}));
                }
                if own {
                    namespaces.push(json!({"type": "cgroup"}));
                }
                if user {
                    let map = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
                    config["linux"]["uidMappings"] = map.clone();
                    config["linux"]["gidMappings"] = map;
                }
                config["mounts"].as_array_mut().unwrap().extend([
                    json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]}),
                    json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "ro"]}),
                ]);
            },
            &["sh", "-c", script],
        );
        let out = oci.call(&["run", "a"]);
        assert_eq!(out.code, 0, "user {user}, cgroup {own}: {out:?}");
        let lines: Vec<&str> = out.stdout.lines().collect();
        assert_eq!(lines.len(), 1, "user {user}, cgroup {own}: {out:?}");
        assert_ne!(lines[0], "0", "there are none to be seen");
    }
}

/// 2022-0492, 2022-0185: a new user namespace, and in it cgroups or a file system's own parser.
#[test]
fn namespaces_that_a_container_makes() {
    let root = Root::new();
    let canary = Canary::new(root.dir());
    root.sleeper("box", &[]);
    for flags in
        ["-U", "-r", "-m", "-p -f", "-n", "-i", "-u", "-C", "-U -r -m -C", "-U -r -m -n -p -f -i"]
    {
        let out = root.call(["exec", "box", "sh", "-c", &format!("unshare {flags} echo INSIDE")]);
        assert!(out.code != 0 && !out.stdout.contains("INSIDE"), "unshare {flags}: {out:?}");
        assert!(
            out.stderr.contains("not permitted") || out.stderr.contains("invalid option"),
            "unshare {flags}: {out:?}"
        );
    }
    // Without the filter it may: what it mounts there is no way to the programs that the host runs for cgroups.
    let escape = "mkdir -p /c; for t in cgroup cgroup2; do for o in rdma memory pids devices none,name=x; do \
        mount -t $t -o $o cgroup /c 2>/dev/null || continue; for f in $(find /c -name release_agent); do \
        echo /pwn >$f 2>/dev/null && echo WROTE $f; done; umount /c; done; done; echo INSIDE";
    for (options, inside) in [(&["--security-opt", "seccomp=unconfined"][..], true), (&[], false)] {
        let script = format!("unshare -U -r -m -C sh -c '{escape}'");
        let out = root.busybox(options, &["sh", "-c", &script]);
        assert!(!out.stdout.contains("WROTE"), "{options:?}: {out:?}");
        // A host may let nobody make user namespaces.
        assert!(!out.stdout.contains("INSIDE") || inside, "{options:?}: {out:?}");
    }
    canary.assert_untouched();
    root.ok(["rm", "-f", "box"]);
}
