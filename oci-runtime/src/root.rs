//! `root`: how the container's root becomes the root of its process.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ns_core::Namespaces;
use oci_spec::runtime as oci;
use pivot::{Place, RootPropagation, Stay};
use rustix::fs::{Mode, OFlags};
use sys::{Failure, Step};

use crate::namespaces::OwnNamespaces;
use crate::{Error, base};

/// The way to it.
#[derive(Debug)]
enum Way {
    /// In a mount namespace of the container: the root's mount becomes that of the namespace.
    Pivot,
    /// The same without pivot_root(2).
    Stay(Stay),
    /// The same, over a [`MountBase`](crate::MountBase).
    Base(Stay),
    /// In the caller's mount namespace, where nothing is mounted.
    Chroot,
}

/// The container's root, open.
#[derive(Debug)]
pub(crate) struct Root {
    /// A detached clone of the root's mount; the directory itself for [`Way::Chroot`]. By it the root
    /// can be looked into afterwards too.
    fd: OwnedFd,
    /// The directory on the host.
    directory: OwnedFd,
    /// Where it is mounted until it is switched to, instead of on `/`.
    place: Option<Place>,
    way: Way,
    propagation: RootPropagation,
    read_only: bool,
}

impl Root {
    /// Opens the root at `path`.
    ///
    /// # Errors
    /// It is not there, or cannot be cloned; something is to be mounted, and there is no mount namespace
    /// for it.
    pub(crate) fn prepare(
        path: &Path,
        root: &oci::Root,
        spec: &oci::Spec,
        namespaces: &OwnNamespaces,
    ) -> Result<Self, Error> {
        if root.path().as_os_str().is_empty() {
            return Err(Error::field("root.path", "it is missing; give the root's directory"));
        }
        let io = |op| move |errno: rustix::io::Errno| Error::io(op, path)(errno.into());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(io("opening the container's root"))?;
        let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
        let propagation = word
            .filter(|word| !word.is_empty())
            .map_or(Ok(RootPropagation::Private), RootPropagation::from_word)?;
        let read_only = root.readonly().unwrap_or(false);
        // One that is joined by a path may be the caller's own.
        if !namespaces.apart.contains(Namespaces::MOUNT) {
            nothing_is_mounted(spec, read_only)?;
            let fd = directory
                .try_clone()
                .map_err(Error::io("copying the descriptor of the container's root", path))?;
            return Ok(Self {
                fd,
                directory,
                place: None,
                way: Way::Chroot,
                propagation,
                read_only,
            });
        }
        let fd = sys::mount::clone_tree(&directory, c"", true)
            .map_err(io("cloning the mount of the container's root"))?;
        Ok(Self { fd, directory, place: None, way: Way::Pivot, propagation, read_only })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether nodes may be made in its `/dev`: never in one that is the host's directory.
    pub(crate) fn makes_devices(&self) -> bool {
        !matches!(self.way, Way::Chroot)
    }

    /// Has it mounted over the host's directory, where hooks look for it, until it is switched to (config.md,
    /// "POSIX-platform Hooks"; as runc).
    pub(crate) fn show_to_hooks(&mut self) -> Result<(), Error> {
        if matches!(self.way, Way::Pivot) {
            self.place = Some(Place::new(self.directory.as_fd())?);
        }
        Ok(())
    }

    /// Where hooks find it, by a path of the host.
    pub(crate) fn shown_at(&self) -> Option<&CStr> {
        self.place.as_ref().map(Place::path)
    }

    /// Whether nobody looks for it, nor for the caller's mounts, in the new mount namespace before that.
    pub(crate) fn is_switched_to_at_once(&self) -> bool {
        matches!(self.way, Way::Pivot) && self.place.is_none()
    }

    pub(crate) fn no_pivot(&mut self) -> Result<(), Error> {
        if matches!(self.way, Way::Pivot) {
            self.way = Way::Stay(Stay::prepare()?);
            // What is left below "/" must not be more than the host's own.
            self.place = None;
        }
        Ok(())
    }

    /// For a mount namespace that begins as a copy of a [`MountBase`](crate::MountBase): an empty, read-only root may stay
    /// below the container's, and pivot_root(2), which looks at each process of the machine, need not be called (0.5 us
    /// for each: 1 of 8 ms beside a thousand containers).
    pub(crate) fn over_base(&mut self) {
        self.way = Way::Base(Stay::over_proc());
    }

    /// Child side. Gives the root, below which all else is attached; paths still mean the caller's.
    pub(crate) fn enter(&self) -> Result<OwnedFd, Failure> {
        match &self.way {
            Way::Pivot | Way::Stay(_) | Way::Base(_) => {
                pivot::enter_at(self.fd.as_fd(), self.propagation, self.place.as_ref())
            }
            Way::Chroot => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(&self.fd, c".", flags, Mode::empty())
                    .step("opening the container's root")
            }
        }
    }

