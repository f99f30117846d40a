//! `linux.seccomp`, from inside of containers and from the side of an agent.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use oci_runtime::{Error, Exit, Prepared, PreparedExec, Stdio};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::{config, run, script, spec, start, text};

/// A rule about one call.
fn rule(name: &str, action: &str) -> Value {
    json!({"names": [name], "action": action})
}

fn under(mut config: Value, default: &str, rules: &[Value]) -> Value {
    config["linux"]["seccomp"] = json!({"defaultAction": default, "syscalls": rules});
    config
}

fn refusal(config: Value) -> String {
    let prepared = Prepared::new(Path::new("/"), &spec(config), Stdio::null().unwrap());
    prepared.map(drop).unwrap_err().to_string()
}

const STATUS: &str = "grep -E '^Seccomp:|^CapEff|^CapPrm|^NoNewPrivs' /proc/self/status; \
    mkdir /tmp/x 2>&1; sync && echo synced";

#[test]
fn a_filter_holds_for_the_program_and_costs_no_capability() {
    let rules = [rule("mkdir", "SCMP_ACT_ERRNO")];
    for (uid, new_privileges) in [(0, false), (0, true), (1234, false), (1234, true)] {
        let mut config = under(script(STATUS), "SCMP_ACT_ALLOW", &rules);
        config["process"]["user"] = json!({"uid": uid, "gid": 0});
        config["process"]["noNewPrivileges"] = json!(!new_privileges);
        let (printed, _) = run(config).unwrap();
        assert!(printed.contains("Seccomp:\t2"), "{uid}: {printed}");
        assert!(printed.contains("Operation not permitted"), "{uid}: {printed}");
        assert!(printed.contains("synced"), "{uid}: {printed}");
        for set in ["CapEff", "CapPrm"] {
            assert!(printed.contains(&format!("{set}:\t0000000000000000")), "{uid}: {printed}");
        }
    }
    // What was asked for is there, and no more.
    let mut config = under(script(STATUS), "SCMP_ACT_ALLOW", &rules);
    config["process"]["user"] = json!({"uid": 1234, "gid": 0});
    let kill = json!(["CAP_KILL"]);
    for set in ["bounding", "permitted", "effective", "inheritable", "ambient"] {
        config["process"]["capabilities"][set] = kill.clone();
    }
    let (printed, _) = run(config).unwrap();
    assert!(printed.contains("CapEff:\t0000000000000020"), "{printed}");
    assert!(printed.contains("CapPrm:\t0000000000000020"), "{printed}");
}

/// The program's own calls are all that a filter must allow, with and without no_new_privs: nothing
/// of users, capabilities, signals or messages to the creator.
#[test]
fn a_filter_need_not_allow_what_the_start_does() {
    let mut own = vec![
        "execve",
        "brk",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "readlinkat",
        "readlink",
        "getrandom",
        "mprotect",
        "mmap",
        "munmap",
        "openat",
        "close",
        "read",
        "write",
        "pread64",
        "fstat",
        "newfstatat",
        "access",
        "exit_group",
        "futex",
    ];
    // It looks whether it is suid, whatever it is called by.
    if std::fs::canonicalize("/bin/true").unwrap().ends_with("busybox") {
        own.extend(["getuid", "getgid", "setuid", "setgid", "prctl"]);
    }
    for no_new_privileges in [false, true] {
        let allow = json!({"names": own, "action": "SCMP_ACT_ALLOW"});
        let mut config = under(config(&["/bin/true"]), "SCMP_ACT_KILL_PROCESS", &[allow]);
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["process"]["user"] = json!({"uid": 1, "gid": 1});
        assert_eq!(run(config).unwrap().1, Exit::Status(0));
    }
}

