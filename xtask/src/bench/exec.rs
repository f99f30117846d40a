//! A further program in a container that runs.

use std::fs;

use anyhow::{Context, Result};

use super::bundle::{self, IMAGE, PROGRAM, text_of};
use super::site::{Cleanup, Entry, Measured, Place, Runtime, Site, refs};
use super::stopwatch::Plan;
use crate::sh;

const BUNDLE: &str = "in a bundle's container";
const OF_IMAGE: &str = "in an engine's";

/// The container's name.
const NAME: &str = "exec-bench";

/// Measures all, in turns.
pub(super) fn run(site: &Site<'_>) -> Result<Vec<Measured>> {
    let mut cleanup = Cleanup::default();
    let mut entries = Vec::new();
    for runtime in &site.runtimes {
        let (words, note) = runtime.make(&["run", "--detach"], &site.bundles.stay, NAME);
        if let Err(error) = site.watch.once(&Plan::of(&refs(&words))) {
            // A peer that fails is told as such, and hinders nothing.
            eprintln!("{error:#}");
            continue;
        }
        cleanup.later(runtime.words(&["delete", "--force", NAME]));
        if runtime.is_ours() {
            entries.extend(floor(site, runtime)?);
        }
        let place = if runtime.is_ours() { Place::Ours } else { Place::Peer };
        let words = runtime.words(&["exec", NAME, PROGRAM]);
        entries
            .push(Entry::new(BUNDLE, &format!("{} exec", runtime.name), place, &words).note(note));
    }
    let own = |words: &[&str]| site.bundles.engine(words);
    cleanup.later(own(&["rm", "-f", NAME]));
    site.watch
        .once(&Plan::of(&refs(&own(&["run", "-d", "--name", NAME, IMAGE, "sleep", "3600"]))))?;
    let words = own(&["exec", NAME, PROGRAM]);
    entries.push(Entry::new(OF_IMAGE, "runtime-bin exec", Place::Ours, &words));
    for engine in site.engines() {
        let verb = |words: &[&str]| engine.verb(words).unwrap_or_default();
        if let Err(error) = site.watch.once(&Plan::of(&refs(&engine.stay(NAME)))) {
            eprintln!("{error:#}");
            continue;
        }
        cleanup.later(verb(&["rm", "-f", NAME]));
        let name = format!("{} exec", engine.peer.program());
        let words = verb(&["exec", NAME, PROGRAM]);
        entries.push(
            Entry::new(OF_IMAGE, &name, Place::Peer, &words).note(engine.peer.note()).seldom(),
        );
    }
    site.in_turns(entries, site.options.starts)
}

/// What joins the same container with less around it.
fn floor(site: &Site<'_>, runtime: &Runtime) -> Result<Vec<Entry>> {
    let words = runtime.words(&["state", NAME]);
    let mut state = std::process::Command::new(&words[0]);
    let state: serde_json::Value = serde_json::from_slice(&sh::output(state.args(&words[1..]))?)?;
    let pid = state["pid"].as_u64().context("the container has no process")?.to_string();
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    // A cpuset that is there has its processors.
    let groups = bundle::groups(&own, str::to_owned)?.into_iter();
    let groups: Vec<String> =
        groups.map(|word| if word == "--cpuset" { "--cgroup1".to_owned() } else { word }).collect();
    let all = [&groups[..], &site.limits];
    let words = site.floor(&["exec"], &all, &[&pid, PROGRAM]);
    let mut entries = vec![Entry::new(BUNDLE, "the floor", Place::Floor, &words)];
    if let Some(nsenter) = site.peer("nsenter") {
        let words = [&text_of(&nsenter), "--target", &pid, "--all", PROGRAM].map(str::to_owned);
        let entry = Entry::new(BUNDLE, "nsenter(1)", Place::Peer, &words);
        entries.push(entry.note("without cgroup, filter and capabilities"));
    }
    Ok(entries)
}
