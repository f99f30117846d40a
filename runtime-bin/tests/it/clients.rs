//! Container engines of others that are made to call `runtime-oci`, each with directories of its own.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Out, Started, image, wait_until};
use crate::host;
use crate::pty::Terminal;
use crate::systemd::{Systemd, View};

/// What engines are given as their runtime.
pub(crate) const RUNTIME: &str = env!("CARGO_BIN_EXE_runtime-oci");

/// The name under which engines know the small image.
pub(crate) const BUSYBOX: &str = "localhost/busybox:latest";

/// The archive that engines load it from.
pub(crate) fn archive() -> String {
    image("busybox", "docker-legacy").to_str().unwrap().to_owned()
}

/// Limits that this machine can give: engines' own are more than some can.
pub(crate) const LIMITS: [&str; 4] =
    ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

/// An engine's client: the program, and what stands before each command.
pub(crate) struct Client {
    dir: TempDir,
    program: &'static str,
    before: Vec<String>,
    /// What stands before the program: where another machine is meant.
    pub(crate) prefix: Vec<std::ffi::OsString>,
}

impl Client {
    /// `before` makes what stands before each command of the directory of the test.
    pub(crate) fn new(program: &'static str, before: impl FnOnce(&Path) -> Vec<String>) -> Client {
        let there = Command::new(program).arg("--version").output();
        assert!(
            there.is_ok_and(|out| out.status.success()),
            "{program} is not there: `cargo xtask test-host` installs it (Debian's packages podman, \
             docker.io and containerd)"
        );
        // Short: sockets lie in it, whose paths engines make themselves.
        let dir = tempfile::Builder::new().prefix("oci-").tempdir_in("/tmp").unwrap();
        let before = before(dir.path());
        Client { dir, program, before, prefix: Vec::new() }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg("env").arg("-C").arg(self.dir()).arg(self.program);
                command
            }
            None => Command::new(self.program),
        };
        command.args(&self.before).args(args).current_dir(self.dir());
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> Out {
        Started::new(self.command(args), None).wait()
    }

    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let out = self.call(args);
        assert_eq!(out.code, 0, "{args:?}: stdout: {}\nstderr: {}", out.stdout, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// A command that ends with `code`.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, args: &[&str]) -> Out {
        let out = self.call(args);
        assert_eq!(out.code, code, "{args:?}: stdout: {}\nstderr: {}", out.stdout, out.stderr);
        out
    }

    /// A command at a terminal, which is shown `text` and ends with `code`.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str, keys: &str, code: i32, args: &[&str]) {
        let mut terminal = Terminal::start(&self.command(args), 30, 100);
        if !keys.is_empty() {
            terminal.press(keys);
        }
        terminal.expect(text);
        assert_eq!(terminal.wait(), Some(code), "{args:?}");
    }

    /// Processes and mounts of the test's directory.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mounts = host::mounts_below(self.dir()).into_iter().map(|mount| mount.target);
        let processes = host::processes_of(self.dir()).into_iter();
        mounts.chain(processes.map(|(pid, line)| format!("{pid}: {line}"))).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if !failed {
            wait_until("nothing is left", || self.traces().is_empty());
        }
        for (pid, _) in host::processes_of(self.dir()) {
            let pid = rustix::process::Pid::from_raw(pid);
            let kill = rustix::process::Signal::KILL;
            let _ = pid.map(|pid| rustix::process::kill_process(pid, kill));
        }
        for mount in host::mounts_below(self.dir()).iter().rev() {
            let _ = rustix::mount::unmount(&mount.target, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Starts a client's daemon as the service `engine.service` of a systemd, on whose machine the client is then, too.
pub(crate) fn serve(client: &mut Client, view: View, program: &str, arguments: &str) -> Systemd {
    let log = client.dir().join("log");
    // Containers stay when it ends: as in the units of Docker and containerd.
    let service = format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=notify\nDelegate=yes\nKillMode=process\n\
         StandardOutput=append:{log}\nStandardError=append:{log}\nExecStart={program} {arguments}\n",
        log = log.display()
    );
    let systemd = Systemd::start_with(view, "", &[("engine.service", &*service)]);
    let out = systemd.call(&["systemctl", "start", "engine.service"]);
    assert_eq!(out.code, 0, "{}\n{}", out.stderr, std::fs::read_to_string(log).unwrap_or_default());
    client.prefix = systemd.prefix();
    systemd
}

/// A daemon, ended with the test.
pub(crate) struct Daemon {
    child: std::process::Child,
}

impl Daemon {
    /// Starts it with its output in the file `log`, and waits until `ready`.
    pub(crate) fn start(mut command: Command, log: &Path, mut ready: impl FnMut() -> bool) -> Self {
        let file = std::fs::File::create(log).unwrap();
        command.stdin(std::process::Stdio::null());
        let child = command.stderr(file.try_clone().unwrap()).stdout(file).spawn().unwrap();
        let mut daemon = Daemon { child };
        wait_until("the daemon answers", || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "{}", std::fs::read_to_string(log).unwrap());
            ready()
        });
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let start = std::time::Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if start.elapsed() > std::time::Duration::from_secs(20) {
                let _ = self.child.kill();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