#[test]
fn killing_and_trapping_are_seen_by_who_waits() {
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL", "SCMP_ACT_TRAP"] {
        let killed =
            under(script("mkdir /tmp/x; echo $?"), "SCMP_ACT_ALLOW", &[rule("mkdir", action)]);
        let (printed, _) = run(killed).unwrap();
        assert!(printed.ends_with("159\n"), "{action}: {printed}");
    }
}

#[test]
fn wrong_filters_are_told_by_field_and_unknown_calls_are_warnings() {
    let cases = [
        (vec![rule("sendmsg", "SCMP_ACT_NOTIFY")], "syscalls[0].action"),
        (vec![rule("x", "SCMP_ACT_ALLOW"), rule("write", "SCMP_ACT_NOTIFY")], "syscalls[1].action"),
        (vec![rule("mkdir", "SCMP_ACT_NOTIFY")], "listenerPath"),
        (
            vec![json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1})],
            "syscalls[0].errnoRet",
        ),
        (
            vec![json!({"names": ["read"], "action": "SCMP_ACT_LOG",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})],
            "syscalls[0].args[0].index",
        ),
    ];
    for (rules, field) in cases {
        let error = refusal(under(config(&["true"]), "SCMP_ACT_ALLOW", &rules));
        assert!(error.contains(&format!("linux.seccomp.{field}")), "{error}");
    }
    let error = refusal(under(config(&["true"]), "SCMP_ACT_NOTIFY", &[]));
    assert!(error.contains("linux.seccomp.defaultAction"), "{error}");

    let rules =
        ["frobnicate", "swapcontext", "mkdir", "twiddle"].map(|name| rule(name, "SCMP_ACT_ERRNO"));
    let config = spec(under(config(&["true"]), "SCMP_ACT_ALLOW", &rules));
    let prepared = Prepared::new(Path::new("/"), &config, Stdio::null().unwrap()).unwrap();
    let warnings = prepared.warnings();
    // Engines show them: one line for all, and nothing of PowerPC's call.
    let words = "skipped: \"frobnicate\", \"twiddle\"";
    assert!(warnings.len() == 1 && warnings[0].ends_with(words), "{warnings:?}");
    let note = prepared.note().unwrap();
    assert!(
        note.ends_with(
            "of other architectures, and what is said of them is skipped: \"swapcontext\""
        ),
        "{note}"
    );
}

#[test]
fn a_further_program_has_it_too() {
    let rules = [rule("mkdir", "SCMP_ACT_ERRNO")];
    let config = under(script("echo ready; exec sleep 1000"), "SCMP_ACT_ALLOW", &rules);
    let (container, _pipe) = start(config.clone()).unwrap();
    let pid = container.pid();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio::new(Stdio::null_device().unwrap(), &write, &write).unwrap();
    let process = serde_json::from_value(json!({
        "user": {"uid": 1, "gid": 2}, "cwd": "/", "args": ["sh", "-c", STATUS],
        "env": ["PATH=/usr/bin:/bin"],
    }));
    let prepared = PreparedExec::new(pidfd, pid, &process.unwrap(), stdio).unwrap();
    let prepared = prepared.seccomp(Path::new("/"), &spec(config), None).unwrap();
    let running = prepared.start().unwrap();
    drop(write);
    let printed = text(read);
    running.wait().unwrap();
    assert!(printed.contains("Seccomp:\t2"), "{printed}");
    assert!(printed.contains("Operation not permitted"), "{printed}");
    assert!(printed.contains("CapEff:\t0000000000000000"), "{printed}");
    container.kill().unwrap();
    container.wait().unwrap();
}

/// What an agent is sent: the JSON, and the descriptors.
fn receive(socket: UnixStream) -> (Value, Vec<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 65536];
    let mut count = 0;
    let mut descriptors = Vec::new();
    loop {
        let mut buffers = [IoSliceMut::new(&mut bytes[count..])];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(&socket, &mut buffers, &mut ancillary, flags).unwrap().bytes {
            0 => break,
            more => count += more,
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
    }
    (serde_json::from_slice(&bytes[..count]).unwrap(), descriptors)
}

