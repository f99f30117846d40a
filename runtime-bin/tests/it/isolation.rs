//! What Docker gives every container: capabilities, devices, masks, names.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Root, Started, arg, busybox};
use crate::host;

const DEFAULT: u64 = 0xa804_25fb;
const NET_RAW: u64 = 1 << 13;
const SYS_ADMIN: u64 = 1 << 21;
const CHOWN: u64 = 1;

/// `CapBnd` and the like of a status file.
fn set(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

/// What the machine grants at all.
fn granted() -> u64 {
    set(&fs::read_to_string("/proc/self/status").unwrap(), "CapBnd")
}

#[track_caller]
fn assert_sets(status: &str, bounding: u64, effective: u64) {
    let bounding = bounding & granted();
    assert_eq!(set(status, "CapBnd"), bounding, "{status}");
    assert_eq!(set(status, "CapEff"), effective & bounding, "{status}");
    assert_eq!(set(status, "CapPrm"), effective & bounding, "{status}");
    // CVE-2022-24769, CVE-2022-29162.
    assert_eq!(set(status, "CapInh"), 0, "{status}");
    assert_eq!(set(status, "CapAmb"), 0, "{status}");
}

#[test]
fn capabilities_are_dockers() {
    let root = Root::new();
    let status = |options: &[&str]| root.shell(options, "cat /proc/self/status");
    assert_sets(&status(&[]), DEFAULT, DEFAULT);
    assert_sets(&status(&["-u", "1000"]), DEFAULT, 0);
    assert_sets(&status(&["--cap-drop", "ALL"]), 0, 0);
    let only = CHOWN | NET_RAW;
    let options = ["--cap-drop=all", "--cap-add=CAP_CHOWN", "--cap-add=net_raw"];
    assert_sets(&status(&options), only, only);
    let more = DEFAULT | SYS_ADMIN;
    assert_sets(&status(&["--cap-add", "SYS_ADMIN"]), more, more);
    let less = DEFAULT & !NET_RAW;
    assert_sets(&status(&["--cap-drop", "NET_RAW"]), less, less);
    let all = granted();
    assert_sets(&status(&["--cap-add", "ALL"]), all, all);
}

#[test]
fn capabilities_of_an_exec_are_the_containers() {
    let root = Root::new();
    root.sleeper("box", &["--cap-drop", "NET_RAW"]);
    let less = DEFAULT & !NET_RAW;
    assert_sets(&root.ok(["exec", "box", "cat", "/proc/self/status"]), less, less);
    assert_sets(&root.ok(["exec", "-u", "33", "box", "cat", "/proc/self/status"]), less, 0);
}

#[test]
fn devices_are_dockers() {
    let root = Root::new();
    let script = "ls /dev; echo --; for d in null zero full random urandom tty; do \
        stat -c '%n %F %a %t:%T' /dev/$d; done; for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; \
        done; ls -A /dev/pts";
    let shown = root.shell(&[], script);
    let (list, rest) = shown.split_once("--\n").unwrap();
    let mut names: Vec<&str> = list.split_whitespace().filter(|name| *name != "core").collect();
    names.sort_unstable();
    let all = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(names.join(" "), all);
    let device = |name: &str, n: &str| format!("/dev/{name} character special file 666 {n}\n");
    let nodes = [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8")];
    let nodes = nodes.into_iter().chain([("urandom", "1:9"), ("tty", "5:0")]);
    let mut expected: String = nodes.map(|(name, number)| device(name, number)).collect();
    let links = ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"];
    expected += &links.map(|link| format!("{link}\n")).concat();
    expected += "pts/ptmx\nptmx";
    assert_eq!(rest, expected);
    let script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 9 /dev/urandom | wc -c \
        && ! echo x > /dev/full && echo x > /dev/shm/file && echo done > /dev/stdout";
    let out = root.busybox(&[], &["sh", "-c", script]);
    assert_eq!((out.code, &*out.stdout), (0, "3\n9\ndone\n"), "{out:?}");
}

/// What Docker hides or protects, as far as the kernel has it.
#[test]
fn masked_and_read_only_paths() {
    let root = Root::new();
    let mut script = String::new();
    let masked = ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug"];
    let masked = masked.iter().chain(&["scsi", "timer_list", "timer_stats"]);
    let masked = masked.map(|name| format!("/proc/{name}"));
    let masked: Vec<_> = masked
        .chain(["/sys/firmware".into(), "/sys/devices/virtual/powercap".into()])
        .filter(|path| Path::new(path).exists())
        .collect();
    assert!(
        masked.contains(&"/proc/keys".to_owned()) || masked.contains(&"/proc/kcore".to_owned())
    );
    for path in &masked {
        script += &format!(
            "if [ -d {path} ]; then ls -A {path}; else head -c 10 {path}; fi; \
             echo x 2>/dev/null > {path}/x && echo wrote {path};"
        );
    }
    let protected =
        ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq", "/sys/kernel"];
    for path in protected.iter().filter(|path| Path::new(path).exists()) {
        script += &format!("touch {path} 2>&1 | grep -q Read-only || echo not protected: {path};");
    }
    script += "(echo x > /proc/sys/kernel/hostname) 2>&1 | grep -q Read-only || echo written;";
    script += "echo done";
    assert_eq!(root.shell(&[], &script), "done");
    // As root of the container, with a capability to write there.
    assert_eq!(root.shell(&["--cap-add", "ALL"], &script), "done");
}

#[test]
fn the_network_is_none_and_loopback_is_up() {
    let root = Root::new();
    let script = "ls /sys/class/net; cat /sys/class/net/lo/operstate; ip -o addr show lo; \
        ping -c 1 -W 10 127.0.0.1 >/dev/null && echo pong; cat /proc/net/route | wc -l";
    let shown = root.shell(&[], script);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(shown.contains("127.0.0.1/8"), "{shown}");
    assert!(lines.contains(&"pong"), "{shown}");
    assert_eq!(*lines.last().unwrap(), "1", "there is a route: {shown}");
    let devices = lines.iter().take_while(|line| **line != "unknown" && **line != "up");
    // The kernel may make tunnels in every namespace; no device of the host is here.
    let host: Vec<_> = fs::read_dir("/sys/class/net").unwrap().flatten().collect();
    let host: Vec<_> = host.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    let same: Vec<_> = devices.filter(|name| host.iter().any(|host| host == *name)).collect();
    let own = |name: &&&&str| {
        ![
            "lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0",
            "ip6gre0",
        ]
        .contains(**name)
    };
    assert_eq!(same.iter().filter(own).count(), 0, "{same:?}");
}

#[test]
fn names_are_the_containers() {
    let root = Root::new();
    let id = root.sleeper("box", &[]);
    let short = &id[..12];
    assert_eq!(root.ok(["exec", "box", "hostname"]), short);
    assert_eq!(root.ok(["exec", "box", "cat", "/etc/hostname"]), short);
    assert_eq!(root.ok(["exec", "box", "sh", "-c", "echo $HOSTNAME"]), short);
    let hosts = root.ok(["exec", "box", "cat", "/etc/hosts"]);
    assert!(hosts.lines().any(|line| line == "127.0.0.1\tlocalhost"), "{hosts}");
    // They are files of the container's directory on the host, which may be changed there.
    let value = root.inspect("box");
    for (key, file) in [
        ("HostnamePath", "/etc/hostname"),
        ("HostsPath", "/etc/hosts"),
        ("ResolvConfPath", "/etc/resolv.conf"),
    ] {
        let path = Path::new(value[key].as_str().unwrap());
        assert!(path.starts_with(root.store()), "{}", path.display());
        fs::write(path, format!("# {key}\n")).unwrap();
        assert_eq!(root.ok(["exec", "box", "cat", file]), format!("# {key}"));
    }
    // The host has its own.
    let own = rustix::system::uname();
    assert_ne!(own.nodename().to_str().unwrap(), short);
}

/// Process 1 is the command itself: it sees no process but its own.
#[test]
fn processes_are_the_containers() {
    let root = Root::new();
    assert_eq!(root.shell(&[], "echo $$"), "1");
    let seen = root.shell(&[], "echo /proc/[0-9]*");
    assert!(seen.split(' ').all(|path| path.len() <= "/proc/99".len()), "{seen}");
    let fds = root.shell(&[], "ls /proc/self/fd");
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]); // 3 is ls's own
}

