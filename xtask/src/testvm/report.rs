//! What the person sees, and the verdict: built from the guest's events alone.

use std::time::Duration;

use super::features::{Features, Version};
use super::protocol::{Event, Status};

/// One test on one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    /// The kernel's version.
    pub(super) kernel: Version,
    /// The program's id.
    pub(super) program: String,
    /// The test's name.
    pub(super) test: String,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// The time it took, in milliseconds.
    pub(super) millis: u64,
    /// What it printed.
    pub(super) output: String,
}

/// How a test ended, the table of features considered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Well.
    Passed,
    /// Not, for this reason.
    Failed(String),
    /// Not run to its end, for a reason that the table of features knows.
    Skipped(String),
    /// Not the first time, for this reason, but well when it was run again.
    Flaky(String),
}

impl Case {
    /// The line for this test, as nextest has it.
    pub(super) fn line(&self) -> String {
        let (word, why) = match &self.outcome {
            Outcome::Passed => ("PASS", String::new()),
            Outcome::Failed(why) => ("FAIL", format!(": {why}")),
            Outcome::Skipped(why) => ("SKIP", format!(": {why}")),
            Outcome::Flaky(why) => ("FLAKY", format!(": {why}")),
        };
        let seconds = self.millis as f64 / 1000.0;
        format!("{word:>12} [{seconds:>8.3}s] {} {} {}{why}", self.kernel, self.program, self.test)
    }
}

/// How far a run has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The guest is up.
    Ready {
        /// Its `uname -r`.
        release: String,
    },
    /// It waits for an order.
    Idle,
    /// A test runs.
    Running,
    /// The running test printed this.
    Said(String),
    /// A test has ended.
    Ended(Case),
    /// The run is over, and the guest and the host agree on how many tests there were.
    Done,
    /// The run is over, and counts as failed.
    Broken(String),
}

/// Turns the events of one guest into cases.
#[derive(Debug)]
pub(super) struct Report<'a> {
    kernel: Version,
    features: &'a Features,
    /// What it was told to run, until it is idle again.
    ordered: Option<(String, String)>,
    running: Option<(String, String, String)>,
    ended: usize,
}

