//! The guest's disks: ext4 images that mke2fs fills from a directory, without root and without a mount.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, bail};

use crate::sh;

/// Sparse: what the tests do not write takes no room on the host.
const ROOT_SIZE: &str = "16G";
/// Programs of the host that tests call, beside busybox's: also the shell and what behaves otherwise in
/// busybox (dash unblocks the signals that it inherits; a program of the C library, with a loader), CRIU, which
/// works on the kernels here whatever the host's is, the registry that images are pulled from, and Docker and containerd,
/// which call `runtime-oci` on a machine with cgroup v2 alone (and look for runc as they start).
pub(crate) const PROGRAMS: [&str; 39] = [
    "containerd",
    "containerd-shim-runc-v2",
    "criu",
    "ctr",
    "dd",
    "docker",
    "docker-registry",
    "dockerd",
    "runc",
    "systemd",
    "systemctl",
    "dbus-daemon",
    "strace",
    "sh",
    "bash",
    "mount",
    "umount",
    "mke2fs",
    "findmnt",
    "nsenter",
    "ip",
    "unshare",
    "setpriv",
    "prlimit",
    "setsid",
    "env",
    "tar",
    "getfattr",
    "setfattr",
    "setcap",
    "getcap",
    "cat",
    "head",
    "id",
    "ls",
    "ps",
    "seq",
    "sleep",
    "stty",
];
/// Files of a small, ordinary system.
const FILES: [(&str, &str); 8] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"),
    ("etc/subuid", "user:100000:65536\n"),
    ("etc/subgid", "user:100000:65536\n"),
    ("etc/hosts", "127.0.0.1 localhost test-vm\n"),
    ("etc/resolv.conf", "nameserver 127.0.0.1\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    ("etc/os-release", "ID=test-vm\nNAME=test-vm\n"),
];
const DIRECTORIES: [&str; 17] = [
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "mnt",
    "root",
    "home/user",
    "var/lib",
    "var/log",
    "var/tmp",
    "etc",
    "opt",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/lib64",
];

/// A directory that becomes the guest's root.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
}

