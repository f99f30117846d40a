//! The side that answers calls which a filter puts to a listener (seccomp_unotify(2), Linux 5.0).

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use crate::process::last_errno;

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Of the call, for [`respond`].
    pub id: u64,
    /// The caller's thread, in the PID namespace of the listener's holder; 0 where it has none there.
    pub pid: u32,
    /// The call's number.
    pub number: i32,
    /// Of which architecture (linux/audit.h).
    pub arch: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Waits for a call. ENOENT when the caller was killed meanwhile.
pub fn receive(listener: impl AsFd) -> Result<Notification, Errno> {
    const RECEIVE: Opcode = opcode::read_write::<libc::seccomp_notif>(b'!', 0);
    // The kernel takes all zeros only.
    let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
    let mut notification = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data };
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one such structure there, whose size is part of the request's number, and
    // which lives over the call.
    if unsafe { libc::ioctl(fd, RECEIVE as _, &raw mut notification) } != 0 {
        return Err(last_errno());
    }
    Ok(Notification {
        id: notification.id,
        pid: notification.pid,
        number: notification.data.nr,
        arch: notification.data.arch,
        args: notification.data.args,
    })
}

/// Answers the call with an errno. ENOENT when the caller does not wait any more.
pub fn respond(listener: impl AsFd, id: u64, errno: Errno) -> Result<(), Errno> {
    send(listener, libc::seccomp_notif_resp { id, val: 0, error: -errno.raw_os_error(), flags: 0 })
}

/// Lets the kernel do the call (Linux 5.5). What was checked may have changed by then: see the man
/// page.
pub fn let_be(listener: impl AsFd, id: u64) -> Result<(), Errno> {
    const CONTINUE: u32 = 1; // SECCOMP_USER_NOTIF_FLAG_CONTINUE
    send(listener, libc::seccomp_notif_resp { id, val: 0, error: 0, flags: CONTINUE })
}

fn send(listener: impl AsFd, mut response: libc::seccomp_notif_resp) -> Result<(), Errno> {
    const SEND: Opcode = opcode::read_write::<libc::seccomp_notif_resp>(b'!', 1);
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one such structure there, which lives over the call.
    match unsafe { libc::ioctl(fd, SEND as _, &raw mut response) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}