impl<'a> Report<'a> {
    /// Of a run on this kernel.
    pub(super) fn new(kernel: Version, features: &'a Features) -> Report<'a> {
        Report { kernel, features, ordered: None, running: None, ended: 0 }
    }

    /// Takes the next event.
    pub(super) fn event(&mut self, event: Event) -> Step {
        match (event, self.running.take()) {
            (Event::Ready { release }, None) => Step::Ready { release },
            (Event::Idle, None) => {
                self.ordered = None;
                Step::Idle
            }
            (Event::Start { program, test }, None) => {
                self.running = Some((program, test, String::new()));
                Step::Running
            }
            (Event::Output(text), Some((program, test, output))) => {
                self.running = Some((program, test, output + &text));
                Step::Said(text)
            }
            (Event::End { status, millis }, Some((program, test, output))) => {
                self.ended += 1;
                let outcome = match (status, self.features.skip(self.kernel, &output)) {
                    (Status::Failed(why), _) | (Status::Passed, Some(Err(why))) => {
                        Outcome::Failed(why)
                    }
                    (Status::Passed, Some(Ok(why))) => Outcome::Skipped(why),
                    (Status::Passed, None) => Outcome::Passed,
                };
                Step::Ended(Case { kernel: self.kernel, program, test, outcome, millis, output })
            }
            (Event::Fault(why), running) => {
                self.running = running;
                Step::Broken(format!("the guest gave up: {why}"))
            }
            (Event::Done { tests, .. }, None) if tests == self.ended => Step::Done,
            (Event::Done { tests, .. }, running) => {
                self.running = running;
                Step::Broken(format!(
                    "the guest says that {tests} tests ended, the host has heard of {}",
                    self.ended
                ))
            }
            (event, running) => {
                self.running = running;
                Step::Broken(format!("the guest said {event:?}, which has no place there"))
            }
        }
    }

    /// The guest has been told to run this.
    pub(super) fn ordered(&mut self, program: &str, test: &str) {
        self.ordered = Some((program.to_owned(), test.to_owned()));
    }

    /// A case for a guest without a verdict: the test that runs, or is about to, or the machine itself.
    pub(super) fn broken(self, why: &str, after: Duration) -> Case {
        let ordered = self.ordered.map(|(program, test)| (program, test, String::new()));
        let (program, test, output) = self
            .running
            .or(ordered)
            .unwrap_or_else(|| ("test-vm".to_owned(), "the machine".to_owned(), String::new()));
        let millis = after.as_millis() as u64;
        Case {
            kernel: self.kernel,
            program,
            test,
            outcome: Outcome::Failed(why.to_owned()),
            millis,
            output,
        }
    }
}

/// Takes the outcomes of tests that were run again: one that passed then is flaky.
pub(super) fn run_again(cases: &mut [Case], again: Vec<Case>) {
    for second in again.into_iter().filter(|case| case.outcome == Outcome::Passed) {
        let same =
            |case: &&mut Case| (&case.program, &case.test) == (&second.program, &second.test);
        if let Some(first) = cases.iter_mut().find(same)
            && let Outcome::Failed(why) = &first.outcome
        {
            first.outcome = Outcome::Flaky(why.clone());
        }
    }
}

/// The closing line: `N passed, N failed`, and, if there are any, the flaky ones, the skipped ones, and those that no
/// guest was left for.
pub(super) fn closing(cases: &[Case], not_run: usize) -> String {
    let count = |is: fn(&Outcome) -> bool| cases.iter().filter(|case| is(&case.outcome)).count();
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let mut line = format!(
        "{} passed, {} failed",
        count(|outcome| *outcome == Outcome::Passed),
        count(|outcome| matches!(outcome, Outcome::Failed(_)))
    );
    let flaky = count(|outcome| matches!(outcome, Outcome::Flaky(_)));
    if flaky > 0 {
        line += &format!(", {flaky} flaky");
    }
    if skipped > 0 {
        line += &format!(", {skipped} skipped");
    }
    if not_run > 0 {
        line += &format!(", {not_run} not run");
    }
    line
}

/// JUnit's XML: a suite for each kernel and program.
pub(super) fn junit(cases: &[Case]) -> String {
    let mut text =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"test-vm\">\n");
    // Guests that ran side by side have the tests of a program between them.
    let mut suites: Vec<Vec<&Case>> = Vec::new();
    for case in cases {
        let same = |suite: &&mut Vec<&Case>| {
            (suite[0].kernel, &suite[0].program) == (case.kernel, &case.program)
        };
        match suites.iter_mut().find(same) {
            Some(suite) => suite.push(case),
            None => suites.push(vec![case]),
        }
    }
    for suite in suites {
        let count =
            |is: fn(&Outcome) -> bool| suite.iter().filter(|case| is(&case.outcome)).count();
        let name = xml(&format!("{} {}", suite[0].kernel, suite[0].program));
        text += &format!(
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
            suite.len(),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::Skipped(_)))
        );
        for case in suite {
            let (test, seconds) = (xml(&case.test), case.millis as f64 / 1000.0);
            text += &format!(
                "    <testcase classname=\"{name}\" name=\"{test}\" time=\"{seconds:.3}\""
            );
            text += &match &case.outcome {
                Outcome::Passed => "/>\n".to_owned(),
                // As Maven's Surefire has it.
                Outcome::Flaky(why) => format!(
                    "><flakyFailure message=\"{}\"><system-out>{}</system-out></flakyFailure></testcase>\n",
                    xml(why),
                    xml(&case.output)
                ),
                Outcome::Skipped(why) => {
                    format!("><skipped message=\"{}\"/></testcase>\n", xml(why))
                }
                Outcome::Failed(why) => format!(
                    "><failure message=\"{}\"/><system-out>{}</system-out></testcase>\n",
                    xml(why),
                    xml(&case.output)
                ),
            };
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

/// Escapes what XML takes for its own, and replaces what it cannot hold.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
