//! The mounts of a container that runs, each with where it comes from.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sys::mountinfo::Mount;

use crate::{Container, MountKind, MountPoint, etc, init_binary};
use oci_runtime::standard;

/// A mount of a container's mount namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MountView {
    /// Where, as the container sees it.
    pub target: String,
    /// How many mounts it sits on, one on the other; the root has none.
    pub depth: usize,
    /// The kernel's number of the mount.
    pub id: u32,
    /// That of the mount it sits on.
    pub parent: u32,
    /// The file system's type.
    pub fstype: String,
    /// What `mount` prints first: a device, or a name.
    pub device: String,
    /// The mount's own flags, `rw,nosuid`.
    pub flags: String,
    /// The file system's options, `rw,lowerdir=…`.
    pub options: String,
    /// `private`, `shared:N`, `slave:N`, `shared:N,slave:M`, `unbindable`.
    pub propagation: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What the host has there: the path of the root's, the volume's or the bound file, if the host
    /// has one.
    pub source: Option<String>,
    /// Whether another mount hides it.
    pub covered: bool,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Origin {
    /// The root: the image's layers, and over them what the container changed.
    Root {
        /// The directory with the container's changes, on the host.
        upper: String,
        /// The layers, the topmost first.
        layers: Vec<LayerView>,
    },
    /// A volume of the store.
    Volume {
        /// Its name.
        name: String,
        /// Whether it goes with the container.
        anonymous: bool,
    },
    /// A file or directory of the host.
    Bind,
    /// A tmpfs that the user asked for.
    Tmpfs,
    /// What every container has.
    Default,
    /// A file that the engine makes for the container: resolv.conf, hostname, hosts, the init.
    Config,
    /// It hides something of `/proc` or `/sys`.
    Mask,
    /// It keeps something of `/proc` from being written to.
    ReadOnlyPath,
    /// A device, or the terminal.
    Device,
    /// The container itself made it.
    Inside,
}

/// A layer of a container's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerView {
    /// Which of the image's layers it is: the lowest is 1.
    pub number: usize,
    /// The short link that the mount's options have, below the store's root.
    pub link: String,
    /// That link's path.
    pub path: String,
    /// The digest of the layer and all below it.
    pub chain_id: String,
    /// The digest of the layer's uncompressed tar.
    pub diff_id: String,
}

/// The mounts of a container, each behind the one it sits on.
///
/// `mountinfo` is of a process of the container, `host` of this one; `root` is the store's root and
/// `dir` the container's directory. A mount counts as what the container was started with only if
/// what is mounted there is that too (device, and path in the file system), since a container may be
/// allowed to mount.
pub(crate) fn view(
    container: &Container,
    mountinfo: &[Mount],
    host: &[Mount],
    root: &Path,
    dir: &Path,
) -> Vec<MountView> {
    let mut views: Vec<MountView> = Vec::with_capacity(mountinfo.len());
    let mut known = Known::new(container, host, root, dir);
    // The mounts on the way down from the root.
    let mut above: Vec<Above> = Vec::new();
    for mount in ordered(mountinfo) {
        while above.last().is_some_and(|above| above.id != mount.parent) {
            above.pop();
        }
        let parent = above.last().map(|above| &views[above.view]);
        let cover = Cover::of(mount, mountinfo);
        let hidden = cover == Cover::Above
            || above.last().is_some_and(|above| {
                let beside = || mount.target != Path::new(&views[above.view].target);
                above.hidden || (above.cover == Cover::Itself && beside())
            });
        let (origin, source) = known.origin(mount, parent);
        let view = MountView {
            target: mount.target.to_string_lossy().into_owned(),
            depth: above.len(),
            id: mount.id,
            parent: mount.parent,
            fstype: mount.fstype.clone(),
            device: mount.source.to_string_lossy().into_owned(),
            flags: mount.options.clone(),
            options: mount.super_options.to_string_lossy().into_owned(),
            propagation: propagation(mount),
            origin,
            source: source.map(|path| path.to_string_lossy().into_owned()),
            covered: hidden || cover == Cover::Itself,
        };
        above.push(Above { id: mount.id, view: views.len(), hidden, cover });
        views.push(view);
    }
    views
}

