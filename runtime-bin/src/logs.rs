//! `logs`: what a container has printed, standard output and standard error apart.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use engine::{Engine, LogsRequest};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::cli::LogsArgs;

pub(crate) fn logs(root: &Path, args: &LogsArgs) -> anyhow::Result<u8> {
    let now = OffsetDateTime::now_utc();
    let request = LogsRequest {
        follow: args.follow,
        tail: tail(&args.tail)?,
        since: args.since.as_deref().map(|text| moment("--since", text, now)).transpose()?,
        until: args.until.as_deref().map(|text| moment("--until", text, now)).transpose()?,
    };
    let (mut out, mut err) = (BufWriter::new(io::stdout().lock()), io::stderr().lock());
    let mut failed = None;
    Engine::open(root)?.logs(&args.container, &request, |line| {
        let mut write = || -> io::Result<()> {
            let prefix = if args.timestamps { format!("{} ", line.time) } else { String::new() };
            match line.stream.as_str() {
                "stderr" => {
                    out.flush()?; // in the order in which it came
                    write!(err, "{prefix}{}", line.log)
                }
                _ => {
                    write!(out, "{prefix}{}", line.log)?;
                    if args.follow { out.flush() } else { Ok(()) }
                }
            }
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

/// A time in RFC 3339, a date, seconds since 1970, or how long ago (`1h30m`), as the log has times.
fn moment(option: &str, text: &str, now: OffsetDateTime) -> anyhow::Result<String> {
    let date = |text: &str| {
        let full =
            if text.contains('T') { format!("{text}Z") } else { format!("{text}T00:00:00Z") };
        OffsetDateTime::parse(&full, &Rfc3339).ok()
    };
    let seconds = |text: &str| {
        let seconds: f64 = text.parse().ok()?;
        let since = Duration::checked_seconds_f64(seconds)?;
        OffsetDateTime::UNIX_EPOCH.checked_add(since)
    };
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    let time = time.or_else(|| date(text)).or_else(|| seconds(text));
    let time = time.or_else(|| now.checked_sub(ago(text)?)).with_context(|| {
        format!(
            "invalid value {text:?} for {option}: write a time such as 2026-01-31T12:00:00Z, seconds \
             since 1970, or how long ago, such as 1h30m"
        )
    })?;
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z"
    );
    Ok(time.to_offset(UtcOffset::UTC).format(&format)?)
}

/// A duration as Go writes it: numbers with `h`, `m`, `s`, `ms`.
fn ago(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let factor = match &unit[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        sum = sum.checked_add(Duration::checked_seconds_f64(number * factor)?)?;
        rest = &unit[end..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_reads_them() {
        let now = OffsetDateTime::parse("2026-01-31T12:00:00Z", &Rfc3339).unwrap();
        for (text, expected) in [
            ("2026-01-31T11:00:00Z", "2026-01-31T11:00:00.000000000Z"),
            ("2026-01-31T12:00:00.5+01:00", "2026-01-31T11:00:00.500000000Z"),
            ("2026-01-31T11:00:00", "2026-01-31T11:00:00.000000000Z"),
            ("2026-01-30", "2026-01-30T00:00:00.000000000Z"),
            ("0", "1970-01-01T00:00:00.000000000Z"),
            ("1.5", "1970-01-01T00:00:01.500000000Z"),
            ("1h30m", "2026-01-31T10:30:00.000000000Z"),
            ("10s", "2026-01-31T11:59:50.000000000Z"),
        ] {
            assert_eq!(moment("--since", text, now).unwrap(), expected, "{text}");
        }
        for text in ["", "x", "10", "1h30", "1y", "-", "é"] {
            let result = moment("--since", text, now);
            assert_eq!(result.is_ok(), text == "10", "{text}: {result:?}");
        }
    }

    #[test]
    fn lines_are_counted_from_the_end() {
        assert_eq!(tail("all").unwrap(), None);
        assert_eq!(tail("-1").unwrap(), None);
        assert_eq!(tail("0").unwrap(), Some(0));
        assert!(tail("x").unwrap_err().to_string().contains("--tail"));
    }

    proptest::proptest! {
        #[test]
        fn any_time_is_a_time_or_an_error(text in "\\PC{0,20}") {
            let _ = moment("--since", &text, OffsetDateTime::UNIX_EPOCH);
        }
    }
}
