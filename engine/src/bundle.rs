//! What a start of a container needs: its root mounted, its files of `/etc`, its OCI configuration.

use std::os::fd::AsFd;

use image_store::{Digest, Mounted, Store};
use oci_runtime::spec::Process;
use oci_runtime::{Prepared, Stdio};
use overlay::Overlay;
use rustix::fs::{Mode, OFlags};

use crate::dir::{Dir, Root};
use crate::{Container, Error, etc, group, seccomp, shared, spec, volumes};

/// Mounts what a container's image needs to be mounted, for as long as the value lives: its index, if it has one. It
/// comes before [`mount`], and outlives what that mounts.
///
/// # Errors
/// The image is damaged; the archive that its layers were left in has changed.
pub(crate) fn layers(store: &Store, container: &Container) -> Result<Option<Mounted>, Error> {
    if !container.lowers.iter().any(|lower| lower.mounted) {
        return Ok(None);
    }
    let id: Digest = container.image.parse().map_err(|_| Error::Damaged {
        path: format!("the record of the container {}", container.name).into(),
        source: serde::de::Error::custom("its image is no digest"),
    })?;
    Ok(store.mount(&id)?)
}

/// Mounts the image's layers, and over them the container's own directory, at `merged`, on the host. The
/// caller holds the container's lock, and [`layers`].
///
/// # Errors
/// A layer is not there; the kernel refuses the overlay.
pub(crate) fn mount(root: &Root, dir: &Dir, container: &Container) -> Result<(), Error> {
    // Who was killed between a mount and its end has left one, and two overlays over the same upper and
    // work directories are undefined (overlayfs.rst, "Sharing and copying layers").
    dir.unmount()?;
    if container.host_config.auto_remove {
        // The kernel's mark that a volatile overlay was mounted, which no second mount passes
        // (overlayfs.rst, "Volatile mount"). Since then only this container's life went on.
        let mark = dir.path().join("work/work/incompat/volatile");
        match std::fs::remove_dir_all(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::system("remove", mark, error));
            }
            _ => {}
        }
    }
    let lowers = container.lowers.iter().map(|lower| root.path().join(&lower.link));
    let overlay = Overlay::new()
        .lowers(lowers)
        .upper(dir.path().join("diff"))
        .work(dir.path().join("work"))
        // What is thrown away at the end need not reach the disk before.
        .volatile(container.host_config.auto_remove);
    let base = rustix::fs::open(root.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::system("open", root.path(), errno))?;
    overlay.mount_at(dir.open("merged")?.as_fd(), base.as_fd())?;
    Ok(())
}

/// Writes the bundle of a container whose root is mounted, and prepares its start, in a new cgroup.
pub(crate) fn prepare(
    root: &Root,
    dir: &Dir,
    container: &Container,
    stdio: Stdio,
) -> Result<Prepared, Error> {
    let merged = dir.open("merged")?;
    let volumes = bindvol::Volumes::open(&root.volumes())?;
    let subpaths = volumes::reopen(container, &volumes)?;
    etc::write(container, dir.open(".")?.as_fd())?;
    // Open until the start is prepared.
    let shared = shared::open(root, dir, container)?;
    let mut spec = spec::build(container, dir.path(), merged.as_fd(), &subpaths, &shared)?;
    if let Some(process) = spec.process_mut() {
        set_size(process);
    }
    dir.write("config.json", &spec)?;
    // That of the last run, where this is a further one.
    group::remove(dir)?;
    let cache = seccomp::cache(dir);
    let cache = cache.as_ref().map(AsFd::as_fd);
    let prepared = Prepared::with_cache(dir.path(), &spec, stdio, cache)?;
    let (hierarchies, location) = group::locate(dir, container)?;
    Ok(prepared.group(hierarchies, location))
}

/// Gives a process's terminal the size of the starter's.
pub(crate) fn set_size(process: &mut Process) {
    oci_runtime::set_size(process, &[std::io::stdout().as_fd(), std::io::stdin().as_fd()]);
}
