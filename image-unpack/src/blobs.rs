//! An image whose documents and layers come one by one, by their digests, from a registry.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

use crate::archive::{Archive, Layer, expect};
use crate::documents::{self, DOCKER_CONFIG, Descriptor, OCI_CONFIG};
use crate::files::Files;
use crate::limits::{Limit, Limits};
use crate::source::{BUFFER, Pieces, read_buffered};
use crate::{Digest, Error, Reference};

/// Where the documents and layers of an image are asked for. What it gives is verified here: it may be anything.
pub trait Blobs: fmt::Debug + Send + Sync {
    /// What the user named, for messages.
    fn name(&self) -> String;

    /// The manifest or index to begin with.
    fn root(&self) -> Root;

    /// A document of `size` bytes. An error is a sentence, as all of them here.
    ///
    /// # Errors
    /// It cannot be had.
    fn document(&self, kind: Document, digest: &Digest, size: u64) -> io::Result<Vec<u8>>;

    /// A layer's `size` bytes. Called from several threads.
    ///
    /// # Errors
    /// It cannot be had; so a read.
    fn layer(&self, digest: &Digest, size: u64) -> io::Result<Box<dyn Read + Send + '_>>;

    /// How many layers are read at once.
    fn parallel(&self) -> usize;

    /// Nothing more is needed: reads may fail at once.
    fn cancel(&self);
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// A manifest or an index.
    Manifest,
    /// An image's configuration.
    Config,
}

/// The manifest or index to begin with.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The name that led to it.
    pub reference: Reference,
}

impl Archive {
    /// An image that comes from elsewhere. Nothing is asked for yet. The limits are those for documents.
    pub fn from_blobs(blobs: Arc<dyn Blobs>, limits: Limits) -> Archive {
        let source = blobs.name();
        Archive { files: Files::Blobs(blobs), source, limits }
    }

    /// How many layers are to be unpacked at once, where that is not as many as there are processors.
    pub fn parallel(&self) -> Option<usize> {
        match &self.files {
            Files::Blobs(blobs) => Some(blobs.parallel()),
            _ => None,
        }
    }

    /// Makes layers that other threads unpack fail soon, where they may take long because they come from elsewhere.
    pub fn cancel(&self) {
        if let Files::Blobs(blobs) = &self.files {
            blobs.cancel();
        }
    }

    /// The names with a digest of the image that comes from elsewhere.
    pub(crate) fn digests(&self) -> Vec<String> {
        match &self.files {
            Files::Blobs(blobs) => {
                let root = blobs.root();
                vec![root.reference.with_digest(root.digest).familiar()]
            }
            _ => Vec::new(),
        }
    }

    /// The verified bytes of a document.
    pub(crate) fn fetched(
        &self,
        blobs: &dyn Blobs,
        descriptor: &Descriptor,
        digest: Digest,
        what: &str,
    ) -> Result<Vec<u8>, Error> {
        let what = format!("{what} {digest} of {}", self.source());
        self.limits.check(Limit::Json, descriptor.size, &what)?;
        let is_config = matches!(descriptor.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG);
        let kind = if is_config { Document::Config } else { Document::Manifest };
        let bytes = blobs
            .document(kind, &digest, descriptor.size)
            .map_err(|source| Error::Read { what: what.clone(), source })?;
        if bytes.len() as u64 != descriptor.size {
            let found = bytes.len() as u64;
            return Err(Error::Size { what, expected: descriptor.size, found });
        }
        expect(what, digest, Digest::of(&bytes))?;
        Ok(bytes)
    }
}

/// The index that leads to the root.
pub(crate) fn index(root: &Root) -> documents::Document {
    let name = root.reference.tag().map(|_| root.reference.familiar());
    let descriptor = Descriptor {
        media_type: root.media_type.clone(),
        digest: root.digest.to_string(),
        size: root.size,
        urls: None,
        annotations: name.map(|name| [("io.containerd.image.name".to_owned(), name)].into()),
        platform: None,
    };
    documents::Document {
        media_type: None,
        manifests: Some(vec![descriptor]),
        config: None,
        layers: None,
    }
}

/// The bytes of a layer as they come.
pub(crate) fn stream<'a>(
    blobs: &'a dyn Blobs,
    layer: &Layer,
    what: &str,
) -> Result<Box<dyn Pieces + 'a>, Error> {
    let read = |source| Error::Read { what: what.to_owned(), source };
    // A layer without a blob's digest is one of Docker's archives, which come from no registry.
    let digest = layer.blob.unwrap_or(layer.diff_id);
    let input = blobs.layer(&digest, layer.size).map_err(read)?;
    Ok(Box::new(Stream { input, left: layer.size, buffer: vec![0; BUFFER], start: 0, end: 0 }))
}

/// Reads a stream of a known length with a buffer.
struct Stream<'a> {
    input: Box<dyn Read + Send + 'a>,
    left: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Pieces for Stream<'_> {
    fn is_drained(&self) -> bool {
        self.start == self.end
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, out)
    }
}

impl BufRead for Stream<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start < self.end || self.left == 0 {
            return Ok(&self.buffer[self.start..self.end]);
        }
        (self.start, self.end) = (0, 0);
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(BUFFER);
        // As full as can be: the first bytes must tell the format, and a hash likes long pieces.
        while self.end < want {
            match self.input.read(&mut self.buffer[self.end..want]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Unreadable::wrap(error)),
            }
        }
        if self.end < want {
            let error = format!("it ended {} bytes early", self.left - self.end as u64);
            return Err(Unreadable::wrap(io::Error::new(io::ErrorKind::UnexpectedEof, error)));
        }
        self.left -= self.end as u64;
        Ok(&self.buffer[..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

/// Tells a stream that cannot be read from one that does not decode: decoders pass it on as it is.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Unreadable(io::Error);

impl Unreadable {
    fn wrap(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Unreadable(error))
    }
}
