//! What libFuzzer's log says at its end.

use std::fmt;

/// What came of one target.
#[derive(Debug, PartialEq)]
pub(super) struct Report {
    name: String,
    executions: u64,
    per_second: u64,
    /// Inputs that were found so far, those of the project left out.
    corpus: usize,
    /// Files of inputs that crashed, took too long, or too much memory.
    artifacts: Vec<String>,
    /// The fuzzer ended as it should.
    ended: bool,
}

impl Report {
    pub(super) fn new(name: String, log: &str, corpus: usize, ended: bool) -> Report {
        let number = |key: &str| {
            let value = log.lines().rev().find_map(|line| line.strip_prefix(key));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        let artifacts = log.lines().filter_map(|line| line.split_once("Test unit written to "));
        Report {
            executions: number("stat::number_of_executed_units:"),
            per_second: number("stat::average_exec_per_sec:"),
            corpus,
            artifacts: artifacts.map(|(_, path)| path.trim().to_owned()).collect(),
            ended,
            name,
        }
    }

    /// A sentence for each crash: the input, and how to see it again.
    pub(super) fn crashes(&self) -> Vec<String> {
        let name = &self.name;
        if self.artifacts.is_empty() && !self.ended {
            return vec![format!("{name}: the fuzzer failed without an input; see its log")];
        }
        let replay =
            |path: &String| format!("{name}: {path}; again: cargo run -p fuzz --bin {name} {path}");
        self.artifacts.iter().map(replay).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { name, executions, per_second, corpus, .. } = self;
        let crashes = self.crashes().len();
        write!(
            f,
            "{name}: {executions} executions, {per_second}/s, {corpus} inputs found, {crashes} crashes"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "#12\tDONE   cov: 5 ft: 9 corp: 3/9b\n\
                       stat::number_of_executed_units: 12345\nstat::average_exec_per_sec:     205\n";

    #[test]
    fn a_run_without_a_crash() {
        let report = Report::new("x".into(), END, 7, true);
        assert_eq!(report.to_string(), "x: 12345 executions, 205/s, 7 inputs found, 0 crashes");
        assert_eq!(report.crashes(), [""; 0]);
    }

    #[test]
    fn a_crash_names_its_input() {
        let log =
            format!("artifact_prefix='c/'; Test unit written to c/crash-00\nBase64: AA==\n{END}");
        let report = Report::new("x".into(), &log, 7, false);
        assert_eq!(
            report.crashes(),
            ["x: c/crash-00; again: cargo run -p fuzz --bin x c/crash-00"]
        );
        let silent = Report::new("x".into(), "", 0, false);
        assert_eq!(silent.crashes(), ["x: the fuzzer failed without an input; see its log"]);
    }
}
