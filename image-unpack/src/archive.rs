//! An image archive: opened, its images found, its layers unpacked.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::image::ImageConfiguration;
use rustix::fs::{Mode, OFlags};

use crate::ahead;
use crate::apply::Tree;
use crate::blobs;
use crate::decode::{LayerInput, Verified};
use crate::docker;
use crate::documents::{parse, parse_digest};
use crate::files::{Files, not_a_tar};
use crate::layout;
use crate::limits::{Limit, Limits};
use crate::options::{Options, Unpacked};
use crate::source::{self, BUFFER, Extent, Pieces};
use crate::tarstream::TarStream;
use crate::{Digest, Error, Platform};

/// An archive of images: a tar in Docker's or OCI's form, or an OCI layout directory.
///
/// It can be shared by threads: everything is read by position.
pub struct Archive {
    pub(crate) files: Files,
    pub(crate) source: String,
    pub(crate) limits: Limits,
}

/// An image of an archive. Its configuration is verified, its layers are not until they are unpacked.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of the configuration, by which Docker names images.
    pub id: Digest,
    /// The digest of the manifest, if the archive has one.
    pub manifest: Option<Digest>,
    /// What to run, and how.
    pub config: ImageConfiguration,
    /// The bytes whose digest is `id`.
    pub raw_config: Vec<u8>,
    /// Names, in Docker's short form with a tag, like `nginx:latest`.
    pub tags: Vec<String>,
    /// Names with the digest of what a registry has under them, like `nginx@sha256:…`.
    pub digests: Vec<String>,
    /// Lowest first, one for each diff_id of the configuration.
    pub layers: Vec<Layer>,
}

/// A layer of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its decoded tar, from the configuration.
    pub diff_id: Digest,
    /// Bytes in the archive, as they are, maybe compressed.
    pub size: u64,
    /// The digest of these bytes, if the archive names the layer by it.
    pub blob: Option<Digest>,
    what: String,
    pub(crate) path: String,
}

impl Layer {
    pub(crate) fn new(
        what: String,
        path: String,
        diff_id: Digest,
        size: u64,
        blob: Option<Digest>,
    ) -> Layer {
        Layer { diff_id, size, blob, what, path }
    }
}

/// An image as its documents tell it, before it is looked at for the platform.
pub(crate) struct Found {
    pub(crate) config: ImageConfiguration,
    pub(crate) layers: Vec<Layer>,
    pub(crate) diff_ids: Vec<Digest>,
    /// An index has said that it fits.
    pub(crate) fits: bool,
    raw: Vec<u8>,
    manifest: Option<Digest>,
    tags: Vec<String>,
}

impl Archive {
    /// Open a tar (plain, or compressed with gzip or zstd as a whole) or an OCI layout directory.
    ///
    /// `spool` is a directory where an unnamed file (O_TMPFILE) is kept if the archive cannot be read by position:
    /// for a compressed tar, a pipe or a device.
    ///
    /// # Errors
    /// What cannot be opened or read, and what is no tar.
    pub fn open(path: &Path, spool: &Path) -> Result<Archive, Error> {
        Archive::open_within(path, spool, Limits::default())
    }

    /// The same with other limits for what is read before a layer; those for layers are in [`Options`].
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn open_within(path: &Path, spool: &Path, limits: Limits) -> Result<Archive, Error> {
        let name = path.display().to_string();
        // Without NONBLOCK a FIFO waits for its writer, which is what a user who names one wants.
        let file =
            File::open(path).map_err(|source| Error::Open { archive: name.clone(), source })?;
        let meta =
            file.metadata().map_err(|source| Error::Open { archive: name.clone(), source })?;
        if !meta.is_dir() {
            return Archive::from_file(file, &name, spool, limits);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&file, ".", flags, Mode::empty());
        let dir =
            dir.map_err(|source| Error::Open { archive: name.clone(), source: source.into() })?;
        let archive = Archive { files: Files::Directory(dir), source: name, limits };
        if !archive.files.has(layout::INDEX)? {
            return Err(archive.not_an_image());
        }
        Ok(archive)
    }

