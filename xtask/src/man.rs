//! `cargo xtask man`: the manual pages of both programs, from their own descriptions of their command lines.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::sh;

/// The command line of `cargo xtask man`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Where the pages go (default: man in Cargo's target directory)
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

/// Runs `cargo xtask man`: builds the programs, and asks them.
pub(crate) fn run(args: Args) -> Result<()> {
    sh::run(sh::cargo().args(["build", "--quiet", "--package", "runtime-bin"]))?;
    let target = sh::target()?;
    let into = args.into.unwrap_or_else(|| target.join("man"));
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    for program in ["runtime-bin", "runtime-oci"] {
        sh::run(Command::new(target.join("debug").join(program)).arg("__man").arg(&into))?;
    }
    let count = fs::read_dir(&into).map(Iterator::count).unwrap_or_default();
    println!("man: {count} pages in {}", into.display());
    Ok(())
}
