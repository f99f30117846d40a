//! `inspect`: Docker's JSON of containers.

use std::path::Path;

use engine::Engine;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::cli::InspectArgs;
use crate::output;

/// Prints an array of those that there are; what failed is told at the end.
pub(crate) fn inspect(root: &Path, args: &InspectArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for container in &args.containers {
        match engine.inspect(container) {
            Ok(value) => found.push(value),
            Err(error) => errors.push(error.into()),
        }
    }
    output::print(&pretty(&Value::Array(found))?)?;
    for error in &errors {
        output::complain("runtime-bin", error);
    }
    Ok(u8::from(!errors.is_empty()))
}

/// JSON as Docker indents it: by four spaces.
pub(crate) fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut serializer)?;
    bytes.push(b'\n');
    Ok(String::from_utf8(bytes)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_indented_as_docker_does() {
        let value = serde_json::json!([{"Id": "x", "Args": [], "State": {"Pid": 1}}]);
        let text = super::pretty(&value).unwrap();
        assert!(text.starts_with("[\n    {\n        \""), "{text}");
        assert!(text.ends_with("    }\n]\n"), "{text}");
        assert_eq!(super::pretty(&serde_json::json!([])).unwrap(), "[]\n");
    }
}
