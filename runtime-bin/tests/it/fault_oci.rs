//! Faults at each step of `runtime-oci`, as of `runtime-bin`. What a killed `create` leaves is removed by
//! `delete --force`, as with runc; what failed leaves nothing.

use std::path::Path;
use std::process::Command;

use rustix::io::Errno;

use crate::fault::Fault;
use crate::harness::{Out, wait_until};
use crate::host;
use crate::oci::{BIN, Oci, WAITS};
use crate::sweep::{self, Sweep};

/// A command, and those that come before it.
struct Step {
    before: &'static [&'static [&'static str]],
    args: &'static [&'static str],
}

const CREATE: &[&str] = &["create", "a"];
const START: &[&str] = &["start", "a"];
const STEPS: &[Step] = &[
    Step { before: &[], args: CREATE },
    Step { before: &[CREATE], args: START },
    Step { before: &[CREATE, START], args: &["exec", "a", "true"] },
    Step { before: &[CREATE, START], args: &["pause", "a"] },
    Step { before: &[CREATE, START], args: &["kill", "a", "KILL"] },
    Step { before: &[CREATE], args: &["delete", "a"] },
    Step { before: &[CREATE, START], args: &["delete", "--force", "a"] },
];

/// A call with output that goes to a file: a container's process has it as its own.
fn command(oci: &Oci, args: &[&str]) -> Command {
    let own = oci.command(args);
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" >\"$0\" 2>&1 </dev/null"]).arg(oci.dir().join("said"));
    command.arg(own.get_program()).args(own.get_args()).current_dir(oci.bundle());
    command
}

fn call(oci: &Oci, args: &[&str]) -> Out {
    let status = command(oci, args).status().unwrap();
    out_of(oci, status.code().unwrap_or(-1))
}

fn out_of(oci: &Oci, code: i32) -> Out {
    let stderr = std::fs::read_to_string(oci.dir().join("said")).unwrap_or_default();
    Out { code, stdout: String::new(), stderr }
}

fn ok(oci: &Oci, args: &[&str]) {
    let out = call(oci, args);
    assert_eq!(out.code, 0, "{args:?}: {out:?}");
}

fn look(oci: &Oci, step: &Step, fault: Fault, out: &Out) {
    assert!(!out.stderr.contains("panicked"), "{out:?}");
    oci.ok(&["list"]);
    let is_there = oci.call(&["state", "a"]).code == 0;
    match (step.args[0], out.code) {
        ("create", 0) => assert!(is_there, "{out:?}"),
        ("create", _) if fault != Fault::Kill => {
            assert_eq!(oci.names(), [""; 0], "half left: {out:?}");
            assert!(oci.groups().is_empty(), "half left: {out:?}");
        }
        ("delete", 0) => assert_eq!(oci.names(), [""; 0], "{out:?}"),
        ("exec", _) => assert_eq!(oci.status("a"), "running", "{out:?}"),
        _ => {}
    }
    // The same again works, where there is still something to do.
    match step.args[0] {
        "create" => {
            ok(oci, &["delete", "--force", "a"]);
            assert_eq!(oci.names(), [""; 0], "{out:?}");
            ok(oci, step.args);
            ok(oci, START);
        }
        "exec" => ok(oci, step.args),
        "start" if is_there && oci.status("a") == "created" => ok(oci, step.args),
        "pause" if oci.status("a") == "running" => ok(oci, step.args),
        "kill" => {
            if oci.status("a") != "stopped" {
                oci.call(step.args);
            }
            wait_until("the end", || oci.status("a") == "stopped");
        }
        "delete" if !oci.names().is_empty() => ok(oci, &["delete", "--force", "a"]),
        _ => {}
    }
    ok(oci, &["delete", "--force", "a"]);
    assert_eq!(oci.names(), [""; 0], "{out:?}");
    assert!(oci.groups().is_empty(), "{out:?}");
    assert_eq!(host::mounts_below(oci.dir()), [], "{out:?}");
    wait_until("the end of its processes", || host::processes_of(oci.dir()).is_empty());
}

fn sweep(fault: Fault, sample: usize) {
    let mut sweep = Sweep::new(fault, sample);
    for step in STEPS {
        let prepare = |oci: &mut Oci| {
            step.before.iter().for_each(|args| ok(oci, args));
            command(oci, step.args)
        };
        let checked = |oci: &mut Oci, out: Out, errno: Option<Errno>| {
            let out = out_of(oci, out.code);
            errno.into_iter().for_each(|errno| sweep::assert_said(errno, &out));
            look(oci, step, fault, &out);
        };
        sweep.step(&step.args.join(" "), Path::new(BIN), || Oci::new(&WAITS), prepare, checked);
    }
    sweep.end();
}

#[test]
fn killed_anywhere() {
    sweep(Fault::Kill, 4);
}

#[test]
fn no_space_anywhere() {
    sweep(Fault::Errno(Errno::NOSPC), 2);
}

#[test]
fn no_descriptor_anywhere() {
    sweep(Fault::Errno(Errno::MFILE), 2);
}

#[test]
fn no_memory_anywhere() {
    sweep(Fault::Errno(Errno::NOMEM), 2);
}

#[test]
fn a_broken_disk_anywhere() {
    sweep(Fault::Errno(Errno::IO), 2);
}
