//! Where starts are measured: the bundles, the stopwatch, and the programs that make containers of them.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::bundle::{Bundles, IMAGE, Pair, text_of};
use super::measure::Series;
use super::peers::{Peer, Ready};
use super::stopwatch::{Plan, Rounds, Stopwatch};
use super::{Built, Options};
use crate::images::Format;
use crate::sh;

/// Rounds that do not count, before those that do.
const WARM_UP: usize = 3;

/// How much seldomer commands run that take a hundred times as long.
const SELDOM: usize = 6;

/// A program that makes a container of a bundle, with runc's command line.
#[derive(Clone, Debug)]
pub(super) struct Runtime {
    pub(super) name: &'static str,
    program: String,
    root: String,
    /// The option with which it makes no cgroup, if it has one.
    no_cgroup: Option<&'static str>,
    /// Whether it makes cgroups on this machine.
    makes_cgroups: bool,
}

impl Runtime {
    /// One of its verbs, as it is typed.
    pub(super) fn words(&self, words: &[&str]) -> Vec<String> {
        let start = [&self.program[..], "--root", &self.root];
        start.iter().chain(words).map(|&word| word.to_owned()).collect()
    }

    /// The same, without a cgroup; `None` where it always makes one.
    pub(super) fn without_cgroup(&self, words: &[&str]) -> Option<Vec<String>> {
        let option = self.no_cgroup?;
        Some(self.words(&[&[option], words].concat()))
    }

    /// A verb that makes a container `name`, of the bundle that goes on this machine, and what is to be said of that.
    pub(super) fn make(
        &self,
        verb: &[&str],
        pair: &Pair,
        name: &str,
    ) -> (Vec<String>, &'static str) {
        let all = |bundle: &str| -> Vec<String> {
            [verb, &["--bundle", bundle, name]].concat().into_iter().map(str::to_owned).collect()
        };
        let other = self.without_cgroup(&refs(&all(&pair.no_cgroup)));
        match other.filter(|_| !self.makes_cgroups) {
            Some(words) => (words, "without a cgroup"),
            None => (self.words(&refs(&all(&pair.full))), ""),
        }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.name == OURS
    }
}

/// The runtime of this workspace.
pub(super) const OURS: &str = "runtime-oci";

/// Peers that are no engines: OCI runtimes, and what makes less than a container.
pub(super) const SMALL_PEERS: [&str; 6] = ["crun", "runc", "youki", "bwrap", "unshare", "nsenter"];

/// An engine of others, with the image loaded and its daemon running.
pub(super) struct Engine {
    pub(super) peer: Peer,
    root: PathBuf,
    /// Ends with this.
    _ready: Ready,
}

impl Engine {
    /// Its `run` of the image, for a container `name` that stays until it is removed, and is killed then: Podman's `rm -f`
    /// waits for its end as `stop` does.
    pub(super) fn stay(&self, name: &str) -> Vec<String> {
        let options = ["-d", "--stop-timeout", "0", "--name", name];
        self.run(&options, &["/bin/sleep", "3600"]).unwrap_or_default()
    }

    /// Its `run` of the image.
    pub(super) fn run(&self, options: &[&str], words: &[&str]) -> Option<Vec<String>> {
        let run = self.peer.run(&self.root, &format!("localhost/{IMAGE}:latest"), words[0])?;
        let mut all = words_of(&run);
        let at = all.iter().position(|word| word == "run")? + 1;
        all.splice(at..at, options.iter().map(|&option| option.to_owned()));
        all.extend(words[1..].iter().map(|&word| word.to_owned()));
        Some(all)
    }

    /// Another verb of it.
    pub(super) fn verb(&self, words: &[&str]) -> Option<Vec<String>> {
        let mut all = words_of(&self.peer.run(&self.root, "", "")?);
        let at = all.iter().position(|word| word == "run")?;
        all.truncate(at);
        // Podman's option for its runtime belongs to all verbs, and comes before them.
        all.extend(words.iter().map(|&word| word.to_owned()));
        Some(all)
    }
}

