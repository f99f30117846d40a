//! The mounts of a container that runs, each with where it comes from.

mod origin;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use sys::mountinfo::Mount;

use crate::{Container, Error};
use origin::Known;

/// The mounts that `/proc/PROCESS/mountinfo` lists; `process` is a number, `self` or `thread-self`.
pub(crate) fn table(process: &str) -> Result<Vec<Mount>, Error> {
    let path = format!("/proc/{process}/mountinfo");
    let bytes =
        sys::whole::read_path(&path).map_err(|error| Error::system("read", &path, error))?;
    sys::mountinfo::parse(&bytes)
        .map_err(|error| Error::system("read", &path, std::io::Error::other(error)))
}

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

#[cfg(test)]
mod tests;
