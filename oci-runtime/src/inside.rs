//! Mounts of a container that runs, and a look at the root of one that does not.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ns_core::{Child, Event, Gate, Namespaces, Spawn};
use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, UnmountFlags};
use sys::mount::{self as mounts, Change, Propagation};
use sys::{Failure, Step};

use crate::Error;
use crate::mounts::Mounts;

/// The child has done its part, and waits until nobody needs its namespace any more.
const DONE: u8 = 1;
/// The part of a failure that is one of the mounts.
const PART_MOUNT: u16 = 1;

/// Adds `mount` to the container that the process of `pidfd` runs in: its source is opened in the
/// caller's mount namespace, and attached in the container's, below the container's own root. What
/// is missing of the target is made.
///
/// # Errors
/// The mount has no meaning or its source is not there; the container has ended; the kernel refuses it.
pub fn mount_into(pidfd: BorrowedFd<'_>, mount: &oci::Mount) -> Result<(), Error> {
    let mount = Mounts::plain(&mut Vec::new()).one(0, mount)?;
    let spawn = Spawn::new().join(pidfd, Namespaces::MOUNT);
    let what = |_| mount.describe(0);
    let child = until_done(&spawn, &what, |gate| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(c"/", flags, Mode::empty()).step("opening the root")?;
        mount.apply(root.as_fd())?;
        stay(gate)
    })?;
    child.wait()?;
    Ok(())
}

/// Takes the mount that `mounted` is open on, and all that is mounted on it, out of the mount
/// namespace of the process of `pidfd`. Whoever has something of it open keeps that (MNT_DETACH).
///
/// # Errors
/// Nothing is mounted there; the container has ended; the kernel refuses it. `shown` names the target
/// in messages.
pub fn unmount_from(
    pidfd: BorrowedFd<'_>,
    mounted: BorrowedFd<'_>,
    shown: &str,
) -> Result<(), Error> {
    // umount2(2) takes a path only. That of the descriptor leads to the very mount, whatever the
    // container does with its paths; and the child needs this process's /proc for it.
    let descriptors = c"/proc/thread-self/fd";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptors = rustix::fs::open(descriptors, flags, Mode::empty())
        .map_err(|errno| Error::io("opening", "/proc/thread-self/fd")(errno.into()))?;
    let name = CString::new(mounted.as_raw_fd().to_string())
        .map_err(|error| Error::field("target", error.to_string()))?;
    let spawn = Spawn::new().join(pidfd, Namespaces::MOUNT);
    let what = |_| format!("the mount on {shown}");
    let child = until_done(&spawn, &what, |gate| {
        rustix::process::fchdir(&descriptors).step("entering the caller's descriptors")?;
        rustix::mount::unmount(&name, UnmountFlags::DETACH).step("unmounting it")?;
        stay(gate)
    })?;
    child.wait()?;
    Ok(())
}

/// The root of a container that does not run, with its mounts on it, in a mount namespace that
/// nobody else sees: whatever happens to this process, nothing of it stays mounted.
#[derive(Debug)]
pub struct View {
    child: Child,
    root: OwnedFd,
}

impl View {
    /// Attaches the detached mount `tree` at `place`, an absolute path of the host, and `mounts` below
    /// it; then makes the root itself read-only, if asked for.
    ///
    /// # Errors
    /// As [`mount_into`], with the mount that could not be made.
    pub fn new(
        tree: OwnedFd,
        place: &Path,
        mounts: &[oci::Mount],
        read_only: bool,
    ) -> Result<View, Error> {
        let place_path = CString::new(place.as_os_str().as_encoded_bytes())
            .map_err(|error| Error::field("root.path", error.to_string()))?;
        let mut ignored = Vec::new();
        let mut prepare = Mounts::plain(&mut ignored);
        let one = |(index, mount)| prepare.one(index, mount);
        let mounts: Vec<_> = mounts.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        let spawn = Spawn::new().namespaces(Namespaces::MOUNT);
        let what = |index: Option<u32>| match index.and_then(|at| mounts.get(at as usize)) {
            Some(mount) => mount.describe(0),
            None => format!("a look at the container's root {}", place.display()),
        };
        let child = until_done(&spawn, &what, |gate| {
            attach(&tree, &place_path)?;
            for (index, mount) in mounts.iter().enumerate() {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                mount.apply(tree.as_fd()).map_err(|failure| failure.of(PART_MOUNT, index))?;
            }
            if read_only {
                let set = Some(MountAttrFlags::MOUNT_ATTR_RDONLY);
                let change = Change { set, ..Change::default() };
                mounts::change(&tree, &change).step("making the root read-only")?;
            }
            stay(gate)
        })?;
        Ok(View { child, root: tree })
    }

    /// The root; paths below it are to be opened by [`sys::below`].
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // Its namespace ends with it, before it can be waited for. One that is gone needs no wait.
        let _ = self.child.wait();
    }
}

/// Attaches the tree where nothing of it is seen outside.
fn attach(tree: &OwnedFd, place: &CString) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty()).step("opening the root")?;
    // The host's own would be peers of those here, and show what is mounted.
    let private =
        Change { propagation: Some(Propagation::Private), recursive: true, ..Change::default() };
    mounts::change(&root, &private).step("cutting the mounts off the host's")?;
    let place = rustix::fs::open(place, flags | OFlags::NOFOLLOW, Mode::empty())
        .step("opening the place of the root")?;
    mounts::attach(tree, place).step("attaching the root")?;
    // A copy of a mount that others see is a peer of it.
    mounts::change(tree, &private).step("cutting the root off the host's")
}

/// The end of a child's part: it waits for the parent, and ends.
pub(crate) fn stay(gate: Gate<'_>) -> Result<Infallible, Failure> {
    gate.wait(DONE)?;
    Err(Failure::new("ending", rustix::io::Errno::CANCELED))
}

/// Starts a child and waits until it has done its part. `what` says what a failure is about, given
/// the number of the mount where it is of one.
pub(crate) fn until_done(
    spawn: &Spawn<'_>,
    what: &dyn Fn(Option<u32>) -> String,
    body: impl FnOnce(Gate<'_>) -> Result<Infallible, Failure>,
) -> Result<Child, Error> {
    let mut child = spawn.spawn(body)?;
    match child.next()? {
        Event::Phase(..) => Ok(child),
        Event::Executed => Err(Error::Died(child.wait()?)),
        Event::Failed(report) => {
            child.wait()?;
            let what = what((report.part == PART_MOUNT).then_some(report.index));
            Err(Error::Setup { what, report })
        }
    }
}
