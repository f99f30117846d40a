//! The manifest or index that a name leads to.

use std::io::Read;

use image_store::{Digest, Root};
use serde::Deserialize;
use serde::de::IgnoredAny;
use ureq::Body;
use ureq::http::Response;

use crate::error::Error;
use crate::registry::Registry;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is taken: the registry gives what it has, or makes one of these of it.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index with its bytes.
pub(crate) struct Document {
    pub(crate) root: Root,
    pub(crate) bytes: Vec<u8>,
}

/// As much as tells what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
}

/// Asks for what the name leads to.
pub(crate) fn root(registry: &Registry, limit: u64) -> Result<Document, Error> {
    let reference = &registry.reference;
    let version = match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or("latest").to_owned(),
    };
    let (headers, bytes) = fetch(registry, &version, limit)?;
    let digest = Digest::of(&bytes);
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // Of other algorithms than sha256 nothing is expected.
    let told = header("docker-content-digest").and_then(|digest| digest.parse().ok());
    if let Some(expected) = reference.digest().or(told).filter(|expected| *expected != digest) {
        let registry = registry.name().to_owned();
        return Err(Error::Digest { registry, expected, found: digest });
    }
    let described = header("content-type").and_then(|value| value.split(';').next());
    let media_type = media_type(&bytes, described.unwrap_or_default().trim())
        .map_err(|why| Error::Protocol { server: registry.name().to_owned(), why })?
        .ok_or_else(|| Error::OldManifest { name: reference.familiar() })?;
    let size = bytes.len() as u64;
    Ok(Document { root: Root { media_type, digest, size, reference: reference.clone() }, bytes })
}

/// The bytes of a manifest or index, at most `limit`, and the answer's headers. What is cut is asked for again.
pub(crate) fn fetch(
    registry: &Registry,
    version: &str,
    limit: u64,
) -> Result<(ureq::http::HeaderMap, Vec<u8>), Error> {
    let mut cuts = 0;
    loop {
        let response: Response<Body> = registry.get(&format!("manifests/{version}"), ACCEPT, 0)?;
        let (parts, body) = response.into_parts();
        let mut bytes = Vec::new();
        match body.into_reader().take(limit.saturating_add(1)).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > limit => {
                let (server, version) = (registry.name().to_owned(), version.to_owned());
                return Err(Error::ManifestSize { server, version, limit });
            }
            Ok(_) => return Ok((parts.headers, bytes)),
            Err(error) => match registry.http.retries().wait(cuts, None) {
                Some(wait) => {
                    registry.http.pause(registry.name(), &error.to_string(), wait)?;
                    cuts += 1;
                }
                None => {
                    return Err(Error::Cut {
                        server: registry.name().to_owned(),
                        cuts: cuts + 1,
                        got: format!("{} bytes of the manifest", bytes.len()),
                        why: error.to_string(),
                    });
                }
            },
        }
    }
}

/// What a document is: what it says itself, what the registry says, or what its fields say. None for
/// those of before digests.
fn media_type(bytes: &[u8], described: &str) -> Result<Option<String>, String> {
    let kind: Kind = serde_json::from_slice(bytes)
        .map_err(|error| format!("what it has for a manifest is none: {error}"))?;
    if kind.schema_version == Some(1) {
        return Ok(None);
    }
    // Some servers of plain files say only that it is JSON, or nothing.
    let known = described.starts_with("application/vnd.");
    Ok(Some(match (kind.media_type, kind.manifests) {
        _ if known => described.to_owned(),
        (Some(own), _) => own,
        (None, Some(_)) => OCI_INDEX.to_owned(),
        (None, None) => OCI_MANIFEST.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_tells_what_it_is() {
        let of = |text: &str, described: &str| media_type(text.as_bytes(), described);
        let own = r#"{"schemaVersion":2,"mediaType":"application/vnd.own"}"#;
        assert_eq!(of(own, "application/json").unwrap().unwrap(), "application/vnd.own");
        assert_eq!(of(own, "application/vnd.x").unwrap().unwrap(), "application/vnd.x");
        assert_eq!(of(r#"{"manifests":[]}"#, "").unwrap().unwrap(), OCI_INDEX);
        assert_eq!(of(r#"{"layers":[]}"#, "text/plain").unwrap().unwrap(), OCI_MANIFEST);
        assert_eq!(of(r#"{"schemaVersion":1}"#, "application/vnd.docker.x").unwrap(), None);
        assert!(of("<html>", "text/html").is_err());
    }
}
