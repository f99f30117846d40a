//! A further program in a container.

use oci_runtime::spec::Process;
use oci_runtime::{Error, Exit, PreparedExec, Stdio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::json;

use crate::{script, start, text};

fn process(args: &[&str]) -> Process {
    serde_json::from_value(json!({
        "user": {"uid": 1, "gid": 2},
        "cwd": "/tmp",
        "args": args,
        "env": ["PATH=/usr/bin:/bin"],
        "capabilities": {"bounding": ["CAP_KILL"]},
    }))
    .unwrap()
}

#[test]
fn it_is_in_the_containers_namespaces_as_the_user_asked_for() {
    let (container, pipe) = start(script("echo ready; exec sleep 1000")).unwrap();
    let pid = container.pid();
    let exec = |args: &[&str]| {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let stdio = Stdio::new(Stdio::null_device()?, &write, &write)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let running = PreparedExec::new(pidfd, pid, &process(args), stdio)?.start()?;
        drop(write);
        let printed = text(read);
        Ok::<_, Error>((printed, running.wait()?))
    };
    let command = "hostname; pwd; id -u; id -g; ls /proc/self/fd | tr '\\n' ' '; \
        grep -E 'CapInh|CapBnd' /proc/self/status; exit 5";
    let (printed, exit) = exec(&["sh", "-c", command]).unwrap();
    let want =
        "contained\n/tmp\n1\n2\n0 1 2 3 CapInh:\t0000000000000000\nCapBnd:\t0000000000000020\n";
    assert_eq!(printed, want);
    assert_eq!(exit, Exit::Status(5));
    let error = exec(&["no-such"]).unwrap_err();
    assert!(error.to_string().contains("executable file not found in $PATH"), "{error}");
    // CVE-2024-21626: no working directory through a descriptor of the host.
    let mut outside = process(&["pwd"]);
    for number in 0..12 {
        outside.set_cwd(format!("/proc/self/fd/{number}").into());
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let started =
            PreparedExec::new(pidfd, pid, &outside, Stdio::null().unwrap()).unwrap().start();
        assert!(started.is_err(), "{number}");
    }
    container.kill().unwrap();
    assert_eq!(container.wait().unwrap(), Exit::Signal(9));
    assert_eq!(text(pipe), "ready\n");
}

#[test]
fn a_container_that_has_ended_is_said() {
    let (container, _pipe) = start(script("exit 0")).unwrap();
    let pid = container.pid();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    container.wait().unwrap();
    let error = PreparedExec::new(pidfd, pid, &process(&["true"]), Stdio::null().unwrap())
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("container's"), "{error}");
}
