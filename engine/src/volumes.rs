//! What is mounted beside the standard mounts: the user's volumes and the image's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bindvol::{Bind, Kind, VolumeSpec, Volumes, fill};

use crate::config::{clean, mode};
use crate::error::shorten;
use crate::events::Events;
use crate::{Container, Error, MountKind, MountPoint, RunRequest, names};

/// Directories of volumes that are to be mounted and not the volumes themselves
/// (`volume-subpath`), each open and with its target.
///
/// Whoever shares the volume can make the path a symbolic link to anywhere of the host at any time
/// (as CVE-2021-30465), so what was found is kept open, and mounted from there.
#[derive(Debug, Default)]
pub(crate) struct Subpaths(Vec<(String, OwnedFd)>);

impl Subpaths {
    /// The path by which this process gets at what is mounted on `target`, if it is kept open.
    pub(crate) fn source(&self, target: &str) -> Option<PathBuf> {
        let found = self.0.iter().find(|(other, _)| other == target);
        found.map(|(_, open)| sys::process::proc_path(open))
    }

    /// Opens that of one mount, if it has one.
    ///
    /// # Errors
    /// As [`reopen`].
    pub(crate) fn open(&mut self, mount: &MountPoint, volumes: &Volumes) -> Result<(), Error> {
        let Some(name) = mount.name.as_deref() else { return Ok(()) };
        let Some(volume) = volumes.get(name)? else {
            return Err(bindvol::Error::NoVolume { name: name.to_owned() }.into());
        };
        let below = Path::new(&mount.source).strip_prefix(&volume.path).ok();
        if let Some(below) = below.and_then(Path::to_str).filter(|below| !below.is_empty()) {
            self.0.push((mount.destination.clone(), volume.open(Some(below))?));
        }
        Ok(())
    }
}

/// Decides what is mounted, makes the volumes that are missing, fills them from the image, whose
/// root is `merged`, on their first use, and writes all to `container.mounts`: parents first.
///
/// An image's VOLUME becomes an anonymous volume, unless the user mounts something there. Nothing is
/// made before the sources of all bind mounts were found. Where a later step fails, volumes stay: the
/// anonymous ones go with the container, and one with a name may be another's by then.
///
/// `record` is called with all mounts before the first volume is made: who is killed after that leaves nothing
/// that nobody knows of, and who removes unused volumes sees these used ([`Volumes::remove_if`]).
///
/// # Errors
/// Two volumes for one target ([`Error::DuplicateMount`]), a VOLUME of the image with no proper
/// target ([`Error::Invalid`]), a source that is missing, what else [`bindvol`] says, or `record`.
pub(crate) fn resolve(
    container: &mut Container,
    request: &RunRequest,
    volumes: &Volumes,
    merged: BorrowedFd<'_>,
    events: &Events,
    record: impl Fn(&Container) -> Result<(), Error>,
) -> Result<(), Error> {
    let specs = specs(container, request)?;
    for spec in &specs {
        if let Kind::Bind { source, create_source } = &spec.kind {
            if *create_source {
                bindvol::create_source(source)?;
            }
            // Only tried out, so that what is wrong with it is said now.
            Bind::prepare(source, &spec.target, spec.options.recursive, &spec.attributes())?;
        }
    }
    let planned = specs.iter().map(|spec| plan(spec, volumes)).collect::<Result<_, _>>()?;
    container.mounts = planned;
    if !container.mounts.is_empty() {
        record(container)?;
    }
    let mut all = specs.iter().zip(&container.mounts);
    all.try_for_each(|(spec, mount)| make(spec, mount, volumes, merged, events))
}

/// Opens the directories below volumes that are to be mounted, for a start.
///
/// # Errors
/// A volume is gone ([`bindvol::Error::NoVolume`]), or its subdirectory is, or leads out of it.
pub(crate) fn reopen(container: &Container, volumes: &Volumes) -> Result<Subpaths, Error> {
    let mut subpaths = Subpaths::default();
    for mount in &container.mounts {
        subpaths.open(mount, volumes)?;
    }
    Ok(subpaths)
}

/// The names of the volumes that go with the container.
pub(crate) fn anonymous(container: &Container) -> impl Iterator<Item = &str> {
    let mounts = container.mounts.iter().filter(|mount| mount.anonymous);
    mounts.filter_map(|mount| mount.name.as_deref())
}

