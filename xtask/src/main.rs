//! The project's own tasks: `cargo xtask bench | budget | demo | erofs-utils | fuzz | images | layout | man | miri | tidy | test-host | test-vm`.
//!
//! xtask knows nothing of the workspace's other crates: it builds, runs and checks them from outside,
//! as a person at a terminal would.
#![forbid(unsafe_code)]
// A task talks to the person who started it: standard output is its interface.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod apt;
mod bench;
mod budget;
mod demo;
mod erofs_utils;
mod fuzz;
mod images;
mod layout;
mod man;
mod miri;
mod sh;
mod test_host;
mod testvm;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure whole commands beside the peers that are installed
    Bench(bench::Args),
    /// Count the system calls of a start, and compare them with docs/syscalls.md
    Budget(budget::Args),
    /// Make real container image tars from Debian packages
    Images(images::Args),
    /// Build the release binary and show it at work, with nginx and a volume
    Demo(demo::Args),
    /// Fetch erofs-utils 1.8 for tests
    ErofsUtils(erofs_utils::Args),
    /// Fuzz the borders that untrusted bytes cross
    Fuzz(fuzz::Args),
    /// Write down for the linker which functions the common commands need
    Layout(layout::Args),
    /// Write the programs' manual pages
    Man(man::Args),
    /// Run the unit tests of what is pure under Miri
    Miri(miri::Args),
    /// Check the rules of the source tree that the compiler does not know
    Tidy(tidy::Args),
    /// Run the workspace's tests on this machine
    TestHost(test_host::Args),
    /// Run one test program for `test-host`
    #[command(hide = true)]
    TestProgram(test_host::program::Args),
    /// Run the workspace's tests in a virtual machine with other kernels
    TestVm(testvm::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::TestProgram(args) => return test_host::program::run(&args).unwrap_or_else(failed),
        Task::Bench(args) => bench::run(args),
        Task::Budget(args) => budget::run(args),
        Task::Images(args) => images::run(args),
        Task::Demo(args) => demo::run(args),
        Task::ErofsUtils(args) => erofs_utils::run(args),
        Task::Fuzz(args) => fuzz::run(args),
        Task::Layout(args) => layout::run(args),
        Task::Man(args) => man::run(args),
        Task::Miri(args) => miri::run(args),
        Task::Tidy(args) => tidy::run(args),
        Task::TestHost(args) => test_host::run(args),
        Task::TestVm(args) => testvm::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error),
    }
}

fn failed(error: anyhow::Error) -> ExitCode {
    eprintln!("xtask: {error:#}");
    ExitCode::FAILURE
}
