//! `cargo xtask fuzz`: libFuzzer on the targets of the crate `fuzz`.
//!
//! They are built as cargo-fuzz builds them, by flags that the stable compiler has too, so that nothing but a C++ compiler
//! has to be there. (`cargo +nightly fuzz run TARGET` works as well.)

mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{apt, sh};
use report::Report;

/// Where the programs are, one a file.
const TARGETS: &str = "fuzz/fuzz_targets";
/// Inputs that a clone has.
const CORPUS: &str = "fuzz/corpus";

/// LLVM's coverage by edges and comparisons, for libFuzzer.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Fuzz the borders that untrusted bytes cross
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Targets, as in fuzz/fuzz_targets; without, all of them
    targets: Vec<String>,
    /// How long each target is run
    #[arg(long, default_value_t = 1, value_name = "N")]
    minutes: u64,
    /// How many targets are run at once; without, one for each processor
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Build with AddressSanitizer, for the C libraries below; needs a nightly toolchain
    #[arg(long)]
    asan: bool,
}

/// Builds the programs, runs each for its time, and says what came of it. A crash is an error.
pub(crate) fn run(args: Args) -> Result<()> {
    let targets = chosen(&args.targets)?;
    apt::ensure(&["c++"])?;
    let target = sh::target()?;
    let programs = build(&target, &targets, args.asan)?;
    let work = target.join("fuzz");
    let mut waiting = targets.iter();
    let mut running: Vec<Running> = Vec::new();
    let mut reports = Vec::new();
    let jobs = args
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    loop {
        while running.len() < jobs.max(1)
            && let Some(name) = waiting.next()
        {
            running.push(Running::start(name, &programs, &work, args.minutes)?);
        }
        // All are given the same time, so the first one ends about first.
        if running.is_empty() {
            break;
        }
        let report = running.remove(0).wait()?;
        println!("{report}");
        reports.push(report);
    }
    let crashes: Vec<String> = reports.iter().flat_map(Report::crashes).collect();
    if !crashes.is_empty() {
        bail!("fuzz: {} inputs\n{}", crashes.len(), crashes.join("\n"));
    }
    Ok(())
}

/// The targets by these names, or all.
fn chosen(names: &[String]) -> Result<Vec<String>> {
    let dir = sh::root().join(TARGETS);
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        all.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    all.sort();
    match names.iter().find(|name| !all.contains(name)) {
        Some(name) => bail!("there is no target {name:?}; there are {}", all.join(", ")),
        None if names.is_empty() => Ok(all),
        None => Ok(names.to_vec()),
    }
}

/// Builds the programs, and gives the directory in which they are.
fn build(target: &Path, targets: &[String], asan: bool) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut flags = COVERAGE.to_owned();
    let mut cargo = sh::cargo();
    let mut dir = target.to_owned();
    if asan {
        let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "-V"]).output();
        if !nightly.is_ok_and(|done| done.status.success()) {
            bail!(
                "AddressSanitizer needs a nightly compiler, and there is none: `rustup toolchain install nightly`; \
                 without --asan none is needed"
            );
        }
        cargo = Command::new("rustup");
        cargo.args(["run", "nightly", "cargo"]).current_dir(sh::root());
        cargo.env_remove("RUSTC").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
        flags += " -Zsanitizer=address";
        dir = target.join("fuzz/asan");
        cargo.env("CARGO_TARGET_DIR", &dir);
    }
    // What the calling cargo was told about other builds is not for this one.
    cargo.env_remove("CARGO_BUILD_TARGET");
    cargo.env("RUSTFLAGS", flags);
    cargo.args(["build", "--quiet", "--locked", "--package", "fuzz", "--profile", "fuzz"]);
    cargo.args(["--target", &triple]);
    for name in targets {
        cargo.args(["--bin", name]);
    }
    println!("{}", sh::line(&cargo));
    sh::run(&mut cargo)?;
    Ok(dir.join(triple).join("fuzz"))
}

/// A fuzzer at work.
struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    corpus: PathBuf,
    /// For the files that a target makes; goes with it.
    scratch: PathBuf,
}

impl Running {
    fn start(name: &str, programs: &Path, work: &Path, minutes: u64) -> Result<Running> {
        let make = |path: PathBuf| -> Result<PathBuf> {
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
            Ok(path)
        };
        // What is found stays from one run to the next.
        let corpus = make(work.join("corpus").join(name))?;
        let crashes = make(work.join("crashes").join(name))?;
        let log = make(work.join("log"))?.join(format!("{name}.log"));
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory } else { work };
        let scratch = make(base.join(format!("fuzz-{name}-{}", std::process::id())))?;
        let out = fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new(programs.join(name));
        command.arg(&corpus).arg(sh::root().join(CORPUS).join(name));
        command.arg(format!("-max_total_time={}", minutes * 60));
        command.arg(format!("-artifact_prefix={}/", crashes.display()));
        command.args(["-rss_limit_mb=2048", "-timeout=25", "-print_final_stats=1"]);
        command.args(["-max_len=16384", "-use_value_profile=1"]);
        command.env("TMPDIR", &scratch);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(out);
        let child =
            command.spawn().with_context(|| format!("cannot run `{}`", sh::line(&command)))?;
        println!("{name}: {} min, log in {}", minutes, log.display());
        Ok(Running { name: name.to_owned(), child, log, corpus, scratch })
    }

    fn wait(mut self) -> Result<Report> {
        let status = self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        fs::remove_dir_all(&self.scratch)
            .with_context(|| format!("removing {}", self.scratch.display()))?;
        let log = fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        let found = fs::read_dir(&self.corpus)?.count();
        Ok(Report::new(self.name, &String::from_utf8_lossy(&log), found, status.success()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_programs() {
        let all = chosen(&[]).unwrap();
        assert!(all.contains(&"tar_reader".to_owned()), "{all:?}");
        assert_eq!(chosen(&["mountinfo".to_owned()]).unwrap(), ["mountinfo"]);
        let error = chosen(&["mountinfos".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("there is no target \"mountinfos\"; there are "), "{error}");
    }
}
