//! Documents that name tests: each test that a table of docs/ names is in the sources.
//!
//! A document says once what its letters stand for: a letter between backquotes, and, within the next words, a folder.
//! From then on `R escape::by_name` is the function `by_name` of escape.rs below the folder of `R`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Finding, finding};

/// Words between a letter and its folder at most.
const APART: usize = 6;

/// Checks a document: `source` gives the text of a file of the tree, if there is one.
pub(super) fn check(
    path: &Path,
    text: &str,
    source: impl Fn(&Path) -> Option<String>,
) -> Vec<Finding> {
    let folders = folders(text);
    let mut findings = Vec::new();
    if folders.is_empty() {
        return findings;
    }
    let mut of_tests = false;
    for (number, line) in text.lines().enumerate() {
        let tests = tests(line, &folders);
        for (folder, name) in &tests {
            if !is_there(folder, name, &source) {
                let sentence = format!("there is no test {name} below {}", folder.display());
                findings.push(finding(path, number + 1, sentence));
            }
        }
        let Some(last) = line.trim().strip_suffix('|').and_then(|line| line.rsplit('|').next())
        else {
            of_tests = false;
            continue;
        };
        match last.trim() {
            "test" => of_tests = true,
            cell if !cell.starts_with("--") && of_tests && tests.is_empty() => {
                findings.push(finding(path, number + 1, "this row names no test"));
            }
            _ => {}
        }
    }
    findings
}

/// What the letters of a document stand for.
fn folders(text: &str) -> BTreeMap<String, PathBuf> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let letter = |at: usize| {
        let word = words[at].strip_prefix('`')?.strip_suffix('`')?;
        let is_letter = word.len() == 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        let mut next = words[at + 1..].iter().take(APART);
        let folder = next.find(|word| word.contains('/')).filter(|_| is_letter)?;
        let folder = folder.trim_matches(|c: char| !c.is_alphanumeric());
        Some((word.to_owned(), PathBuf::from(folder)))
    };
    (0..words.len()).filter_map(letter).collect()
}

/// The tests that a line names: folder, and modules with the function.
fn tests<'t>(line: &'t str, folders: &BTreeMap<String, PathBuf>) -> Vec<(PathBuf, &'t str)> {
    let outside = |c: char| !(c.is_alphanumeric() || c == '_');
    let words: Vec<&str> = line.split([' ', '|']).filter(|word| !word.is_empty()).collect();
    let pairs = words.windows(2).filter_map(|pair| {
        let folder = folders.get(pair[0].trim_matches(outside))?;
        let name = pair[1].trim_matches(outside);
        name.contains("::").then(|| (folder.clone(), name))
    });
    pairs.collect()
}

/// Whether the function is in the file of its module, or of a module around that.
fn is_there(folder: &Path, name: &str, source: &impl Fn(&Path) -> Option<String>) -> bool {
    let Some((modules, function)) = name.rsplit_once("::") else { return false };
    let modules: Vec<&str> = modules.split("::").collect();
    let wanted = format!("fn {function}(");
    (1..=modules.len()).rev().any(|count| {
        let module = folder.join(modules[..count].join("/"));
        let text = source(&module.with_extension("rs")).or_else(|| source(&module.join("mod.rs")));
        text.is_some_and(|text| text.contains(&wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "`R` is runtime-bin/tests/it, `E` the unit tests of\nengine/src.\n\n";

    fn found(rows: &str) -> Vec<String> {
        let source = |path: &Path| match path.to_str().unwrap() {
            "runtime-bin/tests/it/escape.rs" => Some("#[test]\nfn by_name() {}\n".to_owned()),
            "runtime-bin/tests/it/oci/exec.rs" => Some("fn options() {}".to_owned()),
            "engine/src/user.rs" => Some("mod tests {\nfn numbers() {}".to_owned()),
            _ => None,
        };
        let found = check(Path::new("a.md"), &format!("{HEAD}{rows}"), source);
        found.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn what_is_there_is_content() {
        assert_eq!(
            found("R escape::by_name, R oci::exec::options; E user::tests::numbers."),
            [""; 0]
        );
        let table =
            "| attack | test |\n|---|---|\n| x | R escape::by_name |\n\n| a | b |\n| c | d |\n";
        assert_eq!(found(table), [""; 0]);
        let without_letters = check(Path::new("a.md"), "R no::such", |_| None);
        assert_eq!(without_letters, []);
    }

    #[test]
    fn what_is_missing_is_found() {
        let missing = "a.md:4: there is no test escape::by_nam below runtime-bin/tests/it";
        assert_eq!(found("see R escape::by_nam"), [missing]);
        assert_eq!(found("R none::by_name").len(), 1);
        let table = "| attack | test |\n|---|---|\n| x | by hand |\n| y | R escape::by_name |\n";
        assert_eq!(found(table), ["a.md:6: this row names no test"]);
    }
}
