//! What a health check is: Docker's `.Config.Healthcheck`, of the command line and of the image.

use std::time::Duration;

use image_store::{Store, StoredImage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Container, Error, RunRequest};

const MILLISECOND: i64 = 1_000_000;

/// How a container's health is found out. What is 0 or empty is not said: then the image's holds, and
/// then Docker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", PROGRAM, ARG…]` or `["CMD-SHELL", SCRIPT]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nothing_is_empty")]
    pub test: Vec<String>,
    /// From the end of a check to the next one, in ns, as all of these.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long a check may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// How long a container may fail after its start.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// From a check to the next one in that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// After how many failures in a row it is unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Go writes an empty list as null.
fn nothing_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A health check with all of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) command: Vec<String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) start_period: Duration,
    pub(crate) start_interval: Duration,
    pub(crate) retries: u32,
}

impl Healthcheck {
    /// The check that there is not: `--no-healthcheck`.
    pub fn none() -> Healthcheck {
        Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }
    }

    /// What is to be done, where anything is; `shell` is the image's, for a check that is a script.
    pub(crate) fn check(&self, shell: Option<&[String]>) -> Option<Check> {
        let (kind, words) = self.test.split_first()?;
        let command: Vec<String> = match kind.as_str() {
            "CMD" => words.to_vec(),
            "CMD-SHELL" => {
                let default = ["/bin/sh", "-c"].map(str::to_owned);
                let shell = shell.filter(|shell| !shell.is_empty()).unwrap_or(&default);
                shell.iter().chain(words).cloned().collect()
            }
            _ => return None,
        };
        let or = |value: i64, default: u64| match u64::try_from(value) {
            Ok(1..) => Duration::from_nanos(value.unsigned_abs()),
            _ => Duration::from_secs(default),
        };
        Some(Check {
            command,
            interval: or(self.interval, 30),
            timeout: or(self.timeout, 30),
            start_period: or(self.start_period, 0),
            start_interval: or(self.start_interval, 5),
            retries: u32::try_from(self.retries).ok().filter(|&count| count > 0).unwrap_or(3),
        })
    }

    /// Refuses what Docker refuses.
    fn validate(&self) -> Result<(), Error> {
        for (what, value) in [
            ("interval of the health check", self.interval),
            ("timeout of the health check", self.timeout),
            ("start period of the health check", self.start_period),
            ("start interval of the health check", self.start_interval),
        ] {
            if value != 0 && value < MILLISECOND {
                let why = "it cannot be less than 1ms";
                return Err(Error::invalid(what, &crate::duration_text(value), why));
            }
        }
        if self.retries < 0 {
            let why = "it cannot be negative";
            return Err(Error::invalid(
                "retries of the health check",
                &self.retries.to_string(),
                why,
            ));
        }
        match self.test.first().map(String::as_str) {
            None | Some("NONE") => Ok(()),
            Some("CMD" | "CMD-SHELL") => match self.test.iter().find(|word| word.contains('\0')) {
                Some(word) => Err(Error::invalid("health check", word, "it has a NUL byte in it")),
                None => Ok(()),
            },
            Some(kind) => {
                let why = "its first word has to be NONE, CMD or CMD-SHELL";
                Err(Error::invalid("health check", kind, why))
            }
        }
    }
}

/// What an image says of it in its configuration (`raw`): its health check, and its shell. The OCI's
/// configuration has neither, so that it is Docker's that is read.
///
/// # Errors
/// What is there is no health check.
pub(crate) fn of_image(raw: &[u8]) -> Result<(Option<Healthcheck>, Option<Vec<String>>), Error> {
    let image: Value = serde_json::from_slice(raw).unwrap_or_default();
    let config = &image["config"];
    let wrong = |error: serde_json::Error| Error::ImageHealthcheck { problem: error.to_string() };
    let check = Option::<Healthcheck>::deserialize(&config["Healthcheck"]).map_err(wrong)?;
    let shell = Option::<Vec<String>>::deserialize(&config["Shell"]).unwrap_or_default();
    Ok((check, shell))
}

/// Gives a container its health check, the request's or the image's.
///
/// # Errors
/// As [`merge`]; what the image has is none, unless the request does without it.
pub(crate) fn add(
    store: &Store,
    mut container: Container,
    request: &RunRequest,
    image: &StoredImage,
) -> Result<Container, Error> {
    let (check, shell) = match &request.health {
        Some(own) if *own == Healthcheck::none() => (None, None),
        _ => of_image(&store.raw_config(&image.id)?)?,
    };
    container.config.healthcheck = merge(request.health.as_ref(), check)?;
    container.config.shell = shell;
    Ok(container)
}

