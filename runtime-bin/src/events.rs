//! `events`: what happens to containers, images and volumes.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use clap::Args;
use engine::{Actor, Engine, Event, EventsRequest};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::filter::Filters;
use crate::moment::moment;
use crate::output::printable;
use crate::template::{Data, Template};

const FILTERS: [&str; 6] = ["container", "event", "image", "label", "type", "volume"];

/// `events`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct EventsArgs {
    /// Filter output based on conditions provided: container, event, image, label, type, volume
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output: 'json' (an object a line), or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show all events created since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    since: Option<String>,
    /// Stream events until this timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    until: Option<String>,
}

/// Prints events until the time is over, or nobody reads any more.
pub(crate) fn events(root: &Path, args: &EventsArgs) -> anyhow::Result<u8> {
    let now = OffsetDateTime::now_utc();
    let nanoseconds = |option: &str, text: &Option<String>| -> anyhow::Result<Option<i64>> {
        let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let time = moment(option, text, now)?.unix_timestamp_nanos();
        Ok(Some(i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })))
    };
    let request = EventsRequest {
        since: nanoseconds("--since", &args.since)?,
        until: nanoseconds("--until", &args.until)?,
    };
    let filters = Filters::parse(&args.filter, &FILTERS)?;
    let form = args.format.clone().unwrap_or_default().replace("\\t", "\t").replace("\\n", "\n");
    let format = Format::read(form.trim())?;
    let mut failed = None;
    let mut stdout = io::stdout().lock();
    Engine::open(root)?.events(request, |event| {
        if !is_meant(&event, &filters) {
            return true;
        }
        let written = format.line(&event).and_then(|line| {
            stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())?;
            Ok(())
        });
        failed = written.err();
        failed.is_none()
    })?;
    match failed {
        Some(error) => match error.downcast_ref::<io::Error>() {
            Some(cause) if cause.kind() == ErrorKind::BrokenPipe => Ok(0),
            Some(_) => Err(error).context("cannot write to standard output"),
            None => Err(error),
        },
        None => Ok(0),
    }
}

/// Whether an event is to be shown, by Docker's rules: names and ids may be cut.
fn is_meant(event: &Event, filters: &Filters) -> bool {
    let attribute = |key: &str| event.actor.attributes.get(key).map(String::as_str);
    let id = &*event.actor.id;
    let named = |key: &str| {
        let begins = |value: &str| {
            id.starts_with(value) || attribute("name").is_some_and(|name| name.starts_with(value))
        };
        !filters.has(key) || (event.kind == key && filters.any(key, begins))
    };
    let image = if event.kind == "image" { attribute("name") } else { attribute("image") };
    let is_image = |value: &str| {
        let is = |name: &str| name == value || repository(name) == value;
        is(id) || image.is_some_and(is)
    };
    // `exec_create` is meant by itself, and as `exec_create: sh`.
    let is_action = |value: &str| {
        event.action == value
            || event.action.split_once(": ").is_some_and(|(action, _)| action == value)
    };
    filters.any("type", |kind| event.kind == kind)
        && filters.any("event", is_action)
        && named("container")
        && named("volume")
        && filters.any("image", is_image)
        && filters.labels(&event.actor.attributes)
}

/// `name` of `name:tag`: the colon stands behind the last slash.
fn repository(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// How events are shown.
enum Format<'a> {
    Text,
    Json,
    Template(Template<'a>),
}

impl Format<'_> {
    /// Refuses what is no template, or has fields that no event has, before anything happens.
    fn read(form: &str) -> anyhow::Result<Format<'_>> {
        match form {
            "" => Ok(Format::Text),
            "json" | "{{json .}}" => Ok(Format::Json),
            form => {
                let format = Format::Template(Template::parse(form)?);
                let actor = Actor { id: String::new(), attributes: [].into() };
                format.line(&Event {
                    kind: String::new(),
                    action: String::new(),
                    actor,
                    scope: String::new(),
                    time: 0,
                    time_nano: 0,
                })?;
                Ok(format)
            }
        }
    }

    fn line(&self, event: &Event) -> anyhow::Result<String> {
        let line = match self {
            Format::Text => text(event)?,
            Format::Json => object(event)?.to_string(),
            Format::Template(template) => {
                template.render(Data { value: &fields(event), labels: None, heading: false })?
            }
        };
        Ok(line + "\n")
    }
}

/// `TIME container die ID (exitCode=0, image=busybox, name=box)`
fn text(event: &Event) -> anyhow::Result<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(event.time_nano.into())?;
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z"
    );
    let Event { kind, action, actor, .. } = event;
    let mut text = printable(&format!("{} {kind} {action} {}", time.format(&format)?, actor.id));
    if !actor.attributes.is_empty() {
        let pairs = actor.attributes.iter().map(|(key, value)| format!("{key}={value}"));
        text += &printable(&format!(" ({})", pairs.collect::<Vec<_>>().join(", ")));
    }
    Ok(text)
}

