//! `ps`: which containers there are.

use std::path::Path;

use clap::Args;
use engine::{Container, Engine, HealthStatus, State, Status};
use serde_json::json;
use time::OffsetDateTime;

use crate::filter::Filters;
use crate::format::{created_at, duration, seconds_since, size};
use crate::listing::{Listing, Row, labels_text, printable};

/// How much of a command is shown.
const COMMAND_MAX: usize = 20;
/// How much of a mount's source is shown.
const MOUNT_MAX: usize = 15;

const FILTERS: [&str; 12] = [
    "ancestor", "before", "exited", "health", "id", "is-task", "label", "name", "network", "since",
    "status", "volume",
];

pub(crate) const LISTING: Listing<'_> = Listing {
    default: "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    headings: &[
        ("ID", "container id"),
        ("Image", "image"),
        ("Command", "command"),
        ("CreatedAt", "created at"),
        ("RunningFor", "created"),
        ("Ports", "ports"),
        ("State", "state"),
        ("Status", "status"),
        ("Size", "size"),
        ("Names", "names"),
        ("Labels", "labels"),
        ("Mounts", "mounts"),
        ("LocalVolumes", "local volumes"),
        ("Networks", "networks"),
        ("Platform", "platform"),
    ],
};

/// `ps`
#[derive(Debug, Default, Args)]
#[command(args_override_self = true)]
pub(crate) struct PsArgs {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Filter output based on conditions provided: id, name, label, exited, status, ancestor,
    /// volume, before, since, health, network
    #[arg(short, long, value_name = "filter")]
    pub(crate) filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    pub(crate) format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", allow_negative_numbers = true, default_value_t = -1)]
    pub(crate) last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    pub(crate) size: bool,
}

pub(crate) fn ps(root: &Path, args: &PsArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let containers = chosen(&engine, args)?;
    let now = OffsetDateTime::now_utc();
    // What they hold is counted only where somebody wants to see it: that takes long.
    let sized = args.size || args.format.as_ref().is_some_and(|format| format.contains(".Size"));
    let mut rows = Vec::with_capacity(containers.len());
    for (container, state) in &containers {
        let size = match sized {
            true => engine.container_size(&container.id)?,
            false => None,
        };
        rows.push(row(container, state, size, args.no_trunc, now));
    }
    if args.quiet {
        return LISTING.print(Some("{{.ID}}"), &rows);
    }
    let with_size = format!("{}\t{{{{.Size}}}}", LISTING.default);
    let listing = match args.size {
        true => Listing { default: &with_size, ..LISTING },
        false => LISTING,
    };
    listing.print(args.format.as_deref(), &rows)
}

/// The containers that the arguments mean, the newest first.
fn chosen(engine: &Engine, args: &PsArgs) -> anyhow::Result<Vec<(Container, State)>> {
    let filters = Filters::parse(&args.filter, &FILTERS)?;
    let mut last = usize::try_from(args.last).ok().filter(|last| *last > 0);
    if args.latest {
        last = Some(1);
    }
    // Filters by state are about all containers.
    let by_state = ["status", "exited", "health"].iter().any(|key| filters.has(key));
    let all = args.all || by_state || last.is_some();
    let mut containers = engine.list()?;
    check(&filters)?;
    let created = |key: &str| -> anyhow::Result<Vec<String>> {
        filters.values(key).map(|text| Ok(engine.container(text)?.created)).collect()
    };
    let (before, since) = (created("before")?, created("since")?);
    let regexes = filters.values("name").map(regex_lite::Regex::new).collect::<Result<Vec<_>, _>>();
    let names = regexes.map_err(|error| anyhow::anyhow!("invalid filter name: {error}"))?;
    let ancestors: Vec<_> =
        filters.values("ancestor").map(|text| (text, engine.find_image(text).ok())).collect();
    containers.retain(|(container, state)| {
        (all || state.status.runs())
            && filters.any("id", |id| container.id.starts_with(id))
            && (names.is_empty() || names.iter().any(|name| is_named(name, container)))
            && filters.labels(&container.config.labels)
            && filters.any("status", |status| state.status.as_str() == status)
            && filters.any("exited", |code| {
                state.status == Status::Exited && code.parse() == Ok(state.exit_code)
            })
            && filters.any("volume", |volume| has_volume(container, volume))
            && filters.any("network", |network| container.host_config.network_mode == network)
            && filters.any("health", |health| {
                state.health.as_ref().map_or("none", |of| of.status.as_str()) == health
            })
            && filters.any("is-task", |task| task == "false")
            && before.iter().all(|before| container.created < *before)
            && since.iter().all(|since| container.created > *since)
            && (ancestors.is_empty()
                || ancestors.iter().any(|(text, image)| descends(container, text, image.as_ref())))
    });
    containers.truncate(last.unwrap_or(usize::MAX));
    Ok(containers)
}

