//! A start: from the command to the end of a program that does nothing.

use anyhow::Result;

use super::bundle::{IMAGE, PROGRAM, text_of};
use super::site::{Entry, Measured, Place, Site};
use super::svg::{self, Bar, Kind, Panel};
use super::table::Table;
use crate::images::Format;

/// What the entries do alike. All have new namespaces (PID, mount, IPC, UTS, network), proc, /dev, devpts, sysfs, mqueue,
/// shm, and pivot_root.
const PLAIN: &str = "namespaces and mounts";
const NO_CGROUP: &str = "the same, with seccomp, masks and capabilities";
const FULL: &str = "the same, with a cgroup: an OCI bundle";
const IMAGE_RUN: &str = "an image, by an engine";

/// Measures all, in turns.
pub(super) fn run(site: &Site<'_>) -> Result<Vec<Measured>> {
    let mut entries = vec![Entry::new(
        "",
        "the program alone",
        Place::Floor,
        &[text_of(&site.bundles.rootfs.join(PROGRAM.trim_start_matches('/')))],
    )];
    entries.extend(plain(site));
    entries.extend(bundles(site));
    entries.extend(engines(site));
    site.in_turns(entries, site.options.starts)
}

/// Without a filter and without a cgroup, as bubblewrap has it.
fn plain(site: &Site<'_>) -> Vec<Entry> {
    let bundles = &site.bundles;
    let rootfs = text_of(&bundles.rootfs);
    let of = |name: &str, place, words: &[String]| Entry::new(PLAIN, name, place, words);
    let mut entries = vec![
        of(
            "the floor",
            Place::Floor,
            &site.floor(&["run", "--host-cgroups"], &[], &[&rootfs, PROGRAM]),
        ),
        of(
            "oci-runtime, the library",
            Place::Ours,
            &[text_of(&site.built.run_a_bundle), text_of(&bundles.plain)],
        ),
    ];
    let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    if let Some(bwrap) = site.peer("bwrap") {
        let bwrap = text_of(&bwrap);
        let words = strings(&[
            &bwrap,
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-net",
            "--bind",
            &rootfs,
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--mqueue",
            "/dev/mqueue",
            "--tmpfs",
            "/dev/shm",
            PROGRAM,
        ]);
        entries.push(of("bubblewrap", Place::Peer, &words).note("without sysfs"));
    }
    if let Some(unshare) = site.peer("unshare") {
        let unshare = text_of(&unshare);
        let words = strings(&[
            &unshare,
            "--pid",
            "--fork",
            "--mount",
            "--ipc",
            "--uts",
            "--net",
            "--root",
            &rootfs,
            "--mount-proc",
            PROGRAM,
        ]);
        entries.push(
            of("unshare(1)", Place::Peer, &words).note("chroot, and of the mounts proc alone"),
        );
    }
    let bundle = text_of(&bundles.plain);
    for runtime in &site.runtimes {
        if let Some(words) = runtime.without_cgroup(&["run", "--bundle", &bundle, "plain-{}"]) {
            entries.push(of(&format!("{} run", runtime.name), Place::Peer, &words));
        }
    }
    entries
}

/// What Docker gives a container by default; of the OCI runtimes each has the same bundle.
fn bundles(site: &Site<'_>) -> Vec<Entry> {
    let bundles = &site.bundles;
    let rootfs = text_of(&bundles.rootfs);
    let mut entries = vec![
        Entry::new(
            NO_CGROUP,
            "the floor",
            Place::Floor,
            &site.floor(&["run", "--host-cgroups"], &[&site.limits], &[&rootfs, PROGRAM]),
        ),
        Entry::new(
            NO_CGROUP,
            "oci-runtime, the library",
            Place::Ours,
            &[text_of(&site.built.run_a_bundle), bundles.run.no_cgroup.clone()],
        )
        .note("compiles the filter each time"),
    ];
    let bundle = bundles.run.no_cgroup.clone();
    for runtime in &site.runtimes {
        if let Some(words) = runtime.without_cgroup(&["run", "--bundle", &bundle, "no-cgroup-{}"]) {
            entries.push(Entry::new(
                NO_CGROUP,
                &format!("{} run", runtime.name),
                Place::Peer,
                &words,
            ));
        }
    }
    let all = [&bundles.groups[..], &bundles.group_mounts, &site.limits];
    let words = site.floor(&["run"], &all, &[&rootfs, PROGRAM]);
    entries.push(Entry::new(FULL, "the floor", Place::Floor, &words));
    let bundle = &bundles.run.full;
    for runtime in &site.runtimes {
        let place = if runtime.is_ours() { Place::Ours } else { Place::Peer };
        let words = runtime.words(&["run", "--bundle", bundle, "full-{}"]);
        entries.push(Entry::new(FULL, &format!("{} run", runtime.name), place, &words));
    }
    entries
}

