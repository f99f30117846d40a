//! A mount namespace that is a copy of another than the caller's.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use oci_runtime::{MountBase, Prepared, Stdio};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::{Value, json};

use crate::{run, script, spec, text};

/// Its own mounts alone: others come and go, which the host's root has.
const LOOK: &str = "grep -E ' (/proc|/dev|/dev/pts|/tmp|/tmp/v|/tmp/c)(/[a-z,_]*)? ' /proc/self/mounts | sort -u; cat /tmp/v/file; pwd; ls -di /";

fn run_over(base: &MountBase, config: Value) -> String {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio::new(Stdio::null_device().unwrap(), &write, &write).unwrap();
    let prepared = Prepared::new(std::path::Path::new("/"), &spec(config), stdio).unwrap();
    let running = prepared.copy_mounts_of(base.clone()).create().unwrap().start().unwrap();
    drop(write);
    let printed = text(read);
    running.wait().unwrap();
    printed
}

/// With a volume, a `cgroup` and sysctls, which are made by descriptors and in the caller's `/proc`.
fn config() -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "from the host\n").unwrap();
    let mut config = script(LOOK);
    config["mounts"].as_array_mut().unwrap().extend([
        json!({"destination": "/tmp/v", "type": "bind", "source": dir.path(), "options": ["rbind"]}),
        json!({"destination": "/tmp/c", "type": "cgroup", "source": "cgroup", "options": ["ro"]}),
    ]);
    config["linux"]["sysctl"] = json!({"kernel.shmmni": "4097"});
    (dir, config)
}

#[test]
fn a_container_is_the_same_over_it() {
    let base = MountBase::new().unwrap();
    for cgroup in [true, false] {
        let (_dir, mut config) = config();
        if !cgroup {
            let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
            kinds.retain(|kind| kind["type"] != "cgroup");
        }
        let (printed, _) = run(config.clone()).unwrap();
        assert!(printed.contains("from the host\n"), "{printed}");
        assert_eq!(run_over(&base, config), printed);
    }
}

/// Whoever may unmount its root finds nothing of the host's below it.
#[test]
fn nothing_of_the_host_is_below_a_container() {
    let host = std::fs::File::open("/proc/self/ns/mnt").unwrap();
    let not_empty = MountBase::from_file(host.into()).unwrap().unwrap();
    for base in [MountBase::new().unwrap(), not_empty] {
        let mut config = script("read x; umount -l / && echo gone; read x");
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
        let (input, mut keys) = std::io::pipe().unwrap();
        let (mut lines, output) = std::io::pipe().unwrap();
        let stdio = Stdio::new(input, &output, &output).unwrap();
        let prepared = Prepared::new(std::path::Path::new("/"), &spec(config), stdio).unwrap();
        let running = prepared.copy_mounts_of(base).create().unwrap().start().unwrap();
        drop(output);
        let enters = || {
            let pid = format!("--target={}", running.pid().as_raw_nonzero());
            let nsenter =
                std::process::Command::new("nsenter").args([&pid, "--mount", "true"]).output();
            nsenter.unwrap().status.success()
        };
        assert!(enters());
        keys.write_all(b"\n").unwrap();
        let mut line = [0; 5];
        lines.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"gone\n");
        assert!(!enters(), "there is a program below the root");
        drop(keys);
        running.wait().unwrap();
    }
}

/// It is not a copy where the container's user namespace has to own it.
#[test]
fn a_user_namespace_does_without() {
    let base = MountBase::new().unwrap();
    let mut config = script("cat /proc/self/uid_map");
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    for map in ["uidMappings", "gidMappings"] {
        config["linux"][map] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    }
    assert!(run_over(&base, config).contains("65536"));
}

#[test]
fn one_is_known_by_its_file() {
    let open = |path: &str| OwnedFd::from(std::fs::File::open(path).unwrap());
    assert!(MountBase::from_file(open("/proc/self/ns/mnt")).unwrap().is_some());
    assert!(MountBase::from_file(open("/proc/self/ns/uts")).unwrap().is_none());
    assert!(MountBase::from_file(open("/etc/passwd")).unwrap().is_none());
}
