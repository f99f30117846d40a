//! An image: layers, each in up to three forms, and a configuration.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use serde_json::{Value, json};

use super::tarball::sha256;
use super::tree::Tree;

/// The creation date of every image: that of [`super::tarball::EPOCH`].
pub(crate) const CREATED: &str = "2025-01-01T00:00:00Z";

/// How a layer is stored in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Tar,
    Gzip,
    Zstd,
}

/// Bytes and their SHA-256.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) bytes: Arc<Vec<u8>>,
}

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Blob {
        Blob { digest: sha256(&bytes), bytes: Arc::new(bytes) }
    }
}

/// An uncompressed layer, and its compressed forms when they were asked for.
pub(crate) struct Layer {
    pub(crate) created_by: String,
    tar: Blob,
    gzip: OnceLock<Blob>,
    zstd: OnceLock<Blob>,
}

impl Layer {
    /// A layer of these bytes of a tar.
    pub(crate) fn new(created_by: &str, tar: Vec<u8>) -> Arc<Layer> {
        Arc::new(Layer {
            created_by: created_by.to_owned(),
            tar: Blob::new(tar),
            gzip: OnceLock::new(),
            zstd: OnceLock::new(),
        })
    }

    /// A layer of a tree.
    pub(crate) fn of(created_by: &str, tree: &Tree) -> Result<Arc<Layer>> {
        Ok(Layer::new(created_by, tree.to_tar()?))
    }

    /// The digest of the uncompressed layer, without "sha256:".
    pub(crate) fn diff_id(&self) -> &str {
        &self.tar.digest
    }

    /// The layer in one of its forms.
    pub(crate) fn form(&self, form: Form) -> Result<&Blob> {
        let cell = match form {
            Form::Tar => return Ok(&self.tar),
            Form::Gzip => &self.gzip,
            Form::Zstd => &self.zstd,
        };
        if let Some(blob) = cell.get() {
            return Ok(blob);
        }
        let tar = &self.tar.bytes[..];
        let blob = Blob::new(if form == Form::Gzip { gzip(tar)? } else { zstd(tar)? });
        Ok(cell.get_or_init(|| blob))
    }
}

fn gzip(tar: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(tar)?;
    Ok(encoder.finish()?)
}

fn zstd(tar: &[u8]) -> Result<Vec<u8>> {
    Ok(zstd::encode_all(tar, 3)?)
}

/// An image of one platform.
pub(crate) struct Image {
    /// Its name without registry and tag.
    pub(crate) name: String,
    pub(crate) layers: Vec<Arc<Layer>>,
    /// The configuration, as stored.
    pub(crate) config: Blob,
    /// What stands in the record beside the files, for people: package files.
    pub(crate) packages: Vec<String>,
}

impl Image {
    /// An image for amd64; `config` is the "config" object of the OCI image configuration.
    pub(crate) fn new(name: &str, layers: Vec<Arc<Layer>>, config: Value) -> Image {
        Image::for_platform(name, layers, config, "amd64")
    }

    pub(crate) fn for_platform(
        name: &str,
        layers: Vec<Arc<Layer>>,
        config: Value,
        architecture: &str,
    ) -> Image {
        let step = |by: &str| json!({"created": CREATED, "created_by": by});
        let mut history: Vec<Value> = layers.iter().map(|layer| step(&layer.created_by)).collect();
        let mut last = step(&format!("CMD {}", config["Cmd"]));
        last["empty_layer"] = json!(true);
        history.push(last);
        let diff_ids: Vec<String> =
            layers.iter().map(|layer| format!("sha256:{}", layer.diff_id())).collect();
        let mut image = json!({
            "architecture": architecture,
            "os": "linux",
            "created": CREATED,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        if architecture == "arm64" {
            image["variant"] = json!("v8");
        }
        let config = Blob::new(image.to_string().into_bytes());
        Image { name: name.to_owned(), layers, config, packages: Vec::new() }
    }

    /// The image's repository.
    pub(crate) fn repository(&self) -> String {
        format!("localhost/{}", self.name)
    }

    /// The image's name with its tag.
    pub(crate) fn tag(&self) -> String {
        format!("{}:latest", self.repository())
    }
}
