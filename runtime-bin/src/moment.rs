//! Times as Docker's `--since` and `--until` take them.

use anyhow::Context;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

/// A time in RFC 3339, a date, seconds since 1970, or how long ago (`1h30m`); in UTC. `None`: it is none of
/// these.
pub(crate) fn parse(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
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
    let ago = |text: &str| now.checked_sub(Duration::nanoseconds(engine::parse_duration(text)?));
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    let time = time.or_else(|| date(text)).or_else(|| seconds(text)).or_else(|| ago(text))?;
    Some(time.to_offset(UtcOffset::UTC))
}

/// As [`parse`], for the value of an option.
///
/// # Errors
/// It is no time.
pub(crate) fn moment(
    option: &str,
    text: &str,
    now: OffsetDateTime,
) -> anyhow::Result<OffsetDateTime> {
    parse(text, now).with_context(|| {
        format!(
            "invalid value {text:?} for {option}: write a time such as 2026-01-31T12:00:00Z, seconds \
             since 1970, or how long ago, such as 1h30m"
        )
    })
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
            let expected = OffsetDateTime::parse(expected, &Rfc3339).unwrap();
            assert_eq!(moment("--since", text, now).unwrap(), expected, "{text}");
        }
        for text in ["", "x", "10", "1h30", "1y", "-", "é"] {
            let result = moment("--since", text, now);
            assert_eq!(result.is_ok(), text == "10", "{text}: {result:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_time_is_a_time_or_an_error(text in "\\PC{0,20}") {
            let _ = moment("--since", &text, OffsetDateTime::UNIX_EPOCH);
        }
    }
}
