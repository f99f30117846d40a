//! A container in steps, as engines ask a runtime for it: create, start, delete; and what engines have of it.

use anyhow::Result;

use super::bundle::{IMAGE, PROGRAM};
use super::site::{Entry, Measured, Place, Site, refs};
use super::stopwatch::Plan;

const BUNDLE: &str = "a bundle";
const OF_IMAGE: &str = "an image, by an engine";

/// The commands that are timed: the program has ended before the last.
pub(super) const WHAT: [&str; 3] = ["create ms", "start ms", "delete ms"];

/// Measures all, in turns.
pub(super) fn run(site: &Site<'_>) -> Result<Vec<Measured>> {
    let mut entries = Vec::new();
    for runtime in &site.runtimes {
        let place = if runtime.is_ours() { Place::Ours } else { Place::Peer };
        let (create, note) = runtime.make(&["create"], &site.bundles.run, "steps-{}");
        let [start, delete] = ["start", "delete"].map(|verb| runtime.words(&[verb, "steps-{}"]));
        let plan = steps(&create, &start, &delete);
        entries.push(Entry::of_plan(BUNDLE, runtime.name, place, plan).note(note));
    }
    let own = |words: &[&str]| site.bundles.engine(words);
    let create = own(&["create", "--name", "steps-{}", IMAGE, PROGRAM]);
    let plan = steps(&create, &own(&["start", "-a", "steps-{}"]), &own(&["rm", "steps-{}"]));
    entries.push(Entry::of_plan(OF_IMAGE, "runtime-bin", Place::Ours, plan).note("start -a, rm"));
    for engine in site.engines() {
        let verb = |words: &[&str]| engine.verb(words).unwrap_or_default();
        let run = engine.run(&["--name", "steps-{}"], &[PROGRAM]).unwrap_or_default();
        // What its `run` has, but for what `create` cannot have.
        let create = run.into_iter().filter(|word| word != "--rm");
        let create: Vec<String> =
            create.map(|word| if word == "run" { "create".to_owned() } else { word }).collect();
        let plan = steps(&create, &verb(&["start", "-a", "steps-{}"]), &verb(&["rm", "steps-{}"]));
        let entry = Entry::of_plan(OF_IMAGE, engine.peer.program(), Place::Peer, plan);
        entries.push(entry.note(engine.peer.note()).seldom());
    }
    site.in_turns(entries, site.options.starts)
}

fn steps(create: &[String], start: &[String], delete: &[String]) -> Plan {
    let mut plan = Plan::default();
    plan.time(&refs(create)).time(&refs(start)).reap().time(&refs(delete));
    plan
}
