//! Running the tests in the guest: each in a process of its own, with a limit, and nothing left behind.

use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions};

use super::guest::{self, Port};
use super::protocol::{Event, Kind, Order, Plan, Program, Status};
use super::traces::{Traces, processes};

/// The user for tests that ask to be run without privilege: their names contain this.
const UNPRIVILEGED: (&str, u32, &str) = ("unprivileged", 1000, "/home/user");
/// A test that prints more is heard no longer.
const MOST_OUTPUT: usize = 1 << 20;
/// What a test's end may take to be complete: processes that it has killed, mounts that go with them.
const GRACE: Duration = Duration::from_secs(2);
/// How often orphans' exit statuses are taken while a test runs. As on any machine: else a PID namespace
/// that one of them has joined would not end.
const REAPING: Duration = Duration::from_millis(50);

/// Runs what the host orders, until nothing is left.
pub(super) fn run(plan: &Plan, port: &mut Port) -> anyhow::Result<Event> {
    let mut runner = Runner { plan, port, tests: 0, before: Traces::now()? };
    loop {
        match runner.port.order()? {
            Order::Run { program, test } => {
                let named = plan.programs.get(program);
                runner.program(named.context("the plan has no such program")?, &test)?;
            }
            Order::Break(how) => guest::break_down(how)?,
            Order::Finish => return Ok(Event::Done { tests: runner.tests, shell: None }),
        }
    }
}

struct Runner<'a> {
    plan: &'a Plan,
    port: &'a mut Port,
    tests: usize,
    before: Traces,
}

/// How a process ended, and what it printed.
struct Outcome {
    /// `None`: it had to be killed.
    status: Option<ExitStatus>,
    output: String,
    millis: u64,
}

impl Outcome {
    fn verdict(&self, limit: u64) -> Status {
        match self.status {
            Some(status) if status.success() => Status::Passed,
            Some(status) => Status::Failed(match status.signal() {
                Some(signal) => format!("killed by signal {signal}"),
                None => format!("exit status {}", status.code().unwrap_or(-1)),
            }),
            None => Status::Failed(format!("not done after {limit} s, killed")),
        }
    }
}

