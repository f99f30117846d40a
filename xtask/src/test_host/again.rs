//! A run of `cargo test` whose failures are known by name afterwards.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::sh;

/// More than these are no coincidence.
const MOST: usize = 5;

/// How a run of `cargo test` ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    Failed(Failed),
}

/// What failed, by the arguments of cargo that name its target (`-p sys --lib`).
#[derive(Debug, PartialEq)]
pub(crate) struct Failed {
    pub(crate) by_target: Vec<(String, Vec<String>)>,
}

/// Runs `cargo test` and shows what it prints as it comes. What failed in another way than by a few tests (a build, a
/// test program that did not come to its end, many tests) is an error.
pub(crate) fn run(cargo: &mut Command) -> Result<Outcome> {
    let line = sh::line(cargo);
    let mut child = cargo
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{line}`"))?;
    let stdout = child.stdout.take().context("standard output is a pipe")?;
    let stderr = child.stderr.take().context("standard error is a pipe")?;
    // Cargo says which target failed after all that the target's tests printed to the other pipe.
    let said = std::thread::spawn(move || shown(stderr, std::io::stderr()));
    let printed = shown(stdout, std::io::stdout())?;
    let said = said.join().map_err(|_| anyhow::anyhow!("reading standard error"))??;
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    if status.success() {
        return Ok(Outcome::Passed);
    }
    match failures(&printed, &said) {
        Some(failed) => Ok(Outcome::Failed(failed)),
        None => bail!("`{line}` failed: {status}"),
    }
}

fn shown(from: impl Read, mut to: impl Write) -> Result<String> {
    let (mut from, mut all, mut line) = (BufReader::new(from), String::new(), Vec::new());
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        all.push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(all)
}

/// What failed, from what libtest prints (a list under the line `failures:`, and `test result: FAILED` after it) and what
/// cargo says (`` error: test failed, to rerun pass `-p sys --lib` ``), both in the order of the targets.
fn failures(printed: &str, said: &str) -> Option<Failed> {
    let targets: Vec<&str> = said
        .lines()
        .filter_map(|line| {
            line.strip_prefix("error: test failed, to rerun pass `")?.strip_suffix('`')
        })
        .collect();
    let mut lists: Vec<Vec<String>> = Vec::new();
    let mut list = None;
    for line in printed.lines() {
        match line.strip_prefix("    ") {
            _ if line == "failures:" => list = Some(Vec::new()),
            Some(name) if list.is_some() && !name.contains(' ') => {
                list.as_mut()?.push(name.to_owned())
            }
            _ if line.starts_with("test result: FAILED") => lists.push(list.take()?),
            _ => {}
        }
    }
    let named = lists.iter().all(|names| !names.is_empty());
    if targets.is_empty() || lists.len() != targets.len() || !named {
        return None;
    }
    let count: usize = lists.iter().map(Vec::len).sum();
    let by_target = targets.into_iter().map(str::to_owned).zip(lists).collect();
    (count <= MOST).then_some(Failed { by_target })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "running 2 tests\nF.\nfailures:\n\n---- a::b stdout ----\n    indented\nfailures:\n    a::b\n    c\n\n\
                           test result: FAILED. 1 passed; 2 failed\n\nrunning 1 test\n.\ntest result: ok. 1 passed\n";
    const SAID: &str = "thread panicked\nerror: test failed, to rerun pass `-p sys --lib`\nerror: 1 target failed:\n    `-p sys --lib`\n";

    #[test]
    fn failures_are_known_by_target_and_name() {
        let by_target = vec![("-p sys --lib".to_owned(), vec!["a::b".to_owned(), "c".to_owned()])];
        assert_eq!(failures(PRINTED, SAID), Some(Failed { by_target }));
    }

    #[test]
    fn what_cannot_be_told_apart_is_no_coincidence() {
        // A program that was killed says nothing; a build that failed names no target.
        assert_eq!(failures(PRINTED, &SAID.repeat(2)), None);
        assert_eq!(failures("", SAID), None);
        assert_eq!(failures(PRINTED, "error: could not compile `sys`"), None);
        let many = PRINTED.replace("    c\n", &"    c\n".repeat(MOST));
        assert_eq!(failures(&many, SAID), None);
    }

    #[test]
    fn a_run_that_fails_otherwise_is_an_error() {
        let run = |script| run(Command::new("sh").args(["-c", script]));
        assert!(matches!(run("echo fine"), Ok(Outcome::Passed)));
        let error = run("exit 3").expect_err("nothing is named");
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }
}
