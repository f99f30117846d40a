//! Checks of single files.

use std::path::Path;

use super::{FILE_LINES, Finding, finding};

/// What stands in a file's code until it is finished, in pieces, so that this file may be checked.
const LEFTOVERS: &[&str] =
    &[concat!("to", "do!"), concat!("unimple", "mented!"), concat!("#[ig", "nore")];

/// What stands in comments and documents until they are finished.
const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Checks one file: `path` is shown, `may_be_unsafe` is for the crates that are the home of it.
pub(super) fn check(path: &Path, text: &str, may_be_unsafe: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let written = |ends: &[&str]| path.extension().is_some_and(|e| ends.iter().any(|x| e == *x));
    if written(&["rs", "md", "toml", "sh"]) || path.starts_with(".ci") {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = MARKS.iter().find(|mark| has_word(line, mark)) {
                let sentence = format!("{mark}: do it, or file an issue");
                findings.push(finding(path, number + 1, sentence));
            }
        }
    }
    if !written(&["rs"]) {
        return findings;
    }
    let lines = text.lines().count();
    if lines > FILE_LINES {
        let sentence = format!("{lines} lines, where {FILE_LINES} are the limit");
        findings.push(finding(path, lines, sentence));
    }
    for (number, line) in code_of(text).lines().enumerate() {
        if let Some(left) = LEFTOVERS.iter().find(|left| line.contains(*left)) {
            let sentence = format!("{left} has no place in finished code");
            findings.push(finding(path, number + 1, sentence));
        }
        if !may_be_unsafe && has_word(line, "unsafe") {
            let sentence = "unsafe code outside its homes: add a safe function to sys";
            findings.push(finding(path, number + 1, sentence));
        }
    }
    findings
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Rust source with comments and the content of literals left out, line for line.
pub(super) fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut last = ' ';
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !is_word(last)) {
            length
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_char(rest) {
            quoted(rest, '\'')
        } else {
            code.push(c);
            last = c;
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        last = ' ';
        rest = &rest[skipped..];
    }
    code
}

/// The length of a block comment, those inside it included.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a raw string that starts here.
fn raw_string(text: &str) -> Option<usize> {
    let start = text.strip_prefix('b').or(text.strip_prefix('c')).unwrap_or(text);
    let hashes = start.strip_prefix('r')?;
    let open = hashes.trim_start_matches('#');
    let count = hashes.len() - open.len();
    let inner = open.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(count));
    let before = text.len() - inner.len();
    Some(inner.find(&end).map_or(text.len(), |at| before + at + end.len()))
}

/// The length of a literal between these quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a single quote starts a character and not a lifetime.
fn is_char(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}
