//! What a registry has: images made here, and a store that takes them.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use image_pull::{Error, PullOptions, Pulled, Reference, Retries, pull};
use image_store::{Digest, LayerForm, LoadOptions, Platform, Store};
use tempfile::TempDir;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Manifests by tag and by digest, and blobs by digest, each with its media type.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) manifests: HashMap<String, (String, Vec<u8>)>,
    pub(crate) blobs: HashMap<String, Vec<u8>>,
}

impl Content {
    /// One image with the tag `1`.
    pub(crate) fn image(layers: &[Vec<u8>]) -> Content {
        let mut content = Content::default();
        let manifest = content.add(layers, &Platform::host());
        content.tag("1", MANIFEST, manifest);
        content
    }

    /// Adds an image's blobs and its manifest, and gives that.
    pub(crate) fn add(&mut self, layers: &[Vec<u8>], platform: &Platform) -> Vec<u8> {
        let diff_ids: Vec<_> = layers.iter().map(|tar| Digest::of(tar)).collect();
        let blobs: Vec<_> = layers.iter().map(|tar| gzip(tar)).collect();
        let descriptors: Vec<_> = blobs.into_iter().map(|blob| self.blob(LAYER, blob)).collect();
        let config = serde_json::json!({
            "os": platform.os,
            "architecture": platform.architecture,
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob(CONFIG, config.to_string().into_bytes());
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors,
        });
        let bytes = manifest.to_string().into_bytes();
        self.tag(&Digest::of(&bytes).to_string(), MANIFEST, bytes.clone());
        bytes
    }

    pub(crate) fn tag(&mut self, name: &str, kind: &str, bytes: Vec<u8>) {
        self.manifests.insert(Digest::of(&bytes).to_string(), (kind.into(), bytes.clone()));
        self.manifests.insert(name.into(), (kind.into(), bytes));
    }

    fn blob(&mut self, kind: &str, bytes: Vec<u8>) -> serde_json::Value {
        let digest = Digest::of(&bytes).to_string();
        let descriptor =
            serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
        self.blobs.insert(digest, bytes);
        descriptor
    }

    /// The digests of the blobs, the largest first.
    pub(crate) fn largest(&self) -> Vec<String> {
        let mut all: Vec<_> = self.blobs.iter().collect();
        all.sort_by_key(|(digest, bytes)| (std::cmp::Reverse(bytes.len()), digest.to_owned()));
        all.into_iter().map(|(digest, _)| digest.clone()).collect()
    }
}

/// A layer of one file, of bytes that do not compress.
pub(crate) fn layer(name: &str, size: usize) -> Vec<u8> {
    let mut state = name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        state.rotate_left(8) ^ u64::from(byte).wrapping_mul(0x2545_f491_4f6c_dd1d)
    });
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    let bytes: Vec<u8> = noise.take(size).collect();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size as u64);
    tar.append_data(&mut header, name, &bytes[..]).unwrap();
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A store of its own, and how it pulls: with no patience, and nobody's credentials.
pub(crate) struct Puller {
    pub(crate) temp: TempDir,
    pub(crate) store: Store,
    pub(crate) options: PullOptions,
}

impl Puller {
    pub(crate) fn new() -> Puller {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("store")).unwrap();
        let options = PullOptions {
            // The store goes with the test.
            load: LoadOptions {
                durable: false,
                layer_form: LayerForm::Dir,
                ..LoadOptions::default()
            },
            retries: Retries {
                count: 3,
                first: Duration::from_millis(5),
                longest: Duration::from_secs(5),
            },
            auth_files: vec![temp.path().join("auth.json")],
            certificates: vec![temp.path().join("certs.d")],
            ..PullOptions::default()
        };
        Puller { temp, store, options }
    }

    pub(crate) fn pull(&self, name: &str) -> Result<Pulled, Error> {
        let reference: Reference = name.parse().unwrap();
        pull(&self.store, &reference, &self.options, &())
    }

    /// Pulls what must fail, and gives what it says.
    pub(crate) fn refuse(&self, name: &str) -> String {
        let error = self.pull(name).unwrap_err().to_string();
        assert_eq!(self.left(), Vec::<String>::new(), "something is left of a failed pull");
        error
    }

    /// What is left of work in progress.
    pub(crate) fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.store.root().join("staging")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The bytes of the one file of a layer, by its place.
    pub(crate) fn file(&self, pulled: &Pulled, layer: usize, name: &str) -> Vec<u8> {
        std::fs::read(pulled.image.layers[layer].path().join(name)).unwrap()
    }
}
