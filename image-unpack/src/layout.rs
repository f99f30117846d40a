//! An OCI image layout (image specification, image-layout.md), in a tar or a directory.

use crate::archive::{Archive, Found, Layer};
use crate::blobs;
use crate::documents::{
    DOCKER_CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Document, OCI_CONFIG, OCI_INDEX,
    OCI_MANIFEST, parse,
};
use crate::files::Files;
use crate::limits::Limit;
use crate::names::normalise;
use crate::{Digest, Error, Platform};

pub(crate) const INDEX: &str = "index.json";

/// The images of a layout that fit, and what else there was.
#[derive(Default)]
pub(crate) struct Fitting {
    pub(crate) found: Vec<Found>,
    /// Platforms of manifests that do not fit, and kinds of those that are no images, for the message.
    pub(crate) others: Vec<String>,
    looked: u64,
}

/// A manifest that may be the one.
struct Candidate {
    descriptor: Descriptor,
    fit: u8,
}

impl Archive {
    /// For each entry of `index.json` the best image for `wanted`.
    pub(crate) fn layout_images(&self, wanted: &Platform) -> Result<Fitting, Error> {
        let index = match &self.files {
            Files::Blobs(blobs) => blobs::index(&blobs.root()),
            _ => {
                let bytes = self.document(INDEX, "the index", None)?;
                let what = format!("{INDEX} of {}", self.source());
                let index: Document = parse(&bytes, &self.limits, &what)?;
                index.check("", &what)?;
                index
            }
        };
        let mut fitting = Fitting::default();
        for descriptor in index.manifests.unwrap_or_default() {
            let mut candidates = Vec::new();
            self.collect(&descriptor, wanted, 0, &mut candidates, &mut fitting)?;
            // Several may fit (variants): the best, and of equals the first. A manifest of another platform may be
            // left out of the archive, and the one that is there be less good.
            candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.fit));
            let (present, absent) = self.split_by_presence(candidates)?;
            for candidate in present.iter().chain(&absent) {
                let tags = tags_of(&descriptor).or_else(|| tags_of(&candidate.descriptor));
                if self.manifest(
                    &candidate.descriptor,
                    tags.into_iter().collect(),
                    wanted,
                    &mut fitting,
                )? {
                    break;
                }
            }
        }
        Ok(fitting)
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        self.files.has(&blob_path(&descriptor.digest("a manifest")?))
    }

    fn split_by_presence(
        &self,
        candidates: Vec<Candidate>,
    ) -> Result<(Vec<Candidate>, Vec<Candidate>), Error> {
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        for candidate in candidates {
            if self.has_blob(&candidate.descriptor)? {
                present.push(candidate)
            } else {
                absent.push(candidate)
            }
        }
        Ok((present, absent))
    }

    /// The manifests for `wanted` that a descriptor leads to.
    fn collect(
        &self,
        descriptor: &Descriptor,
        wanted: &Platform,
        depth: u64,
        candidates: &mut Vec<Candidate>,
        fitting: &mut Fitting,
    ) -> Result<(), Error> {
        let what = format!("the index {} of {}", short(&descriptor.digest), self.source());
        fitting.looked += 1;
        self.limits.check(Limit::Manifests, fitting.looked, self.source())?;
        self.limits.check(Limit::Indexes, depth, &what)?;
        if descriptor.annotation("vnd.docker.reference.type") == Some("attestation-manifest") {
            return Ok(());
        }
        match descriptor.media_type.as_str() {
            OCI_INDEX | DOCKER_INDEX => {
                // An inner index may be left out of the archive, as other platforms' manifests may.
                if depth > 0 && !self.has_blob(descriptor)? {
                    fitting.others.push("an index that is not in the archive".to_owned());
                    return Ok(());
                }
                let bytes = self.blob(descriptor, "the index")?;
                let document: Document = parse(&bytes, &self.limits, &what)?;
                document.check(&descriptor.media_type, &what)?;
                for inner in document.manifests.unwrap_or_default() {
                    self.collect(&inner, wanted, depth + 1, candidates, fitting)?;
                }
            }
            OCI_MANIFEST | DOCKER_MANIFEST => match &descriptor.platform {
                None => candidates.push(Candidate { descriptor: descriptor.clone(), fit: 1 }),
                Some(platform) => match platform.platform().fit(wanted) {
                    Some(fit) => candidates.push(Candidate { descriptor: descriptor.clone(), fit }),
                    None => fitting.others.push(platform.platform().to_string()),
                },
            },
            other => fitting.others.push(format!("a manifest of the unknown type {other:?}")),
        }
        Ok(())
    }

    /// Take the image of a manifest. False if it is none, or its configuration tells another platform.
    fn manifest(
        &self,
        descriptor: &Descriptor,
        tags: Vec<String>,
        wanted: &Platform,
        fitting: &mut Fitting,
    ) -> Result<bool, Error> {
        let what = format!("the manifest {} of {}", short(&descriptor.digest), self.source());
        let bytes = self.blob(descriptor, "the manifest")?;
        let manifest: Document = parse(&bytes, &self.limits, &what)?;
        manifest.check(&descriptor.media_type, &what)?;
        let contradiction =
            |why: &str| Error::Contradiction { what: what.clone(), why: why.to_owned() };
        if manifest.manifests.is_some() {
            return Err(contradiction("it is an index, and its descriptor says it is a manifest"));
        }
        let config = manifest.config.ok_or_else(|| contradiction("it names no configuration"))?;
        if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
            fitting.others.push(format!("an artifact of the type {:?}", config.media_type));
            return Ok(false);
        }
        let raw = self.blob(&config, "the configuration")?;
        let layers = manifest.layers.unwrap_or_default();
        let mut found =
            self.found(raw, Some(descriptor.digest("a manifest")?), tags, layers.len())?;
        // The index has looked at the platform if it tells one.
        let own = Platform::of(&found.config);
        if descriptor.platform.is_none() && own.fit(wanted).is_none() {
            fitting.others.push(own.to_string());
            return Ok(false);
        }
        for (at, (layer, diff_id)) in
            layers.iter().zip(std::mem::take(&mut found.diff_ids)).enumerate()
        {
            let what = format!("layer {} of {}", at + 1, layers.len());
            let digest = layer.digest(&what)?;
            let path = blob_path(&digest);
            let urls = layer.urls.as_deref().unwrap_or_default();
            let is_foreign = layer.media_type.contains("nondistributable")
                || layer.media_type.contains("foreign");
            if (is_foreign || !urls.is_empty()) && !self.files.has(&path)? {
                let urls = if urls.is_empty() {
                    "a place it does not name".to_owned()
                } else {
                    urls.join(", ")
                };
                return Err(Error::Foreign { what, archive: self.source().to_owned(), urls });
            }
            // What comes from elsewhere has its size once it has come.
            if !matches!(self.files, Files::Blobs(_)) {
                let len = self.file(&path, &what)?.len;
                if len != layer.size {
                    return Err(Error::Size { what, expected: layer.size, found: len });
                }
            }
            found.layers.push(Layer::new(what, path, diff_id, layer.size, Some(digest)));
        }
        found.fits = true;
        fitting.found.push(found);
        Ok(true)
    }

    /// The verified bytes of a document's blob.
    fn blob(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, Error> {
        let digest = descriptor.digest(what)?;
        if let Files::Blobs(blobs) = &self.files {
            return self.fetched(blobs.as_ref(), descriptor, digest, what);
        }
        let path = blob_path(&digest);
        let extent = self.file(&path, what)?;
        if extent.len != descriptor.size {
            let what = format!("{what} {digest}");
            return Err(Error::Size { what, expected: descriptor.size, found: extent.len });
        }
        self.document(&path, what, Some(digest))
    }
}

/// A digest is parsed before it becomes a path, so it is never `../`.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The name that annotations give: containerd's is whole, the specification's may be a tag alone, which is no name.
fn tags_of(descriptor: &Descriptor) -> Option<String> {
    let full = descriptor.annotation("io.containerd.image.name").and_then(normalise);
    let reference = || descriptor.annotation("org.opencontainers.image.ref.name");
    full.or_else(|| reference().filter(|name| name.contains([':', '/'])).and_then(normalise))
}

fn short(digest: &str) -> String {
    digest.chars().take(19).collect()
}
