//! `system` and `info`: the store as a whole.

use std::path::Path;

use clap::{Args, Subcommand};
use engine::{DiskUsage, Engine};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::container::chosen;
use crate::events::EventsArgs;
use crate::filter::Filters;
use crate::format::{SHORT, duration, seconds_since, size};
use crate::lazy::Lazy;
use crate::listing::{Listing, Row, printable};
use crate::output;
use crate::prune::{self, Confirm};
use crate::template::render;
use crate::{events, ps, volume};

const DF: Listing<'_> = Listing {
    default: "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    headings: &[
        ("Type", "type"),
        ("TotalCount", "total"),
        ("Active", "active"),
        ("Size", "size"),
        ("Reclaimable", "reclaimable"),
    ],
};

/// `system`
#[derive(Debug, Subcommand)]
pub(crate) enum SystemVerb {
    /// Show disk usage
    Df(Lazy<DfArgs>),
    /// Get real time events from the store
    Events(Lazy<EventsArgs>),
    /// Display system-wide information
    Info(Lazy<InfoArgs>),
    /// Remove unused data
    Prune(Lazy<PruneArgs>),
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct DfArgs {
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", conflicts_with = "verbose")]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

/// `info`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct InfoArgs {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PruneArgs {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    confirm: Confirm,
    /// Provide filter values: until=TIME, label=KEY, label=KEY=VALUE, label!=…
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

pub(crate) fn system(root: &Path, verb: &SystemVerb) -> anyhow::Result<u8> {
    match verb {
        SystemVerb::Df(args) => df(root, args),
        SystemVerb::Events(args) => events::events(root, args),
        SystemVerb::Info(args) => info(root, args),
        SystemVerb::Prune(args) => prune(root, args),
    }
}

fn df(root: &Path, args: &DfArgs) -> anyhow::Result<u8> {
    let usage = Engine::open(root)?.disk_usage()?;
    if args.verbose {
        output::print(&verbose(&usage)?)?;
    } else {
        DF.print(args.format.as_deref(), &summary(&usage))?;
    }
    Ok(output::complain_of_each(&usage.damaged))
}

fn summary(usage: &DiskUsage) -> Vec<Row> {
    let row = |kind: &str, total: usize, active: usize, bytes: u64, reclaimable: u64| {
        let percent = match bytes {
            0 => String::new(),
            _ => format!(" ({}%)", u128::from(reclaimable) * 100 / u128::from(bytes)),
        };
        Row::new(json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": size(bytes),
            "Reclaimable": format!("{}{percent}", size(reclaimable)),
        }))
    };
    let images = usage.images.iter();
    let active = images.filter(|image| image.containers > 0).count();
    let running = usage.containers.iter().filter(|(_, state, _)| state.status.runs()).count();
    let (mut written, mut idle) = (0, 0);
    for (_, state, bytes) in &usage.containers {
        written += bytes;
        idle += if state.status.runs() { 0 } else { *bytes };
    }
    let used = usage.volumes.iter().filter(|(_, _, users)| *users > 0).count();
    let (mut stored, mut unused) = (0, 0);
    for (_, bytes, users) in &usage.volumes {
        stored += bytes;
        unused += if *users > 0 { 0 } else { *bytes };
    }
    vec![
        row("Images", usage.images.len(), active, usage.layers, usage.reclaimable_layers),
        row("Containers", usage.containers.len(), running, written, idle),
        row("Local Volumes", usage.volumes.len(), used, stored, unused),
        row("Build Cache", 0, 0, 0, 0),
    ]
}

