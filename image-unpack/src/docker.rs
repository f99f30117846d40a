//! Docker's archive: `manifest.json`, which names a configuration and layers by their paths in the tar.

use crate::archive::{Archive, Found, Layer};
use crate::documents::{DockerImage, parse};
use crate::names::normalise;
use crate::{Digest, Error};

pub(crate) const MANIFEST: &str = "manifest.json";

impl Archive {
    /// All images of `manifest.json`, whatever their platform.
    pub(crate) fn docker_images(&self) -> Result<Vec<Found>, Error> {
        let what = format!("{MANIFEST} of {}", self.source());
        let bytes = self.document(MANIFEST, "the manifest", None)?;
        let images: Vec<DockerImage> = parse(&bytes, &self.limits, &what)?;
        images.iter().map(|image| self.docker_image(image)).collect()
    }

    /// The tags that `manifest.json` has for each configuration: a layout's own annotations may have none.
    pub(crate) fn docker_tags(&self) -> Result<Vec<(Digest, Vec<String>)>, Error> {
        if !self.files.has(MANIFEST)? {
            return Ok(Vec::new());
        }
        let bytes = self.document(MANIFEST, "the manifest", None)?;
        let what = format!("{MANIFEST} of {}", self.source());
        let images: Vec<DockerImage> = parse(&bytes, &self.limits, &what)?;
        images
            .iter()
            .filter_map(|image| Some((named_digest(&image.config)?, image)))
            .map(|(id, image)| Ok((id, self.tags(image)?)))
            .collect()
    }

    fn tags(&self, image: &DockerImage) -> Result<Vec<String>, Error> {
        image
            .repo_tags
            .iter()
            .flatten()
            .map(|tag| {
                normalise(tag).ok_or_else(|| Error::Contradiction {
                    what: format!("{MANIFEST} of {}", self.source()),
                    why: format!("the tag {tag:?} is no image name"),
                })
            })
            .collect()
    }

    fn docker_image(&self, image: &DockerImage) -> Result<Found, Error> {
        let raw = self.document(&image.config, "the configuration", named_digest(&image.config))?;
        let paths = image.layers.as_deref().unwrap_or_default();
        let mut found = self.found(raw, None, self.tags(image)?, paths.len())?;
        for (at, (path, diff_id)) in
            paths.iter().zip(std::mem::take(&mut found.diff_ids)).enumerate()
        {
            let what = format!("layer {} of {}", at + 1, paths.len());
            let extent = self.file(path, &what)?;
            found.layers.push(Layer::new(
                what,
                path.clone(),
                diff_id,
                extent.len,
                blob_digest(path),
            ));
        }
        Ok(found)
    }
}

/// The digest that a file of the archive is named by: `HEX.json`, or `blobs/sha256/HEX`.
fn named_digest(path: &str) -> Option<Digest> {
    blob_digest(path).or_else(|| Digest::from_hex(path.strip_suffix(".json")?).ok())
}

fn blob_digest(path: &str) -> Option<Digest> {
    Digest::from_hex(path.strip_prefix("blobs/sha256/")?).ok()
}