/// The mounts with each behind its parent, children in the order in which they were mounted.
fn ordered(mountinfo: &[Mount]) -> Vec<&Mount> {
    let ids: HashSet<u32> = mountinfo.iter().map(|mount| mount.id).collect();
    let mut children: HashMap<u32, Vec<&Mount>> = HashMap::new();
    let mut pending = Vec::new();
    for mount in mountinfo.iter().rev() {
        if mount.parent != mount.id && ids.contains(&mount.parent) {
            children.entry(mount.parent).or_default().push(mount);
        } else {
            pending.push(mount);
        }
    }
    let mut ordered = Vec::with_capacity(mountinfo.len());
    while let Some(mount) = pending.pop() {
        ordered.push(mount);
        // Taken out, so that numbers that make a circle end.
        pending.extend(children.remove(&mount.id).unwrap_or_default());
    }
    ordered
}

/// A mount on the way down to another.
struct Above {
    id: u32,
    /// Its place among the views.
    view: usize,
    /// Whether it is out of sight with all that is mounted on it.
    hidden: bool,
    cover: Cover,
}

/// What a later mount hides of a mount.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cover {
    Nothing,
    /// It lies on the mount itself: what else is mounted there is out of sight, it is not.
    Itself,
    /// It lies on a directory above.
    Above,
}

impl Cover {
    fn of(mount: &Mount, all: &[Mount]) -> Cover {
        let at = all.iter().position(|other| other.id == mount.id).unwrap_or_default();
        let later = || all[at + 1..].iter();
        if later().any(|o| o.parent == mount.parent && mount.target.starts_with(&o.target)) {
            return Cover::Above;
        }
        match later().any(|other| other.parent == mount.id && other.target == mount.target) {
            true => Cover::Itself,
            false => Cover::Nothing,
        }
    }
}

/// mountinfo's `master:N` is what mount(8) calls a slave.
fn propagation(mount: &Mount) -> String {
    let words = mount.propagation.iter().filter_map(|word| match word.split_once(':') {
        Some(("master", group)) => Some(format!("slave:{group}")),
        // It says only through which group a slave receives.
        Some(("propagate_from", _)) => None,
        _ => Some(word.clone()),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "private".to_owned() } else { words.join(",") }
}

/// What is mounted: a device, and a path in its file system.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    device: (u32, u32),
    root: PathBuf,
}

impl Place {
    fn of(mount: &Mount) -> Place {
        Place { device: (mount.major, mount.minor), root: mount.root.clone() }
    }

    /// Of a path of the host.
    fn of_path(path: &Path, host: &[Mount]) -> Option<Place> {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let depth = |mount: &&Mount| mount.target.components().count();
        // Of those on the same target max_by_key takes the last one, which is the topmost.
        let below = host.iter().filter(|mount| path.starts_with(&mount.target));
        let mount = below.max_by_key(depth)?;
        let rest = path.strip_prefix(&mount.target).ok()?;
        let root = match rest.as_os_str().is_empty() {
            true => mount.root.clone(), // joining "" would put a slash behind it
            false => mount.root.join(rest),
        };
        Some(Place { device: (mount.major, mount.minor), root })
    }
}

type Found = (Origin, Option<PathBuf>);

/// What the container was started with. What was found once is taken out: a second mount on the same
/// target is somebody else's.
struct Known<'a> {
    host: &'a [Mount],
    root: Option<Found>,
    /// Binds, volumes and files: target, what should be mounted there, and what that is.
    bound: Vec<(PathBuf, Place, Found)>,
    tmpfs: Vec<PathBuf>,
    standard: Vec<&'static standard::StandardMount>,
    masked: Vec<String>,
    read_only: Vec<&'static str>,
}

