//! Two layers become one tree, and what is written to it lands in the upper directory.
//! Run as root: `cargo run -p overlay --example two-layers`.

use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("overlay-example-{}", std::process::id()));
    for name in ["base", "app", "diff", "work", "merged"] {
        std::fs::create_dir_all(dir.join(name))?;
    }
    let shown = show(&dir);
    std::fs::remove_dir_all(&dir)?;
    shown
}

fn show(dir: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::write(dir.join("base/os-release"), "a base")?;
    std::fs::write(dir.join("app/server"), "an application")?;

    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let merged = rustix::fs::open(dir.join("merged"), flags, Mode::empty())?;
    let base = rustix::fs::open(dir, flags, Mode::empty())?;
    let overlay = overlay::Overlay::new()
        .lower(dir.join("app"))
        .lower(dir.join("base"))
        .upper(dir.join("diff"))
        .work(dir.join("work"));
    let form = overlay.mount_at(merged.as_fd(), base.as_fd())?;

    let written = std::fs::write(dir.join("merged/log"), "written");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.join("merged"))? {
        names.push(entry?.file_name());
    }
    rustix::mount::unmount(dir.join("merged"), UnmountFlags::DETACH)?;
    written?;
    names.sort();
    writeln!(std::io::stdout(), "{form:?}: {}\nmerged: {names:?}", overlay.options())?;
    writeln!(std::io::stdout(), "upper has log: {}", dir.join("diff/log").exists())?;
    Ok(())
}
