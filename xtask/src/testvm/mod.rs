//! `cargo xtask test-vm`: the workspace's tests in a virtual machine with a kernel of a distribution.
//!
//! The tests are built as static programs ([`artifacts`]), put on an ext4 disk ([`disk`]) under the paths that they have
//! on the host, and run by this same program as the guest's init ([`guest`], [`guest_tests`]), which comes in an
//! initramfs ([`cpio`]) with the kernel's modules ([`kernel`], [`modules`]). What it says over a virtio port
//! ([`protocol`]) decides ([`report`]); a machine that panics, hangs or goes off without a verdict has failed
//! ([`qemu`]). Nothing of this needs root, but to install packages that are missing.

mod artifacts;
mod cpio;
mod disk;
mod features;
mod guest;
mod guest_tests;
mod kernel;
mod modules;
mod protocol;
mod qemu;
mod report;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};

pub(crate) use self::disk::PROGRAMS;

use self::artifacts::Artifacts;
use self::features::Features;
use self::kernel::Kernel;
use self::protocol::{Event, Plan, Provoke};
use self::qemu::{Accel, Lines, Machine, Next, Setup};
use self::report::{Case, Outcome, Report, Step};
use crate::{apt, erofs_utils, sh};

/// How long the guest may take until it is ready.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long the guest may be silent beyond a test's own limit.
const SILENCE: Duration = Duration::from_secs(30);

/// The command line of `cargo xtask test-vm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kernel: 6.1, 6.12, or all of them one after the other
    #[arg(long, default_value = "6.1", value_name = "VERSION")]
    kernel: String,
    /// Run only the tests of this package (may be given more than once)
    #[arg(short, long, value_name = "NAME")]
    package: Vec<String>,
    /// Run only tests whose `program test` contains one of these
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Leave out tests whose `program test` contains this (may be given more than once)
    #[arg(long, value_name = "FILTER")]
    skip: Vec<String>,
    /// Open a shell in the guest instead; its exit status is this command's
    #[arg(long)]
    shell: bool,
    /// Keep the disk, the console's log and the rest, and say where
    #[arg(long)]
    keep: bool,
    /// How to run the guest's instructions
    #[arg(long, value_enum, default_value = "auto")]
    accel: qemu::Choice,
    /// Write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// How long one test may take, in seconds
    #[arg(long, default_value_t = 180, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// Show what tests print as it comes, and not only for those that fail
    #[arg(long)]
    nocapture: bool,
    /// Do not make the test images, and go without those that are not there
    #[arg(long)]
    no_images: bool,
    /// Break the guest on purpose: the command must fail, and say why
    #[arg(long, value_enum, hide = true)]
    provoke: Option<Provoke>,
    /// Be the guest's init
    #[arg(long, hide = true)]
    guest: bool,
    /// Be Cargo's runner for doc tests, which keeps the programs here: the command is among the filters
    #[arg(long, hide = true, value_name = "DIR")]
    collect: Option<PathBuf>,
}

/// Runs the tests. An error means that they could not be run; tests that failed are printed, and end the process with
/// status 1.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.guest {
        return guest::run();
    }
    if let Some(dir) = &args.collect {
        return artifacts::collect_doc_test(dir, &args.filters);
    }
    let versions = kernel::matrix(&args.kernel)?;
    if args.shell && versions.len() > 1 {
        bail!("--shell opens in one kernel: name it");
    }
    apt::ensure(&[&[qemu::QEMU, "busybox", "mke2fs", "ldd"][..], &PROGRAMS].concat())?;
    let host = Host::prepare(&args)?;
    let mut cases = Vec::new();
    for version in versions {
        let kernel = kernel::fetch(version, &host.cache.join("kernels"))?;
        let status = host.run(&args, &kernel, &mut cases)?;
        if args.shell {
            end(status);
        }
    }
    if let Some(path) = &args.junit {
        fs::write(path, report::junit(&cases))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let failed: Vec<_> =
        cases.iter().filter(|case| matches!(case.outcome, Outcome::Failed(_))).collect();
    if !failed.is_empty() {
        println!("\nfailed:");
        failed.iter().for_each(|case| println!("{}", case.line()));
    }
    if cases.is_empty() {
        bail!("no test has been run: none matches {:?}", args.filters);
    }
    println!("\n{}", report::closing(&cases));
    if failed.is_empty() { Ok(()) } else { end(1) }
}

