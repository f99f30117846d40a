//! `cargo xtask test-vm`: the workspace's tests in a virtual machine with a kernel of a distribution.
//!
//! The tests are built as static programs ([`artifacts`]), put on an ext4 disk ([`disk`]) under the paths that they have
//! on the host, and run by this same program as the guest's init ([`guest`], [`guest_tests`]), which comes in an
//! initramfs ([`cpio`]) with the kernel's modules ([`kernel`], [`modules`]). Several guests ([`guests`]) take tests from
//! one queue ([`queue`]): a guest runs one at a time, since it looks for what a test has left. What it says over a virtio
//! port ([`protocol`]) decides ([`report`]); a machine that panics, hangs or goes off without a verdict has failed
//! ([`qemu`]). Nothing of this needs root, but to install packages that are missing.

mod artifacts;
mod cpio;
mod disk;
mod features;
mod guest;
mod guest_tests;
mod guests;
mod kernel;
mod modules;
mod protocol;
mod qemu;
mod queue;
mod report;
#[cfg(test)]
mod tests;
pub(crate) mod traces;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};

pub(crate) use self::disk::PROGRAMS;

use self::artifacts::Artifacts;
use self::features::Features;
use self::guests::{Guest, Guests};
use self::kernel::Kernel;
use self::protocol::{Event, Plan, Provoke, Selection};
use self::qemu::{Accel, Machine, Setup};
use self::queue::Queue;
use self::report::{Case, Outcome};
use crate::{apt, erofs_utils, sh};

/// How many guests run side by side unless it is said: each has a processor to itself, and 2 GiB of memory, which the
/// machine should not run short of. (More would wait for the longest tests, which take 40 s.)
const MOST_JOBS: usize = 4;

/// Tests of programs that are not in the guest: Podman, and Docker and containerd where no systemd makes their cgroups.
/// `cargo xtask test-host` runs them.
const OF_THE_HOST: [&str; 3] = [
    "runtime-bin::it clients_podman::",
    "runtime-bin::it clients_docker::docker_",
    "runtime-bin::it clients_containerd::containerd_",
];

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
    /// How many guests run side by side, each one test at a time [default: the number of processors, at most 4; with
    /// --shell, --keep or --nocapture 1]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    #[arg(conflicts_with_all = ["shell", "keep", "nocapture"])]
    jobs: Option<u64>,
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
    /// Run tests that failed once more, alone in a guest of their own; those that pass then are told as flaky, and are no
    /// failures
    #[arg(long)]
    retry: bool,
    /// Show what tests print as it comes, and not only for those that fail
    #[arg(long)]
    nocapture: bool,
    /// Do not make the test images, and go without those that are not there
    #[arg(long)]
    no_images: bool,
    /// Break a guest on purpose: the command must fail, and say why
    #[arg(long, value_enum, hide = true)]
    provoke: Option<Provoke>,
    /// Be the guest's init
    #[arg(long, hide = true)]
    guest: bool,
    /// Be Cargo's runner for doc tests, which keeps the programs here: the command is among the filters
    #[arg(long, hide = true, value_name = "DIR")]
    collect: Option<PathBuf>,
}

impl Args {
    fn selection(&self) -> Selection {
        let skip = self.skip.iter().cloned().chain(OF_THE_HOST.map(str::to_owned)).collect();
        Selection { filters: self.filters.clone(), skip }
    }

    /// How many guests run side by side. What is kept is one disk, and output that is shown as it comes must come from
    /// one test.
    fn jobs(&self) -> usize {
        match self.jobs {
            Some(jobs) => jobs as usize,
            None if self.shell || self.keep || self.nocapture => 1,
            None => processors().min(MOST_JOBS),
        }
    }
}

