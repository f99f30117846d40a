//! A container's cgroup (v2), and which devices its processes may use. With CAP_MKNOD, which Docker
//! gives, a process can make a node of any disk; that it cannot open it is the cgroup's doing.
//!
//! The group lies below that of whoever starts the container. It is in the container's record before it
//! is made, so that whoever tidies up finds it.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxDeviceType;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use sys::bpf::{Access, DeviceKind, DeviceRule};
use sys::fscontext::FsContext;

use crate::dir::Dir;
use crate::{Container, Error, devices, mounts};

/// As Docker: null, zero, full, random, urandom; tty, console, ptmx; the terminals.
const DEVICES: [DeviceRule; 10] = [
    // Nodes may be made of all devices.
    DeviceRule::all(true, Access::MKNOD),
    DeviceRule::char(1, Some(3)),
    DeviceRule::char(1, Some(5)),
    DeviceRule::char(1, Some(7)),
    DeviceRule::char(1, Some(8)),
    DeviceRule::char(1, Some(9)),
    DeviceRule::char(5, Some(0)),
    DeviceRule::char(5, Some(1)),
    DeviceRule::char(5, Some(2)),
    DeviceRule::char(136, None),
];

/// How long a group may be busy after its processes have ended, or were killed.
const BUSY: Duration = Duration::from_secs(10);

/// Makes the cgroup of a container and sets what its processes may use; a descriptor of it.
pub(crate) fn make(dir: &Dir, container: &Container) -> Result<OwnedFd, Error> {
    let hierarchy = Hierarchy::find()?;
    let path = own()?.join(format!("runtime-bin-{}", dir.id()));
    dir.write_group(&path)?;
    let place = hierarchy.place(&path);
    DirBuilder::new()
        .mode(0o755)
        .create(&place)
        .map_err(|error| Error::system("make the cgroup", &place, error))?;
    let group = open_at(&place)?;
    if !container.host_config.privileged {
        let rules = [DEVICES.to_vec(), given(container)?].concat();
        sys::bpf::restrict_devices(group.as_fd(), &rules)
            .map_err(|errno| Error::system("limit the devices of the cgroup", &place, errno))?;
    }
    Ok(group)
}

/// The devices that the container gets beside those.
fn given(container: &Container) -> Result<Vec<DeviceRule>, Error> {
    let number = |number: i64| u32::try_from(number).unwrap_or_default();
    let nodes = devices::list(container)?;
    let rule = nodes.iter().map(|node| DeviceRule {
        kind: match node.typ() {
            LinuxDeviceType::B => DeviceKind::Block,
            _ => DeviceKind::Char,
        },
        ..DeviceRule::char(number(node.major()), Some(number(node.minor())))
    });
    Ok(rule.collect())
}

/// A descriptor of a running container's cgroup.
pub(crate) fn open(dir: &Dir) -> Result<OwnedFd, Error> {
    match dir.group()? {
        Some(path) => open_at(&Hierarchy::find()?.place(&path)),
        None => {
            let error = io::Error::from(ErrorKind::NotFound);
            Err(Error::system("find the cgroup of", dir.path(), error))
        }
    }
}

/// Whether the processes of a container's cgroup are frozen (cgroup.freeze).
pub(crate) fn is_frozen(dir: &Dir) -> bool {
    // Open until it is read: the path leads through the descriptor.
    let Ok(group) = open(dir) else { return false };
    let file = sys::process::proc_path(&group).join("cgroup.freeze");
    std::fs::read(file).is_ok_and(|text| text.starts_with(b"1"))
}

/// Removes the cgroup of a container whose first process has ended, if it has one. What is left in it is
/// killed: without a PID namespace of its own, its other processes live on.
pub(crate) fn remove(dir: &Dir) -> Result<(), Error> {
    let Some(path) = dir.group()? else { return Ok(()) };
    // Kept until the end: its mount may be this process's alone, and the path leads there.
    let hierarchy = Hierarchy::find()?;
    let place = hierarchy.place(&path);
    let start = Instant::now();
    loop {
        match remove_tree(&place) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && start.elapsed() < BUSY => {
                kill_all(&place)?;
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::system("remove the cgroup", place, error));
            }
            _ => return Ok(()),
        }
    }
}

/// Kills all processes of a group and those below it (cgroup.kill, Linux 5.14).
fn kill_all(group: &Path) -> Result<(), Error> {
    let path = group.join("cgroup.kill");
    match std::fs::write(&path, "1") {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::system("end the processes of the cgroup by", path, error))
        }
        _ => Ok(()),
    }
}

/// Removes a group and those that the container may have made in it; a group's files go with it.
fn remove_tree(group: &Path) -> io::Result<()> {
    match std::fs::remove_dir(group) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
        done => return done,
    }
    for entry in std::fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(group)
}

fn open_at(place: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(place, flags, Mode::empty())
        .map_err(|errno| Error::system("open the cgroup", place, errno))
}

/// The caller's own group in the hierarchy (cgroups(7), `/proc/PID/cgroup`).
fn own() -> Result<PathBuf, Error> {
    let path = "/proc/self/cgroup";
    let text = std::fs::read_to_string(path).map_err(|error| Error::system("read", path, error))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").into())
}

/// The hierarchy of cgroup v2.
struct Hierarchy {
    /// Keeps a mount of its own there.
    _mount: Option<OwnedFd>,
    root: PathBuf,
    /// What of the hierarchy is mounted at `root`.
    shown: PathBuf,
}

impl Hierarchy {
    /// Where it is mounted, on a hybrid machine too; mounted here alone where it is not.
    fn find() -> Result<Hierarchy, Error> {
        let mounts = mounts::table("thread-self")?;
        if let Some(mount) = mounts.into_iter().find(|mount| mount.fstype == "cgroup2") {
            return Ok(Hierarchy { _mount: None, root: mount.target, shown: mount.root });
        }
        // Not where it is mounted already, for this sets the options of all its mounts anew.
        let mount = FsContext::open(c"cgroup2")
            .and_then(|context| context.mount(MountAttrFlags::empty()))
            .map_err(|failure| Error::system("mount", "cgroup2", failure.errno))?;
        let root = sys::process::proc_path(&mount);
        Ok(Hierarchy { _mount: Some(mount), root, shown: "/".into() })
    }

    /// Where a group is to be found.
    fn place(&self, group: &Path) -> PathBuf {
        let below = group.strip_prefix(&self.shown).or_else(|_| group.strip_prefix("/"));
        self.root.join(below.unwrap_or(group))
    }
}
