//! What a container has.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_runtime::{Exit, Prepared, Stdio};
use serde_json::json;

use crate::{config, run, script, spec, start, text};

#[test]
fn a_program_runs_in_namespaces_of_its_own_and_its_status_comes_back() {
    let (printed, exit) = run(script("echo $$; hostname; exit 7")).unwrap();
    assert_eq!(printed, "1\ncontained\n");
    assert_eq!(exit, Exit::Status(7));
    let (_, exit) = run(script("kill -9 $$")).unwrap();
    // Process 1 of a namespace cannot kill itself.
    assert_eq!(exit, Exit::Status(0));
}

#[test]
fn only_its_own_mounts_are_there_and_the_root_is_read_only() {
    let (printed, _) = run(script("cat /proc/self/mounts; touch /etc/x 2>&1; ls /tmp")).unwrap();
    assert!(printed.contains("proc /proc proc rw"), "{printed}");
    assert!(printed.contains("Read-only file system"), "{printed}");
    assert!(!Path::new("/etc/x").exists());
}

#[test]
fn nothing_of_the_host_is_open() {
    let _held = std::fs::File::open("/etc").unwrap();
    let (printed, _) = run(script("ls /proc/self/fd | tr '\\n' ' '")).unwrap();
    // 3 is what ls itself has open.
    assert_eq!(printed, "0 1 2 3 ");
}

#[test]
fn user_groups_capabilities_and_limits_are_those_asked_for() {
    let mut config = script("id; umask; grep -E 'Cap|NoNewPrivs' /proc/self/status; ulimit -n");
    config["process"]["user"] =
        json!({"uid": 1234, "gid": 5678, "additionalGids": [5678, 91], "umask": 0o77});
    config["process"]["noNewPrivileges"] = json!(true);
    config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]);
    config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
    });
    let (printed, _) = run(config).unwrap();
    assert!(printed.contains("uid=1234 gid=5678 groups=5678,91"), "{printed}");
    assert!(printed.contains("0077\n"), "{printed}");
    for (set, bits) in [("Inh", 0x20), ("Prm", 0x20), ("Eff", 0x20), ("Bnd", 0x21), ("Amb", 0x20)] {
        assert!(printed.contains(&format!("Cap{set}:\t{bits:016x}")), "{set}: {printed}");
    }
    assert!(printed.contains("NoNewPrivs:\t1"), "{printed}");
    assert!(printed.ends_with("99\n"), "{printed}");
}

#[test]
fn without_capabilities_asked_for_there_are_none() {
    let (printed, _) = run(script("grep CapBnd /proc/self/status")).unwrap();
    assert_eq!(printed, "CapBnd:\t0000000000000000\n");
}

#[test]
fn signals_are_as_a_program_expects_them() {
    let (printed, _) = run(script("grep -E 'SigBlk|SigIgn' /proc/self/status")).unwrap();
    assert_eq!(printed, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn volumes_and_masks() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "from the host\n").unwrap();
    let mut config = script(
        "cat /tmp/v/file; touch /tmp/v/x; ls -A /proc/fs | wc -l; cat /proc/version | wc -c",
    );
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/tmp/v", "type": "bind", "source": dir.path(), "options": ["rbind", "rro"],
    }));
    config["linux"]["maskedPaths"] = json!(["/proc/fs", "/proc/version", "/proc/no-such"]);
    let (printed, _) = run(config).unwrap();
    assert!(printed.starts_with("from the host\n"), "{printed}");
    assert!(printed.contains("Read-only file system"), "{printed}");
    assert!(printed.ends_with("0\n0\n"), "{printed}");
    assert!(!dir.path().join("x").exists());
}

#[test]
fn a_created_container_waits_and_goes_when_it_is_dropped() {
    let prepared =
        Prepared::new(Path::new("/"), &spec(script("exit 3")), Stdio::null().unwrap()).unwrap();
    let created = prepared.create().unwrap();
    let pid = created.pid();
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    let exe = std::fs::read_link(format!("{proc}/exe")).unwrap();
    assert_eq!(exe, std::env::current_exe().unwrap(), "its program does not run yet");
    // CVE-2019-5736: nobody else in the container may get at the host's program.
    assert_eq!(std::fs::metadata(format!("{proc}/fd")).unwrap().uid(), 0);
    drop(created);
    let (_, status) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
        .unwrap()
        .unwrap();
    assert_eq!(status.exit_status(), Some(1));
}