impl Stage {
    /// Lays out a system at `dir`: directories, accounts, busybox, the host's programs with their libraries.
    pub(super) fn new(dir: &Path) -> anyhow::Result<Stage> {
        let stage = Stage { dir: dir.to_owned() };
        for name in DIRECTORIES {
            stage.directory(Path::new(name))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            stage.link(&format!("usr/{name}"), name)?;
        }
        stage.link("../run", "var/run")?;
        for (name, text) in FILES {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        for program in PROGRAMS {
            stage.program(program)?;
        }
        stage.busybox()?;
        Ok(stage)
    }

    /// Puts a file of the host at the same path, as a hard link where that works.
    pub(super) fn file(&self, path: &Path) -> anyhow::Result<()> {
        self.copy(path, path)
    }

    /// Makes a directory at the path that the host has it.
    pub(super) fn directory(&self, path: &Path) -> anyhow::Result<()> {
        let path = self.dir.join(path.strip_prefix("/").unwrap_or(path));
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))
    }

    /// Puts the files and links of a directory of the host at the same paths, without the directories that `leave_out` names.
    pub(super) fn tree(&self, dir: &Path, leave_out: &dyn Fn(&Path) -> bool) -> anyhow::Result<()> {
        self.directory(dir)?;
        for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() && !leave_out(&path) {
                self.tree(&path, leave_out)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(&path)
                    .with_context(|| format!("reading the link {}", path.display()))?;
                let to = self.inside(&path);
                symlink(target, &to).with_context(|| format!("linking {}", to.display()))?;
            } else if kind.is_file() {
                // A copy: a test that writes here must not write to the host's file. It may have gone meanwhile.
                let to = self.inside(&path);
                match fs::copy(&path, &to) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| {
                            format!("copying {} to {}", path.display(), to.display())
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Makes the image of what was staged, and removes the stage.
    pub(super) fn image(self, image: &Path) -> anyhow::Result<()> {
        let owned = ["tmp", "var/tmp"];
        for name in owned {
            let path = self.dir.join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))
                .with_context(|| format!("setting the mode of {}", path.display()))?;
        }
        make(&self.dir, image, ROOT_SIZE)?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.dir.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn link(&self, target: &str, name: &str) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        symlink(target, &path).with_context(|| format!("linking {} to {target}", path.display()))
    }

    fn copy(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let to = self.inside(to);
        if to.exists() {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        // Of the link's target: a program may be named by /etc/alternatives.
        let from =
            from.canonicalize().with_context(|| format!("looking for {}", from.display()))?;
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)
                .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    }

    /// A program of the host in /usr/bin, and the libraries that ldd names.
    fn program(&self, name: &str) -> anyhow::Result<()> {
        let path =
            sh::which(name).with_context(|| format!("this machine has no program {name}"))?;
        self.copy(&path, &Path::new("/usr/bin").join(name))?;
        // A static program makes ldd fail.
        let libraries = sh::text(Command::new("ldd").arg(&path)).unwrap_or_default();
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.file(Path::new(library))?;
        }
        Ok(())
    }

    fn busybox(&self) -> anyhow::Result<()> {
        self.program("busybox")?;
        for applet in sh::text(Command::new("busybox").arg("--list"))?.lines() {
            let path = self.dir.join("usr/bin").join(applet);
            if !path.exists() {
                symlink("busybox", &path).with_context(|| format!("linking {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn make(from: &Path, image: &Path, size: &str) -> anyhow::Result<()> {
    let mke2fs = sh::which("mke2fs").context("this machine has no program mke2fs")?;
    let mut command = Command::new(mke2fs);
    // The host throws the disk away: nothing is kept for root, and tables need not be zeroed.
    command.args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-m",
        "0",
        "-E",
        "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1",
    ]);
    sh::output(command.arg("-d").arg(from).arg(image).arg(size))?;
    Ok(())
}

/// The disk with the test images: made again only when one of them has changed. `None` if there are none.
pub(super) fn images(dir: &Path, cache: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut bytes = 0;
    let mut listing = String::new();
    let mut entries: Vec<_> = match fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(_) => return Ok(None),
    };
    entries.sort();
    let stage = cache.join(format!("images-{}", std::process::id()));
    fs::create_dir_all(&stage).with_context(|| format!("creating {}", stage.display()))?;
    for path in entries.iter().filter(|path| path.extension().is_some_and(|end| end == "tar")) {
        let meta = path.metadata().with_context(|| format!("looking at {}", path.display()))?;
        let time = meta.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = path.file_name().unwrap_or_default();
        listing += &format!("{} {} {}\n", name.to_string_lossy(), meta.len(), time.as_nanos());
        bytes += meta.len();
        let to = stage.join(name);
        if fs::hard_link(path, &to).is_err() {
            fs::copy(path, &to)
                .with_context(|| format!("copying {} to {}", path.display(), to.display()))?;
        }
    }
    let (image, list) = (cache.join("images.ext4"), cache.join("images.list"));
    if bytes > 0 && !(image.exists() && fs::read_to_string(&list).is_ok_and(|old| old == listing)) {
        let fresh = cache.join(format!("images-{}.ext4", std::process::id()));
        // Room for the file system's own tables, beside the data.
        make(&stage, &fresh, &format!("{}M", bytes / 1_000_000 * 11 / 10 + 64))?;
        fs::rename(&fresh, &image).with_context(|| format!("moving {}", fresh.display()))?;
        fs::write(&list, listing).with_context(|| format!("writing {}", list.display()))?;
    }
    fs::remove_dir_all(&stage).with_context(|| format!("removing {}", stage.display()))?;
    if bytes == 0 {
        return Ok(None);
    }
    if !image.exists() {
        bail!("mke2fs made no {}", image.display());
    }
    Ok(Some(image))
}
