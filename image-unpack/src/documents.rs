//! The JSON documents of an image, as far as they are needed to find and verify it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::limits::{Limit, Limits};
use crate::{Digest, Error, Platform};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// An image of Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerImage {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Option<Vec<String>>,
}

/// A content descriptor (image specification, descriptor.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    /// Parsed later, so that the error can say whose digest it is.
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) urls: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) platform: Option<DescribedPlatform>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DescribedPlatform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
}

impl DescribedPlatform {
    pub(crate) fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
    }
}

impl Descriptor {
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub(crate) fn digest(&self, what: &str) -> Result<Digest, Error> {
        parse_digest(&self.digest, what)
    }
}

/// An index or a manifest: which one, its own fields say, and they must not say both.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    #[serde(default)]
    pub(crate) media_type: Option<String>,
    #[serde(default)]
    pub(crate) manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Refuse what one reader takes for an index and another for a manifest (CVE-2021-41190).
    pub(crate) fn check(&self, described: &str, what: &str) -> Result<(), Error> {
        let contradiction = |why: String| Error::Contradiction { what: what.to_owned(), why };
        if self.manifests.is_some() && (self.layers.is_some() || self.config.is_some()) {
            return Err(contradiction(
                "it has the fields of an index and those of a manifest".into(),
            ));
        }
        match self.media_type.as_deref() {
            Some(own) if !described.is_empty() && own != described => Err(contradiction(format!(
                "its media type is {own:?}, and its descriptor says {described:?}"
            ))),
            _ => Ok(()),
        }
    }
}

/// Read a document, with the path of the field in the error.
pub(crate) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    limits: &Limits,
    what: &str,
) -> Result<T, Error> {
    limits.check(Limit::JsonDepth, depth(bytes), what)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| Error::Json {
        what: what.to_owned(),
        field: error.path().to_string(),
        source: error.into_inner(),
    })?;
    let end = reader.end();
    end.map_err(|source| Error::Json { what: what.to_owned(), field: "the end".into(), source })?;
    Ok(value)
}

/// How many arrays and objects are within each other: of what is no JSON any number.
fn depth(bytes: &[u8]) -> u64 {
    let (mut now, mut most) = (0_u64, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                now += 1;
                most = now.max(most);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

pub(crate) fn parse_digest(text: &str, what: &str) -> Result<Digest, Error> {
    text.parse().map_err(|source| Error::BadDigest { what: what.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_no_text() {
        for (text, levels) in [
            ("", 0),
            ("1", 0),
            ("[]", 1),
            ("[[],{\"a\":[1]},[]]", 3),
            (r#"["[[[", "\"[[", "\\", [] ]"#, 2),
            ("]]]][", 1),
        ] {
            assert_eq!(depth(text.as_bytes()), levels, "{text}");
        }
    }

    #[test]
    fn the_deepest_that_may_be_is_read() {
        let limits = Limits { json_depth: 127, ..Limits::default() };
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let read =
            |levels: usize| parse::<serde_json::Value>(nested(levels).as_bytes(), &limits, "x");
        read(127).unwrap();
        assert!(matches!(read(128), Err(Error::Limit { fixed: true, .. })));
    }
}
