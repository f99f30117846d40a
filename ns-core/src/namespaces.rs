//! The kinds of namespaces.

use rustix::io::Errno;

bitflags::bitflags! {
    /// Kinds of namespaces (namespaces(7)), as the CLONE_NEW… flags.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Namespaces: u32 {
        /// Mounts (mount_namespaces(7)).
        const MOUNT = libc::CLONE_NEWNS as u32;
        /// Process numbers (pid_namespaces(7)); the child is number 1 of a new one.
        const PID = libc::CLONE_NEWPID as u32;
        /// User and group ids, and capabilities (user_namespaces(7)).
        const USER = libc::CLONE_NEWUSER as u32;
        /// Network devices, addresses, ports (network_namespaces(7)).
        const NETWORK = libc::CLONE_NEWNET as u32;
        /// System V IPC and POSIX message queues (ipc_namespaces(7)).
        const IPC = libc::CLONE_NEWIPC as u32;
        /// Hostname and domain name (uts_namespaces(7)).
        const UTS = libc::CLONE_NEWUTS as u32;
        /// The root of what is seen of the cgroups (cgroup_namespaces(7)).
        const CGROUP = libc::CLONE_NEWCGROUP as u32;
        /// The monotonic and the boot-time clock (time_namespaces(7); Linux 5.6).
        const TIME = 0x80; // CLONE_NEWTIME of linux/sched.h
    }
}

impl Namespaces {
    /// Each kind, with the name that it has below `/proc/PID/ns`.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::MOUNT, "mnt"),
        (Self::PID, "pid"),
        (Self::USER, "user"),
        (Self::NETWORK, "net"),
        (Self::IPC, "ipc"),
        (Self::UTS, "uts"),
        (Self::CGROUP, "cgroup"),
        (Self::TIME, "time"),
    ];

    /// As flags of clone(2), unshare(2) and setns(2). EINVAL for bits that are no kind of namespace (they can be
    /// put into any set of flags): there they would mean that memory or descriptors are shared.
    pub(crate) fn flags(self) -> Result<u32, Errno> {
        match Self::all().contains(self) {
            true => Ok(self.bits()),
            false => Err(Errno::INVAL),
        }
    }
}
