//! What the store knows of an image and of a layer, on disk and in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image_unpack::{Digest, Platform, Tally};
use oci_spec::image::ImageConfiguration;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dir::Dir;
use crate::error::{Problem, if_whole};
use crate::index::{BLOB, IndexRecord, IndexedLayer};
use crate::reference::has_digest;
use crate::store::Store;
use crate::{Error, link};

/// The configuration in an image's directory.
pub(crate) const CONFIG: &str = "config.json";
/// The [`ImageRecord`] in an image's directory.
pub(crate) const IMAGE: &str = "image.json";
/// The [`LayerRecord`] in a layer's directory.
pub(crate) const LAYER: &str = "layer.json";

/// An image that the store has, complete.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoredImage {
    /// The digest of its configuration.
    pub id: Digest,
    /// The digest of the manifest that it was loaded by, where the archive had one.
    pub manifest: Option<Digest>,
    /// Its names (`name:tag`), sorted; none for an image whose names moved on to others.
    pub tags: Vec<String>,
    /// Its names with the digest of what a registry had under them (`name@sha256:…`), sorted.
    pub digests: Vec<String>,
    /// Its configuration.
    pub config: ImageConfiguration,
    /// Its layers, the lowest first.
    pub layers: Vec<StoredLayer>,
    /// When it was made, as its configuration says (RFC 3339).
    pub created: Option<String>,
    /// Bytes of the files in all its layers.
    pub size: u64,
    /// Where all its layers are mounted as one; `None` where each is a directory of its own.
    pub index: Option<StoredIndex>,
}

/// What [`Store::images`] finds.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Images {
    /// Those that can be looked at, the newest first.
    pub whole: Vec<StoredImage>,
    /// The others.
    pub damaged: Vec<DamagedImage>,
}

/// An image whose record or configuration cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct DamagedImage {
    /// The digest of its configuration.
    pub id: Digest,
    /// Its names, sorted, also those with a digest.
    pub tags: Vec<String>,
    /// What is wrong with it.
    pub why: Error,
}

impl std::fmt::Display for DamagedImage {
    /// A sentence with its names, or else its id.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tags.is_empty() {
            true => write!(f, "the image {}: {}", self.id, self.why),
            false => write!(f, "the image {}: {}", self.tags.join(", "), self.why),
        }
    }
}

/// The mount of an image's index; see [`Store::mount`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredIndex {
    /// The short link to the mount, relative to the store's root: `l/` and 26 characters.
    pub link: String,
    /// Where it is mounted, an absolute path.
    pub path: PathBuf,
    /// The archive that some layers were left in.
    pub archive: Option<PathBuf>,
}

/// A lower directory of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredLower {
    /// The short link to it, relative to the store's root.
    pub link: String,
    /// The directory, an absolute path.
    pub path: PathBuf,
    /// The topmost layer in it: the digest of that and all below.
    pub chain_id: Digest,
    /// The digest of that layer's uncompressed tar.
    pub diff_id: Digest,
    /// Whether it is there only while the image is mounted ([`Store::mount`]).
    pub mounted: bool,
}

/// A layer that the store has, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredLayer {
    /// The digest of the layer and all below it.
    pub chain_id: Digest,
    /// The digest of the layer's uncompressed tar.
    pub diff_id: Digest,
    /// The short link to the layer's directory, relative to the store's root: `l/` and 26 characters. Empty for a layer
    /// of an image with an index, which has none.
    pub link: String,
    path: PathBuf,
    /// Its tar, for a layer of an image with an index.
    pub(crate) tar: Option<IndexedLayer>,
}

impl StoredImage {
    /// The machine that it is for.
    pub fn platform(&self) -> Platform {
        Platform::of(&self.config)
    }

