//! Durations as Go writes them, in nanoseconds: Docker's options and records have them so.

const MICROSECOND: i64 = 1_000;
const MILLISECOND: i64 = 1_000 * MICROSECOND;
const SECOND: i64 = 1_000 * MILLISECOND;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Go's units; the micro sign and the Greek letter both.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", MICROSECOND),
    ("\u{b5}s", MICROSECOND),
    ("\u{3bc}s", MICROSECOND),
    ("ms", MILLISECOND),
    ("s", SECOND),
    ("m", MINUTE),
    ("h", HOUR),
];

/// `1m30s`, `1.5h`, `-300ms`, `0`: numbers with units behind them. `None`: it is none, or more than 292
/// years.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut rest = Some(rest).filter(|rest| !rest.is_empty())?;
    let mut sum: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(times(number, *unit)?)?;
        rest = behind;
    }
    Some(if negative { -sum } else { sum })
}

/// A decimal number of units, without what is smaller than a nanosecond.
fn times(number: &str, unit: i64) -> Option<i64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.contains('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // 18 places are less than a nanosecond of an hour, and all that a power of ten has room for.
    let part = &part[..part.len().min(18)];
    let (number, places) = match part.len() {
        0 => (0, 0),
        places => (part.parse::<i128>().ok()?, places),
    };
    let scale = 10_i128.pow(u32::try_from(places).ok()?);
    let part = i64::try_from(number * i128::from(unit) / scale).ok()?;
    whole.checked_mul(unit)?.checked_add(part)
}

/// As Go prints it: `1m30s`, `1.5s`, `300ms`, `0s`.
pub fn duration_text(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let size = nanoseconds.unsigned_abs();
    let unit = |value: i64| value.unsigned_abs();
    let text = match size {
        0 => "0s".to_owned(),
        _ if size < unit(MICROSECOND) => format!("{size}ns"),
        _ if size < unit(MILLISECOND) => decimal(size, unit(MICROSECOND), "\u{b5}s"),
        _ if size < unit(SECOND) => decimal(size, unit(MILLISECOND), "ms"),
        _ => {
            let (hours, rest) = (size / unit(HOUR), size % unit(HOUR));
            let (minutes, rest) = (rest / unit(MINUTE), rest % unit(MINUTE));
            let seconds = decimal(rest, unit(SECOND), "s");
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

/// So many units, with as many places as it takes.
fn decimal(value: u64, unit: u64, name: &str) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return format!("{whole}{name}");
    }
    let places = unit.ilog10() as usize;
    let part = format!("{part:0places$}");
    format!("{whole}.{}{name}", part.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, nanoseconds, printed) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1ns", 1, "1ns"),
            ("1.5us", 1500, "1.5µs"),
            ("2µs", 2000, "2µs"),
            ("300ms", 300 * MILLISECOND, "300ms"),
            ("1.5s", 1500 * MILLISECOND, "1.5s"),
            ("30s", 30 * SECOND, "30s"),
            ("90s", 90 * SECOND, "1m30s"),
            ("1m30s", 90 * SECOND, "1m30s"),
            ("1.5h", 90 * MINUTE, "1h30m0s"),
            (".5m", 30 * SECOND, "30s"),
            ("1.h", HOUR, "1h0m0s"),
            ("0.001h", 3600 * MILLISECOND, "3.6s"),
            ("0.3333333333333333333h", 1_199_999_999_999, "19m59.999999999s"),
            ("-1m", -MINUTE, "-1m0s"),
            ("+5s", 5 * SECOND, "5s"),
            ("2562047h47m16.854775807s", i64::MAX, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(parse_duration(text), Some(nanoseconds), "{text}");
            assert_eq!(duration_text(nanoseconds), printed, "{text}");
        }
        for text in [
            "", "-", "1", "s", ".s", "1..5s", "1.5.5s", "1y", "1 s", "1h30", "2562048h", "1e3s",
            "--1s",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read(nanoseconds in i64::MIN + 1..=i64::MAX) {
            let text = duration_text(nanoseconds);
            proptest::prop_assert_eq!(parse_duration(&text), Some(nanoseconds));
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,20}") {
            let _ = parse_duration(&text);
        }
    }
}