impl Runner<'_> {
    fn program(&mut self, program: &Program, test: &str) -> anyhow::Result<()> {
        match program.kind {
            Kind::Plain => self.single(program, test, &[]),
            Kind::Harness => {
                let one = ["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"];
                self.single(program, test, &one)
            }
            Kind::DocTests => self.doc_tests(program),
        }
    }

    fn start(&mut self, program: &Program, test: &str) -> anyhow::Result<()> {
        self.port.send(&Event::Start { program: program.id.clone(), test: test.to_owned() })
    }

    fn end(&mut self, status: Status, millis: u64) -> anyhow::Result<()> {
        self.tests += 1;
        self.port.send(&Event::End { status, millis })
    }

    fn single(&mut self, program: &Program, test: &str, args: &[&str]) -> anyhow::Result<()> {
        self.start(program, test)?;
        let outcome = self.execute(program, args, test, true)?;
        let mut verdict = outcome.verdict(self.plan.limit);
        // The harness is content with a name that it does not know.
        if verdict == Status::Passed
            && program.kind == Kind::Harness
            && !outcome.output.contains("running 1 test")
        {
            verdict = Status::Failed("the harness did not run it".to_owned());
        }
        let left = self.clean()?;
        if verdict == Status::Passed && !left.is_empty() {
            verdict = Status::Failed(format!("left behind: {}", left.join(", ")));
        }
        self.end(verdict, outcome.millis)
    }

    /// Runs a crate's merged doc tests, which take no arguments, and reports each by its line.
    fn doc_tests(&mut self, program: &Program) -> anyhow::Result<()> {
        let outcome = self.execute(program, &[], "doc", false)?;
        let left = self.clean()?;
        let lines = doc_test_lines(&outcome.output);
        // With a filter, only what it names counts.
        let selection = &self.plan.selection;
        let wanted = lines.iter().filter(|(name, _)| selection.wants(program, name)).count();
        if wanted == 0 && !selection.filters.is_empty() {
            return Ok(());
        }
        for (name, word) in &lines {
            if !selection.wants(program, name) {
                continue;
            }
            self.start(program, name)?;
            let status = match *word {
                "ok" => Status::Passed,
                word => Status::Failed(word.to_owned()),
            };
            if status != Status::Passed {
                self.port.send(&Event::Output(outcome.output.clone()))?;
            }
            self.end(status, outcome.millis / lines.len() as u64)?;
        }
        let failed = lines.iter().any(|(_, word)| *word != "ok");
        let verdict = outcome.verdict(self.plan.limit);
        let whole = match verdict {
            Status::Failed(_) if !failed => verdict,
            Status::Passed if !left.is_empty() => {
                Status::Failed(format!("left behind: {}", left.join(", ")))
            }
            _ => return Ok(()),
        };
        self.start(program, "all doc tests")?;
        self.port.send(&Event::Output(outcome.output))?;
        self.end(whole, outcome.millis)
    }

    /// Runs a process to its end or to the limit.
    fn execute(
        &mut self,
        program: &Program,
        args: &[&str],
        test: &str,
        stream: bool,
    ) -> anyhow::Result<Outcome> {
        let (reader, writer) = std::io::pipe().context("making a pipe")?;
        let mut command = Command::new(&program.path);
        command.args(args).env_clear().envs(&self.plan.env).envs(&program.env);
        command.current_dir(&program.dir).process_group(0).stdin(Stdio::null());
        command.stdout(writer.try_clone().context("copying a pipe's end")?).stderr(writer);
        let (mark, id, home) = UNPRIVILEGED;
        if test.contains(mark) {
            command.uid(id).gid(id).env("HOME", home).env("USER", "user");
        }
        let begin = Instant::now();
        let spawned = command.spawn();
        drop(command);
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                let output = format!(
                    "starting {} in {}: {error}\n",
                    program.path.display(),
                    program.dir.display()
                );
                if stream {
                    self.port.send(&Event::Output(output.clone()))?;
                }
                return Ok(Outcome {
                    status: Some(ExitStatus::from_raw(127 << 8)),
                    output,
                    millis: 0,
                });
            }
        };
        let group = Pid::from_child(&child);
        let (news, mail) = channel();
        let exits = news.clone();
        std::thread::spawn(move || read(reader, &news));
        std::thread::spawn(move || exits.send(News::Exit(child.wait())));

        let limit = Duration::from_secs(self.plan.limit);
        let (mut output, mut status, mut open, mut killed) = (String::new(), None, true, false);
        let mut deadline = begin + limit;
        while open || status.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            match mail.recv_timeout(left.min(REAPING)) {
                Ok(News::Output(text)) => {
                    if output.len() <= MOST_OUTPUT {
                        if stream {
                            self.port.send(&Event::Output(text.clone()))?;
                        }
                        output += &text;
                    }
                }
                Ok(News::End) => open = false,
                Ok(News::Exit(ended)) => {
                    status = Some(ended.context("waiting for a test")?);
                    // Something that it has left behind may keep its output open.
                    deadline = Instant::now() + GRACE;
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if left > REAPING => reap_all_but(group),
                Err(RecvTimeoutError::Timeout) if status.is_some() => break,
                Err(RecvTimeoutError::Timeout) if killed => {
                    anyhow::bail!(
                        "{test} of {} does not end, even by SIGKILL\n{}",
                        program.id,
                        processes_text()
                    );
                }
                Err(RecvTimeoutError::Timeout) => {
                    let text = format!(
                        "\n--- still there after {} s:\n{}",
                        self.plan.limit,
                        processes_text()
                    );
                    if stream {
                        self.port.send(&Event::Output(text.clone()))?;
                    }
                    output += &text;
                    // It may have ended this very moment.
                    let _ = rustix::process::kill_process_group(group, Signal::KILL);
                    killed = true;
                    deadline = Instant::now() + Duration::from_secs(10);
                }
            }
        }
        let status = status.filter(|_| !killed);
        Ok(Outcome { status, output, millis: begin.elapsed().as_millis() as u64 })
    }

    /// Ends and removes what a test has left; says what it was.
    fn clean(&mut self) -> anyhow::Result<Vec<String>> {
        let begin = Instant::now();
        let left = loop {
            reap();
            let left = Traces::now()?.beyond(&self.before);
            if left.is_empty() || begin.elapsed() > GRACE {
                break left;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if !left.is_empty() {
            left.remove();
            reap();
            self.before = Traces::now()?;
        }
        Ok(left.names())
    }
}

/// The lines `test NAME ... WORD` of a harness's output.
pub(super) fn doc_test_lines(output: &str) -> Vec<(&str, &str)> {
    let test = |line: &'_ str| -> Option<(usize, usize)> {
        let rest = line.strip_prefix("test ")?;
        let (name, word) = rest.rsplit_once(" ... ")?;
        (matches!(word, "ok" | "FAILED" | "ignored")).then_some((name.len(), word.len()))
    };
    output
        .lines()
        .filter_map(|line| {
            test(line).map(|(name, word)| (&line[5..5 + name], &line[line.len() - word..]))
        })
        .collect()
}

enum News {
    Output(String),
    End,
    Exit(std::io::Result<ExitStatus>),
}

fn read(mut pipe: std::io::PipeReader, news: &Sender<News>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if news.send(News::Output(text)).is_err() {
            return;
        }
    }
    // The receiver may have gone on after the test's exit.
    let _ = news.send(News::End);
}

/// Init inherits orphans: takes their exit statuses. No test is running here, so none is taken from a `Child`.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// The same while a test runs, whose own status its `Child` is to have.
fn reap_all_but(test: Pid) {
    let children = fs::read_to_string("/proc/1/task/1/children").unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    for orphan in children.filter(|pid| *pid != test) {
        let _ = rustix::process::waitpid(Some(orphan), WaitOptions::NOHANG);
    }
}

/// Where the processes are, for a test that does not end.
fn processes_text() -> String {
    let mut text = String::new();
    for (pid, name) in processes() {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text += &format!(
            "process {pid} ({name}): {}\n{}",
            read("cmdline").replace('\0', " "),
            read("stack")
        );
    }
    text
}
