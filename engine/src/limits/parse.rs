//! Values of the options of limits, in Docker's syntax.

use super::{ThrottleDevice, WeightDevice};
use crate::Error;
use crate::options::bytes;

/// Reads one value; what is wrong with it otherwise.
pub(super) type Read<T = ThrottleDevice> = fn(&str) -> Result<T, &'static str>;

/// Reads all values of an option.
pub(super) fn all<T>(
    option: &'static str,
    typed: &[String],
    read: Read<T>,
) -> Result<Vec<T>, Error> {
    typed.iter().map(|text| read(text).map_err(|why| Error::option(option, text, why))).collect()
}

/// Bytes with a unit; -1 is for memory and swap together only.
pub(super) fn memory(option: &'static str, typed: &Option<String>) -> Result<Option<i64>, Error> {
    let Some(text) = typed.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    if text == "-1" && option == "--memory-swap" {
        return Ok(Some(-1));
    }
    match bytes(text).map(i64::try_from) {
        Some(Ok(bytes)) => Ok(Some(bytes)),
        _ => Err(Error::option(option, text, "write a number of bytes, with k, m or g behind it")),
    }
}

/// `1.5`, in 1/1,000,000,000.
pub(super) fn cpus(typed: &Option<String>) -> Result<Option<i64>, Error> {
    let Some(text) = typed.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let read = || {
        if !digits(whole) || !digits(part) || whole.is_empty() && part.is_empty() || part.len() > 9
        {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: i64 = format!("{part:0<9}").parse().ok()?;
        whole.checked_mul(1_000_000_000)?.checked_add(part)
    };
    let why = "write a number of processors, as 1.5, with at most nine digits behind the point";
    read().map(Some).ok_or_else(|| Error::option("--cpus", text, why))
}

pub(super) fn cgroupns(text: &str) -> Result<String, Error> {
    match text {
        "" | "private" | "host" => Ok(text.to_owned()),
        _ => Err(Error::option("--cgroupns", text, "there are private and host")),
    }
}

/// Whether it is a list of numbers and ranges, as `0-2,7` (cpuset(7)).
pub(super) fn is_list(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().is_ok();
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(part),
    })
}

/// `PATH:VALUE`, of a device's node.
fn of_device(text: &str) -> Result<(String, &str), &'static str> {
    match text.rsplit_once(':') {
        Some((path, value)) if path.starts_with("/dev/") => Ok((path.to_owned(), value)),
        Some(_) => Err("the path begins with /dev/"),
        None => Err("write PATH:VALUE"),
    }
}

pub(super) fn weight(text: &str) -> Result<WeightDevice, &'static str> {
    let (path, value) = of_device(text)?;
    match value.parse() {
        Ok(weight @ (0 | 10..=1_000)) => Ok(WeightDevice { path, weight }),
        _ => Err("a weight goes from 10 to 1000"),
    }
}

pub(super) fn bps(text: &str) -> Result<ThrottleDevice, &'static str> {
    let (path, value) = of_device(text)?;
    let rate = bytes(value).ok_or("the rate is a number of bytes, with kb, mb or gb behind it")?;
    Ok(ThrottleDevice { path, rate })
}

pub(super) fn iops(text: &str) -> Result<ThrottleDevice, &'static str> {
    let (path, value) = of_device(text)?;
    let rate = value.parse().map_err(|_| "the rate is a number without a unit")?;
    Ok(ThrottleDevice { path, rate })
}

/// `c 1:3 rwm`, as cgroups of v1 have it.
pub(super) fn device_rule(text: &str) -> Result<String, &'static str> {
    const WHY: &str =
        "write KIND MAJOR:MINOR ACCESS, as 'c 1:3 rwm'; kinds are a, b and c, and * is any number";
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words[..] else { return Err(WHY) };
    let number = |word: &str| word == "*" || word.parse::<u32>().is_ok();
    let fits = matches!(kind, "a" | "b" | "c")
        && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
        && (1..=3).contains(&access.len())
        && access.bytes().all(|letter| b"rwm".contains(&letter));
    if fits { Ok(text.to_owned()) } else { Err(WHY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_read_exactly() {
        let read = |text: &str| cpus(&Some(text.to_owned())).unwrap();
        assert_eq!(read("1.5"), Some(1_500_000_000));
        assert_eq!(read(".01"), Some(10_000_000));
        assert_eq!(read("2."), Some(2_000_000_000));
        assert_eq!(read("0.000000001"), Some(1));
        assert_eq!(read(""), None);
        for wrong in [".", "1,5", "+1", "0.0000000001", "99999999999999"] {
            assert!(cpus(&Some(wrong.to_owned())).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[0-9a-z/:.*, -]{0,24}") {
            let _ = (cpus(&Some(text.clone())), memory("--memory", &Some(text.clone())));
            let _ = (weight(&text), bps(&text), iops(&text), device_rule(&text), is_list(&text));
        }
    }
}
