//! Messages, in the two forms of runc that engines read.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use crate::cli::LogFormat;
use crate::moment;

/// Where messages go.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    format: LogFormat,
    debug: bool,
}

impl Log {
    /// Opens the file, which is appended to.
    pub(crate) fn open(
        path: Option<&Path>,
        format: LogFormat,
        debug: bool,
    ) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            File::options()
                .append(true)
                .create(true)
                .open(path)
                .with_context(|| format!("opening the log {}", path.display()))
        };
        Ok(Self { file: path.map(open).transpose()?, format, debug })
    }

    /// What happens, for who asked for it.
    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    /// What did not keep anything from being done.
    pub(crate) fn warnings(&self, messages: &[String]) {
        for message in messages {
            self.write("warning", message);
        }
    }

    /// What ends the program. Engines read the log or standard error: both get it.
    pub(crate) fn error(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            print_error(message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = line(self.format, level, message, &moment::now());
        match &self.file {
            // Where the log cannot be written to, there is nobody to tell.
            Some(file) => drop((&*file).write_all(format!("{line}\n").as_bytes())),
            None => print_error(&line),
        }
    }
}

/// Writes a line to standard error.
pub(crate) fn print_error(line: &str) {
    // A standard error that is closed hears nothing.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn line(format: LogFormat, level: &str, message: &str, time: &str) -> String {
    match format {
        LogFormat::Json => {
            serde_json::json!({"level": level, "msg": message, "time": time}).to_string()
        }
        // JSON's strings are quoted as Go's.
        LogFormat::Text => {
            format!("time={time:?} level={level} msg={}", serde_json::Value::from(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_runcs() {
        let time = "2026-01-02T03:04:05Z";
        assert_eq!(
            line(LogFormat::Text, "error", "exec: \"x\": no\n", time),
            r#"time="2026-01-02T03:04:05Z" level=error msg="exec: \"x\": no\n""#
        );
        assert_eq!(
            line(LogFormat::Json, "debug", "a", time),
            r#"{"level":"debug","msg":"a","time":"2026-01-02T03:04:05Z"}"#
        );
    }
}
