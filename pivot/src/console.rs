//! The container's terminal: a pseudoterminal of its own devpts, bound on `/dev/console`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use sys::{Failure, Step, mount};

use crate::target::{descend, open_entry, without_umask};

/// statfs(2) of devpts (linux/magic.h).
const DEVPTS: u64 = 0x1cd1;

/// A pseudoterminal's two ends, both close-on-exec.
#[derive(Debug)]
pub struct Pty {
    /// For who shows the terminal.
    pub master: OwnedFd,
    /// For the process in the container.
    pub slave: OwnedFd,
}

/// Child side. Opens a new pseudoterminal of the devpts that is mounted on `/dev/pts` below `root`,
/// before or after the pivot. It does not become the controlling terminal.
///
/// ELOOP, ENOTDIR: the image bent the path. ENODEV: what is there is no devpts. The slave comes from
/// the master itself (TIOCGPTPEER, Linux 4.13), not from a path (CVE-2025-52565).
pub fn open_pty(root: BorrowedFd<'_>) -> Result<Pty, Failure> {
    let dir = descend(root, &[c"dev", c"pts"])?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Looked at before it is opened: opening some other device may do things.
    let entry = open_entry(dir.as_fd(), c"ptmx").step("opening /dev/pts/ptmx")?;
    let stat = rustix::fs::fstat(&entry).step("looking at /dev/pts/ptmx")?;
    let filesystem = rustix::fs::fstatfs(&entry).step("looking at the file system of /dev/pts")?;
    let is_ptmx = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(5, 2)
        && filesystem.f_type as u64 == DEVPTS;
    if !is_ptmx {
        return Err(Failure::new(
            "opening a terminal at a /dev/pts/ptmx that is not devpts",
            Errno::NODEV,
        ));
    }
    let master = rustix::fs::openat(&dir, c"ptmx", flags, Mode::empty())
        .step("opening a new terminal at /dev/pts/ptmx")?;
    unlockpt(&master).step("unlocking the new terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).step("opening the new terminal's slave")?;
    Ok(Pty { master, slave })
}

/// Child side. Binds the terminal that `slave` is open on, by descriptor, on `/dev/console` below
/// `root`; the file there is made where it is missing.
pub fn bind(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<(), Failure> {
    let dev = descend(root, &[c"dev"])?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made =
        without_umask(|| rustix::fs::openat(&dev, c"console", flags, Mode::from_raw_mode(0o600)));
    match made {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Failure::new("making /dev/console", errno)),
    }
    let console = open_entry(dev.as_fd(), c"console").step("opening /dev/console")?;
    let stat = rustix::fs::fstat(&console).step("looking at /dev/console")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Err(Failure::new("binding the terminal", Errno::ISDIR)),
        FileType::Symlink => {
            return Err(Failure::new("binding the terminal on a symbolic link", Errno::LOOP));
        }
        _ => {}
    }
    let tree = mount::clone_tree(slave, c"", false).step("cloning the terminal's mount")?;
    mount::attach(tree, console).step("binding the terminal on /dev/console")
}
