//! A store of its own for each test, and the program run on it.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::host;

/// The program that is tested.
pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_runtime-bin");

/// How long anything may take: a virtual machine without help of the processor is 20 times slower.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The archive of an image that `cargo xtask images` makes.
pub(crate) fn image(name: &str, format: &str) -> PathBuf {
    let file = format!("{name}.{format}.tar");
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let own = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
    let found =
        tmp.ancestors().chain([own]).map(|dir| dir.join("images").join(&file)).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("the image {file} is not there: run `cargo xtask images` first"))
}

/// The small image.
pub(crate) fn busybox() -> PathBuf {
    image("busybox", "docker-oci")
}

/// Waits until `done`, and fails after [`DEADLINE`].
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "not after {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command that runs.
pub(crate) struct Started {
    child: Child,
    line: String,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Started {
    pub(crate) fn new(mut command: Command, stdin: Option<&[u8]>) -> Started {
        let line = format!("{command:?}");
        command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let stdout = read(child.stdout.take());
        let stderr = read(child.stderr.take());
        if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
            // The reader may have gone: what it says of that is looked at.
            let bytes = bytes.to_vec();
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        Started { child, line, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end of the process and of its output, which a process that stays behind with
    /// the pipes would hold open.
    pub(crate) fn wait(mut self) -> Out {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap()
                && self.stdout.is_finished()
                && self.stderr.is_finished()
            {
                break status;
            }
            if start.elapsed() > DEADLINE {
                let _ = self.child.kill();
                panic!("{} has not ended and closed its output after {DEADLINE:?}", self.line);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        use std::os::unix::process::ExitStatusExt;
        Out {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
            stdout: self.stdout.join().unwrap(),
            stderr: self.stderr.join().unwrap(),
        }
    }
}

fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A store, and a directory for what else a test needs. Dropping it removes the containers, and
/// fails if anything stays.
pub(crate) struct Root {
    dir: TempDir,
}

impl Root {
    pub(crate) fn new() -> Root {
        Root::below(&std::env::temp_dir())
    }

    /// With all that is its own below a directory.
    pub(crate) fn below(dir: &Path) -> Root {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests start containers: run them as root"
        );
        Root { dir: tempfile::Builder::new().prefix("runtime-bin-test-").tempdir_in(dir).unwrap() }
    }

    /// What all paths of this test begin with.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The value of `--root`.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir().join("root")
    }

    /// A directory of the host's for the test, beside the store.
    pub(crate) fn host_dir(&self, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(BIN);
        command.arg("--root").arg(self.store()).args(args).current_dir(self.dir());
        // An image that is missing is looked for in its registry: not in one of the outer world.
        command.env("HTTPS_PROXY", "http://127.0.0.1:1").env("DOCKER_CONFIG", self.dir());
        command
    }

    pub(crate) fn start<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Started {
        Started::new(self.command(args), None)
    }

    /// Runs a command to its end.
    pub(crate) fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Out {
        self.start(args).wait()
    }

    pub(crate) fn call_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Out {
        Started::new(self.command(args), Some(input)).wait()
    }

    /// Runs a command that must succeed; what it printed, without white space at the end.
    #[track_caller]
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let out = self.call(args);
        assert_eq!(out.code, 0, "stdout: {}\nstderr: {}", out.stdout, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// Runs a command that must fail with `code` and a sentence with all of `words`; the sentence.
    #[track_caller]
    pub(crate) fn fails<A: AsRef<OsStr>>(
        &self,
        code: i32,
        words: &[&str],
        args: impl IntoIterator<Item = A>,
    ) -> String {
        let out = self.call(args);
        assert_eq!(out.code, code, "stdout: {}\nstderr: {}", out.stdout, out.stderr);
        assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
        for word in words {
            assert!(out.stderr.contains(word), "no {word:?} in: {}", out.stderr);
        }
        out.stderr
    }

    /// `run --rm` with these options and this command in busybox, in the foreground.
    #[track_caller]
    pub(crate) fn busybox(&self, options: &[&str], command: &[&str]) -> Out {
        let image = busybox();
        let mut args: Vec<&OsStr> = vec!["run".as_ref(), "--rm".as_ref()];
        args.extend(options.iter().map(OsStr::new));
        args.push(image.as_ref());
        args.extend(command.iter().map(OsStr::new));
        self.call(args)
    }

    /// As [`Root::busybox`], with a shell's script that must succeed; what it printed.
    #[track_caller]
    pub(crate) fn shell(&self, options: &[&str], script: &str) -> String {
        let out = self.busybox(options, &["sh", "-c", script]);
        assert_eq!(out.code, 0, "stdout: {}\nstderr: {}", out.stdout, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// A container that waits, in the background; its id.
    #[track_caller]
    pub(crate) fn sleeper(&self, name: &str, options: &[&str]) -> String {
        // A signal ends it: process 1 has no default actions.
        let script = "trap 'exit 0' TERM INT; while :; do sleep 1000 & wait $!; done";
        let image = busybox();
        let mut args: Vec<&OsStr> = ["run", "-d", "--name", name].map(OsStr::new).to_vec();
        args.extend(options.iter().map(OsStr::new));
        args.push(image.as_ref());
        args.extend(["sh", "-c", script].map(OsStr::new));
        let id = self.ok(args);
        assert!(is_id(&id), "{id:?} is no id");
        id
    }

    /// The one object that `inspect` prints.
    #[track_caller]
    pub(crate) fn inspect(&self, container: &str) -> Value {
        let text = self.ok(["inspect", container]);
        let mut list: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(list.len(), 1, "{text}");
        list.remove(0)
    }

    /// The process that runs in the container, as the host numbers it.
    #[track_caller]
    pub(crate) fn pid(&self, container: &str) -> i32 {
        let pid = self.inspect(container)["State"]["Pid"].as_i64().expect("State.Pid");
        assert!(pid > 0, "{container} does not run");
        i32::try_from(pid).unwrap()
    }

    /// Waits until the container does not run, and gives its exit status.
    pub(crate) fn wait_for_exit(&self, container: &str) -> i64 {
        let mut state = Value::Null;
        wait_until(&format!("the end of {container}"), || {
            state = self.inspect(container)["State"].clone();
            state["Status"] == "exited"
        });
        state["ExitCode"].as_i64().unwrap()
    }

    /// What is there in the store besides images.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for name in ["containers", "names", "volumes", "staging"] {
            let entries = std::fs::read_dir(self.store().join(name)).into_iter().flatten();
            left.extend(entries.map(|e| format!("{name}/{}", e.unwrap().file_name().display())));
        }
        left.extend(self.traces());
        left
    }

    /// The ids of all containers that this store ever had: its events tell of them.
    fn ids(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.store().join("events")).unwrap_or_default();
        text.split('"').filter(|word| is_id(word)).map(str::to_owned).collect()
    }

    /// Mounts, processes, loop devices and cgroups of this store.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mounts = host::mounts_below(self.dir()).into_iter();
        let mut left: Vec<_> = mounts.map(|mount| format!("mount {}", mount.target)).collect();
        let processes = host::processes_of(self.dir()).into_iter();
        left.extend(processes.map(|(pid, line)| format!("process {pid}: {line}")));
        left.extend(host::loops_below(self.dir()).iter().map(|device| format!("loop {device}")));
        left.extend(host::groups_of(&self.ids()).iter().map(|group| format!("cgroup {group}")));
        left
    }

    /// Waits until nothing but images is left.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let start = Instant::now();
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes all containers as a user would, then by force; what needed force.
    fn clean(&self) -> Vec<String> {
        if !self.store().exists() {
            return Vec::new();
        }
        let list = self.command(["ps", "-a", "-q", "--no-trunc"]).output();
        let list = list.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        for id in list.unwrap_or_default().split_whitespace() {
            let _ = self.command(["rm", "-f", "-v", id]).output();
        }
        let start = Instant::now();
        let mut left = self.traces();
        while !left.is_empty() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
            left = self.traces();
        }
        for (pid, _) in host::processes_of(self.dir()) {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        for mount in host::mounts_below(self.dir()).iter().rev() {
            let _ = rustix::mount::unmount(&mount.target, rustix::mount::UnmountFlags::DETACH);
        }
        left
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let left = self.clean();
        // Trees may be deeper than a process has descriptors, and std::fs takes one for each directory.
        let place = self.dir();
        if let (Some(parent), Some(name)) = (place.parent(), place.file_name()) {
            let name = CString::new(name.as_bytes()).unwrap();
            let _ = File::open(parent).map(|parent| sys::erase::erase(parent.as_fd(), &name));
        }
        assert!(left.is_empty() || std::thread::panicking(), "left behind: {left:#?}");
    }
}

/// Whether it is a container's whole id.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `text` as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("the test's paths are UTF-8")
}

