//! `cargo xtask bench`: whole commands beside the peers that are installed, in one run on one disk,
//! alternating. It builds nothing of others and says which peers are missing.
//!
//! Starts are timed by a lean program (`stopwatch.rs`), beside the floor: what the system calls of the same container
//! take alone (ns-core/examples/floor.rs).

pub(crate) mod bundle;
mod create;
mod exec;
pub(crate) mod facts;
mod load;
mod measure;
mod memory;
mod output;
mod parallel;
mod peers;
mod run;
mod scale;
mod site;
mod start;
mod stopwatch;
mod svg;
mod table;

use std::cell::Cell;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::builder::PossibleValuesParser;

use crate::images::{self, Format};
use crate::{apt, sh};
use peers::Peer;
pub(crate) use peers::remove;
use site::{SMALL_PEERS, Site};

/// The command line of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Images to load and to run
    #[arg(default_values_t = ["nginx".to_owned()])]
    images: Vec<String>,
    /// What to measure [default: all]
    #[arg(long, value_enum, value_delimiter = ',', hide_default_value = true, default_values_t = Group::ALL)]
    group: Vec<Group>,
    /// In which formats images are loaded
    #[arg(long, value_enum, value_delimiter = ',', default_values_t =
        [Format::DockerLegacy, Format::OciGzip, Format::OciZstd])]
    format: Vec<Format>,
    /// How often each load and each run of an archive runs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How often each peer's does, if not as often
    #[arg(long, value_name = "ROUNDS")]
    peer_rounds: Option<usize>,
    /// How often each start is timed
    #[arg(long, value_name = "ROUNDS", default_value_t = 60)]
    starts: usize,
    /// How many containers run at once, for the group scale
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    containers: usize,
    /// All in two minutes: few rounds, one format, 50 containers. The figures are rough
    #[arg(long)]
    quick: bool,
    /// Beside which peers; all that are installed if none is named
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(all_peers()))]
    peer: Vec<String>,
    /// Beside no peer
    #[arg(long, conflicts_with = "peer")]
    alone: bool,
    /// Show all programs the machine's cgroups as they are, also where they are of both versions
    #[arg(long)]
    host_cgroups: bool,
    /// The directory to work in, on the disk that is to be measured [default: bench in cargo's target directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write the tables to this file too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Draw what starts take
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// From a command to the end of a program that does nothing
    Start,
    /// A container made, started and removed, by a command each
    Create,
    /// A program in a container that runs
    Exec,
    /// What starting takes of memory, and what stays
    Memory,
    /// The last of many containers, beside the first
    Scale,
    /// Starts a second, on all processors
    Parallel,
    /// A process that writes as fast as it can, into a pipe
    Output,
    /// An archive becomes an image
    Load,
    /// An archive becomes a process, for the first time and again
    Run,
}

impl Group {
    const ALL: [Group; 9] = [
        Group::Start,
        Group::Create,
        Group::Exec,
        Group::Memory,
        Group::Parallel,
        Group::Scale,
        Group::Output,
        Group::Load,
        Group::Run,
    ];

    /// Whether it loads the images that are named.
    fn is_of_images(self) -> bool {
        matches!(self, Group::Load | Group::Run)
    }
}

/// The names of all peers.
fn all_peers() -> Vec<&'static str> {
    SMALL_PEERS.into_iter().chain(Peer::ALL.iter().map(|peer| peer.id())).collect()
}

/// Removed at the end only: on ext4, what is created within some minutes after a large removal is slow, by 15 times and
/// more. For the same reason two runs need a pause between them.
const PAUSE: &str =
    "on ext4, wait six minutes before the next run: what is created after a large removal is slow";

/// How the benchmark is run.
struct Options {
    images: PathBuf,
    rounds: usize,
    peer_rounds: usize,
    starts: usize,
    containers: usize,
    /// The part of the group output's bytes that is written: an eighth in a quick run, of which Docker would take a minute.
    less_output: usize,
    peers: Vec<Peer>,
    small_peers: Vec<&'static str>,
    /// A new directory.
    scratch: PathBuf,
    /// Where OCI runtimes keep containers' states: in memory, as `/run`, which is their place by default.
    states: PathBuf,
    roots: Cell<usize>,
}

impl Options {
    /// The path of a directory that is not there yet.
    fn fresh(&self) -> PathBuf {
        self.roots.set(self.roots.get() + 1);
        self.scratch.join(self.roots.get().to_string())
    }
}

/// The programs of this workspace, built for release.
struct Built {
    program: PathBuf,
    /// `runtime-oci`.
    oci: PathBuf,
    /// Examples: the parts of a load, of a start, and Docker's filter; oci-runtime without a program around it.
    limit: PathBuf,
    floor: PathBuf,
    filter: PathBuf,
    run_a_bundle: PathBuf,
    stopwatch: PathBuf,
}

impl Built {
    /// The programs as an installation has them: written at once. What a linker writes piece by piece lies in the page
    /// cache in small pages, and each start maps them one by one: 1.0 of 6.8 ms of processor time.
    fn installed(mut self, dir: &Path) -> Result<Built> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let programs = [
            &mut self.program,
            &mut self.oci,
            &mut self.limit,
            &mut self.floor,
            &mut self.filter,
            &mut self.run_a_bundle,
            &mut self.stopwatch,
        ];
        for program in programs {
            sh::run(Command::new("install").arg("-t").arg(dir).arg(&*program))?;
            let name = program.file_name().context("a program has a name")?;
            *program = dir.join(name);
        }
        Ok(self)
    }
}

/// A file system in memory.
const MEMORY: &str = "/dev/shm";

