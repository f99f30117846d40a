//! `run` of an archive, from the file to the end of a process, beside the peers, and beside the hash of the archive's
//! layers, which a start from an archive that was verified cannot undercut.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::load::timed;
use super::measure::{Series, Taken};
use super::peers::Peer;
use super::table::Table;
use super::{Built, Options};
use crate::images::Format;
use crate::sh;

/// What is run: it is in all images, and does nothing.
const PROGRAM: &str = "/bin/true";

/// How the layers are kept: title, and options.
const FORMS: [(&str, &[&str]); 3] = [
    ("in place", &["--in-place"]),
    ("copied", &["--layer-form=index"]),
    ("unpacked", &["--layer-form=dir"]),
];

/// What is measured of each form: the first time, again, and a container that is prepared.
#[derive(Default)]
struct Ours {
    first: Series,
    second: Series,
    start: Series,
}

/// One of the peers: a load, and where it runs containers one of them.
struct Theirs {
    peer: Peer,
    series: Series,
    note: String,
}

/// Runs the docker-archive of `image` by all, in turns, as often as is asked for.
pub(super) fn run(options: &Options, built: &Built, image: &str) -> Result<Table> {
    let archive = options.image(image, Format::DockerLegacy);
    let mut ours: Vec<Ours> = FORMS.iter().map(|_| Ours::default()).collect();
    let theirs = options.peers.iter().filter(|peer| {
        matches!(peer, Peer::Podman | Peer::Docker | Peer::Skopeo) && peer.is_there()
    });
    let theirs =
        theirs.map(|peer| Theirs { peer: *peer, series: Series::default(), note: String::new() });
    let mut theirs: Vec<Theirs> = theirs.collect();
    let mut hash = Series::default();
    for round in 0..options.rounds {
        let mut limit = Command::new(&built.limit);
        hash.push(timed(options, &archive, limit.arg("hash-at-once").arg(&archive))?);
        for ((_, words), ours) in FORMS.iter().zip(&mut ours) {
            one(options, built, &archive, words, ours)?;
        }
        for theirs in theirs.iter_mut().filter(|_| round < options.peer_rounds) {
            match other(options, theirs.peer, &archive, image) {
                Ok((taken, runs)) => {
                    theirs.series.push(taken);
                    if !runs {
                        theirs.note = "its load alone: its run fails here".to_owned();
                    }
                }
                // A peer that fails is told as such, and hinders nothing.
                Err(error) => {
                    eprintln!("{error:#}");
                    theirs.note = "fails here".to_owned();
                }
            }
        }
    }
    Ok(table(image, &hash, &ours, &theirs))
}

/// One round of a form, in a store of its own.
fn one(
    options: &Options,
    built: &Built,
    archive: &Path,
    words: &[&str],
    ours: &mut Ours,
) -> Result<()> {
    let root = options.fresh();
    let command = |verb: &str| {
        let mut command = Command::new(&built.program);
        command.arg("--root").arg(&root).arg(verb);
        command
    };
    let of_archive = |verb: &str| {
        let mut command = command(verb);
        command.arg("--rm").args(["--entrypoint", PROGRAM]).args(words).arg(archive);
        command
    };
    ours.first.push(timed(options, archive, &of_archive("run"))?);
    ours.second.push(timed(options, archive, &of_archive("run"))?);
    let id = sh::text(&mut of_archive("create"))?;
    ours.start.push(timed(options, archive, command("start").args(["-a", id.trim()]))?);
    Ok(())
}

/// One round of a peer: a load, and a process of the image, if that goes on this machine.
fn other(options: &Options, peer: Peer, archive: &Path, image: &str) -> Result<(Taken, bool)> {
    let root = options.fresh();
    let ready = peer.prepare(archive, Format::DockerLegacy, &root)?;
    let ready = ready.with_context(|| format!("{} reads no such archive", peer.name()))?;
    let load = timed(options, archive, &ready.command)?;
    let name = format!("localhost/{image}:latest");
    let Some(run) = peer.run(&root, &name, PROGRAM) else { return Ok((load, true)) };
    let run = match timed(options, archive, &run) {
        Ok(run) => run,
        Err(error) => {
            eprintln!("{error:#}");
            return Ok((load, false));
        }
    };
    let both = Taken {
        wall: load.wall + run.wall,
        cpu: load.cpu + run.cpu,
        memory: load.memory.max(run.memory),
    };
    Ok((both, true))
}

fn table(image: &str, hash: &Series, ours: &[Ours], theirs: &[Theirs]) -> Table {
    let wall = |taken: &Taken| taken.wall;
    let limit = hash.median(wall);
    let head = ["command", "wall s", "least", "most", "of H", "in place", "copied", "MB", "note"];
    let mut table = Table::new(&format!("run, {image}, docker-legacy"), &head);
    let [in_place, copied] = [0, 1].map(|at| ours[at].first.median(wall));
    let mut add = |what: String, series: &Series, note: &str| {
        let mut row = vec![what];
        if series.is_empty() {
            row.extend(["–"; 7].map(str::to_owned));
        } else {
            let median = series.median(wall);
            row.extend([median, series.least(wall), series.most(wall)].map(|s| format!("{s:.3}")));
            row.extend([limit, in_place, copied].map(|of| format!("{:.2}", median / of)));
            row.push(format!("{:.0}", series.most(|taken| taken.memory)));
        }
        row.push(note.to_owned());
        table.row(row);
    };
    add("H".to_owned(), hash, "SHA-256 of all layers, on all processors");
    for ((title, words), ours) in FORMS.iter().zip(ours) {
        let command = format!("run {}", words.join(" "));
        add(format!("{command}, first"), &ours.first, title);
        add(format!("{command}, again"), &ours.second, title);
        add(format!("start, {title}"), &ours.start, "a container that is prepared");
    }
    for theirs in theirs {
        let (what, note) = match theirs.peer {
            Peer::Podman => ("podman load, run", ""),
            Peer::Docker => ("docker load, run", "its daemon's memory is not in the figure"),
            other => (other.name(), "nothing is run"),
        };
        let note = if theirs.note.is_empty() { note } else { &theirs.note };
        add(what.to_owned(), &theirs.series, note);
    }
    table
}