/// Ends with a status of its own, and no words after the closing line.
#[expect(clippy::exit, reason = "the last thing that the task does; nothing is left to drop")]
fn end(status: i32) -> ! {
    std::process::exit(status)
}

/// What is the same for all kernels.
struct Host {
    target: PathBuf,
    cache: PathBuf,
    artifacts: Artifacts,
    images: Option<PathBuf>,
    /// Programs that tests look for at this path, with their libraries.
    erofs_utils: PathBuf,
    features: Features,
    accel: Accel,
}

impl Host {
    fn prepare(args: &Args) -> anyhow::Result<Host> {
        let metadata = artifacts::metadata()?;
        let target: PathBuf = metadata.target_directory.clone().into();
        let cache = target.join("vm");
        fs::create_dir_all(cache.join("kernels"))
            .with_context(|| format!("creating {}", cache.display()))?;
        remove_leftovers(&cache);
        let features = Features::read(&sh::root().join("docs/kernel-features.md"))?;
        let accel = qemu::choose(args.accel, &cache)?;
        let images_dir = target.join("images");
        if !args.no_images {
            let own = std::env::current_exe().context("finding xtask's own path")?;
            sh::run(Command::new(own).arg("images").arg("--out").arg(&images_dir))?;
        }
        let images = disk::images(&images_dir, &cache)?;
        let erofs_utils = erofs_utils::ensure(&target)?;
        let begin = Instant::now();
        let artifacts = artifacts::build(&metadata, &args.package, &cache.join("doctests"))?;
        println!(
            "built {} test programs in {:.1} s",
            artifacts.programs.len(),
            begin.elapsed().as_secs_f64()
        );
        Ok(Host { target, cache, artifacts, images, erofs_utils, features, accel })
    }

