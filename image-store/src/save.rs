//! Images become an archive: Docker's, or an OCI layout.
//!
//! Where the store has layers unpacked and not as the tars that they came in, a layer is written anew
//! ([`Pack`]); one of an image with an index leaves as it came. Where its bytes are not the first tar's, the image that is saved has other diff_ids and
//! so another id. What is saved once and loaded is saved with the same bytes and ids from then on.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use image_unpack::{Digest, Hasher};
use serde_json::{Value, json};

use crate::error::Problem;
use crate::index::IndexedLayer;
use crate::load::LoadOptions;
use crate::pack::entry::{Archive, Header};
use crate::record::StoredImage;
use crate::reference::{candidates, has_digest, split};
use crate::store::Store;
use crate::tags::{Meaning, Tags};
use crate::work::{at_once, processors};
use crate::{Error, Pack, StoredLayer};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What [`Store::save`] writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveFormat {
    /// As Docker 25 and later: an OCI layout with Docker's `manifest.json` in it, which older ones read.
    #[default]
    DockerArchive,
    /// An OCI layout.
    OciArchive,
}

/// How images are saved.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// What is written.
    pub format: SaveFormat,
    /// How the store's layers were unpacked.
    pub load: LoadOptions,
}

/// An image to be saved.
struct Saved {
    image: StoredImage,
    /// The names that it is saved with.
    tags: Vec<String>,
}

/// A file below `blobs/sha256`.
enum Blob<'a> {
    Bytes(Vec<u8>),
    Layer(&'a StoredLayer, u64),
}

type Blobs<'a> = BTreeMap<Digest, Blob<'a>>;

impl Store {
    /// Writes images as a tar: the same images give the same bytes. An image that is given by name is
    /// saved with that name; by a name without tag with all its tags; by id without a name.
    ///
    /// # Errors
    /// As [`Store::find`]; a layer that is damaged or was unpacked in another way; `out` takes no more
    /// ([`Error::Output`]).
    pub fn save(
        &self,
        references: &[impl AsRef<str>],
        options: &SaveOptions,
        out: impl Write,
    ) -> Result<(), Error> {
        let _hold = self.hold()?;
        let all = self.to_save(references)?;
        let packed = self.pack_all(&all, options)?;
        let mut blobs = Blobs::new();
        let mut manifests = Vec::new();
        let mut docker = Vec::new();
        for saved in &all {
            let layers: Vec<(Digest, u64)> =
                saved.image.layers.iter().map(|layer| packed[&layer.chain_id]).collect();
            let raw = self.raw_config(&saved.image.id)?;
            let config = with_layers(raw, &saved.image, &layers)?;
            let (config_id, config_size) = (Digest::of(&config), config.len() as u64);
            for (layer, (digest, size)) in saved.image.layers.iter().zip(&layers) {
                blobs.insert(*digest, Blob::Layer(layer, *size));
            }
            blobs.insert(config_id, Blob::Bytes(config));
            let described: Vec<Value> =
                layers.iter().map(|(digest, size)| descriptor(LAYER, digest, *size)).collect();
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptor(CONFIG, &config_id, config_size),
                "layers": described,
            })
            .to_string()
            .into_bytes();
            let entry = descriptor(MANIFEST, &Digest::of(&manifest), manifest.len() as u64);
            manifests.extend(entries(&entry, &saved.tags));
            blobs.insert(Digest::of(&manifest), Blob::Bytes(manifest));
            docker.push(json!({
                "Config": blob_path(&config_id),
                "RepoTags": Some(&saved.tags).filter(|tags| !tags.is_empty()),
                "Layers": layers.iter().map(|(digest, _)| blob_path(digest)).collect::<Vec<_>>(),
            }));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let mut archive = Archive::new(io::BufWriter::with_capacity(256 << 10, out));
        for directory in ["blobs/", "blobs/sha256/"] {
            let header = Header { mode: 0o755, ..Header::plain(directory.as_bytes(), b'5') };
            archive.header(&header)?;
        }
        for (digest, blob) in &blobs {
            write_blob(&mut archive, digest, blob, options)?;
        }
        file(&mut archive, "index.json", index.to_string().as_bytes())?;
        if options.format == SaveFormat::DockerArchive {
            file(&mut archive, "manifest.json", Value::Array(docker).to_string().as_bytes())?;
        }
        file(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        archive.finish().map(drop)
    }