/// As Docker: with the slash before the name, as `inspect` shows it, or without.
fn is_named(name: &regex_lite::Regex, container: &Container) -> bool {
    name.is_match(&container.name) || name.is_match(&format!("/{}", container.name))
}

/// Refuses values that can never be met.
fn check(filters: &Filters) -> anyhow::Result<()> {
    const STATES: [&str; 7] =
        ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
    for status in filters.values("status") {
        if !STATES.contains(&status) {
            anyhow::bail!("invalid filter 'status={status}': there are {}", STATES.join(", "));
        }
    }
    const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
    for health in filters.values("health") {
        if !HEALTH.contains(&health) {
            anyhow::bail!("invalid filter 'health={health}': there are {}", HEALTH.join(", "));
        }
    }
    for code in filters.values("exited") {
        if code.parse::<i32>().is_err() {
            anyhow::bail!("invalid filter 'exited={code}': write a number");
        }
    }
    Ok(())
}

/// Whether a volume of this name, or a mount with this source or target, is mounted.
fn has_volume(container: &Container, volume: &str) -> bool {
    container.mounts.iter().any(|mount| {
        mount.name.as_deref() == Some(volume)
            || mount.source == volume
            || mount.destination == volume
    })
}

/// Whether the container is of this image, or of one that was built upon it.
fn descends(container: &Container, text: &str, image: Option<&engine::StoredImage>) -> bool {
    let Some(image) = image else { return container.config.image == text };
    let top = image.layers.last().map(|layer| layer.chain_id);
    container.image == image.id.to_string()
        || top.is_some_and(|top| container.lowers.iter().any(|lower| lower.chain_id == top))
}

/// What is shown of a container, by Docker's names.
pub(crate) fn row(
    container: &Container,
    state: &State,
    sizes: Option<(u64, u64)>,
    whole: bool,
    now: OffsetDateTime,
) -> Row {
    let id = if whole { &container.id } else { container.short_id() };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| mount.name.as_ref().filter(|name| !name.is_empty()).unwrap_or(&mount.source))
        .map(|name| if whole { name.clone() } else { shortened(name, MOUNT_MAX) })
        .collect();
    let local = container.mounts.iter().filter(|mount| mount.driver.is_some()).count();
    let size = match sizes {
        Some((own, whole)) => format!("{} (virtual {})", size(own), size(whole)),
        None => "0B".to_owned(),
    };
    let labels = &container.config.labels;
    let fields = json!({
        "ID": id,
        "Image": printable(&container.config.image),
        "Command": command(container, whole),
        "CreatedAt": created_at(&container.created),
        "RunningFor": ago(&container.created, now),
        // Published ports: there are none without a network of the container's own.
        "Ports": "",
        "State": state.status.as_str(),
        "Status": status(state, now),
        "Size": size,
        "Names": printable(&container.name),
        "Labels": labels_text(labels),
        "Mounts": printable(&mounts.join(",")),
        "LocalVolumes": local.to_string(),
        "Networks": printable(&container.host_config.network_mode),
        "Platform": printable(&container.platform),
    });
    let labels = labels.iter().map(|(key, value)| (key.clone(), printable(value))).collect();
    Row { fields, labels }
}

/// `2 hours ago`
fn ago(time: &str, now: OffsetDateTime) -> String {
    seconds_since(time, now).map_or(String::new(), |seconds| format!("{} ago", duration(seconds)))
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`
fn status(state: &State, now: OffsetDateTime) -> String {
    match state.status {
        Status::Creating | Status::Created => "Created".to_owned(),
        Status::Restarting => {
            format!("Restarting ({}) {}", state.exit_code, ago(&state.finished_at, now))
        }
        Status::Running | Status::Paused => {
            let seconds = seconds_since(&state.started_at, now).unwrap_or(0);
            let health = match state.health.as_ref().map(|health| health.status) {
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            let paused = if state.status == Status::Paused { " (Paused)" } else { "" };
            format!("Up {}{health}{paused}", duration(seconds))
        }
        Status::Exited => {
            format!("Exited ({}) {}", state.exit_code, ago(&state.finished_at, now))
        }
        Status::Removing => "Removal In Progress".to_owned(),
    }
}

/// The program and its arguments in quotes, cut after 20 characters.
fn command(container: &Container, whole: bool) -> String {
    let mut text = container.path.clone();
    for arg in &container.args {
        let quotes = if arg.contains(' ') { "'" } else { "" };
        text = format!("{text} {quotes}{arg}{quotes}");
    }
    if !whole {
        text = shortened(&text, COMMAND_MAX);
    }
    format!("{text:?}")
}

/// At most so many characters, the last one a sign that some are missing.
fn shortened(text: &str, length: usize) -> String {
    match text.chars().count() > length {
        true => text.chars().take(length - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
