//! `cargo xtask test-host`: the workspace's tests on this machine, with what they call and run.

mod again;
pub(crate) mod program;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt, sh, testvm};

/// Run the workspace's tests on this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run each race for two minutes (RACE_SECONDS, if it says nothing else), and not for a few seconds; try a fault at
    /// each of its points, and not at a sample of them
    #[arg(long)]
    nightly: bool,
    /// Run a few tests that failed once more, alone; those that pass then are told as flaky, and are no failures
    #[arg(long)]
    retry: bool,
    /// Arguments of cargo test, in place of `--workspace`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// Container engines that tests let call `runtime-oci`, and that are not in the guest.
const CLIENTS: [&str; 1] = ["podman"];

/// Installs or fetches the programs that tests call, makes the images, and runs the tests.
pub(crate) fn run(args: Args) -> Result<()> {
    apt::ensure(&testvm::PROGRAMS)?;
    apt::ensure(&CLIENTS)?;
    let own = std::env::current_exe().context("finding xtask's own path")?;
    let cargo_test = || cargo_test(args.nightly, &own);
    let whole = args.cargo.is_empty();
    // One processor makes images while the compiler has the others. (Of what a caller names not all can be built alone.)
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            sh::run(Command::new(&own).arg("images"))?;
            sh::run(Command::new(&own).arg("erofs-utils"))
        });
        let built = match whole {
            true => sh::run(cargo_test().args(["--workspace", "--no-run"])),
            false => Ok(()),
        };
        let made = made.join().map_err(|_| anyhow::anyhow!("the thread that makes images"))?;
        made.and(built)
    })?;
    let mut cargo = cargo_test();
    if whole {
        cargo.arg("--workspace");
    }
    if !args.retry {
        return sh::run(cargo.args(args.cargo));
    }
    let failed = match again::run(cargo.arg("--no-fail-fast").args(args.cargo))? {
        again::Outcome::Passed => return Ok(()),
        again::Outcome::Failed(failed) => failed,
    };
    for (target, tests) in &failed.by_target {
        println!("once more, alone, of {target}: {}", tests.join(" "));
        let mut cargo = cargo_test();
        cargo.args(target.split(' ')).args(["--", "--exact", "--test-threads=1"]).args(tests);
        match again::run(&mut cargo)? {
            again::Outcome::Passed => println!("flaky: {target}: {}", tests.join(" ")),
            again::Outcome::Failed(_) => bail!("{target}: failed twice: {}", tests.join(" ")),
        }
    }
    Ok(())
}

/// Each test program is run by this one (`program`), whose path is `own`.
fn cargo_test(nightly: bool, own: &Path) -> Command {
    let mut cargo = sh::cargo();
    let own = own.to_string_lossy();
    let runner = format!("target.'cfg(all())'.runner=[{own:?}, \"test-program\"]");
    cargo.args(["--config", &runner, "test", "--locked", "--quiet"]);
    // Tests mostly wait for others: processes, the disk, a second that has to go by.
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        cargo.env("RUST_TEST_THREADS", (2 * testvm::processors()).to_string());
    }
    if nightly && std::env::var_os("RACE_SECONDS").is_none() {
        cargo.env("RACE_SECONDS", "120");
    }
    cargo
}
