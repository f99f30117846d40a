//! What the verbs have in common that remove all that is unused.

use std::collections::BTreeMap;
use std::io::BufRead;

use clap::Args;
use time::{Duration, OffsetDateTime};

use crate::filter::Filters;
use crate::format::size;
use crate::output;

/// Whether it is asked first.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Confirm {
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Confirm {
    /// Asks on the terminal whether to go on; yes with `--force`.
    ///
    /// # Errors
    /// Standard input or output fails.
    pub(crate) fn ask(self, warning: &str) -> anyhow::Result<bool> {
        if self.force {
            return Ok(true);
        }
        output::print(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "))?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y"))
    }
}

/// Prints what went: each kind with its heading, if there is any, and the room.
///
/// # Errors
/// Standard output fails.
pub(crate) fn report(kinds: &[(&str, &[String])], bytes: u64) -> anyhow::Result<()> {
    let mut text = String::new();
    for (heading, names) in kinds {
        if !names.is_empty() {
            text += &format!("{heading}\n{}\n\n", names.join("\n"));
        }
    }
    output::print(&format!("{text}Total reclaimed space: {}\n", size(bytes)))
}

/// Whether the filters `label` and `label!` want it removed.
pub(crate) fn labels(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    let has = |wanted: &str| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    };
    filters.labels(labels) && !filters.values("label!").any(has)
}

/// The time that the filter `until` names, if there is one: what was made before it goes. A span
/// (`24h`, `1h30m`), seconds since 1970, or a date.
///
/// # Errors
/// It is none of these.
pub(crate) fn until(filters: &Filters) -> anyhow::Result<Option<OffsetDateTime>> {
    let Some(text) = filters.values("until").last() else { return Ok(None) };
    let now = OffsetDateTime::now_utc();
    let time = span(text).and_then(|span| now.checked_sub(span)).or_else(|| moment(text));
    match time {
        Some(time) => Ok(Some(time)),
        None => anyhow::bail!(
            "invalid filter 'until={text}': write a span as 24h or a time as 2026-01-31T12:00:00"
        ),
    }
}

/// Go's durations: `1h30m`, `10s`, `1.5h`.
fn span(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..letters] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    (!text.is_empty() && seconds < 1e10).then(|| Duration::seconds_f64(seconds))
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    use time::format_description::well_known::Rfc3339;
    if let Ok(seconds) = text.parse::<i64>() {
        return OffsetDateTime::from_unix_timestamp(seconds).ok();
    }
    let full = ["", "Z", "T00:00:00Z"].map(|end| format!("{text}{end}"));
    full.iter().find_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spans_or_dates() {
        assert_eq!(span("1h30m"), Some(Duration::minutes(90)));
        assert_eq!(span("0.5s"), Some(Duration::milliseconds(500)));
        for text in ["", "h", "1", "1x", "-1h", "1h-", "1e400h", "99999999999999h"] {
            assert_eq!(span(text), None, "{text}");
        }
        assert_eq!(moment("86400"), moment("1970-01-02"));
        assert_eq!(moment("1970-01-02T00:00:00"), moment("1970-01-02T01:00:00+01:00"));
        assert_eq!(moment("yesterday"), None);
        let filters = Filters::parse(&["until=soon".to_owned()], &["until"]).unwrap();
        assert!(until(&filters).unwrap_err().to_string().contains("until=soon"));
    }

    #[test]
    fn a_label_can_be_what_keeps_it() {
        let typed = ["label=a", "label!=keep"].map(str::to_owned);
        let filters = Filters::parse(&typed, &["label", "label!"]).unwrap();
        let of =
            |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), String::new())).collect();
        assert!(labels(&filters, &of(&["a"])));
        assert!(!labels(&filters, &of(&["a", "keep"])) && !labels(&filters, &of(&[])));
    }
}