    /// The images that are meant, each once, with the names that they are saved with.
    fn to_save(&self, references: &[impl AsRef<str>]) -> Result<Vec<Saved>, Error> {
        let tags = self.tags()?;
        let mut all: Vec<Saved> = Vec::new();
        for reference in references.iter().map(AsRef::as_ref) {
            let mut named = repository(reference, &tags);
            if named.is_empty() {
                named.push(match self.resolve(reference, &tags)? {
                    // An archive's names have tags.
                    Meaning::Tag(name, id) => (Some(name).filter(|name| !has_digest(name)), id),
                    Meaning::Id(id) => (None, id),
                });
            }
            for (name, id) in named {
                let at = match all.iter().position(|saved| saved.image.id == id) {
                    Some(at) => at,
                    None => {
                        let image = self.image(&id, &tags)?;
                        let image = image.ok_or_else(|| self.not_found(reference, &tags))?;
                        all.push(Saved { image, tags: Vec::new() });
                        all.len() - 1
                    }
                };
                all[at].tags.extend(name);
            }
        }
        for saved in &mut all {
            saved.tags.sort_unstable();
            saved.tags.dedup();
        }
        Ok(all)
    }

    /// Digest and size that each layer has as a tar, by chain id. On all processors.
    fn pack_all(
        &self,
        all: &[Saved],
        options: &SaveOptions,
    ) -> Result<HashMap<Digest, (Digest, u64)>, Error> {
        let mut layers: Vec<&StoredLayer> =
            all.iter().flat_map(|saved| &saved.image.layers).collect();
        layers.sort_unstable_by_key(|layer| layer.chain_id);
        layers.dedup();
        let wanted = crate::work::form(&options.load.options);
        for layer in &layers {
            if layer.tar.is_none()
                && let Some(record) = self.layer_record(&layer.chain_id)?
                && record.form != wanted
            {
                let path = layer.path().to_owned();
                return Err(Error::Form { path, stored: record.form, wanted });
            }
        }
        let packed = at_once(
            processors(),
            &layers,
            || (),
            |layer| {
                let packed = match layer.tar {
                    // Looked at when it is written.
                    Some(tar) => (layer.diff_id, tar.tar),
                    None => {
                        let mut tar = Hashed { out: io::sink(), hasher: Hasher::new() };
                        let size = pack(layer, options, &mut tar)?;
                        (tar.hasher.finish(), size)
                    }
                };
                Ok((layer.chain_id, packed))
            },
        )?;
        Ok(packed.into_iter().collect())
    }
}