/// The user's, and the image's where the user has none, parents before children.
fn specs(container: &Container, request: &RunRequest) -> Result<Vec<VolumeSpec>, Error> {
    let mut specs: Vec<VolumeSpec> = Vec::new();
    for spec in &request.volumes {
        if specs.iter().any(|other| other.target == spec.target) {
            return Err(Error::DuplicateMount { target: shorten(&spec.target) });
        }
        specs.push(spec.clone());
    }
    let taken = |specs: &[VolumeSpec], target: &str| specs.iter().any(|spec| spec.target == target);
    for spec in &request.inherited {
        if !taken(&specs, &spec.target) {
            specs.push(spec.clone());
        }
    }
    for path in container.config.volumes.iter().flat_map(|volumes| volumes.keys()) {
        let bad = |why| Err(Error::invalid("VOLUME of the image", path, why));
        if !path.starts_with('/') {
            return bad("it needs to be an absolute path");
        }
        let target = clean(path);
        if target == "/" {
            return bad("the root of the container cannot be a volume");
        }
        if !taken(&specs, &target) {
            let kind = Kind::Anonymous { nocopy: false };
            specs.push(VolumeSpec { kind, target, options: bindvol::Options::default() });
        }
    }
    // The sort is stable: what is equally deep stays in its order.
    specs.sort_by_key(|spec| depth(&spec.target));
    Ok(specs)
}

/// How many components a clean absolute path has.
pub(crate) fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// A mount as it is recorded, before anything is made for it.
pub(crate) fn plan(spec: &VolumeSpec, volumes: &Volumes) -> Result<MountPoint, Error> {
    let options = spec.words();
    let propagation = options.iter().find(|word| {
        let word = word.strip_prefix('r').unwrap_or(word);
        matches!(word, "private" | "shared" | "slave")
    });
    let (kind, name, source) = match &spec.kind {
        Kind::Bind { source, .. } => (MountKind::Bind, None, source.clone()),
        Kind::Tmpfs { .. } => (MountKind::Tmpfs, None, PathBuf::new()),
        Kind::Named { name, subpath, .. } => {
            let content = volumes.content(name)?;
            let source = match subpath {
                Some(below) => content.join(below),
                None => content,
            };
            (MountKind::Volume, Some(name.clone()), source)
        }
        Kind::Anonymous { .. } => {
            let name = names::id()?;
            let source = volumes.content(&name)?;
            (MountKind::Volume, Some(name), source)
        }
    };
    Ok(MountPoint {
        driver: (kind == MountKind::Volume).then(|| "local".to_owned()),
        mode: if kind == MountKind::Tmpfs { String::new() } else { mode(spec) },
        kind,
        name,
        source: source.to_string_lossy().into_owned(),
        destination: spec.target.clone(),
        rw: !spec.options.read_only,
        propagation: propagation.cloned().unwrap_or_default(),
        anonymous: matches!(spec.kind, Kind::Anonymous { .. }),
        options,
    })
}

/// Makes what a planned mount needs, if it is a volume: that, and what the image, whose root is `merged`, has at
/// its target; and tries it out.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn make(
    spec: &VolumeSpec,
    mount: &MountPoint,
    volumes: &Volumes,
    merged: BorrowedFd<'_>,
    events: &Events,
) -> Result<(), Error> {
    let (nocopy, subpath) = match &spec.kind {
        Kind::Bind { .. } | Kind::Tmpfs { .. } => return Ok(()),
        Kind::Named { nocopy, subpath, .. } => (*nocopy, subpath.as_deref()),
        Kind::Anonymous { nocopy } => (*nocopy, None),
    };
    let volume = volumes.ensure(mount.name.as_deref().unwrap_or_default())?;
    if volume.new {
        events.volume("create", &volume.name);
    }
    // What the image has at the target belongs to the whole volume, not to a part of it.
    if !nocopy && subpath.is_none() {
        fill(&volume, merged, &spec.target)?;
    }
    let open = volume.open(subpath)?;
    let (path, attributes) = (Path::new(&mount.source), spec.attributes());
    // As for a bind mount: only tried out.
    Bind::of_descriptor(open.as_fd(), path, &spec.target, spec.options.recursive, &attributes)?;
    Ok(())
}

#[cfg(test)]
mod tests;
