//! Descriptors for who listens at a socket: the terminal for whoever shows it (runc's `--console-socket`,
//! docs/terminals.md of runc), the process for whoever waits for it (`--pidfd-socket`).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::Error;

/// Sends a terminal's master to who listens at `socket`, a stream socket of the host.
///
/// # Errors
/// Nobody listens there.
pub fn send_terminal(socket: &Path, master: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, b"/dev/ptmx", master)
}

/// Sends a process's descriptor to who listens at `socket`.
///
/// # Errors
/// As [`send_terminal`].
pub fn send_pidfd(socket: &Path, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, b"pidfd", pidfd)
}

/// `remark` is what runc calls the descriptor.
fn send(socket: &Path, remark: &[u8], descriptor: BorrowedFd<'_>) -> Result<(), Error> {
    let failed = |op| move |errno: rustix::io::Errno| Error::io(op, socket)(errno.into());
    let missing = || failed("finding")(rustix::io::Errno::NOENT);
    let name = socket.file_name().and_then(|name| name.to_str()).ok_or_else(missing)?;
    let dir = match socket.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())
        .map_err(failed("opening the directory of the socket"))?;
    let connection =
        sys::message::connect_stream(dir.as_fd(), name).map_err(failed("connecting to"))?;
    sys::message::send(&connection, remark, &[descriptor])
        .map_err(failed("sending the descriptor to"))
}
