//! What is told on standard error besides the output: how much, and in which form.

use std::io::{self, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How grave a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Level {
    // What only helps to find out what goes wrong.
    Debug,
    // What was done.
    #[default]
    Info,
    // What may be wrong.
    Warn,
    // What failed.
    #[value(alias = "fatal")]
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warning",
            Level::Error => "error",
        }
    }
}

/// How a message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    // For people.
    #[default]
    Text,
    // A JSON object a line, with `level`, `msg` and `time`.
    Json,
}

static CHOSEN: OnceLock<(Level, LogFormat)> = OnceLock::new();

/// Says once and for all which messages are written, and how.
pub(crate) fn choose(level: Level, format: LogFormat) {
    CHOSEN.get_or_init(|| (level, format));
}

fn chosen() -> (Level, LogFormat) {
    CHOSEN.get().copied().unwrap_or_default()
}

/// Whether messages of this level are wanted; progress is one of [`Level::Info`].
pub(crate) fn wants(level: Level) -> bool {
    level >= chosen().0
}

/// Writes a message of one line to standard error, if it is wanted: as `text`, or with `message` for
/// programs. That nobody can read it is no reason to fail.
pub(crate) fn write(level: Level, message: &str, text: &str) {
    let (least, format) = chosen();
    if level >= least {
        let line = match format {
            LogFormat::Text => format!("{text}\n"),
            LogFormat::Json => json(level, message, OffsetDateTime::now_utc()),
        };
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

/// A warning of the engine's, as Docker's client writes it.
pub(crate) fn warn(message: &str) {
    write(Level::Warn, message, &format!("WARNING: {message}"));
}

fn json(level: Level, message: &str, now: OffsetDateTime) -> String {
    let time = now.format(&Rfc3339).unwrap_or_default();
    format!("{}\n", serde_json::json!({"level": level.word(), "msg": message, "time": time}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_programs() {
        let line = json(Level::Error, "no \"such\" thing", OffsetDateTime::UNIX_EPOCH);
        let expected =
            r#"{"level":"error","msg":"no \"such\" thing","time":"1970-01-01T00:00:00Z"}"#;
        assert_eq!(line, format!("{expected}\n"));
    }

    #[test]
    fn levels_are_ordered_and_have_dockers_names() {
        assert!(Level::Debug < Level::Info && Level::Warn < Level::Error);
        for word in ["debug", "info", "warn", "error", "fatal"] {
            assert!(Level::from_str(word, false).is_ok(), "{word}");
        }
        assert!(wants(Level::Info) && wants(Level::Error) && !wants(Level::Debug));
    }
}