/// Runs `cargo xtask bench`.
pub(crate) fn run(mut args: Args) -> Result<()> {
    ensure!(apt::is_root(), "images with owners are loaded as root: run the benchmark as root");
    ensure!(
        args.svg.is_none() || args.group.contains(&Group::Start),
        "--svg draws what the group start measures: add it to --group"
    );
    apt::ensure(&["time", "tar", "unshare", "umount"])?;
    if !args.host_cgroups {
        hide_old_cgroups()?;
    }
    if args.quick {
        (args.rounds, args.peer_rounds) = (1, Some(1));
        (args.starts, args.containers) = (10, 50);
        args.format = vec![Format::DockerLegacy];
    }
    let target = sh::target()?;
    let pictures = target.join("images");
    let mut names: Vec<&str> = vec![bundle::IMAGE];
    if args.group.iter().any(|group| group.is_of_images()) {
        names.extend(args.images.iter().map(String::as_str));
    }
    let mut formats = args.format.clone();
    formats.push(Format::DockerLegacy);
    images::make(&pictures, &names, &formats, false)?;
    let built = build(&target)?;
    let dir = args.dir.clone().unwrap_or_else(|| target.join("bench"));
    let own = std::process::id().to_string();
    let (scratch, states) = (dir.join(&own), Path::new(MEMORY).join(format!("bench-{own}")));
    for dir in [&scratch, &states] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let asked = |name: &str| {
        !args.alone && (args.peer.is_empty() || args.peer.iter().any(|peer| peer == name))
    };
    let options = Options {
        images: pictures,
        rounds: args.rounds,
        peer_rounds: args.peer_rounds.unwrap_or(args.rounds),
        starts: args.starts.max(1),
        containers: args.containers.max(2),
        less_output: if args.quick { 8 } else { 1 },
        peers: Peer::ALL.iter().copied().filter(|peer| asked(peer.id())).collect(),
        small_peers: SMALL_PEERS.into_iter().filter(|name| asked(name)).collect(),
        scratch,
        states,
        roots: Cell::new(0),
    };
    let built = built.installed(&options.scratch.join("bin"));
    let measured = built.and_then(|built| groups(&options, &built, &args));
    let removed = remove(&options.scratch).and(remove(&options.states));
    let text = measured?;
    removed?;
    println!("{PAUSE}");
    if let Some(out) = args.out {
        fs::write(&out, text).with_context(|| format!("cannot write {}", out.display()))?;
    }
    Ok(())
}

/// Where there are cgroups of both versions, starts this program again where those of v2 alone are to be seen: some peers
/// refuse the other, and all have the same work then, which is that of most machines.
pub(crate) fn hide_old_cgroups() -> Result<()> {
    const HIDE: &str =
        "umount -l -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"";
    let mounts =
        fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    if !facts::has_both_cgroups(&mounts) {
        return Ok(());
    }
    let own = std::env::current_exe().context("finding xtask's own path")?;
    let mut again = Command::new("unshare");
    again.args(["--mount", "--propagation", "private", "sh", "-c", HIDE, "sh"]).arg(own);
    Err(again.args(std::env::args_os().skip(1)).exec()).context("cannot run unshare")
}

fn groups(options: &Options, built: &Built, args: &Args) -> Result<String> {
    let mut text = facts::tell(options, args.quick)?;
    print!("{text}");
    let mut show = |table: table::Table| {
        println!("{table}");
        text.push_str(&format!("{table}\n"));
    };
    let has = |group: Group| args.group.contains(&group);
    if args.group.iter().any(|group| !group.is_of_images()) {
        let site = Site::new(options, built)?;
        if has(Group::Start) {
            let measured = start::run(&site)?;
            show(start::table("start", &measured, &["median ms"]));
            if let Some(file) = &args.svg {
                let picture = start::picture(&measured, &facts::machine()?);
                fs::write(file, picture)
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
        }
        if has(Group::Create) {
            show(start::table("create, start, delete", &create::run(&site)?, &create::WHAT));
        }
        if has(Group::Exec) {
            show(start::table("exec", &exec::run(&site)?, &["median ms"]));
        }
        if has(Group::Memory) {
            show(memory::run(&site)?);
        }
        if has(Group::Parallel) {
            show(parallel::run(&site)?);
        }
        if has(Group::Scale) {
            show(scale::run(&site)?);
        }
        if has(Group::Output) {
            show(start::table("output", &output::run(&site)?, &["median ms"]));
        }
    }
    for name in &args.images {
        for format in args.format.iter().filter(|_| has(Group::Load)) {
            show(load::run(options, built, name, *format)?);
        }
        if has(Group::Run) {
            show(run::run(options, built, name)?);
        }
    }
    Ok(text)
}

/// The examples that do each part of the work alone, and the crates whose they are.
const EXAMPLES: [(&str, &str); 5] = [
    ("image-unpack", "limit"),
    ("ns-core", "floor"),
    ("seccomp-oci", "default-program"),
    ("oci-runtime", "run-a-bundle"),
    ("sys", "stopwatch"),
];

/// Builds the release programs, and what they are measured beside and with.
fn build(target: &Path) -> Result<Built> {
    let release = sh::release(target, &["--package", "runtime-bin"])?;
    let words = EXAMPLES.map(|(package, name)| ["--package", package, "--example", name]);
    sh::release(target, &words.concat())?;
    let [limit, floor, filter, run_a_bundle, stopwatch] =
        EXAMPLES.map(|(_, name)| release.join("examples").join(name));
    let [program, oci] = ["runtime-bin", "runtime-oci"].map(|name| release.join(name));
    Ok(Built { program, oci, limit, floor, filter, run_a_bundle, stopwatch })
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn all_groups_and_peers_can_be_named() {
        assert_eq!(Group::ALL.len(), Group::value_variants().len());
        let names = all_peers();
        assert!(["crun", "podman", "docker"].iter().all(|name| names.contains(name)));
    }
}
