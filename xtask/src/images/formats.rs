//! The ways in which an image is stored in a tar.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::image::{Blob, Form, Image};
use super::tarball::{Node, TarWriter, hex, sha256};

/// A format of a whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Format {
    /// `docker save` before version 25: ID/layer.tar, uncompressed; a repeated layer is a symbolic
    /// link to the first
    DockerLegacy,
    /// `docker save` from version 25: OCI layout with manifest.json, uncompressed layers
    DockerOci,
    /// The same from Docker's containerd image store: layers as pulled, here gzip
    DockerContainerd,
    /// OCI layout, gzip layers (what `skopeo copy` writes)
    OciGzip,
    /// OCI layout, zstd layers
    OciZstd,
    /// OCI layout with an index of an index (as buildx writes it): arm64 first, then amd64, then an
    /// attestation that is no image; busybox only
    OciMulti,
}

impl Format {
    /// The formats of every image.
    pub(crate) const EVERY: &[Format] = &[
        Format::DockerLegacy,
        Format::DockerOci,
        Format::DockerContainerd,
        Format::OciGzip,
        Format::OciZstd,
    ];

    /// The name that is typed and that stands in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::DockerLegacy => "docker-legacy",
            Format::DockerOci => "docker-oci",
            Format::DockerContainerd => "docker-containerd",
            Format::OciGzip => "oci-gzip",
            Format::OciZstd => "oci-zstd",
            Format::OciMulti => "oci-multi",
        }
    }
}

/// Writes an image to a file and gives its size in bytes and its SHA-256; `other` is the image of
/// another platform, for [`Format::OciMulti`].
pub(crate) fn write(
    image: &Image,
    format: Format,
    other: Option<&Image>,
    to: &Path,
) -> Result<(u64, String)> {
    let mut out = Hashing { out: File::create(to)?, size: 0, hash: Sha256::new() };
    let tar = TarWriter::new(BufWriter::with_capacity(1 << 20, &mut out));
    match format {
        Format::DockerLegacy => docker_legacy(image, tar),
        Format::DockerOci => docker(image, Form::Tar, tar),
        Format::DockerContainerd => docker(image, Form::Gzip, tar),
        Format::OciGzip => oci(image, Form::Gzip, tar),
        Format::OciZstd => oci(image, Form::Zstd, tar),
        Format::OciMulti => multi(image, other, tar),
    }?;
    Ok((out.size, hex(&out.hash.finalize())))
}

/// A file that is hashed while it is written.
struct Hashing {
    out: File,
    size: u64,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn media(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

/// The blobs of an OCI layout, by digest.
#[derive(Default)]
struct Layout {
    blobs: BTreeMap<String, Blob>,
}

impl Layout {
    /// Adds a blob and gives its descriptor.
    fn add(&mut self, blob: &Blob, media_type: &str) -> Value {
        self.blobs.insert(blob.digest.clone(), blob.clone());
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", blob.digest),
            "size": blob.bytes.len(),
        })
    }

    fn json(&mut self, value: &Value, media_type: &str) -> Value {
        self.add(&Blob::new(value.to_string().into_bytes()), media_type)
    }

    /// Adds an image; gives the descriptors of its layers and of its manifest.
    fn image(&mut self, image: &Image, form: Form) -> Result<(Vec<Value>, Value)> {
        let kind = match form {
            Form::Tar => "layer.v1.tar",
            Form::Gzip => "layer.v1.tar+gzip",
            Form::Zstd => "layer.v1.tar+zstd",
        };
        let config = self.add(&image.config, &media("config.v1+json"));
        let mut layers = Vec::new();
        for layer in &image.layers {
            layers.push(self.add(layer.form(form)?, &media(kind)));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media("manifest.v1+json"),
            "config": config,
            "layers": layers,
        });
        let descriptor = self.json(&manifest, &media("manifest.v1+json"));
        Ok((layers, descriptor))
    }

    /// Writes the layout, and files beside it, in order of name.
    fn write<W: Write>(
        self,
        mut tar: TarWriter<W>,
        manifest: &Value,
        beside: &[(&str, Value)],
    ) -> Result<()> {
        tar.add("blobs", &Node::directory(0o755))?;
        tar.add("blobs/sha256", &Node::directory(0o755))?;
        for (digest, blob) in &self.blobs {
            tar.file(&format!("blobs/sha256/{digest}"), &blob.bytes)?;
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media("index.v1+json"),
            "manifests": [manifest],
        });
        let mut files = vec![("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))];
        files.push(("index.json", index));
        files.extend_from_slice(beside);
        files.sort_by_key(|(name, _)| *name);
        for (name, value) in files {
            tar.file(name, value.to_string().as_bytes())?;
        }
        tar.finish()?;
        Ok(())
    }
}

