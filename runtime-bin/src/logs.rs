//! `logs`: what a container has printed, standard output and standard error apart.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use engine::{Engine, LogsRequest};
use time::OffsetDateTime;

use crate::cli::LogsArgs;
use crate::moment::moment;

pub(crate) fn logs(root: &Path, args: &LogsArgs) -> anyhow::Result<u8> {
    let now = OffsetDateTime::now_utc();
    let request = LogsRequest {
        follow: args.follow,
        tail: tail(&args.tail)?,
        since: args.since.as_deref().map(|text| record_time("--since", text, now)).transpose()?,
        until: args.until.as_deref().map(|text| record_time("--until", text, now)).transpose()?,
    };
    let (mut out, mut err) = (BufWriter::new(io::stdout().lock()), io::stderr().lock());
    let mut failed = None;
    Engine::open(root)?.logs(&args.container, &request, |line| {
        let mut write = || -> io::Result<()> {
            // Where there is nothing more by now, what came is shown.
            let Some(line) = line else { return out.flush() };
            let to: &mut dyn Write = match line.stream {
                "stderr" => {
                    out.flush()?; // in the order in which it came
                    &mut err
                }
                _ => &mut out,
            };
            if args.timestamps {
                write!(to, "{} ", line.time)?;
            }
            to.write_all(line.log)
        };
        failed = write().err();
        failed.is_none()
    })?;
    match failed.map_or_else(|| out.flush(), Err) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("writing the log to standard output")
        }
        _ => Ok(0),
    }
}

/// `all`, or a number; a negative one is all too, as in Docker.
fn tail(text: &str) -> anyhow::Result<Option<usize>> {
    if text == "all" {
        return Ok(None);
    }
    let number: i64 = text.parse().with_context(|| {
        format!("invalid value {text:?} for --tail: write a number of lines, or all")
    })?;
    Ok(usize::try_from(number).ok())
}

/// A time as the log has it.
fn record_time(option: &str, text: &str, now: OffsetDateTime) -> anyhow::Result<String> {
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z"
    );
    Ok(moment(option, text, now)?.format(&format)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_with_all_digits() {
        let now = time::macros::datetime!(2026-01-31 12:00:00 UTC);
        for (text, expected) in [
            ("2026-01-31T12:00:00.5+01:00", "2026-01-31T11:00:00.500000000Z"),
            ("1h30m", "2026-01-31T10:30:00.000000000Z"),
        ] {
            assert_eq!(record_time("--since", text, now).unwrap(), expected);
        }
    }

    #[test]
    fn lines_are_counted_from_the_end() {
        assert_eq!(tail("all").unwrap(), None);
        assert_eq!(tail("-1").unwrap(), None);
        assert_eq!(tail("0").unwrap(), Some(0));
        assert!(tail("x").unwrap_err().to_string().contains("--tail"));
    }
}
