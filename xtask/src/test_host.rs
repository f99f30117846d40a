//! `cargo xtask test-host`: the workspace's tests on this machine, with what they call and run.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{apt, sh, testvm};

/// Run the workspace's tests on this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run each race for two minutes (RACE_SECONDS, if it says nothing else), and not for a few seconds; try a fault at
    /// each of its points, and not at a sample of them
    #[arg(long)]
    nightly: bool,
    /// Arguments of cargo test, in place of `--workspace`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// Container engines that tests let call `runtime-oci`.
const CLIENTS: [&str; 5] = ["podman", "docker", "dockerd", "containerd", "ctr"];

/// Installs or fetches the programs that tests call, makes the images, and runs the tests.
pub(crate) fn run(args: Args) -> Result<()> {
    apt::ensure(&testvm::PROGRAMS)?;
    apt::ensure(&CLIENTS)?;
    let own = std::env::current_exe().context("finding xtask's own path")?;
    sh::run(Command::new(&own).arg("images"))?;
    sh::run(Command::new(own).arg("erofs-utils"))?;
    let mut cargo = sh::cargo();
    cargo.args(["test", "--locked", "--quiet"]);
    if args.nightly && std::env::var_os("RACE_SECONDS").is_none() {
        cargo.env("RACE_SECONDS", "120");
    }
    if args.cargo.is_empty() {
        cargo.arg("--workspace");
    }
    sh::run(cargo.args(args.cargo))
}
