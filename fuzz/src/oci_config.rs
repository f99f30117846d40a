//! `oci-runtime`: a `config.json`, read, checked, and prepared up to where a container would be made.
//!
//! What is wrong is an error that names a field of the document, whatever it is.

use oci_runtime::{Error, Prepared, Stdio};
use serde_json::Value;

use crate::memory;

/// The fields of the specification that a configuration begins with.
const FIELDS: [&str; 12] = [
    "ociVersion",
    "root",
    "process",
    "hostname",
    "domainname",
    "mounts",
    "hooks",
    "annotations",
    "linux",
    "solaris",
    "windows",
    "vm",
];

/// Bytes as a `config.json`, and as a file of `exec --process`.
///
/// # Panics
/// The crate does; or an error names no field.
pub fn run(bytes: &[u8]) {
    let file = memory::file(bytes);
    let path = memory::path(&file);
    match oci_runtime::load_file_with_warnings(&path) {
        Ok((spec, _)) => prepare(&spec),
        Err(error) => names_a_field(&error, bytes),
    }
    if let Err(error) = oci_runtime::load_process(&path) {
        names_a_field(&error, bytes);
    }
}

fn prepare(spec: &oci_runtime::spec::Spec) {
    let stdio = Stdio::null().expect("the null device");
    let bundle = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(bundle.path().join("rootfs")).expect("a directory");
    match Prepared::new(bundle.path(), spec, stdio) {
        Ok(prepared) => assert!(prepared.warnings().iter().all(|warning| !warning.is_empty())),
        Err(Error::Field { field, reason }) => {
            assert!(!reason.is_empty());
            begins_with_a_field(&field);
        }
        Err(Error::Unsupported { field }) => begins_with_a_field(&field),
        // Of the host, and of what the field names there.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn begins_with_a_field(field: &str) {
    let start = field.split(['.', '[', ' ']).next().unwrap_or_default();
    // Of an entry of the environment, and what stands for none.
    let known = FIELDS.contains(&start) || field.contains("process.env");
    assert!(known, "{field:?} is no field of a configuration");
}

/// An error of a document's form names a field that is there.
fn names_a_field(error: &Error, bytes: &[u8]) {
    let Error::Json { field, .. } = error else { panic!("{error}") };
    let document = serde_json::from_slice::<Value>(bytes);
    assert_eq!(field == "it is not JSON", document.is_err(), "{error}");
    let Ok(document) = document else { return };
    // A dot is the document itself: something is missing in it, or it is no object.
    let first = field.split(['.', '[']).next().unwrap_or_default();
    assert!(first.is_empty() || document.get(first).is_some(), "{error}");
}