/// A table for each kind of thing.
fn verbose(usage: &DiskUsage) -> anyhow::Result<String> {
    const IMAGES: Listing<'_> = Listing {
        default: "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
        headings: &[
            ("Repository", "repository"),
            ("Tag", "tag"),
            ("ID", "image id"),
            ("CreatedSince", "created"),
            ("Size", "size"),
            ("SharedSize", "shared size"),
            ("UniqueSize", "unique size"),
            ("Containers", "containers"),
        ],
    };
    let now = OffsetDateTime::now_utc();
    let mut images = Vec::new();
    for image in &usage.images {
        let age = image.image.created.as_deref().and_then(|time| seconds_since(time, now));
        let none = "<none>:<none>".to_owned();
        let tag = image.image.tags.first().unwrap_or(&none);
        let (repository, tag) = crate::images::split(tag);
        images.push(Row::new(json!({
            "Repository": printable(repository),
            "Tag": printable(tag),
            "ID": image.image.id.hex().chars().take(SHORT).collect::<String>(),
            "CreatedSince": age.map_or("N/A".to_owned(), |age| format!("{} ago", duration(age))),
            "Size": size(image.image.size),
            "SharedSize": size(image.shared),
            "UniqueSize": size(image.unique),
            "Containers": image.containers.to_string(),
        })));
    }
    let containers = usage.containers.iter();
    let containers: Vec<Row> = containers
        .map(|(container, state, bytes)| {
            let mut row = ps::row(container, state, None, false, now);
            row.fields["Size"] = size(*bytes).into();
            row
        })
        .collect();
    let volumes = usage.volumes.iter();
    let volumes: Vec<Row> =
        volumes.map(|(volume, bytes, users)| volume::row(volume, Some((*bytes, *users)))).collect();
    let container_table = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
    let volume_table = "table {{.Name}}\t{{.Links}}\t{{.Size}}";
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
         Build cache usage: 0B\n",
        IMAGES.text(None, &images)?,
        ps::LISTING.text(Some(container_table), &containers)?,
        volume::LISTING.text(Some(volume_table), &volumes)?,
    ))
}

pub(crate) fn info(root: &Path, args: &InfoArgs) -> anyhow::Result<u8> {
    let info = Engine::open(root)?.info()?;
    let text = match args.format.as_deref().filter(|format| !format.is_empty()) {
        Some("json") => info.to_string() + "\n",
        Some(format) => render(format, &info)? + "\n",
        None => info_text(&info),
    };
    output::print(&text)?;
    Ok(0)
}

/// As Docker's `info` is laid out.
fn info_text(info: &Value) -> String {
    let text = |key: &str| match &info[key] {
        Value::String(text) => output::printable(text),
        other => other.to_string(),
    };
    let memory = info["MemTotal"].as_u64().unwrap_or(0) as f64 / f64::from(1 << 30);
    let backing = &info["DriverStatus"][0][1];
    let lines = [
        ("Containers", text("Containers")),
        (" Running", text("ContainersRunning")),
        (" Paused", text("ContainersPaused")),
        (" Stopped", text("ContainersStopped")),
        ("Images", text("Images")),
        ("Server Version", text("ServerVersion")),
        ("Storage Driver", text("Driver")),
        (" Backing Filesystem", output::printable(backing.as_str().unwrap_or("unknown"))),
        ("Logging Driver", text("LoggingDriver")),
        ("Cgroup Driver", text("CgroupDriver")),
        ("Cgroup Version", text("CgroupVersion")),
        ("Default Runtime", text("DefaultRuntime")),
        ("Kernel Version", text("KernelVersion")),
        ("Operating System", text("OperatingSystem")),
        ("OSType", text("OSType")),
        ("Architecture", text("Architecture")),
        ("CPUs", text("NCPU")),
        ("Total Memory", format!("{memory:.3}GiB")),
        ("Name", text("Name")),
        ("Docker Root Dir", text("DockerRootDir")),
    ];
    lines.iter().map(|(name, value)| format!(" {name}: {value}\n")).collect()
}

fn prune(root: &Path, args: &PruneArgs) -> anyhow::Result<u8> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let containers = chosen(&filters)?;
    if args.volumes && filters.has("until") {
        anyhow::bail!("the filter until is not for volumes; leave it or --volumes out");
    }
    let mut warning = "This will remove:\n  - all stopped containers\n".to_owned();
    if args.volumes {
        warning += "  - all anonymous volumes not used by at least one container\n";
    }
    warning += match args.all {
        true => "  - all images without at least one container associated to them\n",
        false => "  - all dangling images\n",
    };
    if !args.confirm.ask(&warning)? {
        return Ok(0);
    }
    let engine = Engine::open(root)?;
    let gone = engine.prune_containers(containers)?;
    let volumes = match args.volumes {
        true => engine
            .prune_volumes(|volume| volume.anonymous && prune::labels(&filters, &volume.labels))?,
        false => engine::Pruned::default(),
    };
    let images = engine.prune_images(crate::image::chosen(&filters, args.all)?)?;
    prune::report(&[
        ("Deleted Containers:", &gone),
        ("Deleted Volumes:", &volumes),
        ("Deleted Images:", &images),
    ])
}
