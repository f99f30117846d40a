//! The table of docs/kernel-features.md: which kernel lacks what, so which skip is one.

use std::path::Path;

use anyhow::{Context, bail};

/// What a test prints to say that it cannot run on this kernel: `SKIPPED: feature NAME: reason`.
const MARK: &str = "SKIPPED: feature ";

/// A kernel's version, as far as features are told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32);

impl Version {
    /// Reads `6.12`, or `6.12.5-cloud`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Version> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Version(major, minor)),
            _ => bail!("{text:?} is no kernel version: it reads as MAJOR.MINOR"),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.0, self.1)
    }
}

/// The features that the project uses, and the least kernel of each.
#[derive(Debug)]
pub(super) struct Features(Vec<(String, Version)>);

impl Features {
    /// Reads the table in a file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Features> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Features::parse(&text).with_context(|| format!("reading the table in {}", path.display()))
    }

    /// Reads the rows `| feature | least version | fallback | test |` below the head of that form.
    pub(super) fn parse(text: &str) -> anyhow::Result<Features> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with("| feature |"));
        if lines.next().is_none() || lines.next().is_none() {
            bail!("there is no row `| feature | least version | fallback | test |`");
        }
        let mut rows = Vec::new();
        for line in lines.take_while(|line| line.starts_with('|')) {
            let cells: Vec<_> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, version, _fallback, _test] = cells[..] else {
                bail!("the row {line:?} has {} cells and not four", cells.len());
            };
            let version =
                Version::parse(version).with_context(|| format!("in the row {line:?}"))?;
            rows.push((name.trim_matches('`').to_owned(), version));
        }
        Ok(Features(rows))
    }

    /// What a test's output says about a skip: nothing, `Ok(reason)` for one that the table allows on this kernel,
    /// or `Err(why it counts as a failure)`.
    pub(super) fn skip(&self, kernel: Version, output: &str) -> Option<Result<String, String>> {
        // The harness prints `test NAME ... ` without an end of line before the test's own output.
        let (_, said) = output.lines().find_map(|line| line.split_once(MARK))?;
        let name = said.split(':').next().unwrap_or_default().trim();
        Some(match self.0.iter().find(|(feature, _)| feature == name) {
            None => {
                Err(format!("skipped for {name:?}, which docs/kernel-features.md does not list"))
            }
            Some((_, least)) if *least <= kernel => Err(format!(
                "skipped for {name}, which kernel {kernel} has (docs/kernel-features.md: since {least})"
            )),
            Some(_) => Ok(said.trim().to_owned()),
        })
    }
}