/// All names with the repository `reference`, if that has no tag.
fn repository(reference: &str, tags: &Tags) -> Vec<(Option<String>, Digest)> {
    if split(reference).1.is_some() {
        return Vec::new();
    }
    let Ok(names) = candidates(reference) else { return Vec::new() };
    for name in names.iter().filter_map(|name| name.strip_suffix(":latest")) {
        let found: Vec<_> = tags
            .iter()
            .filter(|(tag, _)| split(tag).0 == name)
            .map(|(tag, id)| (Some(tag.clone()), *id))
            .collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// The configuration with the diff_ids that the layers have now; byte for byte the same where they
/// have not changed.
fn with_layers(
    raw: Vec<u8>,
    image: &StoredImage,
    layers: &[(Digest, u64)],
) -> Result<Vec<u8>, Error> {
    if image.layers.iter().map(|layer| &layer.diff_id).eq(layers.iter().map(|(digest, _)| digest)) {
        return Ok(raw);
    }
    let damaged = |error| Error::Damaged {
        path: format!("the configuration of {}", image.id).into(),
        problem: Problem::Json(error),
    };
    let mut config: Value = serde_json::from_slice(&raw).map_err(damaged)?;
    config["rootfs"]["diff_ids"] = layers.iter().map(|(digest, _)| digest.to_string()).collect();
    serde_json::to_vec(&config).map_err(damaged)
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

/// The entries of an image in the index: one for each name, as containerd writes and reads them.
fn entries(descriptor: &Value, tags: &[String]) -> Vec<Value> {
    let named = |tag: &String| {
        let mut entry = descriptor.clone();
        entry["annotations"] = json!({
            "io.containerd.image.name": full_name(tag),
            "org.opencontainers.image.ref.name": split(tag).1.unwrap_or("latest"),
        });
        entry
    };
    if tags.is_empty() { vec![descriptor.clone()] } else { tags.iter().map(named).collect() }
}

/// A name with the registry that Docker's short form leaves out.
fn full_name(tag: &str) -> String {
    match tag.split_once('/') {
        None => format!("docker.io/library/{tag}"),
        Some((host, _)) if host == "localhost" || host.contains(['.', ':']) => tag.to_owned(),
        Some(_) => format!("docker.io/{tag}"),
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn file<W: Write>(archive: &mut Archive<W>, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let size = bytes.len() as u64;
    archive.header(&Header { size, mode: 0o644, ..Header::plain(name.as_bytes(), b'0') })?;
    archive.data(bytes)?;
    archive.pad(size)
}

fn write_blob<W: Write>(
    archive: &mut Archive<W>,
    digest: &Digest,
    blob: &Blob<'_>,
    options: &SaveOptions,
) -> Result<(), Error> {
    let name = blob_path(digest);
    let (layer, size) = match blob {
        Blob::Bytes(bytes) => return file(archive, &name, bytes),
        Blob::Layer(layer, size) => (layer, *size),
    };
    archive.header(&Header { size, mode: 0o644, ..Header::plain(name.as_bytes(), b'0') })?;
    let found = {
        let mut tar = Hashed { out: archive.writer(), hasher: Hasher::new() };
        match layer.tar {
            Some(kept) => copy(layer, kept, &mut tar)?,
            None => drop(pack(layer, options, &mut tar)?),
        }
        tar.hasher.finish()
    };
    if found != *digest {
        // Somebody writes to the store's own files.
        return Err(Error::Damaged {
            path: layer.path().to_owned(),
            problem: Problem::Digest(found),
        });
    }
    archive.pad(size)
}

/// Writes a layer of the store as a tar.
fn pack(layer: &StoredLayer, options: &SaveOptions, out: impl Write) -> Result<u64, Error> {
    let root = File::open(layer.path()).map_err(|source| Error::System {
        op: "open the layer",
        path: layer.path().to_owned(),
        source,
    })?;
    Pack { layer: Some(options.load.options.form), ..Pack::default() }.write(root.as_fd(), out)
}

/// Writes a layer whose tar is kept. That it is what it was, its digest tells.
fn copy(layer: &StoredLayer, kept: IndexedLayer, out: &mut impl Write) -> Result<(), Error> {
    let failed = |op| {
        let path = layer.path().to_owned();
        move |source| Error::System { op, path, source }
    };
    let mut file = File::open(layer.path()).map_err(failed("open the layer"))?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(kept.at.unwrap_or(0)))
        .map_err(failed("read the layer"))?;
    let mut buffer = vec![0; 256 << 10];
    let mut left = kept.tar;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact(&mut buffer[..want]).map_err(failed("read the layer"))?;
        out.write_all(&buffer[..want]).map_err(|source| Error::Output { source })?;
        left -= want as u64;
    }
    Ok(())
}

/// Passes bytes on, and hashes them.
pub(crate) struct Hashed<W> {
    pub(crate) out: W,
    pub(crate) hasher: Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_registry() {
        for (tag, full) in [
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("grafana/grafana:1", "docker.io/grafana/grafana:1"),
            ("localhost/x:1", "localhost/x:1"),
            ("quay.io/a/b:c", "quay.io/a/b:c"),
            ("host:5000/b:c", "host:5000/b:c"),
        ] {
            assert_eq!(full_name(tag), full);
        }
    }
}
