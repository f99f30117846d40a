//! Being told when a group's memory is at its end.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::{OFlags, inotify};
use rustix::io::Errno;

use crate::dir::{Dir, value_of};
use crate::group::Place;
use crate::{Error, Group};

/// Tells when the kernel found no memory for a group, and killed one of its processes for it.
///
/// For a poll loop: wait until the descriptor is readable, then ask [`OomWatch::kills`].
#[derive(Debug)]
pub struct OomWatch {
    /// v2: an inotify of the file; v1: an eventfd.
    fd: OwnedFd,
    /// The file that holds the number.
    file: OwnedFd,
    /// v1 tells before it kills.
    early: bool,
    seen: u64,
}

impl Group {
    /// Begins to watch v2's memory.events, or v1's memory.oom_control.
    ///
    /// # Errors
    /// The group has no memory controller; it is gone.
    pub fn watch_oom(&self) -> Result<OomWatch, Error> {
        let open = |dir: &Dir, name: &str, flags| {
            let fd = dir.open_file(name, flags);
            fd.map_err(|errno| Error::io("opening", dir.file(name))(errno.into()))
        };
        let mut watch = match self.place("oom", "memory")? {
            Place::Unified(dir) => {
                let file = open(dir, "memory.events", OFlags::RDONLY)?;
                let watch = || {
                    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
                    let fd = inotify::init(flags)?;
                    let path = sys::process::proc_path(&file);
                    inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY)?;
                    Ok(fd)
                };
                let failed = Error::io("watching", dir.file("memory.events"));
                let fd = watch().map_err(|errno: Errno| failed(errno.into()))?;
                OomWatch { fd, file, early: false, seen: 0 }
            }
            Place::Legacy(dir) => {
                let file = open(dir, "memory.oom_control", OFlags::RDONLY)?;
                let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
                let fd = rustix::event::eventfd(0, flags).map_err(|errno| {
                    Error::io("making an eventfd for", dir.path())(errno.into())
                })?;
                let line = format!("{} {}", fd.as_raw_fd(), file.as_raw_fd());
                dir.write("asking for memory's events by", "cgroup.event_control", &line)?;
                OomWatch { fd, file, early: true, seen: 0 }
            }
        };
        watch.seen = watch.count().unwrap_or_default();
        Ok(watch)
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OomWatch {
    /// How many processes were killed since the last call or the beginning; none when the group is gone.
    /// The descriptor is silent afterwards until the next event. v1 tells of the want of memory, and of the
    /// group's end, in the same way: then it is 0, or none.
    pub fn kills(&mut self) -> Option<u64> {
        // What it says is not looked at; reading all of it makes it silent.
        while rustix::io::read(&self.fd, &mut [0_u8; 1024]).is_ok() {}
        let count = self.count().ok()?;
        let new = count.saturating_sub(self.seen);
        self.seen = count;
        Some(new)
    }

    /// Waits for a process to be killed, at most so long; how many were. None when the group is gone.
    pub fn wait(&mut self, timeout: Duration) -> Option<u64> {
        let end = std::time::Instant::now() + timeout;
        loop {
            match self.kills()? {
                0 => {}
                kills => return Some(kills),
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Some(0);
            }
            // v1 tells before it kills: so its number is looked at again.
            let left = if self.early { left.min(Duration::from_millis(50)) } else { left };
            let left =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn count(&self) -> Result<u64, Errno> {
        let mut text = [0_u8; 512];
        let count = rustix::io::pread(&self.file, &mut text, 0)?;
        Ok(value_of(&String::from_utf8_lossy(&text[..count]), "oom_kill").unwrap_or_default())
    }
}