fn words_of(command: &Command) -> Vec<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// All that starts are measured with.
pub(super) struct Site<'a> {
    pub(super) options: &'a Options,
    pub(super) built: &'a Built,
    pub(super) bundles: Bundles,
    /// The floor's options for capabilities, filter and masks.
    pub(super) limits: Vec<String>,
    pub(super) watch: Stopwatch,
    /// This workspace's first, then those that are installed.
    pub(super) runtimes: Vec<Runtime>,
    engines: OnceCell<Vec<Engine>>,
}

impl<'a> Site<'a> {
    pub(super) fn new(options: &'a Options, built: &'a Built) -> Result<Site<'a>> {
        let dir = options.fresh();
        let bundles =
            Bundles::new(&built.program, &options.image(IMAGE, Format::DockerLegacy), &dir)?;
        let filter = dir.join("filter");
        fs::write(&filter, sh::output(&mut Command::new(&built.filter))?)?;
        let mut limits = vec!["--restrict".to_owned(), "--filter".to_owned(), text_of(&filter)];
        limits.extend(bundles.masks.clone());
        let watch = Stopwatch::new(&built.stopwatch, &options.fresh())?;
        let runtimes = Vec::new();
        let mut site =
            Site { options, built, bundles, limits, watch, runtimes, engines: OnceCell::new() };
        site.runtimes = site.find_runtimes();
        Ok(site)
    }

    /// Looks which runtimes there are: this workspace's first, then those that are installed.
    fn find_runtimes(&self) -> Vec<Runtime> {
        let root = |name: &str| text_of(&self.options.states.join(name));
        let runtime = |name: &'static str, program: &Path, no_cgroup| Runtime {
            name,
            program: text_of(program),
            root: root(name),
            no_cgroup,
            makes_cgroups: true,
        };
        let mut all = vec![runtime(OURS, &self.built.oci, None)];
        for name in ["crun", "runc", "youki"] {
            let Some(program) = self.peer(name) else { continue };
            let no_cgroup = (name == "crun").then_some("--cgroup-manager=disabled");
            let mut runtime = runtime(name, &program, no_cgroup);
            let (words, _) = runtime.make(&["run"], &self.bundles.run, "trial");
            runtime.makes_cgroups = self.watch.once(&Plan::of(&refs(&words))).is_ok();
            all.push(runtime);
        }
        all
    }

    /// One of [`SMALL_PEERS`], if it is installed and asked for.
    pub(super) fn peer(&self, name: &str) -> Option<PathBuf> {
        self.options.small_peers.iter().find(|peer| **peer == name)?;
        small_peer(name)
    }

    /// The engines of others that are installed and run containers here.
    pub(super) fn engines(&self) -> &[Engine] {
        self.engines.get_or_init(|| {
            let peers = self.options.peers.iter().copied();
            let peers = peers.filter(|peer| matches!(peer, Peer::Podman | Peer::Docker));
            let mut engines = Vec::new();
            for peer in peers.filter(|peer| peer.is_there()) {
                match self.engine(peer) {
                    Ok(engine) => engines.push(engine),
                    // A peer that fails is told as such, and hinders nothing.
                    Err(error) => eprintln!("{error:#}"),
                }
            }
            engines
        })
    }

    fn engine(&self, peer: Peer) -> Result<Engine> {
        let root = self.options.fresh();
        let archive = self.options.image(IMAGE, Format::DockerLegacy);
        let mut ready = peer
            .prepare(&archive, Format::DockerLegacy, &root)?
            .with_context(|| format!("{} reads no docker-archive", peer.name()))?;
        sh::output(&mut ready.command)?;
        Ok(Engine { peer, root, _ready: ready })
    }

    /// The floor's command.
    pub(super) fn floor(&self, words: &[&str], options: &[&[String]], end: &[&str]) -> Vec<String> {
        let mut all = vec![text_of(&self.built.floor)];
        all.extend(words.iter().map(|&word| word.to_owned()));
        all.extend(options.iter().flat_map(|words| words.iter().cloned()));
        all.extend(end.iter().map(|&word| word.to_owned()));
        all
    }

    /// Runs the plans that go here in turns, and gives the figures of each; one that does not go has an error.
    pub(super) fn in_turns(&self, plans: Vec<Entry>, rounds: usize) -> Result<Vec<Measured>> {
        let mut measured = Vec::new();
        let mut going = Vec::new();
        for entry in plans {
            let goes = self.watch.once(&entry.plan).map(drop);
            let plan = match (&goes, entry.seldom) {
                (Err(_), _) => None,
                (Ok(()), true) => Some(entry.plan.clone().every(SELDOM)),
                (Ok(()), false) => Some(entry.plan.clone()),
            };
            going.push(plan);
            measured.push(Measured { entry, series: goes.map(|()| Vec::new()) });
        }
        let plans: Vec<&Plan> = going.iter().flatten().collect();
        let how = Rounds::InTurns { rounds, warm_up: WARM_UP.min(rounds) };
        let mut figures = self.watch.run(&plans, how)?.into_iter();
        for measured in &mut measured {
            if let Ok(series) = &mut measured.series {
                series.extend(figures.by_ref().take(measured.entry.plan.timed()));
            }
        }
        Ok(measured)
    }
}