fn names(image: &Image) -> Value {
    json!({
        "io.containerd.image.name": image.tag(),
        "org.opencontainers.image.ref.name": "latest",
    })
}

fn oci<W: Write>(image: &Image, form: Form, tar: TarWriter<W>) -> Result<()> {
    let mut layout = Layout::default();
    let (_, mut manifest) = layout.image(image, form)?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    layout.write(tar, &manifest, &[])
}

fn docker<W: Write>(image: &Image, form: Form, tar: TarWriter<W>) -> Result<()> {
    let mut layout = Layout::default();
    let (layers, mut manifest) = layout.image(image, form)?;
    manifest["annotations"] = names(image);
    let name = |layer: &Value| layer["digest"].as_str().unwrap_or_default().replace("sha256:", "");
    let paths: Vec<String> =
        layers.iter().map(|layer| format!("blobs/sha256/{}", name(layer))).collect();
    let mut entry = json!({
        "Config": format!("blobs/sha256/{}", image.config.digest),
        "RepoTags": [image.tag()],
        "Layers": paths,
    });
    let mut beside = Vec::new();
    if form == Form::Tar {
        // What Docker's older image store adds.
        for layer in &layers {
            entry["LayerSources"][layer["digest"].as_str().unwrap_or_default()] = layer.clone();
        }
        let last = layers.last().map(name).unwrap_or_default();
        beside.push(("repositories", json!({image.repository(): {"latest": last}})));
    }
    beside.push(("manifest.json", json!([entry])));
    layout.write(tar, &manifest, &beside)
}

fn multi<W: Write>(image: &Image, other: Option<&Image>, tar: TarWriter<W>) -> Result<()> {
    let mut layout = Layout::default();
    let mut manifests = Vec::new();
    if let Some(other) = other {
        let (_, mut arm) = layout.image(other, Form::Gzip)?;
        arm["platform"] = json!({"architecture": "arm64", "os": "linux", "variant": "v8"});
        manifests.push(arm);
    }
    let (_, mut amd) = layout.image(image, Form::Gzip)?;
    amd["platform"] = json!({"architecture": "amd64", "os": "linux"});
    manifests.push(amd.clone());

    let statement = json!({"_type": "https://in-toto.io/Statement/v0.1"});
    let statement = layout.json(&statement, "application/vnd.in-toto+json");
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]},
    });
    let config = layout.json(&config, &media("config.v1+json"));
    let attestation = json!({
        "schemaVersion": 2,
        "mediaType": media("manifest.v1+json"),
        "config": config,
        "layers": [statement],
    });
    let mut attestation = layout.json(&attestation, &media("manifest.v1+json"));
    attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": amd["digest"],
    });
    manifests.push(attestation);

    let index = json!({
        "schemaVersion": 2,
        "mediaType": media("index.v1+json"),
        "manifests": manifests,
    });
    let mut index = layout.json(&index, &media("index.v1+json"));
    index["annotations"] = names(image);
    layout.write(tar, &index, &[])
}

