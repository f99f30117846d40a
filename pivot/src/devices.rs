//! Device nodes and links in `/dev`.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;
use sys::{Failure, Step, below, mount};

use crate::Error;
use crate::depot::Depot;
use crate::error::c_string;
use crate::standard::LINKS;
use crate::target::{components, descend, open_entry, without_umask};

/// What kind of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A character device (`c` or `u`).
    Char,
    /// A block device (`b`).
    Block,
    /// A named pipe (`p`), which has no numbers.
    Fifo,
}

impl DeviceKind {
    fn file_type(self) -> FileType {
        match self {
            Self::Char => FileType::CharacterDevice,
            Self::Block => FileType::BlockDevice,
            Self::Fifo => FileType::Fifo,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Char => "char",
            Self::Block => "block",
            Self::Fifo => "pipe",
        }
    }
}

/// A node that the container shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where, in the container; absolute.
    pub path: String,
    /// What kind of node.
    pub kind: DeviceKind,
    /// Major number; 0 for a pipe.
    pub major: u32,
    /// Minor number; 0 for a pipe.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner, as the container sees it.
    pub uid: u32,
    /// Group, as the container sees it.
    pub gid: u32,
    /// With [`Nodes::Bind`]: the owner's ids on the host, of a node that is made for the container, with its mode,
    /// if the caller may make nodes; the host's own is bound otherwise.
    pub made_for: Option<(u32, u32)>,
}

/// How nodes come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nodes {
    /// mknod(2): needs CAP_MKNOD in the initial user namespace.
    Make,
    /// Binds of the host's nodes at the same paths, whose modes and owners are the host's, or of nodes
    /// that were made before ([`Device::made_for`]): all that a user namespace can have.
    Bind,
}

/// Devices and links, prepared.
#[derive(Debug)]
pub struct Devices {
    nodes: Vec<Node>,
    links: Vec<(CString, CString)>,
    depot: Option<Depot>,
}

/// What a node is bound from.
#[derive(Debug)]
enum Bound {
    /// A detached mount of the host's.
    Host(OwnedFd),
    /// One of this name in the depot.
    Made(CString),
}

#[derive(Debug)]
struct Node {
    place: Place,
    name: CString,
    kind: FileType,
    numbers: u64,
    mode: Mode,
    owner: (Uid, Gid),
    bind: Option<Bound>,
    description: String,
}

/// The directory that a node lies in.
#[derive(Debug)]
enum Place {
    /// Below `/dev`, which is opened once; no links.
    Dev(Vec<CString>),
    /// Elsewhere below the root.
    Root(CString),
}

impl Devices {
    /// Prepares `devices` and the links [`LINKS`]. With [`Nodes::Bind`] the host's nodes are
    /// opened here, and are refused when they are not the devices asked for.
    pub fn prepare(devices: &[Device], nodes: Nodes) -> Result<Self, Error> {
        let mut depot = None;
        Ok(Self {
            nodes: devices
                .iter()
                .map(|device| node(device, nodes, &mut depot))
                .collect::<Result<_, _>>()?,
            depot,
            links: LINKS
                .iter()
                .map(|(name, to)| Ok((c_string("link", name)?, c_string("link", to)?)))
                .collect::<Result<_, Error>>()?,
        })
    }

    /// Child side. Makes them below `root`, whose `/dev` must be a directory (ELOOP for a symbolic
    /// link: CVE-2026-41579). What is there already and is the same is left as it is; what is
    /// something else is EEXIST. The failure's index is the device's.
    pub fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let dev = descend(root, &[c"dev"])?;
        without_umask(|| {
            // On /dev, which is known by its descriptor meanwhile.
            if let Some(depot) = &self.depot {
                depot.open(dev.as_fd())?;
            }
            for (index, node) in self.nodes.iter().enumerate() {
                node.apply(root, dev.as_fd(), self.depot.as_ref())
                    .map_err(|failure| failure.of(0, index as u32))?;
            }
            if let Some(depot) = &self.depot {
                depot.close()?;
            }
            for (index, (name, to)) in self.links.iter().enumerate() {
                link(dev.as_fd(), name, to)
                    .map_err(|failure| failure.of(0, (self.nodes.len() + index) as u32))?;
            }
            Ok(())
        })
    }

    /// `the device /dev/null (char 1:3)`: what the failure of `index` is about.
    pub fn describe(&self, index: u32) -> String {
        let index = index as usize;
        match (self.nodes.get(index), self.links.get(index.wrapping_sub(self.nodes.len()))) {
            (Some(node), _) => node.description.clone(),
            (None, Some((name, _))) => format!("the link /dev/{}", name.to_string_lossy()),
            (None, None) => "the container's devices".to_owned(),
        }
    }
}