/// Whatever the caller has changed for itself: signals, umask.
#[test]
fn nothing_of_the_caller_is_inherited() {
    let root = Root::new();
    let run = root.command(["run", "--rm", "-v", "/made/by/it", arg(&busybox()), "sh", "-c"]);
    let script = "cat /proc/$$/status; stat -c '%n %a' /made /made/by";
    let mut caller = Command::new("sh");
    caller.args(["-c", "umask 077; trap '' QUIT HUP TERM INT USR1 PIPE; exec \"$@\"", "sh"]);
    caller.arg(run.get_program()).args(run.get_args()).arg(script).current_dir(root.dir());
    let out = Started::new(caller, None).wait();
    assert_eq!(out.code, 0, "{out:?}");
    let status = out.stdout;
    // A shell ignores SIGQUIT itself.
    let quit = 1 << 2;
    assert_eq!((set(&status, "SigBlk"), set(&status, "SigIgn") & !quit), (0, 0), "{status}");
    assert!(status.contains("Umask:\t0022"), "{status}");
    assert!(status.ends_with("/made 755\n/made/by 755\n"), "{status}");
    // The program itself does not ignore any.
    let out = root.busybox(&[], &["cat", "/proc/self/status"]);
    assert_eq!(set(&out.stdout, "SigIgn"), 0, "{out:?}");
    root.assert_nothing_left();
}