/// Makes a program that this process has written one that can be executed. A test beside this one may fork while the file
/// is open for writing; until its child executes, that child holds the descriptor too, and execve fails (ETXTBSY). So
/// another process, which does not fork, writes the file again.
pub(crate) fn settle(program: &Path) {
    let written = program.with_extension("written");
    std::fs::rename(program, &written).unwrap();
    copy_program(&written, program);
    std::fs::remove_file(written).unwrap();
}

/// Copies a program so that it can be executed at once: see [`settle`].
pub(crate) fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-p").args([from, to]).status().unwrap();
    assert!(status.success(), "cp {} {}: {status}", from.display(), to.display());
}

/// Makes a script that can be executed at once: see [`settle`].
pub(crate) fn write_script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    settle(path);
}

/// Unpacks the small image's files into the new directory `root`.
pub(crate) fn busybox_layer(root: &Path) {
    let archive =
        || tar::Archive::new(std::fs::File::open(image("busybox", "docker-legacy")).unwrap());
    let mut layers = 0;
    for entry in archive().entries().unwrap() {
        let entry = entry.unwrap();
        if entry.path().unwrap().ends_with("layer.tar") {
            unpack(tar::Archive::new(entry), root);
            layers += 1;
        }
    }
    assert_eq!(layers, 1, "the image busybox has another form than this knows");
}

fn unpack(mut layer: tar::Archive<impl Read>, root: &Path) {
    std::fs::create_dir(root).unwrap();
    for entry in layer.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert!(entry.unpack_in(root).unwrap(), "{:?}", entry.path());
        let header = entry.header();
        if header.entry_type().is_file() && header.mode().unwrap() & 0o111 != 0 {
            settle(&root.join(entry.path().unwrap()));
        }
    }
}
