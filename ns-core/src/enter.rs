//! The child's way into its namespaces: system calls only.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe,
};
use sys::{Failure, Step};

use crate::Namespaces;

/// How a process gets into its namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The new ones come with the clone, others are joined then.
    Clone,
    /// All come after the clone, one after the other.
    Steps,
}

/// What the child has entered, and its parent has a part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// A new user namespace, whose id maps are the parent's to write.
    User = 1,
    /// A new PID namespace, with a second child in place of the first, whose descriptor comes along.
    Second = 2,
}

/// Joins the namespaces of `kinds`; a PID namespace the parent has joined before the clone.
pub(crate) fn enter(fd: BorrowedFd<'_>, kinds: Namespaces) -> Result<(), Failure> {
    set_ns(fd, kinds - Namespaces::PID).step("joining the namespaces")
}

pub(crate) fn set_ns(fd: BorrowedFd<'_>, kinds: Namespaces) -> Result<(), Errno> {
    if kinds.is_empty() {
        return Ok(());
    }
    // A namespace's own file is taken by the same call.
    move_into_thread_name_spaces(fd, ThreadNameSpaceType::from_bits_retain(kinds.flags()?))
}

/// unshare(2) of `kinds`; a cgroup namespace is rooted at the group that the process is in.
pub(crate) fn new_namespaces(kinds: Namespaces) -> Result<(), Errno> {
    if kinds.is_empty() {
        return Ok(());
    }
    let kinds = UnshareFlags::from_bits_retain(kinds.flags()?);
    // SAFETY: namespaces alone become the thread's own (and, with mounts, its directories): `flags` lets
    // nothing else pass, least of all CLONE_FILES, so that no descriptor is another thread's alone.
    unsafe { unshare_unsafe(kinds) }
}

/// Runs `work` in a new cgroup namespace, rooted at the group that the process is in, and goes back to the one
/// before. What is mounted meanwhile stays rooted there. Child side.
///
/// The way back needs CAP_SYS_ADMIN over the namespace that the process comes from.
pub fn in_cgroup_namespace(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let before = rustix::fs::open(c"/proc/self/ns/cgroup", flags, Mode::empty())
        .step("opening /proc/self/ns/cgroup")?;
    new_namespaces(Namespaces::CGROUP).step("making a cgroup namespace for a moment")?;
    let done = work();
    set_ns(before.as_fd(), Namespaces::CGROUP).step("going back to the cgroup namespace")?;
    done
}

/// A new time namespace with `offsets`, and the process in it. Its /proc must be the caller's, and the
/// process not have changed its user: the file is its own then.
pub(crate) fn enter_time(offsets: &[u8]) -> Result<(), Failure> {
    new_namespaces(Namespaces::TIME).step("making the time namespace")?;
    if !offsets.is_empty() {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(c"/proc/self/timens_offsets", flags, Mode::empty())
            .step("opening /proc/self/timens_offsets")?;
        rustix::io::write(&file, offsets).step("setting the clocks of the time namespace")?;
    }
    // unshare(2) is for children and, from Linux 6.3 on, the next program.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = c"/proc/self/ns/time_for_children";
    let own = rustix::fs::open(path, flags, Mode::empty())
        .step("opening /proc/self/ns/time_for_children")?;
    set_ns(own.as_fd(), Namespaces::TIME).step("entering the time namespace")
}

/// Root of the user namespace that the process has entered: otherwise what it makes has no owner there.
pub(crate) fn become_root(keeps_groups: bool) -> Result<(), Failure> {
    match rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT) {
        // Not mapped: it stays who it is.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => {
            return Err(Failure::new("becoming the root group of the user namespace", errno));
        }
    }
    let left = if keeps_groups { Ok(()) } else { rustix::thread::set_thread_groups(&[]) };
    match left {
        // Denied for good, where an unprivileged user made the namespace (user_namespaces(7)).
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(Failure::new("leaving the caller's groups", errno)),
    }
    match rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(Failure::new("becoming root of the user namespace", errno)),
    }
}