#[test]
fn a_terminal_is_the_controlling_one_and_has_its_size() {
    let mut config = script("tty; stty size; test -c /dev/console && echo console");
    config["process"]["terminal"] = json!(true);
    config["process"]["consoleSize"] = json!({"height": 30, "width": 100});
    let (mut running, _) = start(config).unwrap();
    let master = running.take_terminal().unwrap();
    running.wait().unwrap();
    // One read may give a part only; EIO comes after the last, since no slave is open any more.
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = rustix::io::read(&master, &mut part) {
        bytes.extend_from_slice(&part[..count]);
    }
    let printed = String::from_utf8_lossy(&bytes).replace('\r', "");
    assert_eq!(printed, "/dev/pts/0\n30 100\nconsole\n");
}

#[test]
fn a_working_directory_that_is_missing_is_made() {
    let mut config = config(&["pwd"]);
    config["process"]["cwd"] = json!("/tmp/a/b");
    let (running, pipe) = start(config).unwrap();
    running.wait().unwrap();
    assert_eq!(text(pipe), "/tmp/a/b\n");
}

#[test]
fn kernel_parameters_are_those_of_its_namespaces() {
    let own = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
    let mut config = script(
        "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/queues_max \
         /proc/sys/kernel/domainname",
    );
    config["linux"]["sysctl"] = json!({
        "net.ipv4.ip_default_ttl": "77", "kernel/msgmax": "4242", "fs.mqueue.queues_max": "99",
        "kernel.domainname": "of.container",
    });
    // What an image or a volume has in place of the container's /proc is never written to.
    config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    let (printed, _) = run(config).unwrap();
    assert_eq!(printed, "77\n4242\n99\nof.container\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap(), own);
    // What the kernel refuses is said with its name.
    let mut config = script("true");
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "x"});
    let error = run(config).unwrap_err().to_string();
    assert!(error.contains("net/ipv4/ip_default_ttl = x: writing the kernel parameter"), "{error}");
    let mut config = script("true");
    config["linux"]["sysctl"] = json!({"net.ipv4.no_such": "1"});
    let error = run(config).unwrap_err().to_string();
    assert!(error.contains("net/ipv4/no_such = 1: opening"), "{error}");
}

#[test]
fn namespaces_of_another_container_are_joined() {
    let (first, _pipe) = start(script("sleep 1000")).unwrap();
    let pid = first.pid().as_raw_nonzero();
    let link = |process: &str, kind: &str| {
        let link = std::fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
        link.to_str().unwrap().to_owned()
    };
    let mut config =
        script("for n in pid ipc uts net; do readlink /proc/self/ns/$n; done; echo $$");
    let path = |kind: &str| format!("/proc/{pid}/ns/{kind}");
    config["linux"]["namespaces"] = json!([
        {"type": "mount"}, {"type": "pid", "path": path("pid")}, {"type": "ipc", "path": path("ipc")},
        {"type": "uts", "path": path("uts")}, {"type": "cgroup"}
    ]);
    config.as_object_mut().unwrap().remove("hostname");
    let (printed, _) = run(config.clone()).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    let of_first = ["pid", "ipc", "uts"].map(|kind| link(&pid.to_string(), kind));
    assert_eq!(lines[..3], of_first);
    assert_eq!(lines[3], link("self", "net"), "what is not named is the caller's");
    assert_ne!(lines[4], "1", "it is not the first process there");
    // The name is that of both then; the host's would be refused.
    config["hostname"] = json!("x");
    config["process"]["args"] = json!(["hostname"]);
    assert_eq!(run(config.clone()).unwrap().0, "x\n");
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|kind| kind["type"] != "uts");
    let error = run(config).unwrap_err().to_string();
    assert!(error.starts_with("hostname of the container's configuration"), "{error}");
    first.kill().unwrap();
    first.wait().unwrap();
}
