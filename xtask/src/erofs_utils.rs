//! `cargo xtask erofs-utils`: the second opinion on EROFS images, for tests.
//!
//! Debian 12 has erofs-utils 1.5, which refuse blocks of 512 bytes. So Debian 13's packages are unpacked below the target
//! directory with all libraries and the loader that they need, and nothing of them is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{apt, sh};

const RELEASE: &str = "trixie";

/// Fetch erofs-utils 1.8 for tests, below the target directory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `cargo xtask erofs-utils`.
pub(crate) fn run(_args: Args) -> Result<()> {
    let dir = ensure(&sh::target()?)?;
    println!("erofs-utils: {}", dir.display());
    Ok(())
}

/// Fetches the programs, unless they are there. Gives the root below which they lie.
pub(crate) fn ensure(target: &Path) -> Result<PathBuf> {
    let dir = target.join("erofs-utils");
    if dir.join("usr/bin/fsck.erofs").is_file() {
        return Ok(dir);
    }
    apt::ensure(&["apt-get", "dpkg-deb"])?;
    let archive = apt::Archive::of_release(RELEASE, &target.join("apt").join(RELEASE))?;
    let debs = archive.fetch(&["erofs-utils"])?;
    let partial = target.join(format!("erofs-utils.partial-{}", std::process::id()));
    fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
    for deb in debs {
        sh::output(Command::new("dpkg-deb").arg("-x").args([&deb, &partial]))?;
    }
    fs::rename(&partial, &dir)
        .with_context(|| format!("moving {} to {}", partial.display(), dir.display()))?;
    Ok(dir)
}
