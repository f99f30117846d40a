//! `volume`: named volumes of the store.

use std::path::Path;

use clap::{Args, Subcommand};
use engine::{Engine, Error, VolumeView};
use serde_json::json;

use crate::filter::Filters;
use crate::format::size;
use crate::inspect::{self, InspectKindArgs, Kind};
use crate::lazy::Lazy;
use crate::listing::{Listing, Row, labels_text, printable};
use crate::output;
use crate::prune::{self, Confirm};
use crate::several::each;

pub(crate) const LISTING: Listing<'_> = Listing {
    default: "table {{.Driver}}\t{{.Name}}",
    headings: &[
        ("Driver", "driver"),
        ("Name", "volume name"),
        ("Scope", "scope"),
        ("Mountpoint", "mountpoint"),
        ("Labels", "labels"),
        ("Links", "links"),
        ("Size", "size"),
        ("Availability", "availability"),
        ("Group", "group"),
        ("Status", "status"),
    ],
};

/// `volume`
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// Create a volume
    Create(Lazy<CreateArgs>),
    /// Display detailed information on one or more volumes
    Inspect(Lazy<InspectKindArgs>),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(Lazy<LsArgs>),
    /// Remove unused local volumes
    Prune(Lazy<PruneArgs>),
    /// Remove one or more volumes
    #[command(visible_alias = "remove")]
    Rm(Lazy<RmArgs>),
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CreateArgs {
    /// Specify volume driver name: local
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "list", allow_hyphen_values = true)]
    label: Vec<String>,
    /// Set driver specific options: the driver local has none here
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Its name; without, one is made up
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct LsArgs {
    /// Provide filter values: dangling, driver, label, name
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PruneArgs {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    confirm: Confirm,
    /// Provide filter values: label=KEY, label=KEY=VALUE, all
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RmArgs {
    /// Do not complain of volumes that are not there
    #[arg(short, long)]
    force: bool,
    /// Names of volumes
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

pub(crate) fn volume(root: &Path, verb: &VolumeVerb) -> anyhow::Result<u8> {
    match verb {
        VolumeVerb::Create(args) => create(root, args),
        VolumeVerb::Inspect(args) => inspect::of_kind(root, Kind::Volume, args),
        VolumeVerb::Ls(args) => ls(root, args),
        VolumeVerb::Prune(args) => prune(root, args),
        VolumeVerb::Rm(args) => {
            let engine = Engine::open(root)?;
            each(&args.names, |name| match engine.remove_volume(name) {
                Err(Error::NoSuchVolume { .. }) if args.force => Ok(()),
                result => result,
            })
        }
    }
}

fn create(root: &Path, args: &CreateArgs) -> anyhow::Result<u8> {
    if args.driver != "local" {
        anyhow::bail!("there is no volume driver {:?}: there is local only", args.driver);
    }
    if let Some(option) = args.opt.first() {
        anyhow::bail!(
            "the driver local has no options here ({option:?}): mount it on the host, and use it as \
             a bind mount"
        );
    }
    let name = args.name.as_deref().filter(|name| !name.is_empty());
    let volume = Engine::open(root)?.create_volume(name, &args.label)?;
    output::print(&format!("{}\n", volume.name))?;
    Ok(0)
}

fn ls(root: &Path, args: &LsArgs) -> anyhow::Result<u8> {
    let filters = Filters::parse(&args.filter, &["dangling", "driver", "label", "name"])?;
    let dangling = filters.truth("dangling")?;
    let engine = Engine::open(root)?;
    let mut rows = Vec::new();
    for volume in engine.volumes()? {
        if let Some(dangling) = dangling
            && engine.volume_users(&volume.name)?.is_empty() != dangling
        {
            continue;
        }
        if filters.any("driver", |driver| driver == "local")
            && filters.any("name", |name| volume.name.contains(name))
            && filters.labels(&volume.labels)
        {
            rows.push(row(&volume, None));
        }
    }
    let format = if args.quiet { Some("{{.Name}}") } else { args.format.as_deref() };
    LISTING.print(format, &rows)
}

/// What is shown of a volume, by Docker's names; with its size and users where they are known.
pub(crate) fn row(volume: &VolumeView, usage: Option<(u64, usize)>) -> Row {
    let (bytes, links) = match usage {
        Some((bytes, links)) => (size(bytes), links.to_string()),
        None => ("N/A".to_owned(), "N/A".to_owned()),
    };
    let fields = json!({
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": labels_text(&volume.labels),
        "Links": links,
        "Mountpoint": printable(&volume.path.to_string_lossy()),
        "Name": volume.name,
        "Scope": "local",
        "Size": bytes,
        "Status": "N/A",
    });
    let labels = volume.labels.iter().map(|(key, value)| (key.clone(), printable(value))).collect();
    Row { fields, labels }
}

fn prune(root: &Path, args: &PruneArgs) -> anyhow::Result<u8> {
    let filters = Filters::parse(&args.filter, &["all", "label", "label!"])?;
    let all = args.all || filters.truth("all")? == Some(true);
    let which = if all { "all local volumes" } else { "anonymous local volumes" };
    let question = format!("This will remove {which} not used by at least one container.");
    if !args.confirm.ask(&question)? {
        return Ok(0);
    }
    let chosen =
        |volume: &VolumeView| (all || volume.anonymous) && prune::labels(&filters, &volume.labels);
    let pruned = Engine::open(root)?.prune_volumes(chosen)?;
    prune::report(&[("Deleted Volumes:", &pruned)])
}
