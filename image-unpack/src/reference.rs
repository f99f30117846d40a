//! Names of images, by Docker's rules (distribution's reference grammar).

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, ParseDigestError};

/// The registry that a name without one means.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where Docker's own images are there.
const OFFICIAL: &str = "library/";
/// Longest name, bytes, with its registry.
const NAME_MAX: usize = 255;

/// The name of an image in a registry, with all that a user may leave out: the registry `docker.io`, the
/// repository's `library/`, the tag `latest`.
///
/// ```
/// let nginx: image_unpack::Reference = "nginx".parse()?;
/// assert_eq!(nginx.to_string(), "docker.io/library/nginx:latest");
/// assert_eq!(nginx.familiar(), "nginx:latest");
/// # Ok::<(), image_unpack::ParseReferenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    version: Version,
}

/// Which image of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Version {
    Tag(String),
    /// A tag that stands before it says nothing more, and is left out.
    Digest(Digest),
}

/// A text that is no name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image name: {why}")]
pub struct ParseReferenceError {
    text: String,
    why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("{0}")]
    Rule(&'static str),
    #[error("{0}")]
    Digest(ParseDigestError),
}

impl Reference {
    /// The registry, with its port if it has one: `docker.io`, `registry.example:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none where the image is named by its digest.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// The digest of the image's manifest or index, where it is named by that.
    pub fn digest(&self) -> Option<Digest> {
        match self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        }
    }

    /// The name as Docker shows it, without tag and digest: `nginx`, `grafana/grafana`, `ghcr.io/a/b`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The name as Docker shows it: `nginx:latest`, `nginx@sha256:…`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.version)
    }

    /// The same repository's image with this digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { version: Version::Digest(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Reference, ParseReferenceError> {
        let error = |why| ParseReferenceError { text: text.chars().take(256).collect(), why };
        let rule = |why| error(Why::Rule(why));
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse().map_err(|e| error(Why::Digest(e)))?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match name[last..].find(':') {
            Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
            None => (name, None),
        };
        let (registry, path) = match path.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (DEFAULT_REGISTRY, path),
        };
        if path.is_empty() {
            return Err(rule("the name is empty"));
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(rule("a repository's name is in lower case"));
        }
        if !path.split('/').all(is_component) {
            return Err(rule(
                "each part of a name has lower-case letters and digits, and between them one '.', one or two '_', or '-'",
            ));
        }
        if path.len() == 64 && Digest::from_hex(path).is_ok() {
            return Err(rule("64 hexadecimal digits are an image's id"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(rule(
                "a tag has 1 to 128 letters, digits, '.', '_' and '-', and starts with neither '.' nor '-'",
            ));
        }
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = format!("{}{path}", if official { OFFICIAL } else { "" });
        if registry.len() + 1 + repository.len() > NAME_MAX {
            return Err(rule("the name is longer than 255 characters"));
        }
        let version = match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Reference { registry: registry.to_owned(), repository, version })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// A registry: it has a dot or a port, is localhost, or an IPv6 address in brackets.
fn is_host(part: &str) -> bool {
    let port_fits = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some((address, rest)) = part.strip_prefix('[').and_then(|part| part.split_once(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (rest.is_empty() || rest.strip_prefix(':').is_some_and(port_fits));
    }
    let (host, port) = part.split_once(':').map_or((part, None), |(host, port)| (host, Some(port)));
    let edge = |c: char| c.is_ascii_alphanumeric();
    let named = host.starts_with(edge)
        && host.ends_with(edge)
        && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
        && !host.contains("..");
    named
        && port.is_none_or(port_fits)
        && (port.is_some() || host.contains('.') || host == "localhost")
}

/// Lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(word)
        && part.ends_with(word)
        && part.split(word).all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_left_out_is_added() {
        for (text, full, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
            ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest", "grafana/grafana:latest"),
            ("localhost/a:b", "localhost/a:b", "localhost/a:b"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest", "127.0.0.1:5000/a:latest"),
            ("[::1]:5000/a/b:c", "[::1]:5000/a/b:c", "[::1]:5000/a/b:c"),
            (
                "ghcr.io/a_b/c__d--e.f",
                "ghcr.io/a_b/c__d--e.f:latest",
                "ghcr.io/a_b/c__d--e.f:latest",
            ),
            ("Registry.Example/a", "Registry.Example/a:latest", "Registry.Example/a:latest"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        }
    }

    #[test]
    fn a_digest_takes_the_tags_place() {
        for text in [format!("nginx@{DIGEST}"), format!("nginx:1.27@{DIGEST}")] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), format!("docker.io/library/nginx@{DIGEST}"));
            assert_eq!(reference.familiar(), format!("nginx@{DIGEST}"));
            assert_eq!((reference.tag(), reference.digest()), (None, Some(Digest::of(b""))));
        }
    }

    #[test]
    fn what_breaks_a_rule_is_said() {
        let long = "a/".repeat(130) + "b";
        let id = "ab".repeat(32);
        for (text, why) in [
            ("", "empty"),
            (":latest", "empty"),
            ("localhost/", "empty"),
            ("Nginx", "lower case"),
            ("a/B", "lower case"),
            ("a//b", "each part"),
            ("a..b", "each part"),
            ("a___b", "each part"),
            ("-a", "each part"),
            ("a b", "each part"),
            ("a\n", "each part"),
            ("[::1/a", "each part"),
            ("nginx:", "a tag"),
            ("nginx:-a", "a tag"),
            ("nginx@sha256:00", "64 lower-case"),
            (&format!("nginx@sha512:{}", "0".repeat(128)), "sha256"),
            (&long, "255"),
            (&id, "id"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_means_the_same(
            host in proptest::option::of("[a-z]{1,5}(\\.[a-z]{1,5}|:[0-9]{1,5})"),
            path in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,8}){0,3}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
            digest in any::<Option<[u8; 4]>>(),
        ) {
            let mut text = host.map_or(path.clone(), |host| format!("{host}/{path}"));
            tag.iter().for_each(|tag| text += &format!(":{tag}"));
            digest.iter().for_each(|bytes| text += &format!("@{}", Digest::of(bytes)));
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }
    }
}