    /// The lower directories of a container's root, the topmost first.
    pub fn lowers(&self) -> Vec<StoredLower> {
        let lower = |layer: &StoredLayer| StoredLower {
            link: layer.link.clone(),
            path: layer.path.clone(),
            chain_id: layer.chain_id,
            diff_id: layer.diff_id,
            mounted: false,
        };
        match (&self.index, self.layers.last()) {
            (Some(index), Some(top)) => {
                vec![StoredLower {
                    link: index.link.clone(),
                    path: index.path.clone(),
                    mounted: true,
                    ..lower(top)
                }]
            }
            _ => self.layers.iter().rev().map(lower).collect(),
        }
    }
}

impl StoredLayer {
    /// The layer's directory, an absolute path; for a layer of an image with an index, the file that has its tar.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `image.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) id: Digest,
    pub(crate) manifest: Option<Digest>,
    pub(crate) size: u64,
    /// Whether image and layers were on the disk before the image had its name, or are now.
    pub(crate) durable: bool,
    /// The boot of the machine in which they were left to the kernel to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot: Option<String>,
    pub(crate) layers: Vec<LayerName>,
    /// Of an image with an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<IndexRecord>,
}

impl ImageRecord {
    /// The UUID of the image's index: the first bits of its id.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&self.id.as_bytes()[..16]);
        uuid
    }
}

/// A layer in `image.json`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LayerName {
    pub(crate) chain_id: Digest,
    pub(crate) diff_id: Digest,
}

/// `layer.json`
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) diff_id: Digest,
    /// The chain id of what it lies upon.
    pub(crate) parent: Option<Digest>,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// How it was unpacked: owners and whiteouts. Layers of one store are all of one form.
    pub(crate) form: String,
    /// What is in its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Tally>,
    /// The boot of the machine in which it was left to the kernel to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot: Option<String>,
}

impl Dir {
    /// A JSON file; `None` where there is none.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes);
        value.map(Some).map_err(|error| self.damaged(name, Problem::Json(error)))
    }

    /// Writes a JSON file; see [`Dir::write`].
    pub(crate) fn write_json(
        &self,
        name: &str,
        value: &impl Serialize,
    ) -> Result<std::fs::File, Error> {
        let mut bytes =
            serde_json::to_vec(value).map_err(|error| self.damaged(name, Problem::Json(error)))?;
        bytes.push(b'\n');
        self.write(name, &bytes)
    }
}

impl Store {
    /// The record of an image; `None` where there is no such image.
    pub(crate) fn image_record(&self, id: &Digest) -> Result<Option<ImageRecord>, Error> {
        let Some(dir) = self.dirs().images.dir(&id.hex())? else { return Ok(None) };
        let record = dir.json(IMAGE)?;
        self.unless_removed(id, &dir, IMAGE, record)
    }

    /// The record of an image whose configuration can be read, too; `None` where a power cut took something of them, or
    /// there is no such image.
    pub(crate) fn whole_record(&self, id: &Digest) -> Result<Option<ImageRecord>, Error> {
        let Some(record) = if_whole(self.image_record(id))? else { return Ok(None) };
        let image = if_whole(self.image_of(id, record.clone(), &BTreeMap::new()))?;
        Ok(image.map(|_| record))
    }

    /// An image with its tags; `None` where there is no such image.
    pub(crate) fn image(
        &self,
        id: &Digest,
        tags: &BTreeMap<String, Digest>,
    ) -> Result<Option<StoredImage>, Error> {
        match self.image_record(id)? {
            Some(record) => self.image_of(id, record, tags),
            None => Ok(None),
        }
    }

    /// The image of a record.
    pub(crate) fn image_of(
        &self,
        id: &Digest,
        record: ImageRecord,
        tags: &BTreeMap<String, Digest>,
    ) -> Result<Option<StoredImage>, Error> {
        let Some(dir) = self.dirs().images.dir(&id.hex())? else { return Ok(None) };
        let Some(raw) = self.config_in(id, &dir)? else { return Ok(None) };
        let config = ImageConfiguration::from_reader(raw.as_slice())
            .map_err(|error| dir.damaged(CONFIG, Problem::Config(error)))?;
        let names = tags.iter().filter(|(_, of)| *of == id).map(|(name, _)| name.clone());
        let (digests, tags) = names.partition(|name| has_digest(name));
        Ok(Some(StoredImage {
            id: *id,
            manifest: record.manifest,
            tags,
            digests,
            created: config.created().clone(),
            layers: self.layers(&record),
            size: record.size,
            index: record.index.map(|index| StoredIndex {
                link: link::path(id),
                path: self.dirs().mounts.path().join(id.hex()),
                archive: index.archive.map(|archive| archive.path),
            }),
            config,
        }))
    }