fn asks(script_text: &str, socket: &Path, no_new_privileges: bool) -> Value {
    let mut config =
        under(script(script_text), "SCMP_ACT_ALLOW", &[rule("mkdir", "SCMP_ACT_NOTIFY")]);
    config["linux"]["seccomp"]["listenerPath"] = json!(socket);
    config["linux"]["seccomp"]["listenerMetadata"] = json!("what an agent is told");
    config["annotations"] = json!({"a": "b"});
    config["process"]["noNewPrivileges"] = json!(no_new_privileges);
    config
}

#[test]
fn an_agent_gets_the_listener_before_the_program_runs() {
    for no_new_privileges in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        // Longer than an address can be.
        let long = dir.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let short = dir.path().join("agent");
        let listener = UnixListener::bind(&short).unwrap();
        let socket = long.join("agent");
        std::fs::rename(&short, &socket).unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let stdio = Stdio::new(Stdio::null_device().unwrap(), &write, &write).unwrap();
        let config =
            asks("mkdir /tmp/x 2>&1; mkdir /tmp/y && echo made", &socket, no_new_privileges);
        let prepared = Prepared::new(Path::new("/"), &spec(config), stdio).unwrap().id("box");
        let created = prepared.create().unwrap();
        drop(write);

        // It is there while the container is created: nobody has started it.
        let (told, descriptors) = receive(listener.accept().unwrap().0);
        let pid = created.pid().as_raw_nonzero().get();
        assert_eq!(
            told,
            json!({
                "ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": pid,
                "metadata": "what an agent is told",
                "state": {"ociVersion": "1.2.0", "id": "box", "status": "creating", "pid": pid,
                    "bundle": "/", "annotations": {"a": "b"}},
            })
        );
        assert_eq!(descriptors.len(), 1);
        let agent = std::thread::spawn(move || {
            let first = sys::seccomp::notify::receive(&descriptors[0]).unwrap();
            let errno = Errno::from_raw_os_error(122);
            sys::seccomp::notify::respond(descriptors[0].as_fd(), first.id, errno).unwrap();
            let second = sys::seccomp::notify::receive(&descriptors[0]).unwrap();
            sys::seccomp::notify::let_be(descriptors[0].as_fd(), second.id).unwrap();
        });
        let running = created.start().unwrap();
        let printed = text(read);
        assert!(printed.contains("uota") && printed.ends_with("made\n"), "{printed}");
        assert_eq!(running.wait().unwrap(), Exit::Status(0));
        agent.join().unwrap();
    }
}

#[test]
fn without_an_agent_nothing_is_started() {
    let socket = Path::new("/no/such/agent");
    let config = spec(asks("true", socket, false));
    let prepared = Prepared::new(Path::new("/"), &config, Stdio::null().unwrap()).unwrap();
    let error = prepared.create().map(drop).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("/no/such/agent") && error.contains("listenerPath"), "{error}");
}

/// What ends a further program that nobody could be told of is said, and not what came of its end.
#[test]
fn without_an_agent_no_further_program_is_started() {
    let (container, _pipe) = start(script("exec sleep 1000")).unwrap();
    let pidfd = pidfd_open(container.pid(), PidfdFlags::empty()).unwrap();
    let process = json!({"user": {}, "cwd": "/", "args": ["/bin/true"]});
    let process = serde_json::from_value(process).unwrap();
    let stdio = Stdio::null().unwrap();
    let prepared = PreparedExec::new(pidfd, container.pid(), &process, stdio).unwrap();
    let config = spec(asks("true", Path::new("/no/such/agent"), false));
    let prepared = prepared.seccomp(Path::new("/"), &config, None).unwrap();
    let error = prepared.start().map(drop).unwrap_err().to_string();
    container.kill().unwrap();
    container.wait().unwrap();
    assert!(error.contains("/no/such/agent") && error.contains("listenerPath"), "{error}");
}