/// The same on an overlay of the image's layers, and with an engine's work around it: a name, a log, its record.
fn engines(site: &Site<'_>) -> Vec<Entry> {
    let bundles = &site.bundles;
    let overlay = [
        "--overlay".to_owned(),
        text_of(&bundles.rootfs),
        text_of(&site.options.scratch.join("overlay-{}")),
    ];
    let all = [&overlay[..], &bundles.groups, &bundles.group_mounts, &site.limits];
    let words = site.floor(&["run"], &all, &["-", PROGRAM]);
    let mut entries = vec![Entry::new(IMAGE_RUN, "the floor", Place::Floor, &words)];
    let words = bundles.engine(&["run", "--rm", IMAGE, PROGRAM]);
    entries.push(Entry::new(IMAGE_RUN, "runtime-bin run --rm", Place::Ours, &words));
    let archive = text_of(&site.options.image(IMAGE, Format::DockerLegacy));
    let words = bundles.engine(&["run", "--rm", &archive, PROGRAM]);
    let entry = Entry::new(IMAGE_RUN, "runtime-bin run --rm IMAGE.tar", Place::Ours, &words);
    entries.push(entry.note("the archive is in the store already"));
    for engine in site.engines() {
        if let Some(words) = engine.run(&[], &[PROGRAM]) {
            let name = format!("{} run --rm", engine.peer.program());
            let note = engine.peer.note();
            entries.push(Entry::new(IMAGE_RUN, &name, Place::Peer, &words).note(note).seldom());
        }
    }
    entries
}

/// A table for what each of the commands of `measured` took; `what` names the commands.
pub(super) fn table(title: &str, measured: &[Measured], what: &[&str]) -> Table {
    let mut head = vec!["work", "command"];
    for name in what {
        head.push(name);
    }
    let one = what.len() == 1;
    if one {
        head.extend(["p99", "CPU ms", "MB"]);
    }
    head.extend(["of the floor", "times ours", "note"]);
    let mut table = Table::new(title, &head);
    let mut before = "";
    for line in measured {
        let entry = &line.entry;
        let repeated = before == entry.work;
        before = entry.work;
        let mut row = vec![if repeated { String::new() } else { entry.work.to_owned() }];
        row.push(entry.name.clone());
        let of = |place: Place| {
            let same =
                |other: &&Measured| other.entry.work == entry.work && other.entry.place == place;
            measured.iter().find(same).and_then(Measured::total)
        };
        match &line.series {
            Ok(series) => {
                row.extend(
                    series.iter().map(|one| format!("{:.2}", one.median(|taken| taken.wall) * 1e3)),
                );
                if let ([series], true) = (&series[..], one) {
                    row.push(format!("{:.2}", series.quantile(0.99, |taken| taken.wall) * 1e3));
                    row.push(format!("{:.2}", series.mean(|taken| taken.cpu) * 1e3));
                    row.push(format!("{:.1}", series.most(|taken| taken.memory)));
                }
                for place in [Place::Floor, Place::Ours] {
                    let ratio = line.total().zip(of(place)).map(|(own, other)| own / other);
                    row.push(ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")));
                }
                row.push(entry.note.clone());
            }
            Err(error) => {
                row.resize(head.len() - 1, "–".to_owned());
                row.push(reason(error));
            }
        }
        table.row(row);
    }
    table
}

/// A picture of the figures, with `machine` below.
pub(super) fn picture(measured: &[Measured], machine: &str) -> String {
    let mut panels: Vec<Panel> = Vec::new();
    for line in measured.iter().filter(|line| !line.entry.work.is_empty()) {
        let Some(milliseconds) = line.total() else { continue };
        if panels.last().is_none_or(|panel| panel.title != line.entry.work) {
            panels.push(Panel { title: line.entry.work.to_owned(), bars: Vec::new() });
        }
        let kind = match line.entry.place {
            Place::Floor => Kind::Floor,
            Place::Ours => Kind::Ours,
            Place::Peer => Kind::Peer,
        };
        let bar = Bar { label: line.entry.name.clone(), milliseconds, kind };
        panels.last_mut().into_iter().for_each(|panel| panel.bars.push(bar.clone()));
    }
    svg::draw("From the command to the end of a program that does nothing", &panels, machine)
}

/// Why a peer does not go here, in short: its status and what it said.
fn reason(error: &anyhow::Error) -> String {
    let text = format!("{error:#}").replace(['\n', '|'], " ");
    let said = text.split_once(" failed with ").map_or(&text[..], |(_, said)| said);
    let short: String = said.chars().take(110).collect();
    format!("does not go here: {short}")
}

#[cfg(test)]
mod tests {
    use super::super::measure::{Series, Taken};
    use super::*;

    fn measured(name: &str, place: Place, wall: Option<f64>) -> Measured {
        let entry = Entry::new("w", name, place, &["/x".to_owned()]);
        let series = wall.map(|wall| {
            let mut series = Series::default();
            series.push(Taken { wall, cpu: wall / 2.0, memory: 1.0 });
            vec![series]
        });
        let series = series.ok_or_else(|| anyhow::anyhow!("`x` failed with status 1: no | here"));
        Measured { entry, series }
    }

    #[test]
    fn ratios_are_to_the_floor_and_to_ours() {
        let all = [
            measured("f", Place::Floor, Some(0.002)),
            measured("o", Place::Ours, Some(0.003)),
            measured("p", Place::Peer, Some(0.006)),
            measured("q", Place::Peer, None),
        ];
        let text = table("t", &all, &["median ms"]).to_string();
        let rows: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert!(rows[5].contains("| o | 3.00 | 3.00 | 1.50 | 1.0 | 1.50 | 1.00 | |"), "{text}");
        assert!(rows[6].contains("| p | 6.00 | 6.00 | 3.00 | 1.0 | 3.00 | 2.00 | |"), "{text}");
        assert!(rows[7].contains("| – | – | does not go here: status 1: no here |"), "{text}");
    }
}
