//! The child's code, from the clone to the exec, uses no heap, takes no lock and prints nothing.
//!
//! The heap of this whole program ends each child that uses it (ns-core's tests/it/guard.rs), so that every test here
//! of whatever step proves it for that step and for its failures. What no other test starts is started here: what
//! `runtime-oci` does alone, all steps in one container, and the children that only mount.

use std::convert::Infallible;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;

use ns_core::{Namespaces, Spawn};
use oci_runtime::spec::Process;
use oci_runtime::{
    CgroupDriver, Config, Exit, Home, Making, Prepared, PreparedExec, Recorded, Running, Stdio,
    View, mount_into, unmount_from,
};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, WaitOptions, pidfd_open};
use serde_json::{Value, json};
use sys::Failure;

use crate::{script, spec, start, text};

fn done() -> Result<Infallible, Failure> {
    Err(Failure::new("the end of the test", Errno::CANCELED))
}

/// As a child of this thread and as the first process of a namespace, which most signals do not end.
#[test]
fn a_child_that_uses_the_heap_is_ended() {
    for namespaces in [Namespaces::empty(), Namespaces::PID] {
        let spawn = Spawn::new().namespaces(namespaces);
        let uses: [fn(); 3] = [
            || drop(std::hint::black_box(Box::new(1))),
            || drop(std::hint::black_box(vec![0_u64; 1 << 10])),
            || {
                std::hint::black_box(format!("{}", std::hint::black_box(1)));
            },
        ];
        for use_heap in uses {
            let child = spawn
                .spawn(|_| {
                    use_heap();
                    done()
                })
                .unwrap();
            let exit = child.wait().unwrap();
            assert!(matches!(exit, Exit::Signal(_)), "{namespaces:?}: {exit:?}");
        }
        let mut child = spawn.spawn(|_| done()).unwrap();
        let event = child.next().unwrap();
        assert!(matches!(event, ns_core::Event::Failed(_)), "{namespaces:?}: {event:?}");
        child.wait().unwrap();
    }
}

/// A hook that does nothing.
fn hook() -> Value {
    json!([{"path": "/bin/true"}])
}