impl<'a> Known<'a> {
    fn new(container: &Container, host: &'a [Mount], root: &Path, dir: &Path) -> Known<'a> {
        let total = container.lowers.len();
        let layer = |(index, lower): (usize, &crate::Lower)| LayerView {
            number: total - index,
            link: lower.link.clone(),
            path: root.join(&lower.link).to_string_lossy().into_owned(),
            chain_id: lower.chain_id.to_string(),
            diff_id: lower.diff_id.to_string(),
        };
        let layers = container.lowers.iter().enumerate().map(layer).collect();
        let upper = dir.join("diff").to_string_lossy().into_owned();
        let own = |mount: &&MountPoint| mount.kind != MountKind::Tmpfs;
        let volumes = container.mounts.iter().filter(own).map(|mount| {
            let origin = match &mount.name {
                Some(name) => Origin::Volume { name: name.clone(), anonymous: mount.anonymous },
                None => Origin::Bind,
            };
            (mount.destination.as_str(), PathBuf::from(&mount.source), origin)
        });
        let files = etc::FILES.map(|(name, target)| (target, dir.join(name), Origin::Config));
        let init = container.host_config.init.then(|| init_binary::program().ok()).flatten();
        let init = init.map(|program| (init_binary::TARGET, program, Origin::Config));
        let bound = volumes.chain(files).chain(init).filter_map(|(target, source, origin)| {
            let place = Place::of_path(&source, host)?;
            Some((PathBuf::from(target), place, (origin, Some(source))))
        });
        let tmpfs = container.mounts.iter().filter(|mount| mount.kind == MountKind::Tmpfs);
        Known {
            host,
            root: Some((Origin::Root { upper, layers }, Some(dir.join("merged")))),
            bound: bound.collect(),
            tmpfs: tmpfs.map(|mount| PathBuf::from(&mount.destination)).collect(),
            standard: standard::MOUNTS.iter().chain([&standard::CGROUP]).collect(),
            masked: standard::masked_paths(),
            read_only: standard::READ_ONLY.to_vec(),
        }
    }

    fn origin(&mut self, mount: &Mount, parent: Option<&MountView>) -> Found {
        if parent.is_none()
            && mount.target == Path::new("/")
            && let Some(root) = self.root.take()
        {
            return root;
        }
        self.bound(mount)
            .or_else(|| self.tmpfs(mount))
            .or_else(|| self.standard(mount).map(|origin| (origin, None)))
            .or_else(|| self.below_bound(mount, parent?))
            .unwrap_or((Origin::Inside, None))
    }

    /// By target, and where the image made that a symbolic link, by what is mounted.
    fn bound(&mut self, mount: &Mount) -> Option<Found> {
        let place = Place::of(mount);
        let same = |(_, expected, _): &(PathBuf, Place, Found)| *expected == place;
        let exact = self.bound.iter().position(|entry| entry.0 == mount.target && same(entry));
        let at = exact.or_else(|| self.bound.iter().position(same))?;
        Some(self.bound.remove(at).2)
    }

    fn tmpfs(&mut self, mount: &Mount) -> Option<Found> {
        let wanted = |target: &PathBuf| mount.fstype == "tmpfs" && *target == mount.target;
        let at = self.tmpfs.iter().position(wanted)?;
        self.tmpfs.remove(at);
        Some((Origin::Tmpfs, None))
    }

    fn standard(&mut self, mount: &Mount) -> Option<Origin> {
        let target = mount.target.to_str()?;
        let cgroup = matches!(&mount.fstype[..], "cgroup" | "cgroup2");
        let fits = |known: &&standard::StandardMount| {
            // On v1 it is a tmpfs with a mount for each hierarchy in it.
            let cgroups = known.fstype == "cgroup" && (cgroup || mount.fstype == "tmpfs");
            known.target == target && (known.fstype == mount.fstype || cgroups)
        };
        if let Some(at) = self.standard.iter().position(fits) {
            self.standard.remove(at);
            return Some(Origin::Default);
        }
        if cgroup && mount.target.starts_with(standard::CGROUP.target) {
            return Some(Origin::Default);
        }
        let read_only = mount.options.split(',').any(|word| word == "ro");
        if let Some(at) = self.read_only.iter().position(|path| *path == target) {
            // A piece of proc mounted over itself: `/sys` of it on /proc/sys.
            let itself =
                target.strip_prefix("/proc").is_some_and(|rest| mount.root == Path::new(rest));
            if read_only && itself && mount.fstype == "proc" {
                self.read_only.remove(at);
                return Some(Origin::ReadOnlyPath);
            }
        }
        if let Some(at) = self.masked.iter().position(|path| path == target) {
            let empty = mount.fstype == "tmpfs" && mount.root == Path::new("/");
            if read_only && (empty || mount.root == Path::new("/null")) {
                self.masked.remove(at);
                return Some(Origin::Mask);
            }
        }
        let device = mount.target.parent() == Some(Path::new("/dev"))
            && mount.root.file_name() == mount.target.file_name()
            && mount.fstype == "devtmpfs";
        let console = target == "/dev/console" && mount.fstype == "devpts";
        (device || console).then_some(Origin::Device)
    }

    /// A mount that came along with the directory of the host in which it is.
    fn below_bound(&self, mount: &Mount, parent: &MountView) -> Option<Found> {
        let source = parent.source.as_deref()?;
        if !matches!(parent.origin, Origin::Bind | Origin::Volume { .. }) {
            return None;
        }
        let rest = mount.target.strip_prefix(&parent.target).ok()?;
        let path = Path::new(source).join(rest);
        let real = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        let same = |other: &Mount| other.target == real && Place::of(other) == Place::of(mount);
        let came_along = !rest.as_os_str().is_empty() && self.host.iter().any(same);
        came_along.then(|| (parent.origin.clone(), Some(path)))
    }
}

#[cfg(test)]
mod tests;