    /// One run on one kernel; gives the shell's exit status.
    fn run(&self, args: &Args, kernel: &Kernel, cases: &mut Vec<Case>) -> anyhow::Result<i32> {
        let begin = Instant::now();
        let nonce = nonce()?;
        let dir = self.cache.join(format!("run-{}-{}", std::process::id(), kernel.version));
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let files = ["console.log", "qemu.log", "root.ext4", "initramfs.cpio", "events"]
            .map(|name| dir.join(name));
        let [console, errors, root, initramfs, events] = &files;
        self.root_disk(&dir, root)?;
        self.initramfs(args, kernel, &nonce, initramfs)?;
        let mut command = Setup {
            accel: self.accel,
            kernel: &kernel.image,
            initramfs,
            root,
            images: self.images.as_deref(),
            console,
            events: args.shell.then_some(events.as_path()),
        }
        .command();
        println!(
            "kernel {} ({}, {}): disk and initramfs made in {:.1} s",
            kernel.version,
            kernel.package,
            self.accel,
            begin.elapsed().as_secs_f64()
        );
        if args.keep {
            println!("kept: {}\nthe machine: {}", dir.display(), sh::line(&command));
        }
        let status = if args.shell {
            Machine::interactive(&mut command)?;
            shell_status(&nonce, events)?
        } else {
            let lines = Lines::start(&mut command, errors)?;
            if let Some(mut broken) = self.listen(args, kernel, &nonce, &lines, cases) {
                drop(lines);
                let words = qemu::LastWords::read(console, errors);
                if let (Outcome::Failed(why), Some(panic)) = (&mut broken.outcome, words.panic()) {
                    *why += &format!(": {panic}");
                }
                println!("{}\n{}", broken.line(), broken.output.trim_end());
                println!("--- the console's last lines:\n{words}\n---");
                cases.push(broken);
            }
            0
        };
        if !args.keep {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        Ok(status)
    }

    /// The disk with a small system, the tests at the paths that they know, and the sources beside them.
    fn root_disk(&self, dir: &Path, image: &Path) -> anyhow::Result<()> {
        let stage = disk::Stage::new(&dir.join("stage"))?;
        let target = self.target.as_path();
        stage.tree(sh::root(), &|path| {
            path == target || path.ends_with(".git") || path == sh::root().join("target")
        })?;
        for dir in self
            .image_dirs()
            .into_iter()
            .chain([target.join("tmp"), target.join("x86_64-unknown-linux-gnu/tmp")])
        {
            stage.directory(&dir)?;
        }
        stage.tree(&self.erofs_utils, &|path| path.ends_with("share"))?;
        let programs = self.artifacts.programs.iter().map(|program| &program.path);
        for path in programs.chain(&self.artifacts.binaries) {
            stage.file(path)?;
        }
        stage.image(image)
    }

    /// Where tests look for images: below the target directory, or below the workspace.
    fn image_dirs(&self) -> Vec<PathBuf> {
        let mut dirs = vec![self.target.join("images"), sh::root().join("target/images")];
        dirs.dedup();
        dirs
    }

    fn initramfs(
        &self,
        args: &Args,
        kernel: &Kernel,
        nonce: &str,
        path: &Path,
    ) -> anyhow::Result<()> {
        let mut archive = cpio::Archive::default();
        for name in ["dev", "proc", "sys", "new", "modules"] {
            archive.directory(name);
        }
        archive.device("dev/console", (5, 1));
        archive.device("dev/null", (1, 3));
        let mut modules = Vec::new();
        for (name, bytes) in modules::Modules::open(&kernel.modules)?.load(&modules::WANTED)? {
            let file = format!("modules/{name}.ko");
            archive.file(&file, 0o644, &bytes);
            modules.push(Path::new("/").join(file));
        }
        let init = &self.artifacts.init;
        archive.file(
            "init",
            0o755,
            &fs::read(init).with_context(|| format!("reading {}", init.display()))?,
        );
        let plan = Plan {
            nonce: nonce.to_owned(),
            modules,
            images: self.images.as_ref().map(|_| self.image_dirs()).unwrap_or_default(),
            chown: !apt::is_root(),
            filters: args.filters.clone(),
            skip: args.skip.clone(),
            limit: args.timeout,
            shell: args.shell,
            provoke: args.provoke,
            env: artifacts::environment(),
            programs: self.artifacts.programs.clone(),
        };
        archive.file("plan.json", 0o644, &serde_json::to_vec(&plan)?);
        fs::write(path, archive.finish()).with_context(|| format!("writing {}", path.display()))
    }

    /// Takes the guest's events until its verdict. Gives a case of its own for a run that came to none.
    fn listen(
        &self,
        args: &Args,
        kernel: &Kernel,
        nonce: &str,
        lines: &Lines,
        cases: &mut Vec<Case>,
    ) -> Option<Case> {
        let mut report = Report::new(kernel.version, &self.features);
        let before = cases.len();
        let mut limit = BOOT_LIMIT;
        loop {
            let why = match lines.next(limit) {
                Next::Line(line) => match protocol::decode(nonce, &line)
                    .map(|event| report.event(event))
                {
                    None | Some(Step::Running) => continue,
                    Some(Step::Ready { release }) => {
                        println!("{release} is ready after {:.1} s", lines.age().as_secs_f64());
                        limit = Duration::from_secs(args.timeout) + SILENCE;
                        continue;
                    }
                    Some(Step::Said(text)) => {
                        if args.nocapture {
                            print!("{text}");
                        }
                        continue;
                    }
                    Some(Step::Ended(case)) => {
                        println!("{}", case.line());
                        if matches!(case.outcome, Outcome::Failed(_)) && !args.nocapture {
                            println!("{}", case.output.trim_end());
                        }
                        cases.push(case);
                        continue;
                    }
                    Some(Step::Done) => {
                        let (tests, seconds) = (cases.len() - before, lines.age().as_secs_f64());
                        println!("kernel {}: {tests} tests in {seconds:.1} s", kernel.version);
                        return None;
                    }
                    Some(Step::Broken(why)) => why,
                },
                Next::Silence => format!("the guest hangs: silent for {} s", limit.as_secs()),
                Next::End => "the machine ended without a verdict".to_owned(),
            };
            return Some(report.broken(&why, lines.age()));
        }
    }
}

/// The shell's exit status, from the events that QEMU wrote to a file.
fn shell_status(nonce: &str, events: &Path) -> anyhow::Result<i32> {
    let text =
        fs::read_to_string(events).with_context(|| format!("reading {}", events.display()))?;
    let done =
        text.lines().filter_map(|line| protocol::decode(nonce, line)).find_map(
            |event| match event {
                Event::Done { shell, .. } => shell,
                _ => None,
            },
        );
    done.context("the machine ended before the shell did")
}

/// A word that no line of a test begins with by chance.
fn nonce() -> anyhow::Result<String> {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(format!("vm-{:x}-{:x}", std::process::id(), time.as_nanos()))
}

/// Removes what runs that were killed have left, but not what `--keep` kept within the last day.
fn remove_leftovers(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("run-").and_then(|rest| rest.split('-').next());
        let Some(pid) = pid else { continue };
        let old = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_secs(86_400)));
        if old && !Path::new("/proc").join(pid).exists() {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
