//! Properties that annotations of a container give its unit, as runc and crun read them:
//! `"org.systemd.property.TimeoutStopUSec": "uint64 123456789"`.

use zvariant::Value;

use crate::{Error, Property, text};

/// What the names of these annotations begin with.
pub const PREFIX: &str = "org.systemd.property.";

/// The properties of a container's annotations, in the order of their names.
///
/// # Errors
/// A name is none of a property, or a value is not in GVariant's text form; the error names the annotation.
pub fn properties<'a>(
    annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<Property>, Error> {
    let named = |(key, value): (&'a String, &'a String)| Some((key.strip_prefix(PREFIX)?, value));
    let mut found: Vec<_> = annotations.into_iter().filter_map(named).collect();
    found.sort();
    found.into_iter().map(|(name, value)| property(name, value)).collect()
}

fn property(name: &str, text: &str) -> Result<Property, Error> {
    let wrong = |reason| Error::field(format!("annotations[\"{PREFIX}{name}\"]"), reason);
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(wrong("its end is no property of a unit, as TimeoutStopUSec is".to_owned()));
    }
    let value = text::parse(text).map_err(|reason| {
        wrong(format!("{text:?} is no value in GVariant's text form, as \"uint64 5\" or \"'word'\" is: {reason}"))
    })?;
    // What unit files have in seconds, D-Bus has in µs.
    match name.strip_suffix("Sec") {
        Some(stem) if stem.ends_with(|last: char| last.is_ascii_lowercase()) => {
            let of = micros(&value).ok_or_else(|| wrong(format!("{text:?} is no time")))?;
            Ok((format!("{stem}USec"), of.into()))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

/// Seconds, as µs.
fn micros(value: &Value<'_>) -> Option<u64> {
    let seconds = match value {
        Value::U8(number) => u64::from(*number),
        Value::U16(number) => u64::from(*number),
        Value::U32(number) => u64::from(*number),
        Value::U64(number) => *number,
        Value::I16(number) => u64::try_from(*number).ok()?,
        Value::I32(number) => u64::try_from(*number).ok()?,
        Value::I64(number) => u64::try_from(*number).ok()?,
        Value::F64(number) if (0.0..1e12).contains(number) => return Some((number * 1e6) as u64),
        _ => return None,
    };
    seconds.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Result<Vec<Property>, String> {
        let (name, value) = (name.to_owned(), value.to_owned());
        properties([(&name, &value)]).map_err(|error| error.to_string())
    }

    #[test]
    fn annotations_are_properties() {
        for (name, text, property, value) in [
            ("TimeoutStopUSec", "uint64 5", "TimeoutStopUSec", Value::U64(5)),
            ("TimeoutStopSec", "5", "TimeoutStopUSec", Value::U64(5_000_000)),
            ("TimeoutStopSec", "0.5", "TimeoutStopUSec", Value::U64(500_000)),
            ("CollectMode", "'inactive'", "CollectMode", "inactive".into()),
            ("KillSignal", "37", "KillSignal", Value::I32(37)),
        ] {
            let name = format!("{PREFIX}{name}");
            assert_eq!(of(&name, text), Ok(vec![(property.to_owned(), value)]), "{name}");
        }
        assert_eq!(of("org.example.key", "value"), Ok(vec![]));
    }

    #[test]
    fn what_is_no_property_names_its_annotation() {
        for (name, text) in [
            ("a", "1"),
            ("A=b", "1"),
            ("", "1"),
            ("Slice", "x.slice"),
            ("TimeoutStopSec", "'1'"),
            ("TimeoutStopSec", "-1"),
        ] {
            let name = format!("{PREFIX}{name}");
            let error = of(&name, text).unwrap_err();
            assert!(error.starts_with(&format!("annotations[{name:?}]: ")), "{error}");
        }
    }
}