fn node(device: &Device, nodes: Nodes, depot: &mut Option<Depot>) -> Result<Node, Error> {
    let refuse = |reason| Error::Path { what: "device", path: device.path.clone(), reason };
    if !device.path.starts_with('/') {
        return Err(refuse("it is not absolute; begin it with a slash"));
    }
    let mut names = components("device", &device.path)?;
    let name = names.pop().ok_or_else(|| refuse("it names no file; give one below /dev"))?;
    let place = if names.first().is_some_and(|first| first.as_c_str() == c"dev") {
        Place::Dev(names.split_off(1))
    } else {
        let mut parent = Vec::new();
        for name in &names {
            parent.push(b'/');
            parent.extend_from_slice(name.as_bytes());
        }
        Place::Root(CString::new(parent).map_err(|_| refuse("it holds a NUL byte; remove it"))?)
    };
    let (kind, word) = (device.kind.file_type(), device.kind.word());
    let numbers = match device.kind {
        DeviceKind::Fifo => 0,
        _ => makedev(device.major, device.minor),
    };
    let description =
        format!("the device {} ({word} {}:{})", device.path, device.major, device.minor);
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    let bind = match (nodes, device.kind) {
        // Anybody may make a pipe.
        (Nodes::Make, _) | (_, DeviceKind::Fifo) => None,
        (Nodes::Bind, _) => Some(bound(device, kind, numbers, mode, depot)?),
    };
    if device.uid == u32::MAX || device.gid == u32::MAX {
        return Err(refuse("its owner is 4294967295, which is no user; use another"));
    }
    let owner = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    Ok(Node { place, name, kind, numbers, mode, owner, bind, description })
}

fn bound(
    device: &Device,
    kind: FileType,
    numbers: u64,
    mode: Mode,
    depot: &mut Option<Depot>,
) -> Result<Bound, Error> {
    if let Some(owner) = device.made_for {
        let failed = |failure: Failure| Error::io(failure.op, &device.path)(failure.errno.into());
        let depot = match depot {
            Some(depot) => depot,
            none => none.insert(Depot::new().map_err(failed)?),
        };
        match depot.make(kind, numbers, mode, owner) {
            Ok(name) => return Ok(Bound::Made(name)),
            Err(Errno::PERM) => {}
            Err(errno) => {
                return Err(Error::io("making a node for the container's device", &device.path)(
                    errno.into(),
                ));
            }
        }
    }
    host_node(device, kind, numbers).map(Bound::Host)
}