/// The health check of a container: what the user says of it, and where nothing is said, the image's.
///
/// # Errors
/// A value breaks a rule ([`Error::Invalid`]).
pub(crate) fn merge(
    typed: Option<&Healthcheck>,
    image: Option<Healthcheck>,
) -> Result<Option<Healthcheck>, Error> {
    let or = |typed: i64, image: i64| if typed == 0 { image } else { typed };
    let merged = match (typed.cloned(), image) {
        (Some(typed), Some(image)) => Healthcheck {
            test: if typed.test.is_empty() { image.test } else { typed.test },
            interval: or(typed.interval, image.interval),
            timeout: or(typed.timeout, image.timeout),
            start_period: or(typed.start_period, image.start_period),
            start_interval: or(typed.start_interval, image.start_interval),
            retries: or(typed.retries, image.retries),
        },
        (typed, image) => match typed.or(image) {
            Some(one) => one,
            None => return Ok(None),
        },
    };
    merged.validate()?;
    Ok(Some(merged))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn an_images_check_is_read_as_docker_writes_it() {
        let raw =
            br#"{"config": {"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5000000000,
            "Retries": 2}, "Shell": ["/bin/ash", "-c"]}}"#;
        let (check, shell) = of_image(raw).unwrap();
        let check = check.unwrap();
        assert_eq!((check.interval, check.retries), (5_000_000_000, 2));
        let all = check.check(shell.as_deref()).unwrap();
        assert_eq!(all.command, words(&["/bin/ash", "-c", "true"]));
        assert_eq!((all.interval, all.timeout), (Duration::from_secs(5), Duration::from_secs(30)));
        assert_eq!(all.start_period, Duration::ZERO);
        assert_eq!((all.start_interval, all.retries), (Duration::from_secs(5), 2));
        for none in
            [&b"{}"[..], br#"{"config": null}"#, br#"{"config": {"Healthcheck": null}}"#, b""]
        {
            assert_eq!(of_image(none).unwrap(), (None, None));
        }
        let null = of_image(br#"{"config": {"Healthcheck": {"Test": null}}}"#).unwrap().0.unwrap();
        assert_eq!((null.check(None), null), (None, Healthcheck::default()));
        for wrong in [
            &br#"{"config": {"Healthcheck": 1}}"#[..],
            br#"{"config": {"Healthcheck": {"Test": "x"}}}"#,
        ] {
            let error = of_image(wrong).unwrap_err().to_string();
            assert!(error.contains("health check"), "{error}");
        }
    }

    #[test]
    fn what_is_said_takes_the_place_of_the_images() {
        let image = Healthcheck {
            test: words(&["CMD", "a"]),
            interval: 7 * MILLISECOND,
            retries: 5,
            ..Healthcheck::default()
        };
        let typed = Healthcheck { interval: MILLISECOND, ..Healthcheck::default() };
        let merged = merge(Some(&typed), Some(image.clone())).unwrap().unwrap();
        assert_eq!(merged, Healthcheck { interval: MILLISECOND, ..image.clone() });
        assert_eq!(merge(None, Some(image.clone())).unwrap(), Some(image.clone()));
        assert_eq!(merge(None, None).unwrap(), None);
        let none = merge(Some(&Healthcheck::none()), Some(image)).unwrap().unwrap();
        assert_eq!(none.check(None), None);
        // A shell's script without an image's shell.
        let script = Healthcheck { test: words(&["CMD-SHELL", "x y"]), ..Healthcheck::default() };
        assert_eq!(script.check(None).unwrap().command, words(&["/bin/sh", "-c", "x y"]));
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let base = Healthcheck { test: words(&["CMD", "a"]), ..Healthcheck::default() };
        for (check, word) in [
            (Healthcheck { interval: MILLISECOND - 1, ..base.clone() }, "interval"),
            (Healthcheck { timeout: -1, ..base.clone() }, "timeout"),
            (Healthcheck { start_period: 1, ..base.clone() }, "start period"),
            (Healthcheck { start_interval: 1, ..base.clone() }, "start interval"),
            (Healthcheck { retries: -1, ..base.clone() }, "retries"),
            (Healthcheck { test: words(&["TCP", "80"]), ..base.clone() }, "CMD-SHELL"),
            (Healthcheck { test: words(&["CMD", "a\0"]), ..base.clone() }, "NUL"),
        ] {
            let error = merge(Some(&check), None).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        merge(Some(&Healthcheck { interval: MILLISECOND, ..base }), None).unwrap();
    }
}
