//! `cargo xtask budget`: the system calls of a start, counted, against docs/syscalls.md. Time drifts with the machine and
//! its neighbours; a count does not, so that a regression shows at once.

mod count;
mod document;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::bundle::{self, Bundles};
use crate::bench::{self, facts};
use crate::{apt, sh};
use count::Counter;
use document::Document;

/// Calls of each name.
type Counts = BTreeMap<String, u64>;

/// What is counted: each command's name, and its calls.
type Counted = Vec<(String, Counts)>;

/// Where the budget is.
const DOCUMENT: &str = "docs/syscalls.md";

/// Calls of which there may be a few more, since another process's pace decides how often a loop goes round; and
/// munmap(2), by which the C library cuts a thread's heap out of a larger range, as its random address is; and brk(2), by which
/// the heap grows with the lengths of paths and of what is read.
const UNSTEADY: [&str; 11] = [
    "brk",
    "futex",
    "munmap",
    "poll",
    "ppoll",
    "read",
    "recvmsg",
    "restart_syscall",
    "sched_yield",
    "wait4",
    "waitid",
];

/// So many more.
const TOLERANCE: u64 = 2;

/// Count the system calls of a start, and compare them with docs/syscalls.md
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the counts down as the budget of machines like this one
    #[arg(long)]
    write: bool,
    /// Count the programs that are in cargo's target directory, and build nothing
    #[arg(long)]
    as_built: bool,
    /// Count, and do not fail, where there is no budget for machines like this one
    #[arg(long, conflicts_with = "write")]
    if_known: bool,
}

/// Runs `cargo xtask budget`.
pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(apt::is_root(), "containers are made as root: run this as root");
    apt::ensure(&["strace", "tar"])?;
    let target = sh::target()?;
    let archive = bundle::archive(&target)?;
    let programs = match args.as_built {
        true => sh::debug_dir(&target),
        false => sh::debug(&target, &["--package", "runtime-bin"])?,
    };
    let dir = target.join("budget").join(std::process::id().to_string());
    let counted = count(&programs, &archive, &dir);
    if dir.exists() {
        bench::remove(&dir)?;
    }
    let counted = counted?;
    let path = sh::root().join(DOCUMENT);
    let mut document = Document::read(&path)?;
    let machine = machine()?;
    if args.write {
        document.set(&machine, counted);
        fs::write(&path, document.to_string())?;
        println!("{DOCUMENT}: the budget of {machine}");
        return Ok(());
    }
    match document.budget(&machine) {
        Some(budget) => compare(&budget, &counted),
        None if args.if_known => {
            println!("SKIPPED: {DOCUMENT} has no budget for {machine}; what was counted:");
            let mut alone = Document::default();
            alone.set(&machine, counted);
            println!("{alone}");
            Ok(())
        }
        None => {
            bail!("{DOCUMENT} has no budget for {machine}: `cargo xtask budget --write` writes it")
        }
    }
}

/// The machine as far as the number of calls depends on it.
fn machine() -> Result<String> {
    let mounts =
        fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    Ok(format!("{}, {}", std::env::consts::ARCH, facts::cgroups(&mounts)))
}

fn count(programs: &Path, archive: &Path, dir: &Path) -> Result<Counted> {
    let program = |name: &str| -> Result<PathBuf> {
        let path = programs.join(name);
        ensure!(path.is_file(), "{} is not built: leave out --as-built", path.display());
        Ok(path)
    };
    let (engine, runtime) = (program("runtime-bin")?, program("runtime-oci")?);
    let bundles = Bundles::new(&engine, archive, dir)?;
    let counter = Counter { bundles: &bundles, runtime: &runtime, dir };
    let counted = counter.all();
    if counted.is_err() {
        counter.clean_up();
    }
    counted
}

/// Says what differs; more than the budget is an error.
fn compare(budget: &Counted, counted: &Counted) -> Result<()> {
    let mut differences = Vec::new();
    let (mut more, mut fewer) = (false, false);
    for (command, counts) in counted {
        let allowed = budget.iter().find(|(name, _)| name == command);
        let Some((_, allowed)) = allowed else {
            bail!("{DOCUMENT} has no column {command:?}: `cargo xtask budget --write` writes it");
        };
        let names: std::collections::BTreeSet<&String> =
            counts.keys().chain(allowed.keys()).collect();
        for name in names {
            let of = |counts: &Counts| counts.get(name).copied().unwrap_or(0);
            let (now, allowed) = (of(counts), of(allowed));
            let room = if UNSTEADY.contains(&&name[..]) { TOLERANCE } else { 0 };
            if now > allowed + room {
                more = true;
            } else if now + room < allowed {
                fewer = true;
            } else {
                continue;
            }
            differences.push(format!("{command:<22} {name:<18} {allowed:>7} {now:>7}"));
        }
    }
    if !differences.is_empty() {
        println!("{:<22} {:<18} {:>7} {:>7}", "command", "call", "budget", "now");
        println!("{}", differences.join("\n"));
    }
    let total = |all: &Counted| all.iter().flat_map(|(_, counts)| counts.values()).sum::<u64>();
    let (now, allowed) = (total(counted), total(budget));
    if more {
        bail!(
            "more system calls than {DOCUMENT} allows ({now} in all, {allowed} allowed): make fewer, or say in the \
             commit why they are needed and run `cargo xtask budget --write`"
        );
    }
    match fewer {
        true => {
            println!("fewer calls than {DOCUMENT} allows: lower it by `cargo xtask budget --write`")
        }
        false => println!("budget: {now} system calls by {} commands, as allowed", counted.len()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(calls: &[(&str, u64)]) -> Counted {
        let counts = calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        vec![("x run".to_owned(), counts)]
    }

    #[test]
    fn more_is_an_error_and_fewer_is_not() {
        let budget = counted(&[("openat", 3), ("read", 5)]);
        assert!(compare(&budget, &counted(&[("openat", 3), ("read", 5)])).is_ok());
        assert!(compare(&budget, &counted(&[("openat", 2)])).is_ok());
        assert!(compare(&budget, &counted(&[("openat", 4), ("read", 1)])).is_err());
        assert!(compare(&budget, &counted(&[("mount", 1)])).is_err());
    }

    #[test]
    fn what_depends_on_the_pace_has_some_room() {
        let budget = counted(&[("read", 5)]);
        assert!(compare(&budget, &counted(&[("read", 7)])).is_ok());
        assert!(compare(&budget, &counted(&[("read", 8)])).is_err());
    }

    #[test]
    fn a_command_without_a_column_is_an_error() {
        assert!(compare(&Vec::new(), &counted(&[])).is_err());
    }
}
