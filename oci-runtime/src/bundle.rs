//! A bundle's `config.json` (OCI runtime specification, bundle.md, config.md).

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;

use crate::Error;

/// The name of the file in a bundle.
const CONFIG: &str = "config.json";

/// Reads `config.json` of the bundle `dir`.
///
/// # Errors
/// It cannot be read, or is not of the specification's form; the error names the field.
pub fn load(dir: &Path) -> Result<Spec, Error> {
    read(dir.join(CONFIG))
}

/// Reads a file with the `process` of a configuration alone, as `exec --process` takes it.
///
/// # Errors
/// As [`load`].
pub fn load_process(file: &Path) -> Result<Process, Error> {
    read(file.to_owned())
}

fn read<T: DeserializeOwned>(path: PathBuf) -> Result<T, Error> {
    let bytes = std::fs::read(&path).map_err(Error::io("reading", &path))?;
    let json = &mut serde_json::Deserializer::from_slice(&bytes);
    serde_path_to_error::deserialize(json).map_err(|error| Error::Json {
        field: error.path().to_string(),
        source: error.into_inner(),
        path,
    })
}
