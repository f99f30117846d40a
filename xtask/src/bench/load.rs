//! `load` of an image beside the peers, and beside the work that cannot be saved.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::measure::{self, Series, Taken};
use super::peers::Peer;
use super::table::Table;
use super::{Built, Options};
use crate::images::Format;

/// The work that every load has, each done alone and by the fastest means known, on one thread.
const LIMITS: [&str; 3] = ["decode", "hash", "create"];

/// One line of the table.
struct Line {
    what: String,
    series: Series,
    note: String,
}

/// Loads `image` in `format` by all, in turns, as often as is asked for.
pub(super) fn run(options: &Options, built: &Built, image: &str, format: Format) -> Result<Table> {
    let archive = options.image(image, format);
    // Files are created from the plain archive: what decoding costs is counted apart.
    let plain = options.image(image, Format::DockerLegacy);
    let mut ours = vec![
        ("runtime-bin load", Vec::new(), "on the disk later: when the kernel writes it"),
        ("runtime-bin load --durable", vec!["--durable"], "on the disk"),
        ("runtime-bin load --layer-form index", vec!["--layer-form=index"], "not unpacked"),
    ];
    if format == Format::DockerLegacy {
        ours.push(("runtime-bin load --in-place", vec!["--in-place"], "not even copied"));
    }
    let own = ours.len();
    let mut lines: Vec<Line> = Vec::new();
    for (what, _, note) in &ours {
        lines.push(Line {
            what: (*what).to_owned(),
            series: Series::default(),
            note: (*note).to_owned(),
        });
    }
    let peers: Vec<Peer> = options.peers.clone();
    for peer in &peers {
        let note = match peer.is_there() {
            true => "not synced",
            false => "not installed",
        };
        let (what, note) = (peer.name().to_owned(), note.to_owned());
        lines.push(Line { what, series: Series::default(), note });
    }
    let mut limits: Vec<Series> = LIMITS.map(|_| Series::default()).into();
    for round in 0..options.rounds {
        for (number, (_, words, _)) in ours.iter_mut().enumerate() {
            let root = options.fresh();
            let mut command = Command::new(&built.program);
            command.arg("--root").arg(&root).args(["load", "-q", "-i"]).arg(&archive);
            command.args(&*words);
            lines[number].series.push(timed(options, &archive, &command)?);
        }
        for (limit, series) in LIMITS.iter().zip(&mut limits) {
            series.push(alone(options, built, limit, &archive, &plain)?);
        }
        if round >= options.peer_rounds {
            continue;
        }
        for (number, peer) in peers.iter().enumerate() {
            let line = &mut lines[own + number];
            if !peer.is_there() {
                continue;
            }
            let root = options.fresh();
            let Some(ready) = peer.prepare(&archive, format, &root)? else {
                line.note = "does not read this format".to_owned();
                continue;
            };
            // A peer that refuses an archive is told as such, and hinders nothing.
            match timed(options, &archive, &ready.command) {
                Ok(taken) => line.series.push(taken),
                Err(error) => {
                    eprintln!("{error:#}");
                    line.note = "refuses the archive".to_owned();
                }
            }
            if ready.has_daemon() && !line.series.is_empty() {
                line.note = "not synced; its daemon's CPU and memory are not in the figures".into();
            }
        }
    }
    Ok(table(options, image, format, &lines, &limits))
}

/// One part of the work. What is compressed is hashed twice: as it is stored, and decoded.
fn alone(
    options: &Options,
    built: &Built,
    limit: &str,
    archive: &Path,
    plain: &Path,
) -> Result<Taken> {
    let on = |archive: &Path| {
        let mut command = Command::new(&built.limit);
        command.arg(limit).arg(archive);
        if limit == "create" {
            command.arg(options.fresh());
        }
        timed(options, archive, &command)
    };
    match limit {
        "create" => on(plain),
        "hash" if archive != plain => {
            let (stored, decoded) = (on(archive)?, on(plain)?);
            Ok(Taken { cpu: stored.cpu + decoded.cpu, ..stored })
        }
        _ => on(archive),
    }
}

/// Runs a command with the archive in the page cache and nothing waiting to be written.
pub(super) fn timed(options: &Options, archive: &Path, command: &Command) -> Result<Taken> {
    let mut file = File::open(archive)
        .with_context(|| format!("cannot read the image {}", archive.display()))?;
    io::copy(&mut file, &mut io::sink())?;
    rustix::fs::sync();
    measure::run(command, &options.scratch.join("time"))
}

fn table(
    options: &Options,
    image: &str,
    format: Format,
    lines: &[Line],
    limits: &[Series],
) -> Table {
    let wall = |taken: &Taken| taken.wall;
    let cpu = |taken: &Taken| taken.cpu;
    let ours = lines[0].series.median(wall);
    let size = fs::metadata(options.image(image, format)).map_or(0, |file| file.len());
    let title = format!("load, {image}, {} ({} MB)", format.name(), size / 1_000_000);
    let mut table = Table::new(
        &title,
        &["command", "wall s", "least", "most", "times ours", "CPU s", "memory MB", "note"],
    );
    for Line { what, series, note } in lines {
        let mut row = vec![what.clone()];
        if series.is_empty() {
            row.extend(["–"; 6].map(str::to_owned));
        } else {
            row.extend([
                format!("{:.2}", series.median(wall)),
                format!("{:.2}", series.least(wall)),
                format!("{:.2}", series.most(wall)),
                format!("{:.1}", series.median(wall) / ours),
                format!("{:.2}", series.median(cpu)),
                format!("{:.0}", series.most(|taken| taken.memory)),
            ]);
        }
        row.push(note.clone());
        table.row(row);
    }
    let mut total = 0.0;
    let mut parts = Vec::new();
    for (name, series) in LIMITS.iter().zip(limits) {
        total += series.median(cpu);
        parts.push(format!("{name} {:.2}", series.median(cpu)));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let limit = total / cores;
    let mut row = vec!["the limit".to_owned(), format!("{limit:.2}")];
    row.extend(["", ""].map(str::to_owned));
    row.extend([format!("{:.2}", limit / ours), format!("{total:.2}"), String::new()]);
    row.push(format!("CPU s alone, by {cores} processors: {}", parts.join(", ")));
    table.row(row);
    table
}

impl Options {
    /// Where an image of the benchmark is.
    pub(super) fn image(&self, image: &str, format: Format) -> PathBuf {
        self.images.join(format!("{image}.{}.tar", format.name()))
    }
}