/// The processors that this machine has for us.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
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
    let (mut cases, mut not_run) = (Vec::new(), 0);
    for version in versions {
        let kernel = kernel::fetch(version, &host.cache.join("kernels"))?;
        if args.shell {
            end(host.shell(&args, &kernel)?);
        }
        not_run += host.run(&args, &kernel, &mut cases)?;
    }
    if let Some(path) = &args.junit {
        fs::write(path, report::junit(&cases))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let all = |is: fn(&Outcome) -> bool| cases.iter().filter(move |case| is(&case.outcome));
    let flaky: Vec<_> = all(|outcome| matches!(outcome, Outcome::Flaky(_))).collect();
    let failed: Vec<_> = all(|outcome| matches!(outcome, Outcome::Failed(_))).collect();
    for (title, cases) in [("flaky", flaky), ("failed", failed.clone())] {
        if !cases.is_empty() {
            println!("\n{title}:");
            cases.iter().for_each(|case| println!("{}", case.line()));
        }
    }
    if cases.is_empty() {
        bail!("no test has been run: none matches {:?}", args.filters);
    }
    println!("\nleft to `cargo xtask test-host`: {}", OF_THE_HOST.join(", "));
    println!("\n{}", report::closing(&cases, not_run));
    if failed.is_empty() && not_run == 0 { Ok(()) } else { end(1) }
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

    /// A shell in a guest with this kernel; gives its exit status.
    fn shell(&self, args: &Args, kernel: &Kernel) -> anyhow::Result<i32> {
        let made = self.make(args, kernel)?;
        let events = made.dir.join("events");
        let mut guest = self.guest(&made, kernel, 1, 1, Some(&events));
        made.tell(args, &guest);
        Machine::interactive(&mut guest.command)?;
        let status = shell_status(&made.nonce, &events)?;
        made.remove(args)?;
        Ok(status)
    }

    /// All tests on one kernel; gives the number of those that no guest was left for.
    fn run(&self, args: &Args, kernel: &Kernel, cases: &mut Vec<Case>) -> anyhow::Result<usize> {
        let programs = &self.artifacts.programs;
        let queue = Queue::list(programs, &args.selection(), args.provoke)?;
        // One that has nothing to do would only take processor time from the others while it boots.
        let count = args.jobs().min(queue.len());
        if count == 0 {
            return Ok(0);
        }
        let made = self.make(args, kernel)?;
        let guests: Vec<_> =
            (1..=count).map(|number| self.guest(&made, kernel, number, count, None)).collect();
        made.tell(args, &guests[0]);
        let begin = Instant::now();
        let run = |queue: &Queue, guests| {
            Guests {
                kernel: kernel.version,
                features: &self.features,
                nonce: &made.nonce,
                programs,
                queue,
                limit: Duration::from_secs(args.timeout),
                nocapture: args.nocapture,
            }
            .run(guests)
        };
        let mut done = run(&queue, guests)?;
        let failed = match args.retry {
            true => Queue::of_failed(programs, &done),
            false => Queue::new(VecDeque::new()),
        };
        if failed.len() > 0 {
            println!("once more, alone: {} tests", failed.len());
            // With a disk of its own, as each of several has.
            let guest = self.guest(&made, kernel, count + 1, count.max(2), None);
            report::run_again(&mut done, run(&failed, vec![guest])?);
        }
        let (tests, seconds) = (done.len(), begin.elapsed().as_secs_f64());
        println!("kernel {}: {tests} tests in {seconds:.1} s", kernel.version);
        cases.extend(done);
        made.remove(args)?;
        Ok(queue.len())
    }

    /// Makes what the guests of a run have in common.
    fn make(&self, args: &Args, kernel: &Kernel) -> anyhow::Result<Made> {
        let begin = Instant::now();
        let dir = self.cache.join(format!("run-{}-{}", std::process::id(), kernel.version));
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let (root, initramfs) = (dir.join("root.ext4"), dir.join("initramfs.cpio"));
        let made = Made { nonce: nonce()?, root, initramfs, dir };
        self.root_disk(&made.dir, &made.root)?;
        self.initramfs(args, kernel, &made.nonce, &made.initramfs)?;
        println!(
            "kernel {} ({}, {}): disk and initramfs made in {:.1} s",
            kernel.version,
            kernel.package,
            self.accel,
            begin.elapsed().as_secs_f64()
        );
        Ok(made)
    }

    /// One of `count` guests, which share the machine's processors. A second processor is worth less to a guest than a
    /// second guest is to the run: tests are mostly one process after the other, and with a single one the kernel waits
    /// for nobody (RCU's grace periods), which mounts and namespaces do often.
    fn guest(
        &self,
        made: &Made,
        kernel: &Kernel,
        number: usize,
        count: usize,
        events: Option<&Path>,
    ) -> Guest {
        let console = made.dir.join(format!("console-{number}.log"));
        let errors = made.dir.join(format!("qemu-{number}.log"));
        let command = Setup {
            accel: self.accel,
            kernel: &kernel.image,
            initramfs: &made.initramfs,
            root: &made.root,
            own_writes: (count > 1).then_some(made.dir.as_path()),
            processors: (processors() / count).clamp(1, 2),
            images: self.images.as_deref(),
            console: &console,
            events,
        }
        .command();
        Guest { number, command, console, errors }
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
            selection: args.selection(),
            limit: args.timeout,
            shell: args.shell,
            env: artifacts::environment(),
            programs: self.artifacts.programs.clone(),
        };
        archive.file("plan.json", 0o644, &serde_json::to_vec(&plan)?);
        fs::write(path, archive.finish()).with_context(|| format!("writing {}", path.display()))
    }
}

/// What the guests of one run have in common.
struct Made {
    dir: PathBuf,
    nonce: String,
    root: PathBuf,
    initramfs: PathBuf,
}

impl Made {
    /// Says where it is, if it is kept.
    fn tell(&self, args: &Args, guest: &Guest) {
        if args.keep {
            println!("kept: {}\nthe machine: {}", self.dir.display(), sh::line(&guest.command));
        }
    }

    fn remove(&self, args: &Args) -> anyhow::Result<()> {
        if !args.keep {
            fs::remove_dir_all(&self.dir)
                .with_context(|| format!("removing {}", self.dir.display()))?;
        }
        Ok(())
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
