//! Starts per second: one after the other, and on all processors at once.

use anyhow::Result;

use super::bundle::{IMAGE, PROGRAM, text_of};
use super::site::{Site, refs};
use super::stopwatch::{Plan, Rounds};
use super::table::Table;

/// Measures one program after the other.
pub(super) fn run(site: &Site<'_>) -> Result<Table> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let title = format!("parallel starts, {jobs} processors");
    let head = ["command", "a second, one by one", &format!("{jobs} at once"), "times", "note"];
    let mut table = Table::new(&title, &head);
    for (name, words, note, seldom) in commands(site) {
        let plan = Plan::of(&refs(&words));
        let rounds = if seldom { site.options.starts.div_ceil(6) } else { site.options.starts };
        let rate = |jobs: usize| -> Result<f64> {
            let series = site.watch.run(&[&plan], Rounds::Together { jobs, rounds })?;
            let took = series.first().map_or(f64::NAN, |series| series.median(|taken| taken.wall));
            Ok((jobs * rounds) as f64 / took)
        };
        match (site.watch.once(&plan).and_then(|_| rate(1)), rate(jobs)) {
            (Ok(one), Ok(all)) => table.row(vec![
                name,
                format!("{one:.1}"),
                format!("{all:.1}"),
                format!("{:.2}", all / one),
                note,
            ]),
            // A peer that fails is told as such, and hinders nothing.
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("{error:#}");
                let dashes = ["–"; 3].map(str::to_owned);
                let mut row = vec![name];
                row.extend(dashes);
                row.push("does not go here".to_owned());
                table.row(row);
            }
        }
    }
    Ok(table)
}

/// Name, words, note, and whether it takes a hundred times as long.
fn commands(site: &Site<'_>) -> Vec<(String, Vec<String>, String, bool)> {
    let bundles = &site.bundles;
    let all = [&bundles.groups[..], &bundles.group_mounts, &site.limits];
    let words = site.floor(&["run"], &all, &[&text_of(&bundles.rootfs), PROGRAM]);
    let mut commands = vec![("the floor".to_owned(), words, String::new(), false)];
    // With two of youki (0.7.0) at once the benchmark was killed, and the shell that it was called from: both times that
    // it was tried, and not without it.
    for runtime in site.runtimes.iter().filter(|runtime| runtime.name != "youki") {
        let (words, note) = runtime.make(&["run"], &bundles.run, "at-once-{}");
        commands.push((format!("{} run", runtime.name), words, note.to_owned(), false));
    }
    let words = bundles.engine(&["run", "--rm", IMAGE, PROGRAM]);
    commands.push(("runtime-bin run --rm".to_owned(), words, String::new(), false));
    for engine in site.engines() {
        if let Some(words) = engine.run(&[], &[PROGRAM]) {
            let name = format!("{} run --rm", engine.peer.program());
            commands.push((name, words, engine.peer.note().to_owned(), true));
        }
    }
    commands
}