/// Where one of [`SMALL_PEERS`] is; `cargo install` may have put it beside cargo.
pub(super) fn small_peer(name: &str) -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    let beside = cargo.and_then(|cargo| cargo.parent().map(|bin| bin.join(name)));
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin").join(name));
    sh::which(name).or_else(|| beside.into_iter().chain(home).find(|path| path.is_file()))
}

/// What is to be measured, beside what, and as which line of the table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What all entries of this name do alike.
    pub(super) work: &'static str,
    pub(super) name: String,
    pub(super) plan: Plan,
    pub(super) note: String,
    pub(super) place: Place,
    pub(super) seldom: bool,
}

/// What an entry is to the others of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// What the system calls alone take.
    Floor,
    Ours,
    Peer,
}

impl Entry {
    pub(super) fn new(work: &'static str, name: &str, place: Place, words: &[String]) -> Entry {
        Entry::of_plan(work, name, place, Plan::of(&refs(words)))
    }

    pub(super) fn of_plan(work: &'static str, name: &str, place: Place, plan: Plan) -> Entry {
        Entry { work, name: name.to_owned(), plan, note: String::new(), place, seldom: false }
    }

    pub(super) fn note(mut self, note: &str) -> Entry {
        note.clone_into(&mut self.note);
        self
    }

    pub(super) fn seldom(mut self) -> Entry {
        self.seldom = true;
        self
    }
}

/// An entry with the figures of its timed commands, or why it has none.
pub(super) struct Measured {
    pub(super) entry: Entry,
    pub(super) series: Result<Vec<Series>>,
}

impl Measured {
    /// What all its commands take, each by its median, ms.
    pub(super) fn total(&self) -> Option<f64> {
        let series = self.series.as_ref().ok()?;
        Some(series.iter().map(|one| one.median(|taken| taken.wall)).sum::<f64>() * 1e3)
    }
}

/// Commands that take away what a measurement needed, however it ends.
#[derive(Default)]
pub(super) struct Cleanup(Vec<Vec<String>>);

impl Cleanup {
    pub(super) fn later(&mut self, words: Vec<String>) {
        self.0.push(words);
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        for words in self.0.drain(..).rev() {
            let done = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).output();
            match done {
                Ok(done) if done.status.success() => {}
                Ok(done) => {
                    eprintln!("`{}`: {}", words.join(" "), String::from_utf8_lossy(&done.stderr));
                }
                Err(error) => eprintln!("cannot run `{}`: {error}", words.join(" ")),
            }
        }
    }
}

/// Strings as the words of a command.
pub(super) fn refs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}