/// A detached mount of the host's node at the same path, checked on the descriptor.
fn host_node(device: &Device, kind: FileType, numbers: u64) -> Result<OwnedFd, Error> {
    let path = Path::new(&device.path);
    let io = |op| move |errno: Errno| Error::io(op, path)(errno.into());
    let host = rustix::fs::open(
        path.as_os_str().as_bytes(),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(io("opening the host's device"))?;
    let stat = rustix::fs::fstat(&host).map_err(io("looking at the host's device"))?;
    let found = FileType::from_raw_mode(stat.st_mode);
    if (found, stat.st_rdev) != (kind, numbers) {
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        return Err(Error::OtherDevice {
            path: path.to_owned(),
            found: format!("{found:?} {major}:{minor}"),
            expected: format!("{kind:?} {}:{}", device.major, device.minor),
        });
    }
    mount::clone_tree(&host, c"", false).map_err(io("cloning the mount of the host's device"))
}

impl Node {
    fn apply(
        &self,
        root: BorrowedFd<'_>,
        dev: BorrowedFd<'_>,
        depot: Option<&Depot>,
    ) -> Result<(), Failure> {
        let held;
        let dir = match &self.place {
            Place::Dev(names) if names.is_empty() => dev,
            Place::Dev(names) => {
                held = descend(dev, names)?;
                held.as_fd()
            }
            Place::Root(path) => {
                let mode = Mode::from_raw_mode(0o755);
                held = below::make(root, path, below::Kind::Directory, mode)
                    .step("opening or making the device's directory")?;
                held.as_fd()
            }
        };
        match (&self.bind, depot) {
            (Some(Bound::Host(tree)), _) => self.bind(dir, tree.as_fd()),
            (Some(Bound::Made(name)), Some(depot)) => self.bind(dir, depot.take(name)?.as_fd()),
            (Some(Bound::Made(_)) | None, _) => self.make(dir),
        }
    }

    fn make(&self, dir: BorrowedFd<'_>) -> Result<(), Failure> {
        match rustix::fs::mknodat(dir, &self.name, self.kind, self.mode, self.numbers) {
            Err(Errno::EXIST) => return self.accept(dir),
            result => result.step("making the device node")?,
        }
        let (uid, gid) = self.owner;
        rustix::fs::chownat(dir, &self.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .step("giving the device node its owner")
    }

    /// The image's or the host's own node will do when it is the very device; it is not changed.
    fn accept(&self, dir: BorrowedFd<'_>) -> Result<(), Failure> {
        let entry = open_entry(dir, &self.name).step("opening what has the device's name")?;
        let stat = rustix::fs::fstat(&entry).step("looking at what has the device's name")?;
        if (FileType::from_raw_mode(stat.st_mode), stat.st_rdev) == (self.kind, self.numbers) {
            return Ok(());
        }
        Err(Failure::new("making the device node where something else has its name", Errno::EXIST))
    }

    fn bind(&self, dir: BorrowedFd<'_>, tree: BorrowedFd<'_>) -> Result<(), Failure> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(dir, &self.name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) => {}
            Err(Errno::EXIST) if self.accept(dir).is_ok() => return Ok(()),
            Err(errno) => return Err(Failure::new("making the file to bind the device on", errno)),
        }
        let target = open_entry(dir, &self.name).step("opening the file to bind the device on")?;
        mount::attach(tree, target).step("binding the host's device")
    }
}

fn link(dev: BorrowedFd<'_>, name: &CString, to: &CString) -> Result<(), Failure> {
    match rustix::fs::symlinkat(to, dev, name) {
        Err(Errno::EXIST) => {}
        result => return result.step("making a link in /dev"),
    }
    let mut buffer = [std::mem::MaybeUninit::<u8>::uninit(); 64];
    let (found, _) = rustix::fs::readlinkat_raw(dev, name, &mut buffer)
        .step("reading what has the name of a link in /dev")?;
    if found == to.as_bytes() {
        return Ok(());
    }
    Err(Failure::new("making a link in /dev where something else has its name", Errno::EXIST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, major: u32, minor: u32) -> Device {
        let kind = DeviceKind::Char;
        Device {
            path: path.to_owned(),
            kind,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
            made_for: None,
        }
    }

    fn error(device: Device, nodes: Nodes) -> String {
        Devices::prepare(&[device], nodes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(error(device("dev/x", 1, 3), Nodes::Make).contains("not absolute"));
        assert!(error(device("/", 1, 3), Nodes::Make).contains("names no file"));
        assert!(error(device("/dev/../x", 1, 3), Nodes::Make).contains("\"..\""));
        assert!(error(device("/dev/a\0b", 1, 3), Nodes::Make).contains("NUL"));
        let mut nobody = device("/dev/x", 1, 3);
        nobody.uid = u32::MAX;
        assert!(error(nobody, Nodes::Make).contains("4294967295"));
    }

    #[test]
    fn the_hosts_node_must_be_the_device() {
        let text = error(device("/dev/null", 1, 5), Nodes::Bind);
        assert!(text.contains("/dev/null on the host is CharacterDevice 1:3"), "{text}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(error(device(path, 1, 3), Nodes::Bind).contains("RegularFile"));
        assert!(error(device("/dev/no-such", 1, 3), Nodes::Bind).contains("/dev/no-such failed"));
    }

    #[test]
    fn an_index_has_its_words() {
        let devices = Devices::prepare(&[device("/dev/null", 1, 3)], Nodes::Make).unwrap();
        assert_eq!(devices.describe(0), "the device /dev/null (char 1:3)");
        assert_eq!(devices.describe(1), "the link /dev/core");
        assert_eq!(devices.describe(99), "the container's devices");
    }
}
