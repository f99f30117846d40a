//! What others do with the same archive. Each load begins with an empty store, on the same disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::images::Format;
use crate::sh;

/// How long a daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that loads images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// `podman load`
    Podman,
    /// `docker load`, with a daemon of its own
    Docker,
    /// `skopeo copy` to the store that Podman uses
    Skopeo,
    /// `umoci unpack` of an OCI layout directory
    Umoci,
    /// `ctr images import` of containerd, with a daemon of its own
    Containerd,
}

impl Peer {
    pub(crate) const ALL: &[Peer] =
        &[Peer::Podman, Peer::Docker, Peer::Skopeo, Peer::Umoci, Peer::Containerd];

    /// Its name on the command line.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Peer::Podman => "podman",
            Peer::Docker => "docker",
            Peer::Skopeo => "skopeo",
            Peer::Umoci => "umoci",
            Peer::Containerd => "containerd",
        }
    }

    /// The programs that it is.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Peer::Podman => &["podman"],
            Peer::Docker => &["docker", "dockerd"],
            Peer::Skopeo => &["skopeo"],
            Peer::Umoci => &["umoci"],
            Peer::Containerd => &["ctr", "containerd"],
        }
    }

    /// The program that is typed.
    pub(crate) fn program(self) -> &'static str {
        self.programs()[0]
    }

    /// What its figures do not say.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Peer::Docker | Peer::Containerd => "its daemon's CPU and memory are not in the figures",
            Peer::Podman | Peer::Skopeo | Peer::Umoci => "",
        }
    }

    pub(crate) fn is_there(self) -> bool {
        self.programs().iter().all(|program| sh::which(program).is_some())
    }

    /// What was typed, in short.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Podman => "podman load",
            Peer::Docker => "docker load",
            Peer::Skopeo => "skopeo copy",
            Peer::Umoci => "umoci unpack",
            Peer::Containerd => "ctr images import",
        }
    }

    /// A process of an image that was loaded as [`Peer::prepare`] says, into the same `root`; `None` where this peer runs
    /// nothing.
    pub(crate) fn run(self, root: &Path, image: &str, program: &str) -> Option<Command> {
        let mut command = Command::new(self.programs()[0]);
        match self {
            Peer::Podman => {
                command.arg("--root").arg(root.join("store"));
                command.arg("--runroot").arg(root.join("run"));
                // crun refuses machines with cgroups of both versions.
                if sh::which("runc").is_some() {
                    command.args(["--runtime", "runc"]);
                }
            }
            Peer::Docker => {
                command.args(["-H", &format!("unix://{}", root.join("socket").display())]);
            }
            Peer::Skopeo | Peer::Umoci | Peer::Containerd => return None,
        }
        // Its daemon has no bridge; and a network takes time.
        command.args(["run", "--rm", "--network", "none"]);
        if self == Peer::Podman {
            // Its own ones need CAP_SYS_RESOURCE, and a controller that cgroup v2 need not have.
            command.arg("--pids-limit=-1");
            command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        }
        command.args(["--entrypoint", program, image]);
        Some(command)
    }

    /// The version that the program tells.
    pub(crate) fn version(self) -> Result<String> {
        let program = match self {
            Peer::Docker => "dockerd",
            Peer::Containerd => "containerd",
            other => other.programs()[0],
        };
        let said = sh::text(Command::new(program).arg("--version"))?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// Makes all ready for one load of `archive` into the new directory `root`; `None` where this peer does not
    /// read the format.
    pub(crate) fn prepare(
        self,
        archive: &Path,
        format: Format,
        root: &Path,
    ) -> Result<Option<Ready>> {
        let layout = matches!(format, Format::OciGzip | Format::OciZstd | Format::OciMulti);
        fs::create_dir_all(root)?;
        let (store, run) = (root.join("store"), root.join("run"));
        let mut ready = Ready { command: Command::new(self.programs()[0]), daemon: None };
        let command = &mut ready.command;
        match self {
            Peer::Podman => {
                let of = |command: &mut Command| {
                    command.arg("--root").arg(&store).arg("--runroot").arg(&run);
                };
                let mut info = Command::new("podman");
                of(&mut info);
                sh::output(info.arg("info"))?;
                of(command);
                command.args(["load", "-q", "-i"]).arg(archive);
            }
            Peer::Skopeo => {
                let kind = if layout { "oci-archive" } else { "docker-archive" };
                let (store, run) = (store.display(), run.display());
                command.args(["--insecure-policy", "copy", "--quiet"]);
                command.arg(format!("{kind}:{}", archive.display()));
                command.arg(format!("containers-storage:[overlay@{store}+{run}]localhost/x:y"));
            }
            Peer::Umoci => {
                if !layout || format == Format::OciZstd {
                    return Ok(None);
                }
                fs::create_dir(&store)?;
                sh::output(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&store))?;
                let tag = only_tag(&store.join("index.json"))?;
                command.args(["unpack", "--image"]).arg(format!("{}:{tag}", store.display()));
                command.arg(root.join("bundle"));
            }
            Peer::Docker => {
                let socket = format!("unix://{}", root.join("socket").display());
                let mut daemon = Command::new("dockerd");
                daemon.args(["--iptables=false", "--bridge=none", "-H", &socket]);
                daemon.arg("--data-root").arg(&store).arg("--exec-root").arg(&run);
                daemon.arg("--pidfile").arg(root.join("pid"));
                let mut ask = Command::new("docker");
                ask.args(["-H", &socket, "info"]);
                ready.daemon = Some(Daemon::start(&mut daemon, &mut ask, root)?);
                command.args(["-H", &socket, "load", "-q", "-i"]).arg(archive);
            }
            Peer::Containerd => {
                let socket = root.join("socket");
                let mut daemon = Command::new("containerd");
                daemon.arg("--root").arg(&store).arg("--state").arg(&run);
                daemon.arg("--address").arg(&socket);
                let mut ask = Command::new("ctr");
                ask.arg("--address").arg(&socket).arg("version");
                ready.daemon = Some(Daemon::start(&mut daemon, &mut ask, root)?);
                command.arg("--address").arg(&socket).args(["images", "import"]).arg(archive);
            }
        }
        Ok(Some(ready))
    }
}