/// Its cgroup is the root of what it sees of them, and it can change nothing there.
#[test]
fn the_cgroup_is_the_containers_own() {
    let root = Root::new();
    let id = root.sleeper("box", &[]);
    let groups = host::own_cgroups(root.pid("box"));
    assert!(groups.iter().any(|group| group.ends_with(&id)), "{groups:?}");
    let own = "grep ^0: /proc/self/cgroup; grep ^0: /proc/1/cgroup";
    assert_eq!(root.ok(["exec", "box", "sh", "-c", own]), "0::/\n0::/");
    let script = "find /sys/fs/cgroup -name 'runtime-bin-*'; mkdir /sys/fs/cgroup/x 2>/dev/null && \
        echo made; for f in $(find /sys/fs/cgroup -name cgroup.procs); do (echo 1 > $f) 2>/dev/null \
        && echo wrote $f; done; true";
    assert_eq!(root.ok(["exec", "box", "sh", "-c", script]), "");
    root.ok(["kill", "box"]);
    root.wait_for_exit("box");
    assert!(groups.iter().all(|group| !Path::new(group).exists()), "{groups:?}");
}

/// Two roots never meet.
#[test]
fn two_roots() {
    let (one, two) = (Root::new(), Root::new());
    let ids = [one.sleeper("same-name", &["-v", "data:/d"]), two.sleeper("same-name", &[])];
    assert_ne!(ids[0], ids[1]);
    for (root, id, other) in [(&one, &ids[0], &ids[1]), (&two, &ids[1], &ids[0])] {
        assert_eq!(root.ok(["ps", "-a", "-q", "--no-trunc"]), *id);
        root.fails(1, &[other], ["inspect", other]);
        root.fails(0, &[other], ["rm", "-f", other]);
        assert_eq!(host::container_mounts(root.dir()).len(), 1);
    }
    one.ok(["rm", "-f", "-v", "same-name"]);
    assert_eq!(two.ok(["exec", "same-name", "echo", "well"]), "well");
    // What one has loaded the other does not know.
    two.ok(["run", "--rm", "localhost/busybox:latest", "true"]);
    let three = Root::new();
    three.fails(125, &["localhost/busybox"], ["run", "--rm", "localhost/busybox:latest", "true"]);
    assert_eq!(three.ok(["images", "-q"]), "");
    assert_ne!(arg(&busybox()), "");
}

/// Nobody else on the machine gets at what containers have: setuid files of images, for one.
#[test]
fn the_store_is_its_owners() {
    use std::os::unix::fs::MetadataExt;
    let root = Root::new();
    let id = root.sleeper("box", &[]);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&root.store()), 0o700);
    let dir = root.store().join("containers").join(id);
    // The container's own root has the mode of the image's, since others use it inside.
    assert_eq!(mode(&dir.join("merged")), 0o755);
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    assert!(text.contains("ociVersion"), "{text}");
}
