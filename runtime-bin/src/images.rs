//! `images` and `history`: which images there are, and how they were made.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{ArgAction, Args};
use engine::{Engine, HistoryEntry, Images, StoredImage};
use glob::{MatchOptions, Pattern};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::filter::Filters;
use crate::format::{SHORT, created_at, duration, seconds_since, size};
use crate::listing::{Listing, Row, printable};
use crate::output;

const NONE: &str = "<none>";
const UNKNOWN: &str = "N/A";
/// How much of a command is shown.
const COMMAND_MAX: usize = 45;
const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

const LISTING: Listing<'_> = Listing {
    default: "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    headings: &[
        ("Repository", "repository"),
        ("Tag", "tag"),
        ("Digest", "digest"),
        ("ID", "image id"),
        ("CreatedSince", "created"),
        ("CreatedAt", "created at"),
        ("Size", "size"),
        ("SharedSize", "shared size"),
        ("UniqueSize", "unique size"),
        ("VirtualSize", "virtual size"),
        ("Containers", "containers"),
    ],
};
const DIGESTS: &str =
    "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

const HISTORY: Listing<'_> = Listing {
    default: "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    headings: &[
        ("ID", "image"),
        ("CreatedSince", "created"),
        ("CreatedAt", "created at"),
        ("CreatedBy", "created by"),
        ("Size", "size"),
        ("Comment", "comment"),
    ],
};

/// `images`
#[derive(Debug, Default, Args)]
#[command(args_override_self = true)]
pub(crate) struct ImagesArgs {
    /// Show all images: here there are no intermediate ones that are hidden without it
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided: reference, dangling, label, before, since, until
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only images of this name; * and ? stand for any letters but '/'
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

/// `history`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct HistoryArgs {
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(
        short = 'H',
        long,
        value_name = "bool",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Name or id of an image
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub(crate) fn images(root: &Path, args: &ImagesArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let now = OffsetDateTime::now_utc();
    let mut rows = Vec::new();
    let images = chosen(&engine, args, now)?;
    for image in images.whole {
        let image = Image::from(image);
        rows.extend(image.names().map(|name| row(&image, name, args.no_trunc, now)));
    }
    let default = if args.digests { DIGESTS } else { LISTING.default };
    let format = args.format.as_deref().or(args.quiet.then_some("{{.ID}}"));
    let status = Listing { default, ..LISTING }.print(format, &rows)?;
    let damaged: Vec<String> = images.damaged.iter().map(ToString::to_string).collect();
    Ok(status.max(output::complain_of_each(&damaged)))
}

pub(crate) fn history(root: &Path, args: &HistoryArgs) -> anyhow::Result<u8> {
    let entries = Engine::open(root)?.history(&args.image)?;
    let now = OffsetDateTime::now_utc();
    let rows: Vec<Row> = entries.iter().map(|entry| step(entry, args, now)).collect();
    if args.quiet && args.format.is_none() {
        return HISTORY.print(Some("{{.ID}}"), &rows);
    }
    HISTORY.print(args.format.as_deref(), &rows)
}

/// When an image was made, where its configuration says so.
pub(crate) fn created(image: &StoredImage) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::parse(image.created.as_deref()?, &Rfc3339).ok()?;
    (time.year() > 1).then_some(time)
}

/// An image's labels.
pub(crate) fn labels(image: &StoredImage) -> BTreeMap<String, String> {
    let config = image.config.config().as_ref();
    config.and_then(|config| config.labels().clone()).unwrap_or_default().into_iter().collect()
}

/// `name` and `tag` of `name:tag`.
pub(crate) fn split(reference: &str) -> (&str, &str) {
    let (name, tag) = engine::split_reference(reference);
    (name, tag.unwrap_or(NONE))
}

/// The images that the arguments mean, with the names that they mean: the newest first, and those of
/// an unknown age last. All that are damaged are meant.
fn chosen(engine: &Engine, args: &ImagesArgs, now: OffsetDateTime) -> anyhow::Result<Images> {
    let filters = Filters::parse(&args.filter, &FILTERS)?;
    let references = args.reference.as_deref().into_iter().chain(filters.values("reference"));
    let patterns: Vec<Pattern> = references
        .map(|text| {
            Pattern::new(text)
                .map_err(|error| anyhow::anyhow!("invalid reference {text:?}: {error}"))
        })
        .collect::<Result<_, _>>()?;
    let dangling = filters.truth("dangling")?;
    let until = crate::prune::until(&filters)?;
    let time_of = |key: &str| -> anyhow::Result<Vec<Option<OffsetDateTime>>> {
        filters.values(key).map(|name| Ok(created(&engine.find_image(name)?))).collect()
    };
    let (before, since) = (time_of("before")?, time_of("since")?);
    let mut images = engine.images()?;
    images.whole.retain_mut(|image| {
        if !patterns.is_empty() {
            image.tags.retain(|tag| patterns.iter().any(|pattern| is_meant(pattern, tag)));
            if image.tags.is_empty() {
                return false;
            }
        }
        let time = created(image);
        dangling.is_none_or(|dangling| dangling == image.tags.is_empty())
            && filters.labels(&labels(image))
            && before.iter().all(|before| time < *before)
            && since.iter().all(|since| time > *since)
            && until.is_none_or(|until| time.is_some_and(|time| time < until))
    });
    images.whole.sort_by_key(|image| match created(image) {
        Some(time) => (now - time).max(time::Duration::ZERO),
        None => time::Duration::MAX,
    });
    Ok(images)
}

/// Whether a name matches, with its tag or without.
fn is_meant(pattern: &Pattern, tag: &str) -> bool {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    [tag, split(tag).0].iter().any(|name| pattern.matches_with(name, options))
}

/// What is shown of an image.
struct Image {
    /// Hexadecimal digits.
    id: String,
    tags: Vec<String>,
    /// Of an image that was pulled by its digest.
    repository: Option<String>,
    /// What a registry had, or the manifest's.
    digest: Option<String>,
    created: Option<String>,
    size: u64,
}

impl From<StoredImage> for Image {
    fn from(image: StoredImage) -> Image {
        let pulled = image.digests.first().and_then(|name| name.split_once('@'));
        let repository = pulled.map(|(name, _)| name.to_owned());
        let digest = pulled.map(|(_, digest)| digest.to_owned());
        let digest = digest.or_else(|| image.manifest.map(|digest| digest.to_string()));
        let StoredImage { id, tags, created, size, .. } = image;
        Image { id: id.hex(), tags, repository, digest, created, size }
    }
}

impl Image {
    /// One for each row: an image without a name has one too.
    fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let repository = self.repository.as_deref().unwrap_or(NONE);
        let none = self.tags.is_empty().then_some((repository, NONE));
        self.tags.iter().map(|tag| split(tag)).chain(none)
    }
}

