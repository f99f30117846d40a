//! Times and sizes, in Docker's words.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How many digits of an id are shown.
pub(crate) const SHORT: usize = 12;

/// How long ago a time of a record was, in seconds; `None` for Docker's zero time and what is no
/// time. What lies ahead is now.
pub(crate) fn seconds_since(time: &str, now: OffsetDateTime) -> Option<u64> {
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    if time.year() <= 1 {
        return None;
    }
    Some(u64::try_from((now - time).whole_seconds()).unwrap_or(0))
}

/// A time of a record as Go prints one: `2026-01-31 12:00:00 +0000 UTC`. What is no time is itself.
pub(crate) fn created_at(time: &str) -> String {
    let format = time::macros::format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second] +0000 UTC"
    );
    let parsed = OffsetDateTime::parse(time, &Rfc3339).ok();
    let shown = parsed.and_then(|time| time.to_offset(time::UtcOffset::UTC).format(&format).ok());
    shown.unwrap_or_else(|| time.to_owned())
}

/// A span of time as a person would say it (Docker's `HumanDuration`).
pub(crate) fn duration(seconds: u64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600; // rounded
    let days = hours / 24;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        _ if minutes < 1 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// A number of bytes with three digits, in powers of 1000 (Docker's `HumanSize`).
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    // 999.5 would be shown as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        // What would be rounded to 10.0 or 100 has one digit less behind the point.
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    let mut digits = format!("{value:.decimals$}");
    if digits.contains('.') {
        digits.truncate(digits.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{digits}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn spans_of_time_read_as_dockers() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (2, "2 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_are_counted_from_now() {
        let now = datetime!(2026-01-31 12:00:10 UTC);
        assert_eq!(seconds_since("2026-01-31T12:00:00.123456789Z", now), Some(9));
        assert_eq!(seconds_since("2026-01-31T13:00:00+01:00", now), Some(10));
        assert_eq!(seconds_since("2027-01-31T12:00:00Z", now), Some(0));
        assert_eq!(seconds_since("0001-01-01T00:00:00Z", now), None);
        assert_eq!(seconds_since("yesterday", now), None);
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (7_500_000, "7.5MB"),
            (9_996_000, "10MB"),
            (133_000_000, "133MB"),
            (999_400_000, "999MB"),
            (999_600_000, "1GB"),
            (1_230_000_000, "1.23GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