/// As Docker's API has it, with its older names too.
fn object(event: &Event) -> anyhow::Result<Value> {
    let mut object = serde_json::to_value(event)?;
    if event.kind != "volume" {
        object["status"] = json!(event.action);
        object["id"] = json!(event.actor.id);
    }
    if let (true, Some(image)) = (event.kind == "container", event.actor.attributes.get("image")) {
        object["from"] = json!(image);
    }
    Ok(object)
}

/// By the names that a template has for it.
fn fields(event: &Event) -> Value {
    let attributes = event.actor.attributes.iter();
    let attributes: serde_json::Map<_, _> =
        attributes.map(|(key, value)| (key.clone(), json!(printable(value)))).collect();
    let is_container = event.kind == "container";
    json!({
        "Type": event.kind,
        "Action": printable(&event.action),
        "Actor": { "ID": event.actor.id, "Attributes": attributes.clone() },
        "Scope": event.scope,
        "Time": event.time,
        "TimeNano": event.time_nano,
        "Status": printable(&event.action),
        "ID": event.actor.id,
        "From": attributes.get("image").filter(|_| is_container).cloned().unwrap_or_else(|| json!("")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes: attributes.collect() },
            scope: "local".to_owned(),
            time: 1_769_860_800,
            time_nano: 1_769_860_800_123_456_789,
        }
    }

    fn die() -> Event {
        let attributes = [("image", "busybox:1"), ("name", "box"), ("exitCode", "1"), ("a.b", "c")];
        event("container", "die", "0123", &attributes)
    }

    #[test]
    fn each_format_is_dockers() {
        let line = |format: &str| Format::read(format).unwrap().line(&die()).unwrap();
        assert_eq!(
            line(""),
            "2026-01-31T12:00:00.123456789Z container die 0123 (a.b=c, exitCode=1, image=busybox:1, name=box)\n"
        );
        let object: Value = serde_json::from_str(&line("json")).unwrap();
        assert_eq!(object["timeNano"], 1_769_860_800_123_456_789_i64);
        assert_eq!((&object["status"], &object["id"]), (&json!("die"), &json!("0123")));
        assert_eq!(
            (&object["from"], &object["Actor"]["ID"]),
            (&json!("busybox:1"), &json!("0123"))
        );
        let template = "{{.Type}} {{.Action}} {{.Actor.Attributes.exitCode}} {{index .Actor.Attributes \"a.b\"}} {{.Time}}";
        assert_eq!(line(template), "container die 1 c 1769860800\n");
        assert_eq!(line("{{.Actor.Attributes.signal}}"), "<no value>\n");
        for wrong in ["{{.Nope}}", "{{.ID"] {
            assert!(Format::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_of_an_event_moves_the_cursor() {
        let hostile = event("container", "exec_start: \u{1b}[2J", "0", &[("name", "\u{7}\n")]);
        for format in ["", "{{.Action}}{{.Actor.Attributes.name}}", "json"] {
            let line = Format::read(format).unwrap().line(&hostile).unwrap();
            assert_eq!(
                line.chars().filter(|c| c.is_control()).collect::<String>(),
                "\n",
                "{line:?}"
            );
        }
    }

    #[test]
    fn filters_mean_what_dockers_mean() {
        let meant = |typed: &[&str], event: &Event| {
            let typed: Vec<String> = typed.iter().map(|&text| text.to_owned()).collect();
            is_meant(event, &Filters::parse(&typed, &FILTERS).unwrap())
        };
        for filter in [
            "type=container",
            "event=die",
            "container=box",
            "container=b",
            "container=012",
            "image=busybox",
            "image=busybox:1",
            "label=a.b",
            "label=a.b=c",
        ] {
            assert!(meant(&[filter], &die()), "{filter}");
        }
        for filter in [
            "type=image",
            "event=di",
            "container=x",
            "image=busy",
            "image=busybox:2",
            "label=a",
            "volume=0123",
        ] {
            assert!(!meant(&[filter], &die()), "{filter}");
        }
        assert!(meant(&["event=start", "event=die"], &die()));
        assert!(!meant(&["event=die", "type=volume"], &die()));
        let exec = event("container", "exec_create: sh -c x", "0", &[]);
        assert!(
            meant(&["event=exec_create"], &exec) && meant(&["event=exec_create: sh -c x"], &exec)
        );
        let volume = event("volume", "mount", "cache", &[("container", "0123")]);
        assert!(meant(&["volume=ca"], &volume) && !meant(&["container=0123"], &volume));
        let image = event("image", "tag", "sha256:00", &[("name", "host:5000/a:1")]);
        assert!(meant(&["image=host:5000/a"], &image) && meant(&["image=sha256:00"], &image));
    }
}
