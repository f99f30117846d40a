//! `--log-driver` and `--log-opt`: read, checked, and what comes of them for a log.

use std::collections::BTreeMap;

use crate::Error;
use crate::log::{Form, Limits};
use crate::record::LogConfig;

/// What is written down of the driver and its options.
///
/// # Errors
/// A driver or an option that there is not, or a value that breaks a rule ([`Error::Option`]).
pub(crate) fn read(driver: Option<&str>, options: &[String]) -> Result<LogConfig, Error> {
    let kind = driver.filter(|driver| !driver.is_empty()).unwrap_or("local");
    if !["local", "json-file", "none"].contains(&kind) {
        return Err(Error::option("--log-driver", kind, "there are local, json-file and none"));
    }
    let mut config = BTreeMap::new();
    for text in options {
        let bad = |why| Error::option("--log-opt", text, why);
        if kind == "none" {
            return Err(bad("the driver none has no options"));
        }
        let (key, value) = text.split_once('=').ok_or_else(|| bad("write KEY=VALUE"))?;
        match key {
            // -1 is Docker's word for no limit.
            "max-size" if value != "-1" && size(value).is_none() => {
                return Err(bad(
                    "write a size as 10m: a number from 1 on, with k, m or g behind it",
                ));
            }
            "max-file" if count(value).is_none() => {
                return Err(bad("write a number from 1 on"));
            }
            "max-size" | "max-file" => config.insert(key.to_owned(), value.to_owned()),
            _ => return Err(bad("local and json-file have max-size and max-file here")),
        };
    }
    Ok(LogConfig { kind: kind.to_owned(), config })
}

impl LogConfig {
    /// The form of a container's log; `None`: it has none. Who has nothing written down of it was made when
    /// json-file was all that there was.
    pub(crate) fn form(config: Option<&LogConfig>) -> Option<Form> {
        match config.map_or("json-file", |config| &config.kind) {
            "none" => None,
            "local" => Some(Form::Local),
            _ => Some(Form::Json),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            size: self.config.get("max-size").and_then(|text| size(text)),
            files: self.config.get("max-file").and_then(|text| count(text)).unwrap_or(1),
        }
    }
}

/// Bytes. The units are powers of 1000, as in Docker for this option.
fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let short = lower.strip_suffix('b').unwrap_or(&lower);
    let unit = match short.chars().last()? {
        'k' => 1_000,
        'm' => 1_000_000,
        'g' => 1_000_000_000,
        _ => return None,
    };
    let number = &short[..short.len() - 1];
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse::<u64>().ok().filter(|&number| digits && number > 0)?;
    number.checked_mul(unit)
}

fn count(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(driver: Option<&str>, options: &[&str]) -> Result<LogConfig, String> {
        let options: Vec<String> = options.iter().map(|&text| text.to_owned()).collect();
        read(driver, &options).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_is_written_down_by_dockers_names() {
        for (driver, kind, form) in [
            (None, "local", Some(Form::Local)),
            (Some(""), "local", Some(Form::Local)),
            (Some("local"), "local", Some(Form::Local)),
            (Some("json-file"), "json-file", Some(Form::Json)),
            (Some("none"), "none", None),
        ] {
            let log = taken(driver, &[]).unwrap();
            assert_eq!((&*log.kind, LogConfig::form(Some(&log))), (kind, form));
            assert_eq!(log.limits(), Limits::default());
        }
        assert_eq!(LogConfig::form(None), Some(Form::Json));
        let options = ["max-size=1m", "max-file=3", "max-size=10m"];
        let log = taken(Some("json-file"), &options).unwrap();
        assert_eq!(log.limits(), Limits { size: Some(10_000_000), files: 3 });
        let json = serde_json::json!({"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}});
        assert_eq!(serde_json::to_value(&log).unwrap(), json);
        assert_eq!(serde_json::from_value::<LogConfig>(json).unwrap(), log);
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("1k", 1000), ("20K", 20_000), ("5m", 5_000_000), ("2g", 2_000_000_000), ("3kb", 3000)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        let wrong = [
            "",
            "0k",
            "1",
            "-1",
            "k",
            "b",
            "1.5m",
            "+1k",
            " 1k",
            "1kk",
            "1t",
            "18446744073709552k",
            "1\u{e4}",
        ];
        for text in wrong {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for text in ["x", "max-size=100", "max-size=0k", "max-file=0", "max-file=x", "tag=x"] {
            let error = taken(None, &[text]).unwrap_err();
            assert!(error.contains("--log-opt") && error.contains(text), "{error}");
        }
        assert!(taken(Some("syslog"), &[]).unwrap_err().contains("--log-driver \"syslog\""));
        assert!(taken(Some("none"), &["max-size=1m"]).unwrap_err().contains("none has no options"));
    }
}
