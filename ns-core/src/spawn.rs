//! The clone itself.

use std::convert::Infallible;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;
use sys::process::last_errno;
use sys::{Failure, Step};

use crate::channel::Gate;
use crate::{Child, Error, IdMap, Namespaces, idmap};

/// linux/sched.h; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What [`Error::System`] calls the clone.
pub(crate) const CLONE: &str = "starting a process (clone3)";

/// What the child does before all else.
#[derive(Clone, Copy)]
struct First<'fd>(&'fd dyn Fn() -> Result<(), Failure>);

impl fmt::Debug for First<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("First")
    }
}

/// A process to be started: which namespaces are new, which are joined, which cgroup it begins in.
#[derive(Clone, Debug, Default)]
pub struct Spawn<'fd> {
    namespaces: Namespaces,
    joins: Vec<(BorrowedFd<'fd>, Namespaces)>,
    cgroup: Option<BorrowedFd<'fd>>,
    first: Option<First<'fd>>,
    uid_map: Vec<IdMap>,
    gid_map: Vec<IdMap>,
}

impl<'fd> Spawn<'fd> {
    /// A process in the caller's own namespaces.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds kinds of namespaces that the process gets as new ones. A new user namespace is made
    /// first and owns the others.
    #[must_use]
    pub fn namespaces(mut self, namespaces: Namespaces) -> Self {
        self.namespaces |= namespaces;
        self
    }

    /// Adds namespaces to join, in the order given: `fd` is a file of `/proc/PID/ns` with its kind, or
    /// a pidfd with all kinds that are to be joined of that process (setns(2); pidfds: Linux 5.8).
    ///
    /// Joining a mount namespace makes its root the process's root and working directory. Joined
    /// namespaces are entered before new ones are looked at by the closure, not before they are made:
    /// a process cannot have new namespaces owned by a user namespace that it joins here.
    #[must_use]
    pub fn join(mut self, fd: BorrowedFd<'fd>, namespaces: Namespaces) -> Self {
        self.joins.push((fd, namespaces));
        self
    }

    /// Starts the process in the cgroup (v2) whose directory `fd` is open on (CLONE_INTO_CGROUP,
    /// Linux 5.7).
    #[must_use]
    pub fn cgroup(mut self, fd: BorrowedFd<'fd>) -> Self {
        self.cgroup = Some(fd);
        self
    }

    /// Lets the process do this before all else: as long as it is in the caller's namespaces (but for new
    /// ones that the clone makes), and before its new cgroup namespace is rooted where it is then. System
    /// calls only, as in [`Spawn::spawn`].
    #[must_use]
    pub fn first(mut self, first: &'fd dyn Fn() -> Result<(), Failure>) -> Self {
        self.first = Some(First(first));
        self
    }

    /// Whether the process enters its cgroup by the clone or after it: the clone would root a new cgroup
    /// namespace at the caller's.
    fn leaves_callers_group(&self) -> bool {
        self.cgroup.is_some() || self.first.is_some()
    }

    /// The id maps of the new user namespace, at most 340 lines each (Linux 4.15). They are written
    /// before the closure runs.
    #[must_use]
    pub fn id_maps(mut self, uids: &[IdMap], gids: &[IdMap]) -> Self {
        self.uid_map = uids.to_vec();
        self.gid_map = gids.to_vec();
        self
    }

