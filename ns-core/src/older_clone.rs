//! clone(2), where clone3(2) is not to be had: Docker's seccomp profile answers ENOSYS for it, since a
//! filter cannot see its arguments, and allows clone.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::spawn::cloned;

/// As clone3 with these flags and a pidfd; `None` in the child. ENOSYS for flags that clone does not
/// have: those above 32 bits, and those in the place of its signal (CLONE_NEWTIME).
pub(crate) fn clone(flags: u64, exit_signal: libc::c_int) -> Result<Option<(Pid, OwnedFd)>, Errno> {
    let flags = u32::try_from(flags).map_err(|_| Errno::NOSYS)?;
    if flags & 0xff != 0 {
        return Err(Errno::NOSYS);
    }
    let flags = libc::c_ulong::from(flags | exit_signal as u32 | libc::CLONE_PIDFD as u32);
    let mut pidfd: libc::c_int = -1;
    let none: libc::c_ulong = 0;
    // The order of the arguments is the machine's (clone(2), "C library/kernel differences").
    let (first, second) = if cfg!(target_arch = "s390x") { (none, flags) } else { (flags, none) };
    // SAFETY: without CLONE_VM and with no stack given the child has a copy of all memory, and goes on
    // from here on a copy of this stack, as after fork(2). `pidfd` lives over the call. What the child
    // may do is restricted by the contract of `Spawn::spawn`.
    let result =
        unsafe { libc::syscall(libc::SYS_clone, first, second, &raw mut pidfd, none, none) };
    // SAFETY: the call was clone's, with CLONE_PIDFD and this place.
    unsafe { cloned(result, pidfd) }
}