fn docker_legacy<W: Write>(image: &Image, mut tar: TarWriter<W>) -> Result<()> {
    // Each layer has a folder named by an id that depends on the layers below it.
    let mut ids: Vec<String> = Vec::new();
    let mut folders = BTreeMap::new();
    let mut first: BTreeMap<&str, String> = BTreeMap::new();
    for layer in &image.layers {
        let mut about = json!({
            "created": "1970-01-01T00:00:00Z",
            "os": "linux",
            "container_config": {"Cmd": [""]},
        });
        if let Some(parent) = ids.last() {
            about["parent"] = json!(parent);
        }
        let id = sha256(json!([layer.diff_id(), about]).to_string().as_bytes());
        about["id"] = json!(id);
        // The first of equal layers, from the bottom, holds the data.
        first.entry(layer.diff_id()).or_insert_with(|| id.clone());
        folders.insert(id.clone(), (about, layer));
        ids.push(id);
    }
    let paths: Vec<String> = ids.iter().map(|id| format!("{id}/layer.tar")).collect();
    for (id, (about, layer)) in &folders {
        tar.add(id, &Node::directory(0o755))?;
        tar.file(&format!("{id}/VERSION"), b"1.0")?;
        tar.file(&format!("{id}/json"), about.to_string().as_bytes())?;
        let path = format!("{id}/layer.tar");
        match first.get(layer.diff_id()) {
            Some(holder) if holder != id => {
                tar.add(path, &Node::symlink(format!("../{holder}/layer.tar")))?;
            }
            _ => tar.file(&path, &layer.form(Form::Tar)?.bytes)?,
        }
    }
    let config = format!("{}.json", image.config.digest);
    tar.file(&config, &image.config.bytes)?;
    let manifest = json!([{"Config": config, "RepoTags": [image.tag()], "Layers": paths}]);
    tar.file("manifest.json", manifest.to_string().as_bytes())?;
    let repositories = json!({image.repository(): {"latest": ids.last()}});
    tar.file("repositories", repositories.to_string().as_bytes())?;
    tar.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::image::Layer;
    use super::*;

    /// An image of three layers, of which the first and the last are the same.
    fn image() -> Image {
        let layer = |text: &[u8]| {
            let mut tar = TarWriter::new(Vec::new());
            tar.file("file", text).unwrap();
            Layer::new("RUN test", tar.finish().unwrap())
        };
        let layers = vec![layer(b"one"), layer(b"two"), layer(b"one")];
        Image::new("test", layers, json!({"Cmd": ["sh"]}))
    }

    /// The entries of an image's tar: content, or the target of a link after "->".
    fn entries(format: Format) -> BTreeMap<String, Vec<u8>> {
        let name = format!("xtask-formats-{}-{}", format.name(), std::process::id());
        let path = std::env::temp_dir().join(name);
        let (size, sha256_of) = write(&image(), format, Some(&image()), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((size, sha256_of), (bytes.len() as u64, sha256(&bytes)));
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(link) = entry.link_name_bytes() {
                content = [b"->", &link[..]].concat();
            }
            (name, content)
        });
        entries.collect()
    }

    fn parse(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn blobs_are_what_their_names_and_descriptors_say() {
        for format in [Format::DockerOci, Format::DockerContainerd, Format::OciZstd] {
            let files = entries(format);
            for (name, content) in &files {
                match name.strip_prefix("blobs/sha256/") {
                    Some(digest) if !digest.is_empty() => assert_eq!(sha256(content), digest),
                    _ => {}
                }
            }
            let blob = |descriptor: &Value| {
                let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
                let content = &files[&format!("blobs/{digest}")];
                assert_eq!(descriptor["size"], content.len());
                content.clone()
            };
            let manifest = parse(&blob(&parse(&files["index.json"])["manifests"][0]));
            let config = parse(&blob(&manifest["config"]));
            let layers = manifest["layers"].as_array().unwrap();
            assert_eq!(layers.len(), 3);
            for (layer, diff_id) in
                layers.iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap())
            {
                let mut plain = blob(layer);
                match layer["mediaType"].as_str().unwrap().rsplit_once('+') {
                    Some((_, "gzip")) => {
                        let mut tar = Vec::new();
                        flate2::read::GzDecoder::new(&plain[..]).read_to_end(&mut tar).unwrap();
                        plain = tar;
                    }
                    Some((_, "zstd")) => plain = zstd::decode_all(&plain[..]).unwrap(),
                    _ => {}
                }
                assert_eq!(*diff_id, format!("sha256:{}", sha256(&plain)));
            }
        }
    }

    #[test]
    fn a_repeated_layer_is_a_link_in_the_old_format() {
        let files = entries(Format::DockerLegacy);
        let manifest = parse(&files["manifest.json"]);
        let layers: Vec<&str> =
            manifest[0]["Layers"].as_array().unwrap().iter().map(|x| x.as_str().unwrap()).collect();
        assert_eq!(files[layers[2]], format!("->../{}", layers[0]).as_bytes());
        let config = parse(&files[manifest[0]["Config"].as_str().unwrap()]);
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", sha256(&files[layers[0]]))
        );
        assert_eq!(manifest[0]["RepoTags"][0], "localhost/test:latest");
    }

    #[test]
    fn platforms_are_below_an_index_of_an_index() {
        let files = entries(Format::OciMulti);
        let outer = parse(&files["index.json"]);
        let digest = outer["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
        let inner = parse(&files[&format!("blobs/{digest}")]);
        let platforms: Vec<&Value> = inner["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|manifest| &manifest["platform"]["architecture"])
            .collect();
        assert_eq!(platforms, ["arm64", "amd64", "unknown"]);
    }
}