    /// Starts the process (clone3(2), Linux 5.3), which runs `body`. `body` ends in an exec, or in
    /// the failure that the parent gets; it may make system calls only (see the crate's
    /// documentation). A panic in it ends the child with status 101 and goes no further.
    ///
    /// The child has no thread but its own, the caller's signal mask, and a channel to its parent
    /// that closes on exec.
    ///
    /// # Errors
    /// Contradictory requests; the kernel refuses the clone, a join of a PID namespace or an id map.
    /// What fails in the child comes from [`Child::next`].
    pub fn spawn(
        &self,
        body: impl FnOnce(Gate<'_>) -> Result<Infallible, Failure>,
    ) -> Result<Child, Error> {
        self.check()?;
        let (parent, child) =
            sys::message::pair().map_err(Error::system("making a pair of sockets"))?;
        let pid_joins = self.join_pid()?;
        let cloned = self.clone_process();
        let cloned = match cloned {
            Ok(None) => self.in_child(&parent, &child, body),
            Ok(Some(cloned)) => Ok(cloned),
            Err(errno) => Err(Error::System { op: CLONE, errno }),
        };
        if let Some(own) = pid_joins {
            set_ns(own.as_fd(), Namespaces::PID)
                .map_err(Error::system("going back to the caller's own PID namespace"))?;
        }
        let (pid, pidfd) = cloned?;
        drop(child);
        let child = Child::new(pid, pidfd, parent);
        if self.namespaces.contains(Namespaces::USER) {
            let mapped = idmap::write(pid, &self.uid_map, &self.gid_map);
            let opened = mapped.and_then(|()| child.proceed());
            if let Err(error) = opened {
                // Without its maps it can do nothing; it must not be left at its gate.
                child.kill()?;
                child.wait()?;
                return Err(error);
            }
        }
        Ok(child)
    }

    fn check(&self) -> Result<(), Error> {
        let maps = !self.uid_map.is_empty() || !self.gid_map.is_empty();
        if maps && !self.namespaces.contains(Namespaces::USER) {
            return Err(Error::MapsWithoutUser);
        }
        let joined = self.joins.iter().fold(Namespaces::empty(), |all, (_, kinds)| all | *kinds);
        match Namespaces::NAMES
            .iter()
            .find(|(kind, _)| self.namespaces.contains(*kind) && joined.contains(*kind))
        {
            Some((_, kind)) => Err(Error::NewAndJoined { kind }),
            None => Ok(()),
        }
    }

    /// A PID namespace is joined by children only (setns(2)), so the caller's thread enters it around
    /// the clone. Gives the way back.
    fn join_pid(&self) -> Result<Option<OwnedFd>, Error> {
        let Some((fd, _)) = self.joins.iter().find(|(_, kinds)| kinds.contains(Namespaces::PID))
        else {
            return Ok(None);
        };
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let own = rustix::fs::open(c"/proc/self/ns/pid", flags, rustix::fs::Mode::empty())
            .map_err(Error::system("opening /proc/self/ns/pid"))?;
        set_ns(*fd, Namespaces::PID).map_err(Error::system("joining a PID namespace"))?;
        Ok(Some(own))
    }

    /// `None` in the child.
    fn clone_process(&self) -> Result<Option<(Pid, OwnedFd)>, Errno> {
        let mut pidfd: libc::c_int = -1;
        let mut namespaces = self.namespaces;
        let mut flags = libc::CLONE_PIDFD as u64;
        if self.leaves_callers_group() {
            namespaces -= Namespaces::CGROUP;
        }
        if self.cgroup.is_some() {
            flags |= CLONE_INTO_CGROUP;
        }
        flags |= u64::from(namespaces.bits());
        let arguments = libc::clone_args {
            flags,
            pidfd: (&raw mut pidfd) as u64,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: libc::SIGCHLD as u64,
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: self.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        };
        // SAFETY: without CLONE_VM the child has a copy of all memory, and goes on from here on a
        // copy of this stack, as after fork(2). `arguments` and `pidfd` live over the call and have
        // the sizes given. What the child may do is restricted by the contract of `spawn`.
        let result = unsafe {
            libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
        };
        match result {
            -1 => Err(last_errno()),
            0 => Ok(None),
            pid => {
                // SAFETY: the kernel stored a new descriptor of the parent there (CLONE_PIDFD).
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::CHILD)?;
                Ok(Some((pid, pidfd)))
            }
        }
    }

    /// The child's whole life up to its exec. Never returns.
    fn in_child<T>(
        &self,
        parent: &OwnedFd,
        child: &OwnedFd,
        body: impl FnOnce(Gate<'_>) -> Result<Infallible, Failure>,
    ) -> T {
        let _guard = ExitGuard(101);
        // The copy of the parent's end would keep the channel open after the parent's death.
        // SAFETY: the descriptor belongs to the parent; the owner's copy in this process is never
        // used or dropped again, since this function does not return.
        unsafe { libc::close(parent.as_raw_fd()) };
        let gate = Gate::new(child.as_fd());
        let run = || {
            if let Some(First(first)) = self.first {
                first()?;
            }
            if self.namespaces.contains(Namespaces::USER) {
                gate.opened()?;
            }
            if self.leaves_callers_group() && self.namespaces.contains(Namespaces::CGROUP) {
                new_cgroup_namespace().step("making the cgroup namespace")?;
            }
            for (fd, kinds) in &self.joins {
                let kinds = *kinds - Namespaces::PID;
                if !kinds.is_empty() {
                    set_ns(*fd, kinds).step("joining the namespaces")?;
                }
            }
            body(gate)
        };
        match run() {
            Ok(never) => match never {},
            Err(failure) => gate.fail(&failure),
        }
        exit_now(1)
    }
}

/// A namespace whose root is the group that the process is in.
fn new_cgroup_namespace() -> Result<(), Errno> {
    // SAFETY: unshare takes no memory, and a cgroup namespace is no resource that other threads hold.
    match unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

fn set_ns(fd: BorrowedFd<'_>, kinds: Namespaces) -> Result<(), Errno> {
    // SAFETY: setns takes no memory; which resources the thread names afterwards is the purpose.
    match unsafe { libc::setns(fd.as_raw_fd(), kinds.bits() as libc::c_int) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Ends the process when a panic unwinds: the child must never return into its parent's code.
pub(crate) struct ExitGuard(pub(crate) u8);

impl Drop for ExitGuard {
    fn drop(&mut self) {
        exit_now(self.0);
    }
}

/// Ends the process at once: no destructors, no exit handlers, which are the parent's.
pub(crate) fn exit_now(status: u8) -> ! {
    // SAFETY: _exit has no precondition and does not return.
    unsafe { libc::_exit(libc::c_int::from(status)) }
}
