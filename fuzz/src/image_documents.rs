//! `image-unpack`: an archive's manifests, indexes, configurations and compressed layers.
//!
//! The input is up to eight documents. The first one is `manifest.json`, `index.json`, or what a registry has under a
//! name; the others are its blobs. They name each other as in src/parts.rs.

use std::io;
use std::io::Read;
use std::sync::Arc;

use image_unpack::{
    Archive, BlobDocument, Blobs, Digest, Image, Keep, Limits, Platform, Reference, Root,
};

use crate::tar::Tar;
use crate::{memory, parts};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Bytes as the form of an archive, and documents.
///
/// # Panics
/// The crate does; or gives an image whose parts are not what they are named by.
pub fn run(bytes: &[u8]) {
    let Some((form, rest)) = bytes.split_first() else { return };
    let documents = parts::filled(&parts::split(rest, 8), |document| document);
    let name = match form {
        b'd' => "manifest.json",
        b'i' => "index.json",
        b'r' | b'm' => {
            let kind = if *form == b'r' { INDEX } else { MANIFEST };
            check(&Archive::from_blobs(Arc::new(Registry { kind, documents }), limits()));
            return;
        }
        _ => return,
    };
    let mut tar = Tar::new().file(name, &documents[0]);
    for document in &documents[1..] {
        let hex = Digest::of(document).hex();
        tar = tar.file(&format!("blobs/sha256/{hex}"), document);
        tar = tar.link(&format!("{hex}.json"), &format!("blobs/sha256/{hex}"));
    }
    if let Ok(archive) = Archive::from_file(memory::file(&tar.end()), "it", "/".as_ref(), limits())
    {
        check(&archive);
    }
}

/// What an archive gives is what names it.
pub(crate) fn check(archive: &Archive) {
    for platform in ["linux/amd64", "linux/arm/v7"] {
        let platform: Platform = platform.parse().expect("a platform");
        match archive.images(&platform) {
            Ok(images) => {
                assert!(!images.is_empty());
                images.iter().for_each(|image| check_image(archive, image));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

pub(crate) fn limits() -> Limits {
    Limits { bytes: 1 << 20, memory: 1 << 20, ..Limits::default() }
}

fn check_image(archive: &Archive, image: &Image) {
    assert_eq!(Digest::of(&image.raw_config), image.id);
    let named = image.config.rootfs().diff_ids();
    assert_eq!(named.len(), image.layers.len());
    for tag in &image.tags {
        let reference: Reference = tag.parse().expect("a tag that is a name");
        assert_eq!(reference.familiar(), *tag);
    }
    let limits = limits();
    for (layer, named) in image.layers.iter().zip(named) {
        assert_eq!(layer.diff_id.to_string(), *named);
        let copy = memory::file(b"");
        // Compressed or not: what is kept is what the configuration names.
        if let Ok(indexed) = archive.index(layer, Keep::Into(&copy), &limits, &|_| ()) {
            let kept = std::fs::read(memory::path(&copy)).expect("the copy");
            assert_eq!(Digest::of(&kept), layer.diff_id);
            assert_eq!(kept.len() as u64, indexed.tar);
        }
    }
}

/// What a registry would be asked for.
#[derive(Debug)]
struct Registry {
    kind: &'static str,
    documents: Vec<Vec<u8>>,
}

impl Registry {
    fn find(&self, digest: &Digest) -> io::Result<&[u8]> {
        let found = self.documents.iter().find(|document| Digest::of(document) == *digest);
        found.map(Vec::as_slice).ok_or_else(|| io::Error::other("there is no such blob"))
    }
}

impl Blobs for Registry {
    fn name(&self) -> String {
        "registry.example/a".to_owned()
    }

    fn root(&self) -> Root {
        let bytes = &self.documents[0];
        Root {
            media_type: self.kind.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            reference: "registry.example/a:1".parse().expect("a name"),
        }
    }

    fn document(&self, _: BlobDocument, digest: &Digest, _: u64) -> io::Result<Vec<u8>> {
        self.find(digest).map(<[u8]>::to_vec)
    }

    fn layer(&self, digest: &Digest, _: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.find(digest)?))
    }

    fn parallel(&self) -> usize {
        1
    }

    fn cancel(&self) {}
}
