//! `--filter key=value`: what of a list is shown.

use std::collections::BTreeMap;

/// The filters as typed.
#[derive(Debug, Default)]
pub(crate) struct Filters(Vec<(String, String)>);

impl Filters {
    /// Reads `key=value` words; `known` are the verb's keys.
    ///
    /// # Errors
    /// A word without `=`, or a key that the verb does not have.
    pub(crate) fn parse(typed: &[String], known: &[&str]) -> anyhow::Result<Filters> {
        let mut filters = Vec::new();
        for text in typed {
            let Some((key, value)) = text.split_once('=') else {
                anyhow::bail!(
                    "invalid filter {text:?} (should be name=value): use --filter KEY=VALUE"
                );
            };
            let (key, value) = (key.trim().to_lowercase(), value.trim());
            if !known.contains(&&key[..]) {
                anyhow::bail!("invalid filter {key:?}: there are {}", known.join(", "));
            }
            filters.push((key, value.to_owned()));
        }
        Ok(Filters(filters))
    }

    /// Whether there are filters with this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values(key).next().is_some()
    }

    /// The values of a key, in the order typed.
    pub(crate) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == key).map(|(_, value)| &value[..])
    }

    /// Whether one of the key's values is meant, or the key is not filtered by.
    pub(crate) fn any(&self, key: &str, is_meant: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(is_meant)
    }

    /// Whether all of the `label` filters hold: `key`, or `key=value`.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label").all(|wanted| has_label(labels, wanted))
    }

    /// Whether one of the `label!` filters, of the same form, holds.
    pub(crate) fn labels_to_keep(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label!").any(|wanted| has_label(labels, wanted))
    }

    /// A filter that is `true` or `false`.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn truth(&self, key: &str) -> anyhow::Result<Option<bool>> {
        match self.values(key).last() {
            None => Ok(None),
            Some("1" | "t" | "true" | "True" | "TRUE") => Ok(Some(true)),
            Some("0" | "f" | "false" | "False" | "FALSE") => Ok(Some(false)),
            Some(other) => anyhow::bail!("invalid filter '{key}={other}': use true or false"),
        }
    }
}

/// Whether there is the label `key`, or `key=value`.
fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(typed: &[&str]) -> anyhow::Result<Filters> {
        let typed: Vec<String> = typed.iter().map(|&text| text.to_owned()).collect();
        Filters::parse(&typed, &["name", "label", "dangling"])
    }

    #[test]
    fn one_of_a_keys_values_is_enough_and_all_labels_are_needed() {
        let all = filters(&["name=a", "NAME = b", "label=x", "label=y=1=2"]).unwrap();
        assert!(all.any("name", |value| value == "b") && !all.any("name", |value| value == "c"));
        assert!(all.any("dangling", |_| false));
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(all.labels(&labels(&[("x", ""), ("y", "1=2")])));
        assert!(!all.labels(&labels(&[("x", ""), ("y", "1")])));
        assert!(!all.labels(&labels(&[("y", "1=2")])));
    }

    #[test]
    fn what_is_no_filter_is_said() {
        assert!(filters(&["name"]).unwrap_err().to_string().contains("name=value"));
        let error = filters(&["nmae=x"]).unwrap_err().to_string();
        assert!(error.contains("\"nmae\"") && error.contains("name, label"), "{error}");
        assert!(filters(&["dangling=maybe"]).unwrap().truth("dangling").is_err());
        assert_eq!(filters(&["dangling=0"]).unwrap().truth("dangling").unwrap(), Some(false));
        assert_eq!(filters(&[]).unwrap().truth("dangling").unwrap(), None);
    }
}