    fn layers(&self, record: &ImageRecord) -> Vec<StoredLayer> {
        let names = record.layers.iter().enumerate();
        let layer = |(at, &LayerName { chain_id, diff_id }): (usize, &LayerName)| {
            let dirs = self.dirs();
            let Some(index) = &record.index else {
                let link = link::path(&chain_id);
                let path = dirs.layers.path().join(chain_id.hex()).join("diff");
                return StoredLayer { chain_id, diff_id, link, path, tar: None };
            };
            let tar = index.layers.get(at).copied();
            let path = match (&index.archive, tar.and_then(|tar| tar.at)) {
                (Some(archive), Some(_)) => archive.path.clone(),
                _ => dirs.blobs.path().join(diff_id.hex()).join(BLOB),
            };
            StoredLayer { chain_id, diff_id, link: String::new(), path, tar }
        };
        names.map(layer).collect()
    }

    /// An image's configuration, byte for byte: its digest is the image's id.
    ///
    /// # Errors
    /// There is no such image ([`Error::NotFound`]), or it is damaged.
    pub fn raw_config(&self, id: &Digest) -> Result<Vec<u8>, Error> {
        let gone = || self.not_found(&id.to_string(), &BTreeMap::new());
        let dir = self.dirs().images.dir(&id.hex())?.ok_or_else(gone)?;
        self.config_in(id, &dir)?.ok_or_else(gone)
    }

    /// The configuration in an image's directory, compared with its digest; `None` where the image was removed meanwhile.
    fn config_in(&self, id: &Digest, dir: &Dir) -> Result<Option<Vec<u8>>, Error> {
        let raw = dir.read(CONFIG)?;
        let Some(raw) = self.unless_removed(id, dir, CONFIG, raw)? else { return Ok(None) };
        match Digest::of(&raw) {
            found if found == *id => Ok(Some(raw)),
            found => Err(dir.damaged(CONFIG, Problem::Digest(found))),
        }
    }

    /// Whether each layer of the image is where its link leads, or its index and tars are there.
    pub(crate) fn is_complete(&self, record: &ImageRecord) -> Result<bool, Error> {
        let root = &self.dirs().root;
        if record.index.is_some() {
            return Ok(self.is_usable(record)? && root.has(&link::path(&record.id))?);
        }
        for layer in &record.layers {
            if !root.has(&link::path(&layer.chain_id))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of a layer's files; `None` where there is no such layer, or its record is damaged.
    ///
    /// # Errors
    /// A system call fails.
    pub fn layer_size(&self, layer: &StoredLayer) -> Result<Option<u64>, Error> {
        match &layer.tar {
            Some(tar) => Ok(Some(tar.size)),
            None => Ok(if_whole(self.layer_record(&layer.chain_id))?.map(|record| record.size)),
        }
    }

    /// The record of a layer that cannot be removed now.
    pub(crate) fn layer_record(&self, chain_id: &Digest) -> Result<Option<LayerRecord>, Error> {
        let Some(dir) = self.dirs().layers.dir(&chain_id.hex())? else { return Ok(None) };
        dir.json(LAYER)
    }

    /// The content of an image's file. That it is missing is damage, unless the image was removed meanwhile.
    fn unless_removed<T>(
        &self,
        id: &Digest,
        dir: &Dir,
        name: &str,
        content: Option<T>,
    ) -> Result<Option<T>, Error> {
        if content.is_none() && self.dirs().images.has(&id.hex())? {
            return Err(dir.damaged(name, Problem::Missing));
        }
        Ok(content)
    }
}
