//! What the verbs have in common that remove all that is unused.

use std::collections::BTreeMap;
use std::io::BufRead;

use clap::Args;
use engine::Pruned;
use time::OffsetDateTime;

use crate::filter::Filters;
use crate::format::size;
use crate::{moment, output};

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

/// Prints what went: each kind with its heading, if there is any, and the room; and tells what could not be
/// removed. Returns the exit status.
///
/// # Errors
/// Standard output fails.
pub(crate) fn report(kinds: &[(&str, &Pruned)]) -> anyhow::Result<u8> {
    let mut text = String::new();
    for (heading, pruned) in kinds {
        if !pruned.names.is_empty() {
            text += &format!("{heading}\n{}\n\n", pruned.names.join("\n"));
        }
    }
    let bytes = kinds.iter().map(|(_, pruned)| pruned.bytes).sum();
    output::print(&format!("{text}Total reclaimed space: {}\n", size(bytes)))?;
    Ok(output::complain_of_each(kinds.iter().flat_map(|(_, pruned)| &pruned.failed)))
}

/// Whether the filters `label` and `label!` want it removed.
pub(crate) fn labels(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    filters.labels(labels) && !filters.labels_to_keep(labels)
}

/// The time that the filter `until` names, if there is one: what was made before it goes. A span
/// (`24h`, `1h30m`), seconds since 1970, or a date.
///
/// # Errors
/// It is none of these.
pub(crate) fn until(filters: &Filters) -> anyhow::Result<Option<OffsetDateTime>> {
    let Some(text) = filters.values("until").last() else { return Ok(None) };
    match moment::parse(text, OffsetDateTime::now_utc()) {
        Some(time) => Ok(Some(time)),
        None => anyhow::bail!(
            "invalid filter 'until={text}': write a span as 24h or a time as 2026-01-31T12:00:00"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_named() {
        let filter = |text: &str| Filters::parse(&[format!("until={text}")], &["until"]).unwrap();
        assert!(until(&filter("soon")).unwrap_err().to_string().contains("until=soon"));
        let day = until(&filter("1970-01-02")).unwrap();
        assert_eq!(day, until(&filter("86400")).unwrap());
        let before = until(&filter("1h")).unwrap().unwrap();
        assert_eq!((OffsetDateTime::now_utc() - before).whole_minutes(), 60);
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
