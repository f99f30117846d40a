//! `stats`: what containers use.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use engine::{ContainerStats, Engine, Error};
use serde_json::json;

use crate::format::size;
use crate::listing::{Listing, Row, printable};
use crate::output;

/// Between two looks: as Docker.
const PAUSE: Duration = Duration::from_secs(1);
/// Clears the terminal.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(crate) const LISTING: Listing<'_> = Listing {
    default: "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    headings: &[
        ("Container", "container"),
        ("ID", "container id"),
        ("Name", "name"),
        ("CPUPerc", "cpu %"),
        ("MemUsage", "mem usage / limit"),
        ("MemPerc", "mem %"),
        ("NetIO", "net i/o"),
        ("BlockIO", "block i/o"),
        ("PIDs", "pids"),
    ],
};

/// `stats`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct StatsArgs {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Names or ids of containers; without any, all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn stats(root: &Path, args: &StatsArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    // A name that there is not is told before anything is shown.
    for name in &args.containers {
        engine.container(name)?;
    }
    let mut before = look(&engine, args)?;
    loop {
        std::thread::sleep(PAUSE);
        let now = look(&engine, args)?;
        let row = |(typed, stats): &(String, ContainerStats)| {
            let earlier = before.iter().find(|(_, other)| other.id == stats.id);
            row(typed, stats, earlier.map(|(_, stats)| stats), args.no_trunc)
        };
        let rows: Vec<Row> = now.iter().map(row).collect();
        let text = LISTING.text(args.format.as_deref(), &rows)?;
        if args.no_stream {
            output::print(&text)?;
            return Ok(0);
        }
        output::print(&format!("{CLEAR}{text}"))?;
        if !args.containers.is_empty() && now.is_empty() {
            return Ok(0);
        }
        before = now;
    }
}

/// The containers meant, by the words that name them, and their numbers now. One that has gone is left out.
fn look(engine: &Engine, args: &StatsArgs) -> anyhow::Result<Vec<(String, ContainerStats)>> {
    let names: Vec<String> = match args.containers.is_empty() {
        false => args.containers.clone(),
        true => {
            let all = engine.list()?.into_iter();
            let wanted = all.filter(|(_, state)| args.all || state.status.runs());
            wanted.map(|(container, _)| container.id).collect()
        }
    };
    let mut found = Vec::new();
    for name in names {
        match engine.stats(&name) {
            Ok(stats) => found.push((name, stats)),
            Err(Error::NoSuchContainer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// What is shown of a container, by Docker's names.
fn row(typed: &str, now: &ContainerStats, before: Option<&ContainerStats>, whole: bool) -> Row {
    let id = if whole { &now.id } else { now.id.get(..12).unwrap_or(&now.id) };
    let memory = now.used.as_ref().and_then(|used| used.memory.as_ref());
    // What is cached and not used lately can be had back at no cost: as Docker.
    let used = memory.map_or(0, |memory| memory.usage.saturating_sub(memory.inactive_file));
    let limit = if now.used.is_some() { now.memory_limit } else { 0 };
    let io = now.used.iter().flat_map(|used| &used.io);
    let (read, written) =
        io.fold((0, 0), |(read, written), io| (read + io.read_bytes, written + io.write_bytes));
    let pids = now.used.as_ref().and_then(|used| used.pids).map_or(0, |pids| pids.current);
    let part = |used: u64, of: u64| if of == 0 { 0.0 } else { used as f64 / of as f64 * 100.0 };
    Row::new(json!({
        "Container": printable(typed),
        "ID": id,
        "Name": printable(&now.name),
        "CPUPerc": format!("{:.2}%", processors(now, before)),
        "MemUsage": format!("{} / {}", binary(used), binary(limit)),
        "MemPerc": format!("{:.2}%", part(used, limit)),
        "NetIO": format!("{} / {}", size(now.network.0), size(now.network.1)),
        "BlockIO": format!("{} / {}", size(read), size(written)),
        "PIDs": pids.to_string(),
    }))
}

/// Of one processor's time since the last look, percent.
fn processors(now: &ContainerStats, before: Option<&ContainerStats>) -> f64 {
    let (Some(used), Some(before)) = (&now.used, before) else { return 0.0 };
    let Some(earlier) = &before.used else { return 0.0 };
    let passed = now.at.saturating_duration_since(before.at).as_nanos() as f64;
    let spent = used.cpu.usage_ns.saturating_sub(earlier.cpu.usage_ns) as f64;
    if passed > 0.0 { spent / passed * 100.0 } else { 0.0 }
}

/// `1.5MiB`, four digits at most, as Docker writes memory.
fn binary(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        value if value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_four_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (10 << 20, "10MiB"),
            (24 << 30, "24GiB"),
            ((1 << 20) + 234_567, "1.224MiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
    }
}