    /// Child side. Makes `root` the process's root.
    pub(crate) fn switch(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        match &self.way {
            Way::Base(stay) if base::is_below()? => stay.apply(root, self.propagation),
            Way::Pivot | Way::Base(_) => pivot::pivot(root, self.propagation),
            Way::Stay(stay) => stay.apply(root, self.propagation),
            Way::Chroot => pivot::change_root(root),
        }
    }

    /// Child side, after everything else.
    pub(crate) fn protect(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        match self.read_only {
            true => pivot::read_only(root),
            false => Ok(()),
        }
    }
}

/// Without a mount namespace of its own, what a container mounts the whole host would see, and keep.
fn nothing_is_mounted(spec: &oci::Spec, read_only: bool) -> Result<(), Error> {
    let linux = spec.linux().as_ref();
    let any = |list: Option<&Vec<String>>| list.is_some_and(|list| !list.is_empty());
    let mounts = spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty());
    let masked = any(linux.and_then(|linux| linux.masked_paths().as_ref()));
    let read_only_paths = any(linux.and_then(|linux| linux.readonly_paths().as_ref()));
    let devices = linux.and_then(|linux| linux.devices().as_ref());
    let devices = devices.is_some_and(|devices| !devices.is_empty());
    let terminal = spec.process().as_ref().and_then(oci::Process::terminal).unwrap_or(false);
    let asked = [
        (mounts, "mounts"),
        (masked, "linux.maskedPaths"),
        (read_only_paths, "linux.readonlyPaths"),
        (devices, "linux.devices"),
        (read_only, "root.readonly"),
        (terminal, "process.terminal"),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, field)) => {
            let reason = "it would change the host's own mounts; add {\"type\": \"mount\"} to \
                          linux.namespaces";
            Err(Error::field(*field, reason))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A root in the mount namespace that the caller is in, given by its path.
    fn prepare(change: impl FnOnce(&mut Value)) -> Result<Root, String> {
        let dir = tempfile::tempdir().unwrap();
        let namespaces = json!([{"type": "mount", "path": "/proc/self/ns/mnt"}]);
        let mut spec = json!({"ociVersion": "1.2.0", "root": {"path": "x"}, "linux": {"namespaces": namespaces}});
        change(&mut spec);
        let spec: oci::Spec = serde_json::from_value(spec).unwrap();
        let own = OwnNamespaces::prepare(spec.linux().as_ref().unwrap()).unwrap();
        let root = spec.root().as_ref().unwrap();
        Root::prepare(dir.path(), root, &spec, &own).map_err(|error| error.to_string())
    }

    /// pivot_root(2) there would take the host's root away from all of the host.
    #[test]
    fn the_callers_own_mounts_stay_as_they_are() {
        let root = prepare(|_| {}).unwrap();
        assert!(matches!(root.way, Way::Chroot), "{:?}", root.way);
        assert!(!root.makes_devices());
        let mount = json!([{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]);
        let error = prepare(|spec| spec["mounts"] = mount).unwrap_err();
        assert!(error.starts_with("mounts of the container's configuration"), "{error}");
        let error = prepare(|spec| spec["root"]["readonly"] = json!(true)).unwrap_err();
        assert!(error.starts_with("root.readonly"), "{error}");
    }
}
