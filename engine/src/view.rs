//! The root of a container as a descriptor, whether it runs or not.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bindvol::Volumes;
use image_store::Mounted;
use oci_runtime::View;
use rustix::fs::{Mode, OFlags};

use crate::dir::{Attempt, Dir, Lock};
use crate::target::Target;
use crate::{Container, Engine, Error, MountKind, bundle, spec, volumes};

/// How long a container may be between two states.
const BETWEEN: Duration = Duration::from_secs(10);

/// What is to be seen of a container's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The image's layers and what the container changed: what export and commit are about.
    Root,
    /// All that is mounted below it too.
    WithVolumes,
}

/// A container's root. While this lives, one that does not run is not started or removed.
#[derive(Debug)]
pub(crate) struct Rootfs(Kind);

#[derive(Debug)]
enum Kind {
    Running(OwnedFd),
    /// In this order: the mounts go before others may make them.
    Stopped {
        view: View,
        _layers: Option<Mounted>,
        _lock: Lock,
    },
}

impl Rootfs {
    /// Its descriptor. What lies below it may be another's to change at any time: open it by
    /// [`sys::below`] only.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Running(root) => root.as_fd(),
            Kind::Stopped { view, .. } => view.root(),
        }
    }
}

impl Engine {
    /// The root of a container: of one that runs its own, of another the same mounts, made for as long
    /// as this lives, in a mount namespace that nobody else sees.
    ///
    /// # Errors
    /// A volume is not there any more; something cannot be mounted; somebody else holds the container
    /// without running it ([`Error::Busy`]).
    pub(crate) fn rootfs(
        &self,
        dir: &Dir,
        container: &Container,
        extent: Extent,
    ) -> Result<Rootfs, Error> {
        let start = Instant::now();
        loop {
            if let Some(target) = Target::of(&dir.state()?)? {
                let root = match extent {
                    Extent::WithVolumes => of_process(&target, container)?,
                    Extent::Root => dir.open("merged")?,
                };
                return Ok(Rootfs(Kind::Running(root)));
            }
            match dir.try_lock()? {
                Attempt::Taken(lock) => {
                    // It may have been started and have ended meanwhile; nobody can start it now.
                    let layers = bundle::layers(&self.store, container)?;
                    let view = self.stopped(dir, container, extent)?;
                    return Ok(Rootfs(Kind::Stopped { view, _layers: layers, _lock: lock }));
                }
                Attempt::Held if start.elapsed() < BETWEEN => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Attempt::Held => {
                    let (name, id) = (container.name.clone(), container.id.clone());
                    return Err(Error::Busy { name, id });
                }
                Attempt::Gone => {
                    let (text, near) = (container.name.clone(), Vec::new());
                    return Err(Error::NoSuchContainer { text, near });
                }
            }
        }
    }

    fn stopped(&self, dir: &Dir, container: &Container, extent: Extent) -> Result<View, Error> {
        let mut mounts = Vec::new();
        let subpaths;
        if extent == Extent::WithVolumes {
            subpaths = volumes::reopen(container, &Volumes::open(&self.root.volumes())?)?;
            // A tmpfs would be another one, and gone with all that is copied there.
            let mut lasting = container.clone();
            lasting.mounts.retain(|mount| mount.kind != MountKind::Tmpfs);
            mounts = spec::own_mounts(&lasting, dir.path(), &subpaths)?;
            mounts.sort_by_key(|mount| volumes::depth(&mount.destination().to_string_lossy()));
        }
        // Moved from the host's own namespace, where the kernel takes every form of the options.
        bundle::mount(&self.root, dir, container)?;
        let tree = dir.open("merged").and_then(|merged| {
            sys::mount::clone_tree(&merged, c"", false)
                .map_err(|errno| Error::system("clone the mount of", dir.merged(), errno))
        });
        dir.unmount()?;
        let read_only = extent == Extent::WithVolumes && container.host_config.readonly_rootfs;
        Ok(View::new(tree?, &dir.merged(), &mounts, read_only)?)
    }
}

/// The root of a container's process, open on the process itself and not on one that has its number
/// by now.
pub(crate) fn of_process(target: &Target, container: &Container) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{}/root", target.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty());
    if target.wait(Duration::ZERO)? {
        return Err(Error::not_running(container));
    }
    root.map_err(|errno| Error::system("open the container's root at", &path, errno))
}
