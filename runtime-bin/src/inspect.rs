//! `inspect`: Docker's JSON of containers, images and volumes.

use std::path::Path;

use clap::{Args, ValueEnum};
use engine::{Engine, Error};
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Value, json};

use crate::output;
use crate::template::{Data, Template};

/// `inspect`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    how: How,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string", value_enum)]
    kind: Option<Kind>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// `volume inspect` and the like
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct InspectKindArgs {
    #[command(flatten)]
    how: How,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// `container inspect`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct InspectContainerArgs {
    #[command(flatten)]
    how: How,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

#[derive(Debug, Default, Args)]
struct How {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

/// What there is to inspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
}

pub(crate) fn inspect(root: &Path, args: &InspectArgs) -> anyhow::Result<u8> {
    if args.size && args.kind.is_some_and(|kind| kind != Kind::Container) {
        anyhow::bail!("--size is for containers only; leave it or --type out");
    }
    show(root, &args.how, &args.names, |engine, name| match args.kind {
        Some(kind) => find(engine, kind, name, args.size),
        None => first(engine, name, args.size),
    })
}

pub(crate) fn of_kind(root: &Path, kind: Kind, args: &InspectKindArgs) -> anyhow::Result<u8> {
    show(root, &args.how, &args.names, |engine, name| find(engine, kind, name, false))
}

pub(crate) fn containers(root: &Path, args: &InspectContainerArgs) -> anyhow::Result<u8> {
    show(root, &args.how, &args.names, |engine, name| {
        find(engine, Kind::Container, name, args.size)
    })
}

/// Prints an array of those that there are, or what the template makes of each; what failed is told
/// at the end.
fn show(
    root: &Path,
    how: &How,
    names: &[String],
    find: impl Fn(&Engine, &str) -> anyhow::Result<Value>,
) -> anyhow::Result<u8> {
    let format = how.format.as_deref().filter(|format| !format.is_empty() && *format != "json");
    let template = format.map(Template::parse).transpose()?;
    let engine = Engine::open(root)?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    let mut text = String::new();
    for name in names {
        let shown = find(&engine, name).and_then(|value| {
            if let Some(template) = &template {
                let data = Data { value: &value, labels: None, heading: false };
                text += &(template.render(data)? + "\n");
            }
            Ok(value)
        });
        match shown {
            Ok(value) => found.push(value),
            Err(error) => errors.push(error),
        }
    }
    let text = match (&template, &how.format) {
        (Some(_), _) => text,
        (None, Some(format)) if format == "json" => Value::Array(found).to_string() + "\n",
        _ => pretty(&Value::Array(found))?,
    };
    output::print(&output::as_read(text))?;
    for error in &errors {
        output::complain("runtime-bin", error);
    }
    Ok(u8::from(!errors.is_empty()))
}

/// A container, else an image, else a volume, as Docker looks for them.
fn first(engine: &Engine, name: &str, size: bool) -> anyhow::Result<Value> {
    let mut near = Vec::new();
    for kind in [Kind::Container, Kind::Image, Kind::Volume] {
        match find(engine, kind, name, size && kind == Kind::Container) {
            Ok(value) => return Ok(value),
            Err(error) => near.extend(missing(&error)?),
        }
    }
    let near = match near.is_empty() {
        true => String::new(),
        false => format!("; near to it: {}", near.join(", ")),
    };
    anyhow::bail!("No such object: {name}{near}")
}

/// The names that are like one that is not there; any other error is handed on.
fn missing(error: &anyhow::Error) -> anyhow::Result<Vec<String>> {
    use engine::StoreError;
    match error.downcast_ref() {
        Some(Error::NoSuchContainer { near, .. } | Error::NoSuchVolume { near, .. }) => {
            Ok(near.clone())
        }
        Some(Error::Store(StoreError::NotFound { near, .. })) => Ok(near.clone()),
        Some(Error::Store(StoreError::BadReference { .. })) => Ok(Vec::new()),
        _ => anyhow::bail!("{error}"),
    }
}

fn find(engine: &Engine, kind: Kind, name: &str, size: bool) -> anyhow::Result<Value> {
    Ok(match kind {
        Kind::Container => {
            let mut value = engine.inspect(name)?;
            let sizes = match value["Id"].as_str() {
                Some(id) if size => engine.container_size(id)?,
                _ => None,
            };
            if let (Some((own, whole)), Some(value)) = (sizes, value.as_object_mut()) {
                value.insert("SizeRw".to_owned(), own.into());
                value.insert("SizeRootFs".to_owned(), whole.into());
            }
            value
        }
        Kind::Image => engine.inspect_image(name)?,
        Kind::Volume => {
            let volume = engine.volume(name)?;
            let labels = if volume.labels.is_empty() { Value::Null } else { json!(volume.labels) };
            json!({
                "CreatedAt": volume.created,
                "Driver": "local",
                "Labels": labels,
                "Mountpoint": volume.path.to_string_lossy(),
                "Name": volume.name,
                "Options": null,
                "Scope": "local",
            })
        }
    })
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
