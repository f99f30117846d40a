//! What is mounted beside the standard mounts: the user's volumes and the image's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bindvol::{Bind, Kind, VolumeSpec, Volumes, fill};

use crate::config::{clean, mode};
use crate::error::shorten;
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
/// made before the sources of all bind mounts were found; where a later step fails, the volumes that
/// this call made are removed again.
///
/// `record` is called before a volume is made that is the container's alone, with a container that has
/// its name: who is killed after that leaves nothing that nobody knows of.
///
/// # Errors
/// Two volumes for one target ([`Error::DuplicateMount`]), a VOLUME of the image with no proper
/// target ([`Error::Invalid`]), a source that is missing, what else [`bindvol`] says, or `record`.
pub(crate) fn resolve(
    container: &mut Container,
    request: &RunRequest,
    volumes: &Volumes,
    merged: BorrowedFd<'_>,
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
    let planned = specs.iter().map(point).collect::<Result<Vec<_>, _>>()?;
    container.mounts = planned.iter().filter(|mount| mount.anonymous).cloned().collect();
    if !container.mounts.is_empty() {
        record(container)?;
    }
    let mut made = Making { volumes, merged, new: Vec::new() };
    let mounts = specs.iter().zip(planned).map(|(spec, mount)| made.mount(spec, mount));
    match mounts.collect::<Result<Vec<_>, _>>() {
        Ok(mounts) => {
            container.mounts = mounts;
            Ok(())
        }
        Err(error) => {
            for name in &made.new {
                // What went wrong first is what counts; a volume that stays is found by its name.
                let _ = volumes.remove(name);
            }
            Err(error)
        }
    }
}

/// One more volume, for a container whose root on the host is `merged`: made where it is missing, and
/// filled. With its record comes the name of the volume if it is new, for the caller to remove where a
/// later step fails.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn add(
    spec: &VolumeSpec,
    volumes: &Volumes,
    merged: BorrowedFd<'_>,
) -> Result<(MountPoint, Option<String>), Error> {
    if let Kind::Bind { source, create_source: true } = &spec.kind {
        bindvol::create_source(source)?;
    }
    let mut made = Making { volumes, merged, new: Vec::new() };
    let mount = point(spec).and_then(|mount| made.mount(spec, mount));
    let new = made.new.pop();
    match mount {
        Ok(mount) => Ok((mount, new)),
        Err(error) => {
            if let Some(name) = new {
                // As in `resolve`.
                let _ = volumes.remove(&name);
            }
            Err(error)
        }
    }
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

/// What is known of a mount before anything is made for it.
fn point(spec: &VolumeSpec) -> Result<MountPoint, Error> {
    let options = spec.words();
    let propagation = options.iter().find(|word| {
        let word = word.strip_prefix('r').unwrap_or(word);
        matches!(word, "private" | "shared" | "slave")
    });
    let (kind, name) = match &spec.kind {
        Kind::Bind { .. } => (MountKind::Bind, None),
        Kind::Tmpfs { .. } => (MountKind::Tmpfs, None),
        Kind::Named { name, .. } => (MountKind::Volume, Some(name.clone())),
        Kind::Anonymous { .. } => (MountKind::Volume, Some(names::id()?)),
    };
    Ok(MountPoint {
        driver: (kind == MountKind::Volume).then(|| "local".to_owned()),
        mode: if kind == MountKind::Tmpfs { String::new() } else { mode(spec) },
        kind,
        name,
        source: String::new(),
        destination: spec.target.clone(),
        rw: !spec.options.read_only,
        propagation: propagation.cloned().unwrap_or_default(),
        anonymous: matches!(spec.kind, Kind::Anonymous { .. }),
        options,
    })
}

/// Volumes being made.
struct Making<'a> {
    volumes: &'a Volumes,
    merged: BorrowedFd<'a>,
    /// Names of those that were not there before.
    new: Vec<String>,
}

impl Making<'_> {
    fn mount(&mut self, spec: &VolumeSpec, mut mount: MountPoint) -> Result<MountPoint, Error> {
        let (nocopy, subpath) = match &spec.kind {
            Kind::Bind { source, .. } => {
                mount.source = source.to_string_lossy().into_owned();
                return Ok(mount);
            }
            Kind::Tmpfs { .. } => return Ok(mount),
            Kind::Named { nocopy, subpath, .. } => (*nocopy, subpath.as_deref()),
            Kind::Anonymous { nocopy } => (*nocopy, None),
        };
        let volume = self.volumes.ensure(mount.name.as_deref().unwrap_or_default())?;
        if volume.new {
            self.new.push(volume.name.clone());
        }
        // What the image has at the target belongs to the whole volume, not to a part of it.
        if !nocopy && subpath.is_none() {
            fill(&volume, self.merged, &spec.target)?;
        }
        let open = volume.open(subpath)?;
        let path = subpath.map_or_else(|| volume.path.clone(), |below| volume.path.join(below));
        let attributes = spec.attributes();
        let recursive = spec.options.recursive;
        // As for a bind mount: only tried out.
        Bind::of_descriptor(open.as_fd(), &path, &spec.target, recursive, &attributes)?;
        mount.source = path.to_string_lossy().into_owned();
        Ok(mount)
    }
}

#[cfg(test)]
mod tests;
