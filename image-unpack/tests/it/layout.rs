//! OCI layouts in the making: blobs, descriptors, and the index that leads to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image_unpack::Digest;
use serde_json::{Value, json};

use crate::image::config;
use crate::tar::Tar;

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layout: what lies in `blobs/sha256`, what `index.json` lists, and what stands beside.
#[derive(Default, Clone)]
pub(crate) struct Layout {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) manifests: Vec<Value>,
    pub(crate) beside: Vec<(String, Vec<u8>)>,
}

impl Layout {
    pub(crate) fn new() -> Layout {
        Layout::default()
    }

    /// Adds a blob and gives its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.blobs.insert(digest.hex(), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    pub(crate) fn json(&mut self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().as_bytes())
    }

    /// Adds an image of layers, each as it is stored and as it decodes; gives its manifest's descriptor.
    pub(crate) fn image(&mut self, layers: &[(Vec<u8>, Vec<u8>)], architecture: &str) -> Value {
        let ids: Vec<Digest> = layers.iter().map(|(_, plain)| Digest::of(plain)).collect();
        let config = self.blob(CONFIG, &config(&ids, architecture));
        let layers = layers.iter().map(|(stored, _)| self.blob(LAYER, stored)).collect();
        self.manifest(config, layers)
    }

    pub(crate) fn manifest(&mut self, config: Value, layers: Vec<Value>) -> Value {
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.json(MANIFEST, &manifest)
    }

    /// Adds an index of these descriptors and gives its own.
    pub(crate) fn index(&mut self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.json(INDEX, &index)
    }

    pub(crate) fn list(mut self, descriptor: Value) -> Layout {
        self.manifests.push(descriptor);
        self
    }

    /// Puts the file of a blob's descriptor to other use.
    pub(crate) fn replace(&mut self, descriptor: &Value, bytes: &[u8]) {
        self.blobs.insert(hex(descriptor), bytes.to_vec());
    }

    pub(crate) fn remove(&mut self, descriptor: &Value) {
        self.blobs.remove(&hex(descriptor)).expect("the blob is there");
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        let blobs = self.blobs.iter();
        let mut files: Vec<_> = blobs
            .map(|(hex, bytes)| (format!("blobs/sha256/{hex}"), bytes.clone()))
            .chain(self.beside.iter().cloned())
            .collect();
        files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        if !files.iter().any(|(name, _)| name == "index.json") {
            files.push(("index.json".into(), index.to_string().into_bytes()));
        }
        files
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let files = self.files();
        files.iter().fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes)).end()
    }

    pub(crate) fn directory(&self, path: &Path) {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        for (name, bytes) in self.files() {
            fs::write(path.join(name), bytes).unwrap();
        }
    }
}

fn hex(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().replace("sha256:", "")
}

/// The descriptor with another field.
pub(crate) fn with(descriptor: &Value, field: &str, value: Value) -> Value {
    let mut descriptor = descriptor.clone();
    descriptor[field] = value;
    descriptor
}

/// The descriptor for a platform.
pub(crate) fn on(descriptor: &Value, platform: &str) -> Value {
    let parts: Vec<&str> = platform.split('/').collect();
    let mut value = json!({"os": parts[0], "architecture": parts[1]});
    if let Some(variant) = parts.get(2) {
        value["variant"] = json!(variant);
    }
    with(descriptor, "platform", value)
}
