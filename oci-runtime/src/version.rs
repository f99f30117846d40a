//! `ociVersion`: which versions of the specification are understood.

use oci_spec::runtime as oci;

use crate::Error;

/// The first version that is understood.
pub(crate) const MIN: &str = "1.0.0";
/// The last version of the specification whose every field is known here.
pub const MAX: &str = "1.2.1";
/// The last minor version that is taken: what it adds is left out, with a warning.
const LAST_MINOR: u32 = 3;

/// Refuses versions that are none, or have another meaning of the same fields (config.md, "Specification
/// version").
pub(crate) fn check(spec: &oci::Spec) -> Result<(), Error> {
    let version = spec.version();
    let mut numbers = version.splitn(3, '.');
    let mut number = || numbers.next().and_then(|text| text.parse::<u32>().ok());
    match (number(), number()) {
        (Some(1), Some(0..=LAST_MINOR)) if version.splitn(3, '.').count() == 3 => Ok(()),
        _ if version.is_empty() => {
            Err(Error::field("ociVersion", "it is missing; give the version, as \"1.2.0\""))
        }
        _ => {
            let reason =
                format!("{version:?} is not supported; there are 1.0.0 to 1.{LAST_MINOR}.x");
            Err(Error::field("ociVersion", reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_or_named() {
        let check = |version: &str| {
            let spec = serde_json::json!({"ociVersion": version});
            check(&serde_json::from_value(spec).unwrap())
        };
        for version in ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.3.0"] {
            check(version).unwrap();
        }
        for version in ["", "1", "1.2", "0.9.0", "1.4.0", "2.0.0", "x.y.z", "1.-1.0"] {
            let error = check(version).unwrap_err().to_string();
            assert!(error.starts_with("ociVersion"), "{version}: {error}");
        }
    }
}
