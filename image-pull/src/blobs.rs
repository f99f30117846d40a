//! A repository as the store reads it: blob by blob, each from where the connection was cut.

use std::fmt;
use std::io::{self, Read};

use image_store::{BlobDocument, Blobs, Digest, Root};
use ureq::BodyReader;
use ureq::http::StatusCode;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE};

use crate::error::Error;
use crate::manifest::{self, Document};
use crate::registry::Registry;

/// Layers that are fetched at once, as Docker does.
const PARALLEL: usize = 3;
/// A connection that has brought so much has not failed, though it was cut.
const GAIN: u64 = 64 << 10;

/// An image of a registry.
pub(crate) struct RegistryBlobs {
    registry: Registry,
    document: Document,
}

impl RegistryBlobs {
    pub(crate) fn new(registry: Registry, document: Document) -> RegistryBlobs {
        RegistryBlobs { registry, document }
    }
}

impl fmt::Debug for RegistryBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegistryBlobs").field(&self.registry).finish()
    }
}

impl Blobs for RegistryBlobs {
    fn name(&self) -> String {
        self.registry.reference.familiar()
    }

    fn root(&self) -> Root {
        self.document.root.clone()
    }

    fn document(&self, kind: BlobDocument, digest: &Digest, size: u64) -> io::Result<Vec<u8>> {
        if *digest == self.document.root.digest {
            return Ok(self.document.bytes.clone());
        }
        if kind == BlobDocument::Manifest {
            let fetched = manifest::fetch(&self.registry, &digest.to_string(), size);
            return fetched.map(|(_, bytes)| bytes).map_err(io::Error::other);
        }
        let mut bytes = Vec::new();
        Download::new(&self.registry, *digest, size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn layer(&self, digest: &Digest, size: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Download::new(&self.registry, *digest, size)))
    }

    fn parallel(&self) -> usize {
        PARALLEL
    }

    fn cancel(&self) {
        self.registry.http.cancel();
    }
}

/// The bytes of a blob, all of them, over as many connections as it takes.
struct Download<'a> {
    registry: &'a Registry,
    digest: Digest,
    size: u64,
    /// Bytes that have come.
    at: u64,
    body: Option<BodyReader<'static>>,
    cuts: u32,
    /// `at` at the last cut.
    cut_at: u64,
}

impl<'a> Download<'a> {
    fn new(registry: &'a Registry, digest: Digest, size: u64) -> Download<'a> {
        Download { registry, digest, size, at: 0, body: None, cuts: 0, cut_at: 0 }
    }

    /// Asks for the bytes from `at` on.
    fn open(&self) -> Result<Result<BodyReader<'static>, io::Error>, Error> {
        let registry = self.registry;
        let response = registry.get(&format!("blobs/{}", self.digest), "*/*", self.at)?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        let start = match header(CONTENT_RANGE).filter(|_| is_part) {
            Some(range) => first_of(range).filter(|start| *start <= self.at),
            None => Some(if is_part { self.at } else { 0 }),
        };
        let Some(start) = start else {
            let why = format!("asked for bytes from {} on, it sends others", self.at);
            return Err(Error::Protocol { server: registry.name().to_owned(), why });
        };
        let length = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if let Some(found) =
            length.map(|left| start.saturating_add(left)).filter(|n| *n != self.size)
        {
            let (server, expected) = (registry.name().to_owned(), self.size);
            return Err(Error::Size { server, digest: self.digest, expected, found });
        }
        let mut body = response.into_body().into_reader();
        // A server that knows no ranges starts over.
        let over = self.at - start;
        let passed = io::copy(&mut (&mut body).take(over), &mut io::sink());
        Ok(passed.and_then(|count| if count == over { Ok(body) } else { Err(early()) }))
    }

    /// Waits before the next try, or gives up.
    fn cut(&mut self, error: &io::Error) -> Result<(), Error> {
        let http = &self.registry.http;
        if self.at - self.cut_at >= GAIN {
            self.cuts = 0;
        }
        self.cut_at = self.at;
        let server = self.registry.name();
        match http.retries().wait(self.cuts, None) {
            Some(wait) => http.pause(server, &format!("the connection was cut: {error}"), wait)?,
            None => {
                return Err(Error::Cut {
                    server: server.to_owned(),
                    cuts: self.cuts + 1,
                    got: format!("{} of {} bytes", self.at, self.size),
                    why: error.to_string(),
                });
            }
        }
        self.cuts += 1;
        Ok(())
    }
}

impl Read for Download<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.size || out.is_empty() {
            return Ok(0);
        }
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let want = out.len().min(left);
        loop {
            self.registry.http.check().map_err(io::Error::other)?;
            let result = match &mut self.body {
                Some(body) => body.read(&mut out[..want]),
                None => match self.open().map_err(io::Error::other)? {
                    Ok(body) => {
                        self.body = Some(body);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match result {
                Ok(count @ 1..) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                result => {
                    self.body = None;
                    self.cut(&result.err().unwrap_or_else(early)).map_err(io::Error::other)?;
                }
            }
        }
    }
}

fn early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ended early")
}

/// The first byte of `bytes 5-9/10`.
fn first_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
