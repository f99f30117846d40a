//! `cargo xtask miri`: the unit tests that ask nothing of a kernel, in an interpreter that knows undefined behaviour.

use std::process::Command;

use anyhow::Result;

use crate::sh;

/// Run the unit tests of what is pure under Miri (`rustup component add --toolchain nightly miri rust-src` first)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Crates, and the beginnings of the names of their tests; none are all. What starts processes, mounts or opens by
/// openat2 is not there, for Miri has no kernel.
const TESTS: [(&str, &[&str]); 5] = [
    ("sys", &["failure::", "mountinfo::", "netlink::tests::a_cut_message_is_none", "signal::"]),
    ("erofs-index", &[]),
    ("seccomp-oci", &[]),
    (
        "image-unpack",
        &["documents::", "header::", "limits::", "names::", "path::", "pax::", "reference::"],
    ),
    ("cgroup", &["convert::", "devices::", "stats", "location::"]),
];

/// Runs them, with few cases of each property: an interpreter is some hundred times slower.
pub(crate) fn run(_: Args) -> Result<()> {
    let target = sh::target()?.join("miri");
    for (package, names) in TESTS {
        // The cargo that runs this is another toolchain's.
        let mut cargo = Command::new("rustup");
        cargo.current_dir(sh::root()).env_remove("RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
        cargo.args(["run", "nightly", "cargo", "miri", "test", "--quiet", "--lib", "-p", package]);
        cargo.arg("--target-dir").arg(&target).arg("--").args(names);
        cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("PROPTEST_CASES", "8");
        println!("{}", sh::line(&cargo));
        sh::run(&mut cargo)?;
    }
    Ok(())
}
