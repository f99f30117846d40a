//! Containers over the host's own root, read-only, seen from outside. Needs root.

mod base;
mod command;
mod container;
mod exec;
mod group;
#[path = "../../../ns-core/tests/it/guard.rs"]
mod guard;
mod hooks;
mod mounts;
mod no_alloc;
mod process;
mod refused;
mod seccomp;
mod userns;

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use oci_runtime::spec::Spec;
use oci_runtime::{Error, Exit, Prepared, Running, Stdio};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::{Value, json};

/// Children of all tests are held to do without it.
#[global_allocator]
static HEAP: guard::Heap = guard::Heap;

/// Copies a program by a process that does not fork: where this one writes it, a container that a test beside this one
/// starts holds the file open until it executes, and what is open for writing cannot be executed (ETXTBSY).
fn copy_program(from: impl AsRef<Path>, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-p").arg(from.as_ref()).arg(to).status();
    assert!(copied.unwrap().success(), "cp {} {}", from.as_ref().display(), to.display());
}

/// A configuration that runs `args`; tests change it.
fn config(args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "hostname": "contained",
        "root": {"path": "/", "readonly": true},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "args": args,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}, {"type": "cgroup"}],
        },
    })
}

fn spec(config: Value) -> Spec {
    serde_json::from_value(config).unwrap()
}

/// Prepares and starts, with standard output and error in a pipe.
fn start(config: Value) -> Result<(Running, OwnedFd), Error> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio::new(Stdio::null_device()?, &write, &write)?;
    let prepared = Prepared::new(Path::new("/"), &spec(config), stdio)?;
    Ok((prepared.create()?.start()?, read))
}

fn text(pipe: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(pipe).read_to_string(&mut text).unwrap();
    text
}

/// Runs to the end: what it printed, and how it ended.
fn run(config: Value) -> Result<(String, Exit), Error> {
    let (running, pipe) = start(config)?;
    let printed = text(pipe);
    Ok((printed, running.wait()?))
}

/// A configuration that runs a shell script.
fn script(script: &str) -> Value {
    config(&["sh", "-c", script])
}
