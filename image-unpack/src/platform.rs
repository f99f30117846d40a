//! For which machine an image is.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::ImageConfiguration;

/// An operating system and an architecture, in the words of Go (`GOOS`, `GOARCH`) as image indexes use them.
///
/// ```
/// let arm: image_unpack::Platform = "linux/arm64/v8".parse()?;
/// assert_eq!(arm.to_string(), "linux/arm64/v8");
/// # Ok::<(), image_unpack::ParsePlatformError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, `v8`, …
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a platform; write os/architecture or os/architecture/variant, like linux/arm64/v8"
)]
pub struct ParsePlatformError(String);

impl Platform {
    /// The platform that this program was built for.
    pub fn host() -> Platform {
        let variant = if cfg!(target_arch = "arm") { Some("v7".to_owned()) } else { None };
        let architecture = if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
            "ppc64le"
        } else {
            std::env::consts::ARCH
        };
        Platform { os: "linux".into(), architecture: goarch(architecture).into(), variant }
    }

    /// The platform that an image's configuration names.
    pub fn of(config: &ImageConfiguration) -> Platform {
        Platform {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone(),
        }
    }

    /// Whether an image for `self` runs where `wanted` is asked for.
    pub fn is_for(&self, wanted: &Platform) -> bool {
        self.fit(wanted).is_some()
    }

    /// How well an image for `self` runs where `wanted` is asked for: `None` is not at all, more is better.
    /// A missing variant matches each variant; one that is the same is better.
    pub(crate) fn fit(&self, wanted: &Platform) -> Option<u8> {
        if self.os != wanted.os || goarch(&self.architecture) != goarch(&wanted.architecture) {
            return None;
        }
        match (self.effective_variant(), wanted.effective_variant()) {
            (a, b) if a == b => Some(2),
            (None, _) => Some(1),
            (_, None) => Some(0),
            _ => None,
        }
    }

    /// The variant, where it says more than the architecture alone does.
    fn effective_variant(&self) -> Option<&str> {
        match (goarch(&self.architecture), self.variant.as_deref()) {
            (_, Some("")) | ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            (_, variant) => variant,
        }
    }
}

/// The name that Go has for an architecture that has a name of its own in uname(2) or in Rust.
fn goarch(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "x86" | "i386" | "i686" => "386",
        "armhf" | "armv7l" => "arm",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Platform, ParsePlatformError> {
        let bad = || ParsePlatformError(text.chars().take(80).collect());
        let word = |part: &str| {
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if part.is_empty() || !part.chars().all(fine) {
                Err(bad())
            } else {
                Ok(part.to_ascii_lowercase())
            }
        };
        let mut parts = text.split('/');
        let os = word(parts.next().unwrap_or_default())?;
        let architecture = goarch(&word(parts.next().ok_or_else(bad)?)?).to_owned();
        let variant = parts.next().map(word).transpose()?;
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Platform { os, architecture, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}