    /// Use an open file: a regular one from where it stands, anything else (standard input) is read to its end and
    /// kept in `spool`, as for [`Archive::open`]. `name` is for messages.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn from_file(
        file: File,
        name: &str,
        spool: &Path,
        limits: Limits,
    ) -> Result<Archive, Error> {
        let tar = source::plain(file, name, spool, &limits)?;
        let files = Files::index(tar, &limits, name).map_err(|e| not_a_tar(e, name))?;
        Ok(Archive { files, source: name.to_owned(), limits })
    }

    /// What the user named, for messages.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// All images that fit `platform`, each once, with all its tags. Manifests of an unknown type (attestations,
    /// artifacts) are passed over.
    ///
    /// # Errors
    /// If there is no image, or none that fits: the error names the platforms that there are. If a document is
    /// malformed, too large, missing, or has another digest than the one that names it.
    pub fn images(&self, platform: &Platform) -> Result<Vec<Image>, Error> {
        let mut others = Vec::new();
        let mut extra_tags = Vec::new();
        let found = if self.files.has(layout::INDEX)? {
            let fitting = self.layout_images(platform)?;
            others = fitting.others;
            extra_tags = self.docker_tags()?;
            fitting.found
        } else if self.files.has(docker::MANIFEST)? {
            self.docker_images()?
        } else {
            return Err(self.not_an_image());
        };
        let mut images: Vec<Image> = Vec::new();
        for found in found {
            let own = Platform::of(&found.config);
            if !found.fits && own.fit(platform).is_none() {
                others.push(own.to_string());
                continue;
            }
            let id = Digest::of(&found.raw);
            let Found { config, layers, raw, manifest, mut tags, .. } = found;
            for (_, more) in extra_tags.iter().filter(|(tagged, _)| *tagged == id) {
                tags.extend(more.iter().cloned());
            }
            match images.iter_mut().find(|image| image.id == id) {
                Some(image) => image.tags.extend(tags),
                None => images.push(Image {
                    id,
                    manifest,
                    config,
                    raw_config: raw,
                    tags,
                    digests: self.digests(),
                    layers,
                }),
            }
        }
        for image in &mut images {
            image.tags.sort_unstable();
            image.tags.dedup();
        }
        if images.is_empty() {
            others.sort_unstable();
            others.dedup();
            others.truncate(32);
            let found =
                if others.is_empty() { "no image at all".to_owned() } else { others.join(", ") };
            return Err(Error::Platform {
                archive: self.source.clone(),
                wanted: platform.to_string(),
                found,
            });
        }
        Ok(images)
    }

    /// Decode a layer, verify it, and write it into the empty directory `into`.
    ///
    /// Layers do not need each other here, so threads can unpack several at once; what a layer needs from those
    /// below it is [`Unpacked::pending`]. `progress` is told the bytes of the archive that were read since it was
    /// last called. If this fails, what is in `into` is garbage, to be removed by the caller.
    ///
    /// # Errors
    /// A stream that is corrupt, cut off, followed by garbage, or not what its digests say; a tar that is malformed;
    /// entries that are refused; a limit; a failed system call.
    pub fn unpack(
        &self,
        layer: &Layer,
        into: BorrowedFd<'_>,
        options: &Options,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Unpacked, Error> {
        let what = self.name_of(layer);
        let input = self.layer_input(layer, &options.limits, progress, &what)?;
        if !options.read_ahead {
            return unpack(input, layer, into, options, &what);
        }
        let (reading, ahead) = ahead::split(input);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("decode".into());
            match thread.spawn_scoped(scope, || reading.run()) {
                Ok(_) => unpack(ahead, layer, into, options, &what),
                // Where no thread can be made, this one does all the work.
                Err(_) => {
                    let input = self.layer_input(layer, &options.limits, progress, &what)?;
                    unpack(input, layer, into, options, &what)
                }
            }
        })
    }

    /// Decode a layer and verify it, and write nothing.
    ///
    /// # Errors
    /// A stream that is corrupt, cut off, followed by garbage, or not what its digests say.
    pub fn verify(&self, layer: &Layer) -> Result<(), Error> {
        let what = self.name_of(layer);
        verify(self.layer_input(layer, &self.limits, &|_| (), &what)?, layer, &what)
    }

    pub(crate) fn name_of(&self, layer: &Layer) -> String {
        let digits: String = layer.diff_id.hex().chars().take(12).collect();
        format!("{} ({digits}) of {}", layer.what, self.source)
    }

    pub(crate) fn layer_input<'a>(
        &'a self,
        layer: &Layer,
        limits: &'a Limits,
        progress: &'a (dyn Fn(u64) + Sync),
        what: &'a str,
    ) -> Result<LayerInput<'a>, Error> {
        let (pieces, len): (Box<dyn Pieces + 'a>, _) = match &self.files {
            Files::Blobs(blobs) => (blobs::stream(blobs.as_ref(), layer, what)?, layer.size),
            _ => {
                let extent = self.file(&layer.path, what)?;
                (Box::new(extent.reader(BUFFER)), extent.len)
            }
        };
        LayerInput::new(pieces, len, layer.blob.is_some(), progress, limits, what)
    }

    /// A file that a manifest names.
    pub(crate) fn file(&self, path: &str, what: &str) -> Result<Extent, Error> {
        self.files.get(path)?.ok_or_else(|| Error::Missing {
            what: what.to_owned(),
            archive: self.source.clone(),
            path: crate::error::show(path.as_bytes()),
            note: self.files.note(),
        })
    }

    /// The bytes of a document, verified if its digest is known.
    pub(crate) fn document(
        &self,
        path: &str,
        what: &str,
        digest: Option<Digest>,
    ) -> Result<Vec<u8>, Error> {
        let what = format!("{what} of {}", self.source);
        let bytes = self.file(path, &what)?.bytes(&self.limits, &what)?;
        if let Some(expected) = digest {
            expect(what, expected, Digest::of(&bytes))?;
        }
        Ok(bytes)
    }

    /// A configuration, parsed, with as many diff_ids as there are layers.
    pub(crate) fn found(
        &self,
        raw: Vec<u8>,
        manifest: Option<Digest>,
        tags: Vec<String>,
        layers: usize,
    ) -> Result<Found, Error> {
        let what = format!("the configuration of {}", self.source);
        self.limits.check(Limit::Layers, layers as u64, &format!("an image of {}", self.source))?;
        let config: ImageConfiguration = parse(&raw, &self.limits, &what)?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != layers {
            let why =
                format!("it has {} diff_ids, and its manifest has {layers} layers", diff_ids.len());
            return Err(Error::Contradiction { what, why });
        }
        let diff_ids = diff_ids.iter().enumerate();
        let diff_ids = diff_ids.map(|(at, text)| {
            parse_digest(text, &format!("{what}: the diff_id of layer {}", at + 1))
        });
        let diff_ids = diff_ids.collect::<Result<_, _>>()?;
        Ok(Found { config, layers: Vec::new(), diff_ids, fits: false, raw, manifest, tags })
    }

    fn not_an_image(&self) -> Error {
        let is_root =
            ["etc", "usr", "bin", "lib"].iter().filter(|dir| self.files.mentions(dir)).count() >= 2;
        let hint = match &self.files {
            Files::Directory(_) => "the directory has no index.json, so it is no OCI layout",
            _ if self.files.is_empty() => "it is a tar without entries",
            _ if is_root => {
                "it has no manifest.json and no index.json, and looks like the archive of a root file system: use import for that"
            }
            _ if self.files.mentions("repositories") => {
                "it was saved by a Docker older than 1.10: load and save it with a newer one"
            }
            Files::Tar { end: crate::tarstream::End::Unmarked, .. } => {
                "it has no manifest.json and no index.json, and ends without an end mark: it is probably cut off"
            }
            _ => "it has no manifest.json (Docker) and no index.json (OCI layout)",
        };
        Error::NotAnImage { archive: self.source.clone(), hint }
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("source", &self.source).finish_non_exhaustive()
    }
}

fn unpack(
    input: impl Verified,
    layer: &Layer,
    into: BorrowedFd<'_>,
    options: &Options,
    what: &str,
) -> Result<Unpacked, Error> {
    let mut tree = Tree::new(into, options, what);
    let mut stream = TarStream::new(input, &options.limits, what);
    while let Some(entry) = stream.next()? {
        tree.add(entry, &mut stream)?;
    }
    verify(stream.into_input(), layer, what)?;
    tree.finish()
}

pub(crate) fn verify(input: impl Verified, layer: &Layer, what: &str) -> Result<(), Error> {
    let (diff_id, blob) = input.finish()?;
    if let (Some(expected), Some(found)) = (layer.blob, blob) {
        expect(format!("the blob of {what}"), expected, found)?;
    }
    expect(what.to_owned(), layer.diff_id, diff_id)
}

pub(crate) fn expect(what: String, expected: Digest, found: Digest) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Mismatch { what, expected: Box::new(expected), found: Box::new(found) })
}
