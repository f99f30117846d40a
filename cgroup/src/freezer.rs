//! Stopping a group's processes where they are, and letting them go on.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;

use crate::dir::{Dir, value_of};
use crate::{Error, Group, Hierarchies, Location};

/// How long a group may take to freeze: a process that waits for a disk or a network file system freezes
/// when that answers.
const PATIENCE: Duration = Duration::from_secs(10);

const HINT: &str = "a process of it may wait for a disk or a network file system that does not answer; try \
                    again";

/// The file of v2 (Linux 5.2), and that of v1.
const V2: &str = "cgroup.freeze";
const V1: &str = "freezer.state";
/// What v2 tells of a group, in less than 256 bytes.
const EVENTS: &str = "cgroup.events";

impl Group {
    /// Stops all processes of the group and of the groups below it, and returns when they stand still. By
    /// v2's freezer where there is one, which a process can be killed in, else by v1's.
    ///
    /// # Errors
    /// There is no freezer; it takes longer than 10 s, and then they go on.
    pub fn freeze(&self) -> Result<(), Error> {
        if let Some(dir) = self.unified().filter(|dir| dir.has(V2)) {
            return freeze_unified(dir).inspect_err(|_| drop(dir.write_raw(V2, "0")));
        }
        match self.legacy("freezer") {
            Some(dir) => freeze_legacy(dir).inspect_err(|_| drop(dir.write_raw(V1, "THAWED"))),
            None => Err(Error::NoController {
                field: "freezer".to_owned(),
                controller: "freezer".to_owned(),
                reason: "cgroup v2 has one since Linux 5.2, and v1's is not mounted".to_owned(),
            }),
        }
    }

    /// Lets the processes go on, whichever freezer holds them.
    ///
    /// # Errors
    /// The group is gone, or may not be written.
    pub fn thaw(&self) -> Result<(), Error> {
        if let Some(dir) = self.unified().filter(|dir| dir.has(V2)) {
            dir.write("thawing the cgroup by", V2, "0")?;
        }
        match self.legacy("freezer") {
            Some(dir) => dir.write("thawing the cgroup by", V1, "THAWED"),
            None => Ok(()),
        }
    }

    /// Whether the group is frozen (or about to be), by whichever freezer, itself or by a group above it.
    ///
    /// # Errors
    /// The group is gone.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        if let Some(dir) = self.unified() {
            let asked = dir.read_if_there(V2)?.is_some_and(|text| text.trim() == "1");
            if asked || value_of(&dir.read("cgroup.events")?, "frozen") == Some(1) {
                return Ok(true);
            }
        }
        match self.legacy("freezer") {
            Some(dir) => Ok(dir.read(V1)?.trim() != "THAWED"),
            None => Ok(false),
        }
    }
}

impl Hierarchies {
    /// Whether the processes of the group at `location` stand still: as [`Group::is_frozen`] of one that is not just being
    /// frozen, by fewer system calls, for many groups.
    ///
    /// # Errors
    /// The group is gone.
    pub fn stands_still(&self, location: &Location) -> Result<bool, Error> {
        for (controllers, dir) in self.parts(location) {
            let frozen = match &controllers[..] {
                "" => value_of(&dir.read_short(EVENTS)?, "frozen") == Some(1),
                all if all.split(',').any(|name| name == "freezer") => {
                    dir.read_short(V1)?.trim() != "THAWED"
                }
                _ => false,
            };
            if frozen {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn freeze_unified(dir: &Dir) -> Result<(), Error> {
    let events = dir
        .open_file(EVENTS, OFlags::RDONLY)
        .map_err(|errno| Error::io("opening", dir.file(EVENTS))(errno.into()))?;
    dir.write("freezing the cgroup by", V2, "1")?;
    let end = Instant::now() + PATIENCE;
    let mut text = [0_u8; 256];
    loop {
        // Read by this descriptor: so poll tells what changes from here on.
        let count = rustix::io::pread(&events, &mut text, 0)
            .map_err(|errno| Error::io("reading", dir.file(EVENTS))(errno.into()))?;
        if value_of(&String::from_utf8_lossy(&text[..count]), "frozen") == Some(1) {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timeout("freezing", dir));
        }
        let mut polled = [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)];
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut polled, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::io("waiting for", dir.file(EVENTS))(errno.into())),
        }
    }
}

/// v1 has nothing to wait on, and may need the word again: processes that are started meanwhile are not
/// reached by the first.
fn freeze_legacy(dir: &Dir) -> Result<(), Error> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(10);
    loop {
        dir.write("freezing the cgroup by", V1, "FROZEN")?;
        if dir.read(V1)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(timeout("freezing", dir));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn timeout(what: &'static str, dir: &Dir) -> Error {
    Error::Timeout { what, path: dir.path(), seconds: PATIENCE.as_secs(), hint: HINT }
}
