//! What of a container is the caller's choice, and not the configuration's.

use std::os::fd::BorrowedFd;

use cgroup::{Hierarchies, Location};
use ns_core::Door;

use super::Prepared;
use crate::namespaces::Ahead;
use crate::process::Process;
use crate::scope::Scope;
use crate::{Error, MountBase, start};

impl Prepared {
    /// Makes the container's cgroup there, instead of where `linux.cgroupsPath` says: in the hierarchies
    /// that `location` names and in no other.
    #[must_use]
    pub fn group(mut self, hierarchies: Hierarchies, location: Location) -> Self {
        self.group.put_at(hierarchies, location);
        self
    }

    /// Lets systemd make the container's cgroup, where [`Prepared::group`] says. Without a scope nothing changes.
    #[must_use]
    pub fn scope(mut self, scope: Option<Scope>) -> Self {
        if let Some(scope) = scope {
            self.group.in_scope(scope);
        }
        self
    }

    /// Lets the container be without a cgroup where the caller has no right to make one, and the configuration
    /// asks for none and for no limits; and with the caller's groups, where dropping them is denied.
    #[must_use]
    pub fn rootless(mut self) -> Self {
        self.group.rootless();
        self.process.iter_mut().for_each(Process::rootless);
        self
    }

    /// Lets the process wait for its start in the directory `dir` of the host, so that it outlives its
    /// creator ([`Created::leave`](crate::Created::leave)); [`Recorded::start`](crate::Recorded::start) starts it. A command that is not
    /// there is then an error of [`Prepared::create`] already.
    ///
    /// # Errors
    /// A process waits there already.
    pub fn wait_in(mut self, dir: BorrowedFd<'_>) -> Result<Self, Error> {
        self.door = Some(Door::listen(dir, start::DOOR)?);
        Ok(self)
    }

    /// Leaves the descriptors 3 to 2 + `count` open for the program.
    #[must_use]
    pub fn preserve(mut self, count: u32) -> Self {
        if let Some(process) = &mut self.process {
            process.preserve(count);
        }
        self
    }

    /// Lets a new terminal leave line ends as the program writes them, without a carriage return: for who shows its
    /// output where no terminal is, as in a file (as runc).
    #[must_use]
    pub fn plain_line_ends(mut self) -> Self {
        self.process.iter_mut().for_each(Process::plain_line_ends);
        self
    }

    /// The container's id, which its hooks are told, and an agent of `linux.seccomp.listenerPath`; the
    /// name of the bundle's directory otherwise.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.hooks.set_id(id);
        if let Some(seccomp) = self.process.as_mut().and_then(Process::seccomp_mut) {
            seccomp.set_id(id);
        }
        self
    }

    /// Leaves the root switched by chroot(2), over the host's file systems, in place of pivot_root(2),
    /// which the kernel refuses where the host's root is its initial ramdisk (pivot_root(2), "Notes").
    /// Weaker: for such hosts only. The host's procfs and sysfs are taken away ([`pivot::Stay`]).
    ///
    /// # Errors
    /// The host's mounts cannot be read.
    pub fn no_pivot(mut self) -> Result<Self, Error> {
        self.root.no_pivot()?;
        Ok(self)
    }

    /// Leaves the process the session keyring of its creator, instead of a new one
    /// (session-keyring(7)).
    #[must_use]
    pub fn callers_keyring(mut self) -> Self {
        self.keyring = false;
        self
    }

    /// Makes the container's mount namespace as a copy of this one, not of the caller's. The caller's it is where the container has
    /// a user namespace, which is to own its mounts, or hooks that look for the host's mounts in there, or no mount namespace
    /// of its own.
    #[must_use]
    pub fn copy_mounts_of(mut self, base: MountBase) -> Self {
        if self.root.is_switched_to_at_once() && self.namespaces.copy_mounts_of(base) {
            self.root.over_base();
        }
        self
    }

    /// Uses what was begun before ([`Ahead`]).
    #[must_use]
    pub fn ahead(mut self, ahead: Ahead) -> Self {
        self.namespaces.ahead(ahead);
        self
    }
}
