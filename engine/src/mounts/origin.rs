//! What a mount of a container is, of all that the container was started with.

use std::path::{Path, PathBuf};

use oci_runtime::standard;
use sys::mountinfo::Mount;

use super::{LayerView, MountView, Origin};
use crate::{Container, Lower, MountKind, MountPoint, etc, init_binary};

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

/// A mount's origin, and its path on the host.
pub(super) type Found = (Origin, Option<PathBuf>);

/// What the container was started with. What was found once is taken out: a second mount on the same
/// target is somebody else's.
pub(super) struct Known<'a> {
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
    pub(super) fn new(
        container: &Container,
        host: &'a [Mount],
        root: &Path,
        dir: &Path,
    ) -> Known<'a> {
        let total = container.lowers.len();
        let layer = |(index, lower): (usize, &Lower)| LayerView {
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

    pub(super) fn origin(&mut self, mount: &Mount, parent: Option<&MountView>) -> Found {
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
