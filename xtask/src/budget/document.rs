//! docs/syscalls.md: a table for each kind of machine, a column for each command, a row for each call.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Counted, Counts};

const INTRODUCTION: &str = "\
# System calls of a start

How often each command calls the kernel, up to the exec of the container's program, which has Docker's default
configuration and does nothing: what `strace -f` counts, the smallest of three runs. `cargo xtask budget` counts
again, and fails where there are more; `cargo xtask budget --write` writes this file. A time drifts with the
machine and its neighbours, a count does not.

`oci` is runtime-oci, the others are runtime-bin's. `oci create` has the calls of the container's process after `oci start`
too, and `run -d` those of the supervisor to the end.
Programs are static ones.
";

const TOTAL: &str = "in all";

/// The budgets, by kind of machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document(Vec<(String, Counted)>);

impl Document {
    /// Reads it; one that is not there is empty.
    pub(super) fn read(path: &Path) -> Result<Document> {
        match fs::read_to_string(path) {
            Ok(text) => Document::parse(&text)
                .with_context(|| format!("{} is not as this task writes it", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Document::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(super) fn budget(&self, machine: &str) -> Option<Counted> {
        self.0.iter().find(|(name, _)| name == machine).map(|(_, counted)| counted.clone())
    }

    pub(super) fn set(&mut self, machine: &str, counted: Counted) {
        self.0.retain(|(name, _)| name != machine);
        self.0.push((machine.to_owned(), counted));
        self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
    }

    fn parse(text: &str) -> Result<Document> {
        let mut document = Document::default();
        for line in text.lines() {
            if let Some(machine) = line.strip_prefix("## ") {
                document.0.push((machine.to_owned(), Counted::new()));
            }
            let Some(row) = line.strip_prefix("| ") else { continue };
            let (_, counted) = document.0.last_mut().context("a table has no title")?;
            let cells: Vec<&str> = row.trim_end_matches(" |").split('|').map(str::trim).collect();
            let (name, cells) = (cells[0], &cells[1..]);
            if counted.is_empty() {
                *counted = cells.iter().map(|cell| ((*cell).to_owned(), Counts::new())).collect();
                continue;
            }
            if cells.len() != counted.len() {
                bail!("the row of {name} has {} numbers", cells.len());
            }
            for (cell, (command, counts)) in cells.iter().zip(counted) {
                if !cell.is_empty() && name != TOTAL {
                    let count = cell
                        .parse()
                        .with_context(|| format!("{name} of {command}: {cell:?} is no number"))?;
                    counts.insert(name.to_owned(), count);
                }
            }
        }
        Ok(document)
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(INTRODUCTION)?;
        for (machine, counted) in &self.0 {
            writeln!(f, "\n## {machine}\n")?;
            let heads: Vec<&str> = counted.iter().map(|(command, _)| &command[..]).collect();
            let row = |f: &mut fmt::Formatter<'_>, name: &str, cells: &[String]| {
                write!(f, "| {name:<18} |")?;
                for (cell, head) in cells.iter().zip(&heads) {
                    write!(f, " {cell:>width$} |", width = head.len().max(5))?;
                }
                writeln!(f)
            };
            row(f, "call", &heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>())?;
            write!(f, "|{}|", "-".repeat(20))?;
            for head in &heads {
                write!(f, "{}:|", "-".repeat(head.len().max(5) + 1))?;
            }
            writeln!(f)?;
            let totals: Vec<String> = counted
                .iter()
                .map(|(_, counts)| counts.values().sum::<u64>().to_string())
                .collect();
            row(f, TOTAL, &totals)?;
            let names: BTreeSet<&String> =
                counted.iter().flat_map(|(_, counts)| counts.keys()).collect();
            for name in names {
                let cell =
                    |counts: &Counts| counts.get(name).map(u64::to_string).unwrap_or_default();
                let cells: Vec<String> = counted.iter().map(|(_, counts)| cell(counts)).collect();
                row(f, name, &cells)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(calls: &[(&str, u64)]) -> Counts {
        calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut document = Document::default();
        let run = ("x run".to_owned(), counts(&[("openat", 12), ("read", 3)]));
        let delete = ("delete".to_owned(), counts(&[("openat", 1)]));
        document.set("b", vec![run.clone(), delete.clone()]);
        document.set("a", vec![run.clone()]);
        document.set("b", vec![run, delete.clone()]);
        let text = document.to_string();
        assert!(text.contains("| in all             |    15 |      1 |"), "{text}");
        assert!(text.contains("| read               |     3 |        |"), "{text}");
        let read = Document::parse(&text).unwrap();
        assert_eq!(read, document);
        assert_eq!(read.budget("b").unwrap()[1], delete);
        assert_eq!(read.budget("c"), None);
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        let text = "## m\n| call | run |\n|---|--:|\n| read | x |\n";
        let error = Document::parse(text).unwrap_err();
        assert!(format!("{error:#}").contains("read of run: \"x\" is no number"), "{error:#}");
        assert!(Document::parse("| call | run |\n").is_err());
        assert!(Document::parse("## m\n| call | run |\n| read | 1 | 2 |\n").is_err());
    }
}