/// One line for each name, as Docker does.
fn row(image: &Image, (repository, tag): (&str, &str), whole: bool, now: OffsetDateTime) -> Row {
    let created = image.created.as_deref();
    let shown = size(image.size);
    Row::new(json!({
        "Repository": printable(repository),
        "Tag": printable(tag),
        "Digest": image.digest.as_deref().unwrap_or(NONE),
        "ID": id(&image.id, whole),
        "CreatedSince": since(created, now),
        "CreatedAt": created.map_or_else(|| UNKNOWN.to_owned(), created_at),
        "Size": shown,
        "VirtualSize": shown,
        "SharedSize": UNKNOWN,
        "UniqueSize": UNKNOWN,
        "Containers": UNKNOWN,
    }))
}

fn step(entry: &HistoryEntry, args: &HistoryArgs, now: OffsetDateTime) -> Row {
    let created = entry.created.as_deref();
    let at = created.map_or_else(String::new, created_at);
    let by = entry.created_by.replace('\t', " ");
    let by = match by.chars().count() > COMMAND_MAX && !args.no_trunc {
        true => by.chars().take(COMMAND_MAX - 1).chain(['…']).collect(),
        false => by,
    };
    Row::new(json!({
        "ID": entry.id.map_or_else(|| "<missing>".to_owned(), |of| id(&of.hex(), args.no_trunc)),
        "CreatedSince": if args.human { since(created, now) } else { at.clone() },
        "CreatedAt": at,
        "CreatedBy": printable(&by),
        "Size": if args.human { size(entry.size) } else { entry.size.to_string() },
        "Comment": printable(&entry.comment),
    }))
}

