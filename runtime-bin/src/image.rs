//! `tag`, `rmi`, and `image`, which has all verbs about images once more.

use std::path::Path;

use clap::{Args, Subcommand};
use engine::{Engine, Error, StoreError, StoredImage};

use crate::archive::SaveArgs;
use crate::cli::{LoadArgs, Verb};
use crate::commit::ImportArgs;
use crate::filter::Filters;
use crate::images::{self, HistoryArgs, ImagesArgs};
use crate::inspect::{self, InspectKindArgs, Kind};
use crate::lazy::Lazy;
use crate::output::{self, printable};
use crate::prune::{self, Confirm};
use crate::pull::PullArgs;

/// `image`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Show the history of an image
    History(Lazy<HistoryArgs>),
    /// Import the contents from a tarball to create a filesystem image
    Import(Lazy<ImportArgs>),
    /// Display detailed information on one or more images
    Inspect(Lazy<InspectKindArgs>),
    /// Load an image from a tar archive or STDIN
    Load(Lazy<LoadArgs>),
    /// List images
    #[command(visible_alias = "list")]
    Ls(Lazy<ImagesArgs>),
    /// Remove unused images
    Prune(Lazy<PruneArgs>),
    /// Download an image from a registry
    Pull(Lazy<PullArgs>),
    /// Remove one or more images
    #[command(visible_alias = "remove")]
    Rm(Lazy<RmiArgs>),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(Lazy<SaveArgs>),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(Lazy<TagArgs>),
}

impl ImageVerb {
    /// The same without `image`; what there is only with it stays.
    pub(crate) fn short(self) -> Verb {
        match self {
            ImageVerb::History(args) => Verb::History(args),
            ImageVerb::Import(args) => Verb::Import(args),
            ImageVerb::Load(args) => Verb::Load(args),
            ImageVerb::Ls(args) => Verb::Images(args),
            ImageVerb::Pull(args) => Verb::Pull(args),
            ImageVerb::Rm(args) => Verb::Rmi(args),
            ImageVerb::Save(args) => Verb::Save(args),
            ImageVerb::Tag(args) => Verb::Tag(args),
            only @ (ImageVerb::Inspect(_) | ImageVerb::Prune(_)) => Verb::Image(only.into()),
        }
    }
}

/// `tag`
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Name or id of an image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// Its new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

/// `rmi`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RmiArgs {
    /// Force removal: of all names of an image; one that a container is of loses only its names
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents: here there are none
    #[arg(long)]
    no_prune: bool,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `image prune`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PruneArgs {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    confirm: Confirm,
    /// Provide filter values: until=TIME, label=KEY, label=KEY=VALUE, label!=…
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
}

/// What there is with `image` only; the others were made short when they were read.
pub(crate) fn only(root: &Path, verb: &ImageVerb) -> anyhow::Result<u8> {
    match verb {
        ImageVerb::Inspect(args) => inspect::of_kind(root, Kind::Image, args),
        ImageVerb::Prune(args) => prune(root, args),
        _ => anyhow::bail!("this verb of image has a short form; use that"),
    }
}

pub(crate) fn tag(root: &Path, args: &TagArgs) -> anyhow::Result<u8> {
    Engine::open(root)?.tag(&args.source, &args.target)?;
    Ok(0)
}

/// Removes each, and prints what went; what failed is told at the end.
pub(crate) fn rmi(root: &Path, args: &RmiArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let (mut errors, mut failed) = (Vec::new(), false);
    for image in &args.images {
        match engine.remove_image(image, args.force) {
            Ok(removed) => {
                let untagged =
                    removed.untagged.iter().map(|tag| format!("Untagged: {}\n", printable(tag)));
                let deleted = removed.deleted.iter().map(|id| format!("Deleted: {id}\n"));
                output::print(&untagged.chain(deleted).collect::<String>())?;
            }
            Err(error) => {
                // As Docker: with -f it is no failure that there is nothing to remove.
                let missing = matches!(error, Error::Store(StoreError::NotFound { .. }));
                failed |= !(args.force && missing);
                errors.push(error.into());
            }
        }
    }
    for error in &errors {
        output::complain("runtime-bin", error);
    }
    Ok(u8::from(failed))
}

fn prune(root: &Path, args: &PruneArgs) -> anyhow::Result<u8> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let chosen = chosen(&filters, args.all)?;
    let warning = match args.all {
        true => "This will remove all images without at least one container associated to them.",
        false => "This will remove all dangling images.",
    };
    if !args.confirm.ask(warning)? {
        return Ok(0);
    }
    let mut pruned = Engine::open(root)?.prune_images(chosen)?;
    for id in &mut pruned.names {
        *id = format!("deleted: {id}");
    }
    prune::report(&[("Deleted Images:", &pruned)])
}

/// Which images the filters of a prune mean: those without a name, or `all`.
///
/// # Errors
/// A filter's value that is none.
pub(crate) fn chosen(
    filters: &Filters,
    all: bool,
) -> anyhow::Result<impl Fn(&StoredImage) -> bool> {
    let until = prune::until(filters)?;
    Ok(move |image: &StoredImage| {
        let old = until.is_none_or(|until| images::created(image).is_some_and(|time| time < until));
        (all || image.tags.is_empty()) && old && prune::labels(filters, &images::labels(image))
    })
}