/// All that one configuration can ask for at once: each of these is a step of the child, or a gate at which it waits.
fn everything(command: &str, dir: &Path) -> Value {
    let mut config = script(command);
    config["domainname"] = json!("of.container");
    config["process"]["cwd"] = json!("/tmp/made/for/it");
    config["process"]["noNewPrivileges"] = json!(true);
    config["process"]["oomScoreAdj"] = json!(500);
    config["process"]["user"] =
        json!({"uid": 5, "gid": 6, "additionalGids": [7, 8], "umask": 0o027});
    config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 60, "hard": 70}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]);
    config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 19});
    config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 5});
    let sets = json!(["CAP_CHOWN", "CAP_KILL"]);
    config["process"]["capabilities"] = json!({
        "bounding": sets, "effective": sets, "permitted": sets, "inheritable": sets, "ambient": sets,
    });
    for mount in [
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid"]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}),
        json!({"destination": "/tmp/a/b", "type": "bind", "source": dir, "options": ["rbind", "rprivate", "rro"]}),
        json!({"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "size=8m"]}),
    ] {
        config["mounts"].as_array_mut().unwrap().push(mount);
    }
    config["linux"]["devices"] = json!([
        {"path": "/dev/own/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 5, "gid": 6},
    ]);
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77", "kernel.msgmax": "4242", "fs.mqueue.queues_max": "99"});
    config["linux"]["maskedPaths"] = json!(["/proc/version", "/proc/fs", "/proc/no-such"]);
    config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/no-such"]);
    config["linux"]["rootfsPropagation"] = json!("slave");
    config["linux"]["personality"] = json!({"domain": "LINUX"});
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["swapon", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    });
    config["hooks"] = json!({
        "prestart": hook(), "createRuntime": hook(), "createContainer": hook(), "startContainer": hook(),
        "poststart": hook(), "poststop": hook(),
    });
    config
}

/// Adds a user namespace and one of clocks.
fn apart(mut config: Value) -> Value {
    let map = json!([{"containerID": 0, "hostID": 700_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["timeOffsets"] =
        json!({"monotonic": {"secs": 1000}, "boottime": {"secs": 1000}});
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.extend([json!({"type": "user"}), json!({"type": "time"})]);
    // The host's files are nobody's there, and what it covers cannot be read.
    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/etc");
    config
}

const LOOK: &str = "id -u; pwd; ulimit -n; cat /proc/self/oom_score_adj; cat /proc/version | wc -c";
const SEEN: &str = "5\n/tmp/made/for/it\n60\n500\n0\n";

#[test]
fn all_steps_in_one_container() {
    let dir = tempfile::tempdir().unwrap();
    for apart_too in [false, true] {
        let config = everything(LOOK, dir.path());
        let config = if apart_too { apart(config) } else { config };
        let (running, pipe) = start(config).unwrap_or_else(|error| panic!("{apart_too}: {error}"));
        assert_eq!(running.wait().unwrap(), Exit::Status(0));
        assert_eq!(text(pipe), SEEN, "{apart_too}");
    }
}

/// A further process with all that it can ask for, its terminal too.
#[test]
fn all_steps_of_a_further_process() {
    let dir = tempfile::tempdir().unwrap();
    for apart_too in [false, true] {
        let config = everything("exec sleep 1000", dir.path());
        let config = if apart_too { apart(config) } else { config };
        let container = spec(config.clone());
        let (first, _pipe) = start(config.clone()).unwrap();
        for terminal in [false, true] {
            let mut process = config["process"].clone();
            process["args"] = json!(["sh", "-c", LOOK]);
            process["terminal"] = json!(terminal);
            process["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
            let process: Process = serde_json::from_value(process).unwrap();
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let stdio = Stdio::new(Stdio::null_device().unwrap(), &write, &write).unwrap();
            let pidfd = pidfd_open(first.pid(), PidfdFlags::empty()).unwrap();
            let exec = PreparedExec::new(pidfd, first.pid(), &process, stdio)
                .and_then(|exec| exec.seccomp(Path::new("/"), &container, None))
                .unwrap();
            let domain = container.linux().as_ref().unwrap().personality().clone().unwrap();
            let running = exec.personality(&domain).unwrap().start().unwrap();
            drop(write);
            assert_eq!(running.wait().unwrap(), Exit::Status(0), "{apart_too} {terminal}");
            let printed = text(read);
            assert_eq!(printed, if terminal { "" } else { SEEN }, "{apart_too} {terminal}");
        }
        end(&first);
    }
}

fn end(container: &Running) {
    container.kill().unwrap();
    container.wait().unwrap();
}

/// The way of `runtime-oci`: created and left alone, started by another call; and left without a start.
#[test]
fn one_that_waits_for_its_start_alone() {
    let place = tempfile::tempdir().unwrap();
    let home = Home::new(place.path().join("state"));
    let bundle = tempfile::tempdir().unwrap();
    for (id, args) in [("good", json!(["sh", "-c", "exit 3"])), ("bad", json!(["/no/such"]))] {
        let mut config = everything("", bundle.path());
        config["process"]["args"] = args;
        config["process"]["terminal"] = json!(id == "good");
        config["linux"]["cgroupsPath"] =
            json!(format!("/oci-runtime-test-alone-{id}-{}", std::process::id()));
        let config = Config::from(spec(config));
        let created = "2026-01-01T00:00:00Z".into();
        let driver = CgroupDriver::default();
        let mut making =
            Making::begin(&home, id, Path::new("/"), &config, created, driver).unwrap();
        let (hierarchies, location) = making.group();
        let stdio = Stdio::null().unwrap();
        let prepared = Prepared::with_config(Path::new("/"), &config, stdio, None).unwrap();
        let prepared = prepared.group(hierarchies, location).id(id);
        let created = prepared.wait_in(making.dir()).unwrap().create();
        let mut created = match created {
            Ok(created) => created,
            Err(error) => {
                assert_eq!(id, "bad", "{error}");
                making.abandon().unwrap();
                continue;
            }
        };
        assert_eq!(id, "good");
        // Kept: closed, it would end the process by SIGHUP.
        let terminal = created.take_terminal();
        assert!(terminal.is_some());
        let pid = created.pid();
        making.note(&created).unwrap();
        created.leave().unwrap();
        drop(making.finish());
        Recorded::start(&home, id).unwrap();
        let (_, status) =
            rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(3));
        drop(terminal);
        assert_eq!(Recorded::delete(&home, id, true).unwrap(), [""; 0]);
    }
}

/// The children that mount, and execute nothing.
#[test]
fn children_that_only_mount() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let bind = |target: &str, options: Value| {
        let bind = json!({"destination": target, "type": "bind", "source": dir.path(), "options": options});
        serde_json::from_value(bind).unwrap()
    };
    let (container, _pipe) = start(script("sleep 1000")).unwrap();
    mount_into(container.pidfd(), &bind("/tmp/v", json!(["rbind", "ro"]))).unwrap();
    let seen = format!("/proc/{}/root/tmp/v", container.pid());
    assert!(Path::new(&seen).join("file").exists());
    let mounted = std::fs::File::open(&seen).unwrap();
    unmount_from(container.pidfd(), mounted.as_fd(), "/tmp/v").unwrap();
    assert!(!Path::new(&seen).join("file").exists());
    mount_into(container.pidfd(), &bind("/proc/version/x", json!(["rbind"]))).unwrap_err();
    end(&container);

    let root = tempfile::tempdir().unwrap();
    let place = std::ffi::CString::new(root.path().as_os_str().as_encoded_bytes()).unwrap();
    let tree = sys::mount::clone_tree(rustix::fs::CWD, &place, false).unwrap();
    let mounts = [bind("/v", json!(["rbind"]))];
    let view = View::new(tree, root.path(), &mounts, true).unwrap();
    assert!(sys::below::open_plain(view.root(), b"v/file", OFlags::PATH).is_ok());
    let of_host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!of_host.contains(root.path().to_str().unwrap()), "nobody else sees it");
}

/// Another thread has the locks of the program's own output: a child that prints, or whose panic's message would be
/// printed, waits for ever, for that thread is not in it.
#[test]
fn nobody_prints() {
    let dir = tempfile::tempdir().unwrap();
    let config = everything(LOOK, dir.path());
    let (locked, is_locked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let (mut out, _error) = (std::io::stdout().lock(), std::io::stderr().lock());
        out.flush().unwrap();
        locked.send(()).unwrap();
        // Until the other end is dropped, by a panic too.
        let _ = released.recv();
    });
    is_locked.recv().unwrap();
    let printed = start(config.clone()).map(|(running, pipe)| (text(pipe), running.wait()));
    let mut broken = config;
    broken["process"]["args"] = json!(["/no/such"]);
    let refused = start(broken).map(drop);
    drop(release);
    holder.join().unwrap();
    let (printed, exit) = printed.unwrap();
    assert_eq!((printed.as_str(), exit.unwrap()), (SEEN, Exit::Status(0)));
    assert!(refused.unwrap_err().to_string().contains("/no/such"));
}
