//! The variable HOME of a process that is given none, as runc sets it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use oci_spec::runtime::Process;
use rustix::fs::OFlags;
use sys::below;

/// Bytes of `/etc/passwd` that are looked at.
const LONGEST: u64 = 1 << 20;

/// Adds HOME to the environment of `process` where it is missing or empty: the directory that
/// `/etc/passwd` below the directory `root` has for its user, or `/`. A root that is not there is told of by who needs it.
pub fn set_home(process: &mut Process, root: &Path) {
    let given = |entry: &String| entry.strip_prefix("HOME=").is_some_and(|home| !home.is_empty());
    if process.env().iter().flatten().any(given) {
        return;
    }
    let Ok(root) = File::open(root) else { return };
    let home = home(&users(root.as_fd()), process.user().uid());
    let env = process.env_mut().get_or_insert_default();
    env.retain(|entry| !entry.starts_with("HOME="));
    env.push(format!("HOME={}", home.as_deref().unwrap_or("/")));
}

/// The file of users; nothing where there is none, or what is there is no file.
fn users(root: BorrowedFd<'_>) -> String {
    let entry = below::open(root, c"/etc/passwd", OFlags::PATH);
    let Ok(Some(file)) = entry.and_then(below::open_regular) else { return String::new() };
    let mut bytes = Vec::new();
    if File::from(file).take(LONGEST).read_to_end(&mut bytes).is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The sixth field of the user's line (passwd(5)).
fn home(users: &str, uid: u32) -> Option<String> {
    let number = uid.to_string();
    let line = users.lines().find(|line| line.split(':').nth(2) == Some(&number))?;
    line.split(':').nth(5).filter(|home| home.starts_with('/')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_line_has_it() {
        let users =
            "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/var/www:\nbad:x:34:34::\nworse:x:35\n";
        assert_eq!(home(users, 0).unwrap(), "/root");
        assert_eq!(home(users, 33).unwrap(), "/var/www");
        for uid in [34, 35, 36] {
            assert_eq!(home(users, uid), None, "{uid}");
        }
    }
}
