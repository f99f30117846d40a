//! One mount namespace for many containers, of which theirs are copied ([`MountBase`]).
//!
//! Whoever needs one finds it at a supervisor, which has it open for as long as it lives: who that is stands in a file below
//! the root. So nothing is mounted for it, and nothing is left when the last one ends. Where it cannot be had, a container is
//! started without: that takes longer, and no more.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use oci_runtime::MountBase;
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::dir::Root;
use crate::{Error, json};

/// From so many containers on, their mounts take longer to copy than a second namespace to enter.
const MANY: usize = 128;
const HOLDER: &str = "mounts.json";

/// What a supervisor has, so that it is kept.
#[derive(Debug)]
pub(crate) struct Base {
    mounts: MountBase,
    /// Another supervisor is on record as having it.
    found: bool,
}

/// Who has one.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: i32,
    /// When it was started, so that it is not taken for another with its number.
    pid_start: u64,
    /// Its number there.
    fd: i32,
    /// The namespace's.
    inode: u64,
}

impl Base {
    /// One for the next of so many containers; none where they are few, or there is none to be had.
    pub(crate) fn for_one_of(containers: usize, root: &Root) -> Option<Base> {
        if containers < MANY {
            return None;
        }
        match found(root) {
            Ok(Some(mounts)) => Some(Base { mounts, found: true }),
            Ok(None) | Err(_) => Some(Base { mounts: MountBase::new().ok()?, found: false }),
        }
    }

    pub(crate) fn mounts(&self) -> MountBase {
        self.mounts.clone()
    }

    /// Writes down that the calling process has it, unless another one is known to.
    ///
    /// # Errors
    /// A system call fails: the next start makes another.
    pub(crate) fn tell(&self, root: &Root) -> Result<(), Error> {
        if self.found {
            return Ok(());
        }
        let failed = |errno| Error::system("look at", "the supervisor itself", errno);
        let pid = rustix::process::getpid();
        let holder = Holder {
            pid: pid.as_raw_nonzero().get(),
            pid_start: sys::process::start_time(pid).map_err(failed)?.unwrap_or_default(),
            fd: self.mounts.as_fd().as_raw_fd(),
            inode: rustix::fs::fstat(&self.mounts).map_err(failed)?.st_ino,
        };
        json::write(root.path(), HOLDER, &holder)
    }
}

/// The one that is on record.
fn found(root: &Root) -> Result<Option<MountBase>, Error> {
    let Some(holder) = json::read::<Holder>(root.path(), HOLDER)? else { return Ok(None) };
    let Some(pid) = Pid::from_raw(holder.pid) else { return Ok(None) };
    let path = format!("/proc/{}/fd/{}", holder.pid, holder.fd);
    let failed = |errno| Error::system("open", &path, errno);
    let Some(_pidfd) = sys::process::find(pid, holder.pid_start).map_err(failed)? else {
        return Ok(None);
    };
    // Not what another file may be, which an open would wait for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: OwnedFd = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed)?;
    if rustix::fs::fstat(&file).map_err(failed)?.st_ino != holder.inode {
        return Ok(None);
    }
    Ok(MountBase::from_file(file)?)
}
