//! The id maps of a new user namespace.

use std::fmt::Write as _;

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use crate::Error;

/// One line of a uid_map or gid_map (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdMap {
    /// First id inside the new user namespace.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

pub(crate) fn write(pid: Pid, uids: &[IdMap], gids: &[IdMap]) -> Result<(), Error> {
    if uids.is_empty() && gids.is_empty() {
        return Ok(());
    }
    // A caller without CAP_SETGID may write a gid map only after this (Linux 3.19); a caller that has
    // it keeps setgroups(2) for the child.
    if !may_map_groups(gids) {
        put(pid, "setgroups", "deny")?;
    }
    put(pid, "gid_map", &text(gids))?;
    put(pid, "uid_map", &text(uids))
}

/// Whether the map is more than the caller's own group, which needs the capability anyway.
fn may_map_groups(gids: &[IdMap]) -> bool {
    let own = rustix::process::getegid().as_raw();
    rustix::process::geteuid().is_root()
        || !matches!(gids, [IdMap { outside, count: 1, .. }] if *outside == own)
}

fn text(maps: &[IdMap]) -> String {
    maps.iter().fold(String::new(), |mut text, map| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", map.inside, map.outside, map.count);
        text
    })
}

/// The kernel takes a map in one write only.
fn put(pid: Pid, file: &str, text: &str) -> Result<(), Error> {
    let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
    let written = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::write(&file, text.as_bytes()));
    written.map(drop).map_err(|errno| Error::IdMap {
        path: path.into(),
        map: text.trim_end().to_owned(),
        errno,
    })
}
