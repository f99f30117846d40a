//! Docker's `inspect` object of an image.

use image_store::{StoredImage, split_reference};
use serde_json::{Map, Value, json};

use crate::{Engine, Error};

impl Engine {
    /// The image of this name, id, or beginning of an id.
    ///
    /// # Errors
    /// There is no such image, or several.
    pub fn find_image(&self, image: &str) -> Result<StoredImage, Error> {
        Ok(self.store.find(image)?)
    }

    /// Docker's JSON object of an image.
    ///
    /// # Errors
    /// As [`Engine::find_image`].
    pub fn inspect_image(&self, image: &str) -> Result<Value, Error> {
        let image = self.find_image(image)?;
        // As it was written: the parsed one lacks Docker's own keys, such as Healthcheck and OnBuild.
        let raw: Value =
            serde_json::from_slice(&self.store.raw_config(&image.id)?).unwrap_or_default();
        Ok(value(&image, &raw["config"]))
    }
}

fn value(image: &StoredImage, own: &Value) -> Value {
    let config = &image.config;
    // What a registry had under the names, or else what they had in an archive.
    let digests: Vec<String> = match image.manifest {
        Some(manifest) if image.digests.is_empty() => {
            let mut names: Vec<_> = image.tags.iter().map(|tag| split_reference(tag).0).collect();
            names.dedup();
            names.iter().map(|name| format!("{name}@{manifest}")).collect()
        }
        _ => image.digests.clone(),
    };
    let lowers = image.lowers().into_iter();
    let paths: Vec<String> =
        lowers.map(|lower| lower.path.to_string_lossy().into_owned()).collect();
    let mut data = Map::new();
    if let Some((upper, lowers)) = paths.split_first() {
        data.insert("UpperDir".to_owned(), json!(upper));
        if !lowers.is_empty() {
            data.insert("LowerDir".to_owned(), json!(lowers.join(":")));
        }
    }
    let history = config.history().iter().flatten();
    let comment = history.last().and_then(|entry| entry.comment().clone()).unwrap_or_default();
    let mut value = json!({
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": comment,
        "Created": image.created,
        "DockerVersion": "",
        "Author": config.author().clone().unwrap_or_default(),
        "Config": own,
        "Architecture": config.architecture().to_string(),
        "Os": config.os().to_string(),
        "Size": image.size,
        "GraphDriver": { "Name": "overlay2", "Data": data },
        "RootFS": {
            "Type": "layers",
            "Layers": image.layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>(),
        },
    });
    if let (Some(variant), Some(value)) = (config.variant(), value.as_object_mut()) {
        value.insert("Variant".to_owned(), json!(variant));
    }
    value
}
