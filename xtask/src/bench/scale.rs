//! Many containers that run: what the last of them costs beside the first, and what all of them cost a look and an end.

use anyhow::{Context, Result};

use super::bundle::IMAGE;
use super::measure::{Series, Taken};
use super::memory;
use super::site::{Site, refs};
use super::stopwatch::{Plan, Rounds};
use super::table::Table;
use crate::sh;

/// So many at each end are compared.
const ENDS: usize = 50;

/// How often they are listed.
const LISTS: usize = 20;

/// How one program makes, lists and removes them. `{}` is the number of each.
struct Way {
    name: String,
    start: Vec<String>,
    list: Vec<String>,
    remove: Vec<String>,
    note: String,
}

/// Measures one program after the other, with `options.containers` each.
pub(super) fn run(site: &Site<'_>) -> Result<Table> {
    let count = site.options.containers;
    let title = format!("scale, {count} running containers");
    let head = [
        "command",
        "start ms, first",
        "last",
        "last / first",
        "list ms",
        "remove, each ms",
        "stays MB",
        "note",
    ];
    let mut table = Table::new(&title, &head);
    for way in ways(site) {
        let mut row = vec![way.name.clone()];
        match measure(site, &way, count) {
            Ok(numbers) => row.extend(numbers),
            // A peer that fails is told as such, and hinders nothing.
            Err(error) => {
                eprintln!("{error:#}");
                row.resize(head.len() - 1, "–".to_owned());
                row.push("does not go here".to_owned());
                table.row(row);
                continue;
            }
        }
        row.push(way.note);
        table.row(row);
    }
    Ok(table)
}

fn ways(site: &Site<'_>) -> Vec<Way> {
    let own = |words: &[&str]| site.bundles.engine(words);
    let mut ways = vec![Way {
        name: "runtime-bin".to_owned(),
        start: own(&["run", "-d", "--name", "many-{}", IMAGE, "sleep", "3600"]),
        list: own(&["ps"]),
        remove: own(&["rm", "-f", "many-{}"]),
        note: String::new(),
    }];
    for runtime in &site.runtimes {
        let (start, note) = runtime.make(&["run", "--detach"], &site.bundles.stay, "many-{}");
        ways.push(Way {
            name: runtime.name.to_owned(),
            start,
            list: runtime.words(&["list"]),
            remove: runtime.words(&["delete", "--force", "many-{}"]),
            note: note.to_owned(),
        });
    }
    ways
}

fn measure(site: &Site<'_>, way: &Way, count: usize) -> Result<Vec<String>> {
    let wall = |taken: &Taken| taken.wall * 1e3;
    let each = |words: &[String], rounds: usize| -> Result<Series> {
        let how = Rounds::InTurns { rounds, warm_up: 0 };
        let series = site.watch.run(&[&Plan::of(&refs(words))], how)?;
        series.into_iter().next().context("nothing was timed")
    };
    let started = each(&way.start, count);
    let listed = started.as_ref().ok().map(|_| each(&way.list, LISTS));
    let stays = (way.name == "runtime-bin").then(|| stays(site));
    // What was started has to go, also when not all were.
    let removed = each(&way.remove, count);
    let (started, removed) = (started?, removed?);
    let (first, last) = started.ends(ENDS.min(count / 2).max(1));
    let (first, last) = (first.median(wall), last.median(wall));
    let listed = listed.transpose()?.map_or(0.0, |series| series.median(wall));
    let mut row = [first, last, last / first, listed, removed.median(wall)]
        .map(|number| format!("{number:.2}"));
    row[3] = format!("{listed:.1}");
    let mut row = row.to_vec();
    row.push(match stays.transpose()? {
        Some(mb) => format!("{mb:.2} private, each"),
        None => "nothing".to_owned(),
    });
    Ok(row)
}

/// The private memory of all supervising processes, the mean, MB.
fn stays(site: &Site<'_>) -> Result<f64> {
    let words = |words: &[&str]| site.bundles.engine(words);
    let text =
        |words: Vec<String>| sh::text(std::process::Command::new(&words[0]).args(&words[1..]));
    let ids = text(words(&["ps", "-q"]))?;
    let mut inspect = vec!["inspect", "--format", "{{.State.Pid}}"];
    inspect.extend(ids.lines());
    let pids = text(words(&inspect))?;
    let pids = pids.lines().map(|line| Ok(line.parse()?)).collect::<Result<Vec<u32>>>()?;
    let (_, memory) = memory::parents(&pids)?;
    Ok(memory.private as f64 * 1.024 / 1e3)
}