fn id(hex: &str, whole: bool) -> String {
    if whole { format!("sha256:{hex}") } else { hex.chars().take(SHORT).collect() }
}

/// `3 days ago`
fn since(time: Option<&str>, now: OffsetDateTime) -> String {
    let seconds = time.and_then(|time| seconds_since(time, now));
    seconds.map_or_else(|| UNKNOWN.to_owned(), |age| format!("{} ago", duration(age)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn list(images: &[Image], format: Option<&str>, whole: bool) -> String {
        let now = datetime!(2026-01-04 00:00:00 UTC);
        let rows: Vec<Row> = images
            .iter()
            .flat_map(|image| image.names().map(move |name| row(image, name, whole, now)))
            .collect();
        LISTING.text(format, &rows).unwrap()
    }

    #[test]
    fn images_are_listed_by_name() {
        let images = [
            Image {
                id: "0123456789abcdef".to_owned(),
                tags: vec!["nginx:1.27".to_owned(), "host:5000/web:latest".to_owned()],
                repository: Some("not-shown".to_owned()),
                digest: None,
                created: Some("2026-01-01T00:00:00Z".to_owned()),
                size: 187_400_000,
            },
            Image {
                id: "f".repeat(64),
                tags: vec![],
                repository: None,
                digest: None,
                created: None,
                size: 0,
            },
        ];
        assert_eq!(
            list(&images, None, false),
            "REPOSITORY      TAG       IMAGE ID       CREATED      SIZE\n\
             nginx           1.27      0123456789ab   3 days ago   187MB\n\
             host:5000/web   latest    0123456789ab   3 days ago   187MB\n\
             <none>          <none>    ffffffffffff   N/A          0B\n"
        );
        let ids = format!("sha256:{}\n", "f".repeat(64));
        assert!(list(&images, Some("{{.ID}}"), true).ends_with(&ids));
        assert_eq!(
            list(&images[..1], Some("{{.Repository}}:{{.Tag}} {{.CreatedAt}} {{.Digest}}"), false),
            "nginx:1.27 2026-01-01 00:00:00 +0000 UTC <none>\n\
             host:5000/web:latest 2026-01-01 00:00:00 +0000 UTC <none>\n"
        );
        assert_eq!(list(&[], None, false), "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n");
    }

    #[test]
    fn a_pattern_means_names_with_or_without_a_tag() {
        for (pattern, tag, meant) in [
            ("nginx", "nginx:1.27", true),
            ("nginx:1.27", "nginx:1.27", true),
            ("nginx:*", "nginx:1.27", true),
            ("ngin?", "nginx:1.27", true),
            ("n*", "nginx:1.27", true),
            ("*", "localhost/nginx:1", false),
            ("*/nginx", "localhost/nginx:1", true),
            ("nginx", "localhost/nginx:1", false),
            ("ngi", "nginx:1.27", false),
        ] {
            let pattern_ = Pattern::new(pattern).unwrap();
            assert_eq!(is_meant(&pattern_, tag), meant, "{pattern} {tag}");
        }
    }

    #[test]
    fn steps_without_an_image_are_missing() {
        let args = HistoryArgs {
            format: None,
            human: true,
            no_trunc: false,
            quiet: false,
            image: String::new(),
        };
        let entry = HistoryEntry {
            created: Some("2026-01-01T00:00:00Z".to_owned()),
            created_by: format!("/bin/sh -c\t{}", "x".repeat(60)),
            size: 1000,
            comment: "made".to_owned(),
            ..HistoryEntry::default()
        };
        let now = datetime!(2026-01-04 00:00:00 UTC);
        let shown = |args: &HistoryArgs| {
            HISTORY
                .text(
                    Some("{{.ID}}|{{.CreatedSince}}|{{.CreatedBy}}|{{.Size}}"),
                    &[step(&entry, args, now)],
                )
                .unwrap()
        };
        let cut = format!("/bin/sh -c {}…", "x".repeat(33));
        assert_eq!(shown(&args), format!("<missing>|3 days ago|{cut}|1kB\n"));
        let exact = HistoryArgs { human: false, no_trunc: true, ..args };
        let whole = format!("/bin/sh -c {}", "x".repeat(60));
        assert_eq!(
            shown(&exact),
            format!("<missing>|2026-01-01 00:00:00 +0000 UTC|{whole}|1000\n")
        );
    }
}
