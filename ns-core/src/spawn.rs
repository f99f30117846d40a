//! The clone itself.

use std::convert::Infallible;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open};
use sys::process::last_errno;
use sys::program::exit_now;
use sys::{Failure, Step};

use crate::channel::{Gate, Message};
use crate::enter::{Entered, Way, become_root, enter, enter_time, new_namespaces, set_ns};
use crate::{Child, Error, IdMap, Namespaces, idmap, older_clone};

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
    time_offsets: Vec<u8>,
    mounts_of: Option<BorrowedFd<'fd>>,
    keeps_groups: bool,
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
    /// Joining a mount namespace makes its root the process's root and working directory. A joined
    /// user namespace owns the new namespaces; what the caller may join is joined before the process
    /// gives up the caller's privileges for it, the rest afterwards. In a user namespace, joined or new,
    /// the process is its root (uid and gid 0, no other groups unless [`Spawn::keep_groups`] says so) where these are mapped.
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

    /// Makes the new mount namespace as a copy of the one whose file `fd` is, not of the caller's, whose every mount a clone
    /// copies. The process's root and working directory are its root then; what it needs of the caller's mounts it must
    /// have open. Only without a user namespace, new or joined, which would have to own both.
    #[must_use]
    pub fn mounts_of(mut self, fd: BorrowedFd<'fd>) -> Self {
        self.mounts_of = Some(fd);
        self
    }

    /// Leaves the process its caller's supplementary groups in a user namespace, too.
    #[must_use]
    pub fn keep_groups(mut self) -> Self {
        self.keeps_groups = true;
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

    /// The clocks of the new time namespace: lines `monotonic SECONDS NANOSECONDS` and `boottime …`, as
    /// `/proc/PID/timens_offsets` takes them (time_namespaces(7); Linux 5.6). They are set, and the
    /// process is in the namespace, before the closure runs.
    #[must_use]
    pub fn time_offsets(mut self, lines: &[u8]) -> Self {
        self.time_offsets = lines.to_vec();
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
            Ok(None) => self.in_child(parent, child, body),
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
        match self.way() {
            Way::Clone if self.namespaces.contains(Namespaces::USER) => self.open_maps(child),
            Way::Clone => Ok(child),
            Way::Steps => self.attend(child),
        }
    }

    /// How the process gets where it belongs.
    fn way(&self) -> Way {
        let joined = self.joined();
        let joins_user = joined.contains(Namespaces::USER);
        // A new user namespace has no say over what others own: that must be joined before it is made.
        let makes_user = self.namespaces.contains(Namespaces::USER);
        match joins_user || (makes_user && !(joined - Namespaces::PID).is_empty()) {
            true => Way::Steps,
            false => Way::Clone,
        }
    }

    fn joined(&self) -> Namespaces {
        self.joins.iter().fold(Namespaces::empty(), |all, (_, kinds)| all | *kinds)
    }

    fn open_maps(&self, child: Child) -> Result<Child, Error> {
        let mapped = idmap::write(child.pid(), &self.uid_map, &self.gid_map);
        match mapped.and_then(|()| child.proceed()) {
            Ok(()) => Ok(child),
            Err(error) => {
                // Without its maps it can do nothing; it must not be left at its gate.
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// The parent's part of [`Way::Steps`].
    fn attend(&self, mut child: Child) -> Result<Child, Error> {
        let mut expected = vec![];
        if self.namespaces.contains(Namespaces::USER) {
            expected.push(Entered::User as u8);
        }
        if self.namespaces.contains(Namespaces::PID) {
            expected.push(Entered::Second as u8);
        }
        for step in expected {
            match child.receive()? {
                Message::Entered(entered, None) if entered == step => {
                    child = self.open_maps(child)?;
                }
                Message::Entered(entered, Some(pidfd)) if entered == step => {
                    child = child.replaced_by(pidfd)?;
                    child.proceed()?;
                }
                Message::Failure(report) => {
                    child.wait()?;
                    return Err(Error::Child(report));
                }
                _ => {
                    child.kill()?;
                    child.wait()?;
                    return Err(Error::Protocol { bytes: 0 });
                }
            }
        }
        Ok(child)
    }

    fn check(&self) -> Result<(), Error> {
        (self.namespaces | self.joined()).flags().map_err(Error::system(CLONE))?;
        let maps = !self.uid_map.is_empty() || !self.gid_map.is_empty();
        if maps && !self.namespaces.contains(Namespaces::USER) {
            return Err(Error::MapsWithoutUser);
        }
        if !self.time_offsets.is_empty() && !self.namespaces.contains(Namespaces::TIME) {
            return Err(Error::OffsetsWithoutTime);
        }
        let joined = self.joined();
        if self.mounts_of.is_some()
            && (!self.namespaces.contains(Namespaces::MOUNT)
                || (self.namespaces | joined).contains(Namespaces::USER))
        {
            return Err(Error::NoMountsToCopy);
        }
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
        // A process by descriptor stands for its namespaces (setns(2), Linux 5.8), and costs less than a file of /proc.
        let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .map_err(Error::system("opening the own process (pidfd_open)"))?;
        set_ns(*fd, Namespaces::PID).map_err(Error::system("joining a PID namespace"))?;
        Ok(Some(own))
    }

    /// `None` in the child.
    fn clone_process(&self) -> Result<Option<(Pid, OwnedFd)>, Errno> {
        // The clone would enter a new time namespace before its clocks can be set.
        let mut namespaces = self.namespaces - Namespaces::TIME;
        let mut flags = 0;
        if self.leaves_callers_group() {
            namespaces -= Namespaces::CGROUP;
        }
        if self.mounts_of.is_some() {
            namespaces -= Namespaces::MOUNT;
        }
        if self.cgroup.is_some() {
            flags |= CLONE_INTO_CGROUP;
        }
        if self.way() == Way::Clone {
            flags |= u64::from(namespaces.bits());
        }
        clone3(flags, libc::SIGCHLD, self.cgroup)
    }

    /// The child's whole life up to its exec. Never returns.
    fn in_child(
        &self,
        parent: OwnedFd,
        child: OwnedFd,
        body: impl FnOnce(Gate<'_>) -> Result<Infallible, Failure>,
    ) -> ! {
        let _guard = ExitGuard(101);
        // The copy of the parent's end would keep the channel open after the parent's death.
        drop(parent);
        let gate = Gate::on(child.as_fd());
        let run = || {
            if let Some(First(first)) = self.first {
                first()?;
            }
            match self.way() {
                Way::Clone => self.enter_after_clone(gate)?,
                Way::Steps => self.enter_by_steps(gate)?,
            }
            body(gate)
        };
        match run() {
            Ok(never) => match never {},
            Err(failure) => gate.fail(&failure),
        }
        exit_now(1)
    }

    fn enter_after_clone(&self, gate: Gate<'_>) -> Result<(), Failure> {
        if self.namespaces.contains(Namespaces::USER) {
            gate.opened()?;
        }
        if self.leaves_callers_group() && self.namespaces.contains(Namespaces::CGROUP) {
            new_namespaces(Namespaces::CGROUP).step("making the cgroup namespace")?;
        }
        if self.namespaces.contains(Namespaces::TIME) {
            enter_time(&self.time_offsets)?;
        }
        if let Some(base) = self.mounts_of {
            enter(base, Namespaces::MOUNT)?;
            new_namespaces(Namespaces::MOUNT).step("making the mount namespace")?;
        }
        for (fd, kinds) in &self.joins {
            enter(*fd, *kinds)?;
        }
        match self.namespaces.contains(Namespaces::USER) {
            true => become_root(self.keeps_groups),
            false => Ok(()),
        }
    }

    /// With a user namespace to be joined, or to be made after others were joined: the clone made
    /// none, and each comes when the process has the right over it.
    fn enter_by_steps(&self, gate: Gate<'_>) -> Result<(), Failure> {
        // While /proc is still the caller's.
        if self.namespaces.contains(Namespaces::TIME) {
            enter_time(&self.time_offsets)?;
        }
        let user = Namespaces::USER;
        let mut late = 0_u64; // a bit for each join that only the user namespace may
        for (number, (fd, kinds)) in self.joins.iter().enumerate() {
            match set_ns(*fd, *kinds - user - Namespaces::PID) {
                Err(Errno::PERM) if number < 64 => late |= 1 << number,
                result => result.step("joining the namespaces")?,
            }
        }
        if let Some((fd, _)) = self.joins.iter().find(|(_, kinds)| kinds.contains(user)) {
            enter(*fd, user)?;
        }
        if self.namespaces.contains(user) {
            new_namespaces(user).step("making the user namespace")?;
            gate.entered(Entered::User, None)?;
            gate.opened()?;
        }
        become_root(self.keeps_groups)?;
        for (number, (fd, kinds)) in self.joins.iter().enumerate() {
            if number < 64 && late & 1 << number != 0 {
                enter(*fd, *kinds - user)?;
            }
        }
        let rest = self.namespaces - user - Namespaces::PID - Namespaces::TIME;
        new_namespaces(rest).step("making the namespaces, in the user namespace")?;
        if !self.namespaces.contains(Namespaces::PID) {
            return Ok(());
        }
        // A PID namespace is for children. This one becomes the caller's child in this one's place.
        let flags = u64::from(Namespaces::PID.bits()) | libc::CLONE_PARENT as u64;
        match clone3(flags, 0, None).step("making the PID namespace, in the user namespace")? {
            None => gate.opened(),
            Some((_, pidfd)) => {
                gate.entered(Entered::Second, Some(pidfd.as_fd()))?;
                exit_now(0)
            }
        }
    }
}

/// clone3(2) with a pidfd; `None` in the child.
fn clone3(
    flags: u64,
    exit_signal: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Option<(Pid, OwnedFd)>, Errno> {
    let mut pidfd: libc::c_int = -1;
    let arguments = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: exit_signal as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM the child has a copy of all memory, and goes on from here on a copy of
    // this stack, as after fork(2). `arguments` and `pidfd` live over the call and have the sizes
    // given. What the child may do is restricted by the contract of `spawn`.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    };
    // SAFETY: the call was clone3's, with CLONE_PIDFD and this place.
    match unsafe { cloned(result, pidfd) } {
        // It may be hidden by a seccomp filter that allows clone.
        Err(Errno::NOSYS) if cgroup.is_none() => older_clone::clone(flags, exit_signal),
        result => result,
    }
}

/// What a clone has given: the child's number, and a descriptor of it; `None` in the child.
///
/// # Safety
/// `result` is what clone(2) or clone3(2) with CLONE_PIDFD has just given, and `pidfd` the place for the
/// descriptor, -1 before.
pub(crate) unsafe fn cloned(
    result: libc::c_long,
    pidfd: libc::c_int,
) -> Result<Option<(Pid, OwnedFd)>, Errno> {
    match libc::c_int::try_from(result) {
        Ok(0) => Ok(None),
        Ok(pid @ 1..) => {
            let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
            if pidfd < 0 {
                // The kernel does not know the flag: clone before Linux 5.2 ignores it. The number is this child's
                // until it was waited for; who is killed already is no error.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                return Err(Errno::NOSYS);
            }
            // SAFETY: by this function's contract the kernel stored a new descriptor there, and nobody else
            // knows it.
            Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_without_a_descriptor_is_not_left_behind() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let number = libc::c_long::from(child.id());
        // SAFETY: a clone has given this number, and no descriptor.
        assert_eq!(unsafe { cloned(number, -1) }.unwrap_err(), Errno::NOSYS);
        // It was waited for.
        assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}
