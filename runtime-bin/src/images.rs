//! `images`: which images there are.

use std::path::Path;

use engine::{Engine, StoredImage};
use time::OffsetDateTime;

use crate::cli::ImagesArgs;
use crate::format::{SHORT, duration, seconds_since, size};
use crate::output::{self, printable};
use crate::table::table;

pub(crate) fn images(root: &Path, args: &ImagesArgs) -> anyhow::Result<u8> {
    let mut images: Vec<Image> =
        Engine::open(root)?.images()?.into_iter().map(Image::from).collect();
    let now = OffsetDateTime::now_utc();
    // The newest first, and those of an unknown age last.
    images.sort_by_key(|image| {
        image.created.as_deref().and_then(|time| seconds_since(time, now)).unwrap_or(u64::MAX)
    });
    output::print(&list(&images, args, now))?;
    Ok(0)
}

/// What is shown of an image.
struct Image {
    /// Hexadecimal digits.
    id: String,
    tags: Vec<String>,
    created: Option<String>,
    size: u64,
}

impl From<StoredImage> for Image {
    fn from(image: StoredImage) -> Image {
        let StoredImage { id, tags, created, size, .. } = image;
        Image { id: id.hex(), tags, created, size }
    }
}

/// One line for each name, as Docker does.
fn list(images: &[Image], args: &ImagesArgs, now: OffsetDateTime) -> String {
    let heading = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"].map(str::to_owned);
    let mut rows = vec![heading];
    for image in images {
        let id = match args.no_trunc {
            true => format!("sha256:{}", image.id),
            false => image.id.chars().take(SHORT).collect(),
        };
        let seconds = image.created.as_deref().and_then(|time| seconds_since(time, now));
        let created = seconds.map_or("N/A".to_owned(), |age| format!("{} ago", duration(age)));
        let names = image.tags.iter().map(|tag| split(tag));
        let none = image.tags.is_empty().then_some(("<none>", "<none>"));
        for (repository, tag) in names.chain(none) {
            let (repository, tag) = (printable(repository), printable(tag));
            rows.push([repository, tag, id.clone(), created.clone(), size(image.size)]);
        }
    }
    if args.quiet {
        return rows.into_iter().skip(1).map(|[_, _, id, ..]| id + "\n").collect();
    }
    table(&rows)
}

/// `name` and `tag` of `name:tag`: a colon behind the last slash.
pub(crate) fn split(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "<none>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn args(quiet: bool, no_trunc: bool) -> ImagesArgs {
        ImagesArgs { quiet, no_trunc }
    }

    #[test]
    fn images_are_listed_by_name() {
        let images = [
            Image {
                id: "0123456789abcdef".to_owned(),
                tags: vec!["nginx:1.27".to_owned(), "host:5000/web:latest".to_owned()],
                created: Some("2026-01-01T00:00:00Z".to_owned()),
                size: 187_400_000,
            },
            Image { id: "f".repeat(64), tags: vec![], created: None, size: 0 },
        ];
        let now = datetime!(2026-01-04 00:00:00 UTC);
        assert_eq!(
            list(&images, &args(false, false), now),
            "REPOSITORY      TAG       IMAGE ID       CREATED      SIZE\n\
             nginx           1.27      0123456789ab   3 days ago   187MB\n\
             host:5000/web   latest    0123456789ab   3 days ago   187MB\n\
             <none>          <none>    ffffffffffff   N/A          0B\n"
        );
        assert_eq!(
            list(&images, &args(true, false), now),
            "0123456789ab\n0123456789ab\nffffffffffff\n"
        );
        assert!(
            list(&images, &args(true, true), now)
                .ends_with(&format!("sha256:{}\n", "f".repeat(64)))
        );
        assert_eq!(
            list(&[], &args(false, false), now),
            "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
        );
    }
}
