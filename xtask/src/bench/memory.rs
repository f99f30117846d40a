//! Memory: the most that a start takes, and what stays with each container that runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::bundle::{IMAGE, PROGRAM};
use super::site::{Cleanup, Entry, Place, Site, refs};
use super::stopwatch::Plan;
use super::table::Table;
use crate::sh;

/// Starts, of which the largest counts.
const ROUNDS: usize = 5;

/// Containers, over which what stays is averaged.
const CONTAINERS: usize = 5;

/// What a process has of memory, KiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Memory {
    /// Resident.
    pub(super) resident: u64,
    /// Resident, each page divided by those who share it.
    pub(super) share: u64,
    /// Its own alone.
    pub(super) private: u64,
}

/// What stays: of whom, and how much, if containers could be started.
struct Stays {
    who: String,
    memory: Option<Memory>,
}

/// Measures all.
pub(super) fn run(site: &Site<'_>) -> Result<Table> {
    let mut entries = Vec::new();
    for runtime in &site.runtimes {
        let (words, note) = runtime.make(&["run"], &site.bundles.run, "memory-{}");
        let entry = Entry::new("", &format!("{} run", runtime.name), Place::Peer, &words);
        entries.push((entry.note(note), None));
    }
    let own = |words: &[&str]| site.bundles.engine(words);
    let words = own(&["run", "--rm", IMAGE, PROGRAM]);
    let entry = Entry::new("", "runtime-bin run --rm", Place::Ours, &words);
    entries.push((entry, Some(ours(site)?)));
    for engine in site.engines() {
        let verb = |words: &[&str]| engine.verb(words).unwrap_or_default();
        let stays = stays(site, |name| engine.stay(name), verb).unwrap_or_else(|error| {
            // A peer that fails is told as such, and hinders nothing.
            eprintln!("{error:#}");
            Stays { who: "does not go here".to_owned(), memory: None }
        });
        let words = engine.run(&[], &[PROGRAM]).unwrap_or_default();
        let name = format!("{} run --rm", engine.peer.program());
        entries.push((
            Entry::new("", &name, Place::Peer, &words).note(engine.peer.note()),
            Some(stays),
        ));
    }
    let head = ["command", "peak MB", "what stays", "RSS MB", "PSS MB", "private MB", "note"];
    let mut table = Table::new("memory", &head);
    let (entries, stay): (Vec<Entry>, Vec<Option<Stays>>) = entries.into_iter().unzip();
    for (measured, stays) in site.in_turns(entries, ROUNDS)?.into_iter().zip(stay) {
        let peak = measured.series.as_ref().ok().and_then(|all| all.first());
        let peak = peak.map(|series| format!("{:.1}", series.most(|taken| taken.memory)));
        let mut row = vec![measured.entry.name, peak.unwrap_or_else(|| "–".to_owned())];
        match stays {
            Some(Stays { who, memory: Some(memory) }) => {
                row.push(who);
                let numbers = [memory.resident, memory.share, memory.private];
                row.extend(numbers.map(|kib| format!("{:.2}", kib as f64 * 1.024 / 1e3)));
            }
            other => {
                row.push(other.map_or_else(|| "nothing".to_owned(), |stays| stays.who));
                row.extend(["", "", ""].map(str::to_owned));
            }
        }
        row.push(measured.entry.note);
        table.row(row);
    }
    Ok(table)
}

fn ours(site: &Site<'_>) -> Result<Stays> {
    let own = |words: &[&str]| site.bundles.engine(words);
    stays(site, |name| own(&["run", "-d", "--name", name, IMAGE, "sleep", "3600"]), own)
}

/// Starts some, and looks at their processes' parents.
fn stays(
    site: &Site<'_>,
    run: impl Fn(&str) -> Vec<String>,
    verb: impl Fn(&[&str]) -> Vec<String>,
) -> Result<Stays> {
    let mut cleanup = Cleanup::default();
    let mut pids = Vec::new();
    for number in 0..CONTAINERS {
        let name = format!("memory-bench-{number}");
        site.watch.once(&Plan::of(&refs(&run(&name))))?;
        cleanup.later(verb(&["rm", "-f", &name]));
        let words = verb(&["inspect", "--format", "{{.State.Pid}}", &name]);
        let pid = sh::text(std::process::Command::new(&words[0]).args(&words[1..]))?;
        pids.push(pid.trim().parse()?);
    }
    let (who, memory) = parents(&pids)?;
    Ok(Stays { who, memory: Some(memory) })
}

/// The program that is the parent of these processes, and the mean of its processes' memory.
pub(super) fn parents(pids: &[u32]) -> Result<(String, Memory)> {
    let mut parents = BTreeMap::new();
    for pid in pids {
        let parent = parent_of(&fs::read_to_string(format!("/proc/{pid}/stat"))?);
        let parent = parent.with_context(|| format!("/proc/{pid}/stat is not as proc(5) says"))?;
        parents.insert(parent, Memory::of(format!("/proc/{parent}"))?);
    }
    let first = parents.keys().next().context("no container runs")?;
    let who = fs::read_to_string(format!("/proc/{first}/comm"))?.trim().to_owned();
    let count = parents.len() as u64;
    let mean = |of: fn(&Memory) -> u64| parents.values().map(of).sum::<u64>() / count;
    let memory = Memory {
        resident: mean(|memory| memory.resident),
        share: mean(|memory| memory.share),
        private: mean(|memory| memory.private),
    };
    Ok((who, memory))
}

/// The fourth word, counted behind the name, in which anything can be.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

impl Memory {
    /// Of a process's directory in /proc (`smaps_rollup`, Linux 4.14).
    fn of(process: impl AsRef<Path>) -> Result<Memory> {
        let file = process.as_ref().join("smaps_rollup");
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Memory::parse(&text))
    }

    fn parse(text: &str) -> Memory {
        let of = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Memory {
            resident: of("Rss:"),
            share: of("Pss:"),
            private: of("Private_Clean:") + of("Private_Dirty:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_read() {
        let text = "0-1 ---p [rollup]\nRss:   100 kB\nPss:    60 kB\nPss_Dirty: 9 kB\n\
                    Private_Clean:  10 kB\nPrivate_Dirty:  40 kB\n";
        assert_eq!(Memory::parse(text), Memory { resident: 100, share: 60, private: 50 });
        let own = Memory::of("/proc/self").unwrap();
        assert!(own.private > 0 && own.private <= own.resident, "{own:?}");
    }

    #[test]
    fn a_parent_is_found_whatever_its_child_is_called() {
        assert_eq!(parent_of("7 (a) b) S 3 7 7 0"), Some(3));
        assert_eq!(parent_of("7 (a"), None);
    }
}
