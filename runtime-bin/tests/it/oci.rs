//! `runtime-oci`, from outside, as engines call it: bundles, states, exit statuses, words.

mod bad_input;
mod checkpoint;
mod exec;
mod groups;
mod lifecycle;
mod namespaces;
mod notify;
mod options;
mod restored;
mod scopes;
mod seccomp;
mod terminal;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{DEADLINE, Out, Started, busybox_layer, wait_until};

/// The program that is tested.
pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_runtime-oci");

/// Directories of containers and one bundle. Dropping it removes what runs, and fails if anything
/// stays.
pub(crate) struct Oci {
    dir: TempDir,
    /// What stands before each command: where another machine is meant.
    prefix: Vec<std::ffi::OsString>,
}

impl Oci {
    /// With a bundle that runs `args` in busybox.
    pub(crate) fn new(args: &[&str]) -> Oci {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests start containers: run them as root"
        );
        let dir = tempfile::Builder::new().prefix("runtime-oci-test-").tempdir().unwrap();
        let oci = Oci { dir, prefix: Vec::new() };
        std::fs::create_dir(oci.bundle()).unwrap();
        busybox_layer(&oci.bundle().join("rootfs"));
        oci.configure(|_| {}, args);
        oci
    }

    /// What all paths of this test begin with.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Writes config.json with what `change` makes of the usual one.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Value), args: &[&str]) {
        let mut config = config(args);
        // An id is a name for one test only, and a group one for all.
        config["linux"]["cgroupsPath"] = self.group().into();
        change(&mut config);
        self.write_config(config.to_string().as_bytes());
    }

    /// The path of the cgroup.
    pub(crate) fn group(&self) -> String {
        format!("/{}", self.dir.path().file_name().unwrap().display())
    }

    /// The directories of that cgroup, and of those whose paths begin with it.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let base = Path::new("/sys/fs/cgroup");
        let below = std::fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path());
        let name = &self.group()[1..];
        let mut found = Vec::new();
        for hierarchy in below.chain([base.to_owned()]) {
            let entries = std::fs::read_dir(hierarchy).into_iter().flatten();
            let paths = entries.map(|entry| entry.unwrap());
            let own = paths.filter(|path| path.file_name().to_string_lossy().starts_with(name));
            found.extend(own.map(|path| path.path()));
        }
        found
    }

    pub(crate) fn write_config(&self, bytes: &[u8]) {
        std::fs::write(self.bundle().join("config.json"), bytes).unwrap();
    }

    /// In the bundle's directory, as `--bundle` says if nothing is said.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.prefix.split_first() {
            Some((program, before)) => {
                let mut command = Command::new(program);
                // It may have another working directory.
                command.args(before).arg("env").arg("-C").arg(self.bundle()).arg(BIN);
                command
            }
            None => Command::new(BIN),
        };
        command.arg("--root").arg(self.home()).args(args).current_dir(self.bundle());
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> Out {
        Started::new(self.command(args), None).wait()
    }

    /// Runs a command that must succeed; what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let out = self.call(args);
        assert_eq!(out.code, 0, "{args:?}: stdout: {}\nstderr: {}", out.stdout, out.stderr);
        out.stdout
    }

    /// Runs a command that must fail with `code` and all of `words`.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str], args: &[&str]) -> String {
        let out = self.call(args);
        assert_eq!(out.code, code, "{args:?}: stdout: {}\nstderr: {}", out.stdout, out.stderr);
        assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
        // Quotation marks have a backslash in a line of the log.
        let stderr = out.stderr.replace('\\', "");
        for word in words {
            assert!(stderr.contains(word), "{args:?}: no {word:?} in: {stderr}");
        }
        stderr
    }

    /// `create`, whose output goes to a file: the container's process has it as its own, and would keep
    /// a pipe open. The file.
    #[track_caller]
    pub(crate) fn create(&self, args: &[&str]) -> PathBuf {
        let path = self.dir.path().join("output");
        let output = File::create(&path).unwrap();
        let mut command = self.command(&[&["create"], args].concat());
        command.stdin(Stdio::null()).stderr(output.try_clone().unwrap()).stdout(output);
        let status = command.status().unwrap();
        assert!(status.success(), "{args:?}: {}", std::fs::read_to_string(&path).unwrap());
        path
    }

    #[track_caller]
    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).unwrap()
    }

    #[track_caller]
    pub(crate) fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, id: &str, status: &str) {
        wait_until(&format!("{id} is {status}"), || self.status(id) == status);
    }

    /// The names in the directory of containers.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.home()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Oci {
    fn drop(&mut self) {
        for name in self.names() {
            let _ = self.command(&["delete", "--force", &name]).output();
        }
        let left = self.names();
        let mounts = crate::host::mounts_below(self.dir.path());
        let processes = crate::host::processes_of(self.dir.path());
        for (pid, _) in &processes {
            let _ = Pid::from_raw(*pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        let groups = self.groups();
        for group in &groups {
            let _ = std::fs::remove_dir(group);
        }
        let clean =
            left.is_empty() && mounts.is_empty() && processes.is_empty() && groups.is_empty();
        assert!(
            clean || std::thread::panicking(),
            "left behind: {left:?} {processes:?} {groups:?}, and {} mounts",
            mounts.len()
        );
    }
}

/// A configuration that runs `args`; tests change it.
fn config(args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "hostname": "contained",
        "root": {"path": "rootfs"},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "args": args,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "FROM=config"],
            "capabilities": {
                "bounding": ["CAP_KILL"],
                "effective": ["CAP_KILL"],
                "permitted": ["CAP_KILL"],
            },
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ],
        "annotations": {"org.example.key": "value"},
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "network"}
            ],
        },
    })
}

/// A shell that waits until it is told to end.
pub(crate) const WAITS: [&str; 3] =
    ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"];

/// Whether the process of the host is there and no zombie.
fn lives(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// What the file has, once it has something.
fn read_soon(path: &Path) -> String {
    let mut text = String::new();
    wait_until(&format!("{} has text, within {DEADLINE:?}", path.display()), || {
        text = std::fs::read_to_string(path).unwrap_or_default();
        text.ends_with('\n')
    });
    text
}
