//! A bundle's `config.json` (OCI runtime specification, bundle.md, config.md).

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::runtime::{Capability, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;

/// The name of the file in a bundle.
const CONFIG: &str = "config.json";

/// Reads `config.json` of the bundle `dir`. What was left out of it is in [`load_with_warnings`].
///
/// # Errors
/// It cannot be read, or is not of the specification's form; the error names the field.
pub fn load(dir: &Path) -> Result<Spec, Error> {
    load_with_warnings(dir).map(|(spec, _)| spec)
}

/// Reads `config.json` of the bundle `dir`, and says, in sentences, what of it is left out: capabilities
/// that nobody knows (config.md, "Linux Process").
///
/// # Errors
/// As [`load`].
pub fn load_with_warnings(dir: &Path) -> Result<(Spec, Vec<String>), Error> {
    load_file_with_warnings(&dir.join(CONFIG))
}

/// As [`load_with_warnings`], of a file that may have another name.
///
/// # Errors
/// As [`load`].
pub fn load_file_with_warnings(file: &Path) -> Result<(Spec, Vec<String>), Error> {
    parse(file, &bytes(file)?)
}

/// What is in a file.
pub(crate) fn bytes(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(Error::io("reading", file))
}

/// As [`load_file_with_warnings`], of what is in that file.
pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<(Spec, Vec<String>), Error> {
    read(file, bytes, |document, warnings| {
        if let Some(process) = document.get_mut("process") {
            understand(process, "process", warnings);
        }
    })
}

/// Reads a file with the `process` of a configuration alone, as `exec --process` takes it.
///
/// # Errors
/// As [`load`].
pub fn load_process(file: &Path) -> Result<Process, Error> {
    load_process_with_warnings(file).map(|(process, _)| process)
}

/// As [`load_process`], with what is left out, as [`load_with_warnings`] has it.
///
/// # Errors
/// As [`load`].
pub fn load_process_with_warnings(file: &Path) -> Result<(Process, Vec<String>), Error> {
    read(file, &bytes(file)?, |document, warnings| understand(document, "", warnings))
}

fn read<T: DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    understand: impl FnOnce(&mut Value, &mut Vec<String>),
) -> Result<(T, Vec<String>), Error> {
    // Nearly always there is nothing to say and nothing to mend.
    if let Ok(read) = serde_json::from_slice(bytes) {
        return Ok((read, Vec::new()));
    }
    let mut document: Value = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        Err(source) => {
            let (path, field) = (path.to_owned(), "it is not JSON".to_owned());
            return Err(Error::Json { path, field, source });
        }
    };
    let mut warnings = Vec::new();
    understand(&mut document, &mut warnings);
    let read = serde_path_to_error::deserialize(document).map_err(|error| Error::Json {
        field: error.path().to_string(),
        source: error.into_inner(),
        path: path.to_owned(),
    })?;
    Ok((read, warnings))
}

/// What the types of oci-spec refuse, and the specification allows: a process without a user is root's,
/// an unknown capability is left out with a warning.
fn understand(process: &mut Value, field: &str, warnings: &mut Vec<String>) {
    let Some(process) = process.as_object_mut() else { return };
    if process.get("user").is_none_or(Value::is_null) {
        process.insert("user".to_owned(), Value::Object(Map::new()));
    }
    let field = match field {
        "" => "capabilities".to_owned(),
        field => format!("{field}.capabilities"),
    };
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        let mut unknown = BTreeSet::new();
        for (_, names) in sets {
            let Some(names) = names.as_array_mut() else { continue };
            names.retain(|name| {
                // What is no string is an error of its own.
                let known =
                    !name.is_string() || serde_json::from_value::<Capability>(name.clone()).is_ok();
                if !known {
                    unknown.insert(name.as_str().unwrap_or_default().to_owned());
                }
                known
            });
        }
        if !unknown.is_empty() {
            let names = Vec::from_iter(unknown).join(" ");
            // runc's words.
            warnings
                .push(format!("{field}: ignoring unknown or unavailable capabilities: [{names}]"));
        }
    }
    // The types have another spelling than the specification.
    let flags = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        if flag == "SCHED_FLAG_DL_OVERRUN" {
            *flag = "SCHED_FLAG_D_L_OVERRUN".into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(config: &str) -> Result<(Spec, Vec<String>), String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), config).unwrap();
        load_with_warnings(dir.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        for (config, words) in [
            ("{", "config.json: it is not JSON: EOF"),
            ("", "config.json: it is not JSON: EOF"),
            ("{\"process\": 3}", "config.json: process: invalid type: integer `3`"),
            ("{\"process\": {\"args\": []}}", "config.json: process: missing field `cwd`"),
            (
                r#"{"process": {"cwd": "/", "rlimits": [{"type": "RLIMIT_CORE"}, {"type": "X"}]}}"#,
                "config.json: process.rlimits[1].type: unknown variant `X`",
            ),
            (
                r#"{"process": {"cwd": "/", "capabilities": {"bounding": ["CAP_CHOWN", 7]}}}"#,
                "config.json: process.capabilities.bounding[1]: invalid type: integer `7`",
            ),
            (
                r#"{"linux": {"namespaces": [{"type": "x"}]}}"#,
                "config.json: linux.namespaces[0].type: unknown variant `x`",
            ),
            (r#"{"mounts": [{}]}"#, "config.json: mounts[0]: missing field `destination`"),
        ] {
            let error = bundle(config).unwrap_err();
            assert!(error.contains(words), "{config}: {error}");
        }
    }

    #[test]
    fn unknown_things_are_left_out_and_said_where_they_matter() {
        let (spec, warnings) = bundle(
            r#"{"ociVersion": "1.2.0", "unknown": 1, "process": {"cwd": "/", "capabilities":
            {"bounding": ["CAP_CHOWN", "CAP_NEW"], "ambient": null}, "scheduler":
            {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_DL_OVERRUN"]}}}"#,
        )
        .unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.user().uid(), 0);
        let bounding = process.capabilities().as_ref().unwrap().bounding().clone().unwrap();
        assert_eq!(bounding.into_iter().collect::<Vec<_>>(), [Capability::Chown]);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].starts_with("process.capabilities: ") && warnings[0].ends_with("[CAP_NEW]"),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_process_alone_is_read_alike() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"cwd": "/", "capabilities": {"effective": ["X"]}}"#)
            .unwrap();
        let (_, warnings) = load_process_with_warnings(file.path()).unwrap();
        assert!(
            warnings[0].starts_with("capabilities: ") && warnings[0].ends_with("[X]"),
            "{warnings:?}"
        );
        std::fs::write(file.path(), r#"{"cwd": 1}"#).unwrap();
        let error = load_process(file.path()).unwrap_err().to_string();
        assert!(error.contains(": cwd: invalid type"), "{error}");
    }
}
