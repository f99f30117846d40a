//! A path that wants to leave its root, and where it ends up. Needs no privileges.
#![allow(clippy::print_stdout, reason = "that is what the example is for")]

use std::os::unix::fs::symlink;

use rustix::fs::{Mode, OFlags};
use sys::below::{self, Kind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("sys-below-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("root"))?;
    let shown = show(&dir);
    std::fs::remove_dir_all(&dir)?;
    shown
}

fn show(dir: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    // An image can hold such links: to the host's root, and up through `..`.
    symlink("/", dir.join("root/host"))?;
    symlink("../../..", dir.join("root/up"))?;

    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir.join("root"), flags, Mode::empty())?;
    for path in [c"host/made-1", c"up/made-2", c"../../made-3"] {
        let made = below::make(&root, path, Kind::Directory, Mode::from_raw_mode(0o755))?;
        let place = std::fs::read_link(sys::process::proc_path(&made))?;
        println!("{:15} -> {}", path.to_string_lossy(), place.display());
        if place.parent() != Some(&dir.join("root").canonicalize()?) {
            return Err(format!("{} is not below the root", place.display()).into());
        }
    }
    Ok(())
}
