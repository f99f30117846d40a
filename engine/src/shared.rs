//! What a container shares with another one or with the host: `--ipc`, `--pid`, `--uts`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType as Kind};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use sys::fscontext::FsContext;

use crate::dir::{Dir, Root};
use crate::target::Target;
use crate::{Container, Error};

/// The size of `/dev/shm` where nothing is said.
const SHM_SIZE: u64 = 64 << 20;

/// What is shared, open.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    joined: Vec<(Kind, OwnedFd)>,
    /// What is to be bound on `/dev/shm`.
    pub(crate) shm: Option<PathBuf>,
}

/// Opens what `container` shares, and makes the `/dev/shm` that others may share with it.
///
/// # Errors
/// A container that it shares with is not there, does not run, or does not share; a system call fails.
pub(crate) fn open(root: &Root, dir: &Dir, container: &Container) -> Result<Shared, Error> {
    let mut shared = Shared::default();
    let host = &container.host_config;
    if let Some(id) = host.pid_mode.strip_prefix("container:") {
        let (_, target) = running(root, id)?;
        shared.joined.push((Kind::Pid, namespace(&target, "pid")?));
    }
    match &host.ipc_mode[..] {
        "host" => shared.shm = Some("/dev/shm".into()),
        "shareable" => shared.shm = Some(make_shm(dir, host.shm_size.unwrap_or(SHM_SIZE))?),
        mode => {
            if let Some(id) = mode.strip_prefix("container:") {
                let (other, target) = running(root, id)?;
                if !matches!(&other.host_config.ipc_mode[..], "shareable" | "host") {
                    return Err(Error::NotShareable { name: other.name });
                }
                shared.joined.push((Kind::Ipc, namespace(&target, "ipc")?));
                shared.shm = Some(match &other.host_config.ipc_mode[..] {
                    "host" => "/dev/shm".into(),
                    _ => root.dir(id).shm(),
                });
            }
        }
    }
    Ok(shared)
}

impl Shared {
    /// The namespaces of a container: new, joined, or left out where they are the host's.
    pub(crate) fn namespaces(&self, container: &Container) -> Result<Vec<LinuxNamespace>, Error> {
        let host = &container.host_config;
        let own = [
            (Kind::Pid, host.pid_mode.is_empty()),
            (Kind::Mount, true),
            (Kind::Ipc, matches!(&host.ipc_mode[..], "" | "none" | "private" | "shareable")),
            (Kind::Uts, host.uts_mode.is_empty()),
            (Kind::Cgroup, host.limits.cgroupns_mode != "host"),
            (Kind::Network, !container.is_host_network()),
        ];
        let mut namespaces = Vec::new();
        for (kind, own) in own {
            let joined = self.joined.iter().find(|(other, _)| *other == kind);
            let namespace = LinuxNamespaceBuilder::default().typ(kind);
            match (own, joined) {
                (true, _) => namespaces.push(namespace.build()?),
                (false, Some((_, open))) => {
                    namespaces.push(namespace.path(sys::process::proc_path(open)).build()?);
                }
                (false, None) => {}
            }
        }
        Ok(namespaces)
    }
}

/// Another container and its process.
fn running(root: &Root, id: &str) -> Result<(Container, Target), Error> {
    let dir = root.dir(id);
    let Some(container) = dir.container()? else {
        return Err(Error::NoSuchContainer { text: id.to_owned(), near: Vec::new() });
    };
    match Target::of(&dir.state()?)? {
        Some(target) => Ok((container, target)),
        None => Err(Error::not_running(&container)),
    }
}

/// A namespace of a process, which is still the one that was meant.
fn namespace(target: &Target, kind: &str) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{}/ns/{kind}", target.pid.as_raw_nonzero());
    let failed = |errno| Error::system("open the namespace", &path, errno);
    let file =
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    // Only if it lives now, the number was its own when the path was opened.
    match target.wait(std::time::Duration::ZERO)? {
        false => Ok(file),
        true => Err(failed(rustix::io::Errno::SRCH)),
    }
}

/// Mounts a tmpfs in the container's directory, on the host, where other containers can get at it.
fn make_shm(dir: &Dir, size: u64) -> Result<PathBuf, Error> {
    let path = dir.shm();
    let failed = |errno: rustix::io::Errno| Error::system("mount a tmpfs at", &path, errno);
    // That of the run before.
    dir.unmount_shm()?;
    if !path.exists() {
        dir.make("shm")?;
    }
    let size = std::ffi::CString::new(size.to_string()).unwrap_or_default();
    let mount = FsContext::open(c"tmpfs")
        .and_then(|context| {
            context.string(c"source", c"shm")?;
            context.string(c"mode", c"1777")?;
            context.string(c"size", &size)?;
            context.mount(
                MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV
                    | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            )
        })
        .map_err(|failure| failed(failure.errno))?;
    sys::mount::attach(&mount, dir.open("shm")?).map_err(failed)?;
    Ok(path)
}
