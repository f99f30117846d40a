//! `cargo xtask bench`: whole commands beside the peers that are installed, in one run on one disk,
//! alternating. It builds nothing of others and says which peers are missing.

mod load;
mod measure;
mod peers;
mod run;
mod table;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::images::{self, Format};
use crate::{apt, sh};
use peers::Peer;

/// The command line of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Images to load and to run
    #[arg(default_values_t = ["nginx".to_owned()])]
    images: Vec<String>,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Group::Load, Group::Run])]
    group: Vec<Group>,
    /// In which formats they are loaded
    #[arg(long, value_enum, value_delimiter = ',', default_values_t =
        [Format::DockerLegacy, Format::OciGzip, Format::OciZstd])]
    format: Vec<Format>,
    /// How often each command runs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How often each peer's command runs, if not as often
    #[arg(long, value_name = "ROUNDS")]
    peer_rounds: Option<usize>,
    /// Beside which peers; all that are installed if none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    peer: Vec<Peer>,
    /// Beside no peer
    #[arg(long, conflicts_with = "peer")]
    alone: bool,
    /// The directory to work in, on the disk that is to be measured [default: bench in cargo's target directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write the tables to this file too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// An archive becomes an image
    Load,
    /// An archive becomes a process, for the first time and again
    Run,
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
    peers: Vec<Peer>,
    /// A new directory.
    scratch: PathBuf,
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
    limit: PathBuf,
}

/// Runs `cargo xtask bench`.
pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(apt::is_root(), "images with owners are loaded as root: run the benchmark as root");
    apt::ensure(&["time", "tar"])?;
    let target = sh::target()?;
    let pictures = target.join("images");
    let names: Vec<&str> = args.images.iter().map(String::as_str).collect();
    let mut formats = args.format.clone();
    formats.push(Format::DockerLegacy);
    images::make(&pictures, &names, &formats, false)?;
    let built = build(&target)?;
    let dir = args.dir.clone().unwrap_or_else(|| target.join("bench"));
    let scratch = dir.join(std::process::id().to_string());
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let peers = match (&args.peer[..], args.alone) {
        (_, true) => Vec::new(),
        ([], _) => Peer::ALL.to_vec(),
        (named, _) => named.to_vec(),
    };
    let options = Options {
        images: pictures,
        rounds: args.rounds,
        peer_rounds: args.peer_rounds.unwrap_or(args.rounds),
        peers,
        scratch,
        roots: Cell::new(0),
    };
    let measured = groups(&options, &built, &names, &args);
    let removed = peers::remove(&options.scratch);
    let text = measured?;
    removed?;
    println!("{PAUSE}");
    if let Some(out) = args.out {
        fs::write(&out, text).with_context(|| format!("cannot write {}", out.display()))?;
    }
    Ok(())
}

fn groups(options: &Options, built: &Built, names: &[&str], args: &Args) -> Result<String> {
    let mut text = facts(options)?;
    print!("{text}");
    for name in names {
        let mut show = |table: table::Table| {
            println!("{table}");
            text.push_str(&format!("{table}\n"));
        };
        for format in args.format.iter().filter(|_| args.group.contains(&Group::Load)) {
            show(load::run(options, built, name, *format)?);
        }
        if args.group.contains(&Group::Run) {
            show(run::run(options, built, name)?);
        }
    }
    Ok(text)
}

/// The machine and the peers.
fn facts(options: &Options) -> Result<String> {
    let uname = rustix::system::uname();
    let cpus = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let memory = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let memory = memory.lines().next().unwrap_or_default();
    let disk =
        sh::text(Command::new("findmnt").args(["-n", "-o", "FSTYPE", "-T"]).arg(&options.scratch))?;
    let mut text = format!(
        "Linux {}, {} processors ({}), {}, {}; medians of {} runs ({} of peers), page cache warm, each into an empty store.\n",
        uname.release().to_string_lossy(),
        std::thread::available_parallelism().map_or(1, usize::from),
        model.unwrap_or("unknown"),
        memory.split_whitespace().collect::<Vec<_>>().join(" "),
        disk.trim(),
        options.rounds,
        options.peer_rounds,
    );
    for peer in &options.peers {
        let version = match peer.is_there() {
            true => peer.version()?,
            false => format!("{} is not installed", peer.name()),
        };
        text.push_str(&format!("- {version}\n"));
    }
    text.push('\n');
    Ok(text)
}

/// Builds the release binary and the program that does each part of the work alone.
fn build(target: &Path) -> Result<Built> {
    let release = sh::release(target, &["--package", "runtime-bin"])?;
    sh::release(target, &["--package", "image-unpack", "--example", "limit"])?;
    Ok(Built { program: release.join("runtime-bin"), limit: release.join("examples/limit") })
}