/// The one tag of an OCI layout.
fn only_tag(index: &Path) -> Result<String> {
    let text = fs::read(index).with_context(|| format!("cannot read {}", index.display()))?;
    let index: serde_json::Value = serde_json::from_slice(&text)?;
    let tag = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    Ok(tag.as_str().unwrap_or("latest").to_owned())
}

/// A load that can begin.
pub(crate) struct Ready {
    pub(crate) command: Command,
    /// Ends with this.
    daemon: Option<Daemon>,
}

impl Ready {
    /// Whether the processor time of the command is not all that was used.
    pub(crate) fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }
}

struct Daemon(Child);

impl Daemon {
    /// Starts a daemon and waits until it answers.
    fn start(daemon: &mut Command, ask: &mut Command, root: &Path) -> Result<Daemon> {
        let log = root.join("log");
        let out = fs::File::create(&log)?;
        daemon.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = daemon.spawn().with_context(|| format!("cannot run `{}`", sh::line(daemon)))?;
        let daemon = Daemon(child);
        let start = Instant::now();
        while sh::output(ask).is_err() {
            if start.elapsed() > PATIENCE {
                bail!("`{}` does not succeed; see {}", sh::line(ask), log.display());
            }
            sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // One that is gone needs no signal.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// Removes a directory in which peers worked, with the mounts that they left there.
pub(crate) fn remove(root: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1).map(PathBuf::from))
        .filter(|path| path.starts_with(root))
        .collect();
    for mount in mounts.iter().rev() {
        sh::output(Command::new("umount").arg("-l").arg(mount))?;
    }
    fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))
}
