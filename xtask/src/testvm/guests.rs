//! The guests of one run, side by side: each with a thread that hears it and gives it the next test of the [`Queue`].
//!
//! A guest that breaks takes one test with it, the one that it was running; what is still in the queue is for the others.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::features::{Features, Version};
use super::protocol::{self, Event, Order, Program};
use super::qemu::{LastWords, Lines, Next};
use super::queue::Queue;
use super::report::{Case, Outcome, Report, Step};

/// How long a guest may take until it is ready.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long a guest may be silent beyond a test's own limit.
const SILENCE: Duration = Duration::from_secs(30);

/// One machine: how it is started, and where its logs go.
#[derive(Debug)]
pub(super) struct Guest {
    /// From 1 on.
    pub(super) number: usize,
    pub(super) command: Command,
    /// What the kernel prints.
    pub(super) console: PathBuf,
    /// What QEMU prints.
    pub(super) errors: PathBuf,
}

/// What is the same for all guests of a run.
#[derive(Debug)]
pub(super) struct Guests<'a> {
    pub(super) kernel: Version,
    pub(super) features: &'a Features,
    pub(super) nonce: &'a str,
    /// The plan's.
    pub(super) programs: &'a [Program],
    pub(super) queue: &'a Queue,
    /// How long one test may take.
    pub(super) limit: Duration,
    /// Show what tests print as it comes.
    pub(super) nocapture: bool,
}

impl Guests<'_> {
    /// Runs the machines until the queue is empty or none of them is left. Gives the cases in the order in which they
    /// ended in each guest. An error means that a machine could not be started.
    pub(super) fn run(&self, guests: Vec<Guest>) -> anyhow::Result<Vec<Case>> {
        std::thread::scope(|scope| {
            // QEMU ends with the thread that started it, and each of these stays until the machine has ended.
            let threads: Vec<_> =
                guests.into_iter().map(|guest| scope.spawn(|| self.guest(guest))).collect();
            let mut cases = Vec::new();
            for thread in threads {
                let done =
                    thread.join().map_err(|_| anyhow!("a thread that hears a guest panicked"))?;
                cases.extend(done?);
            }
            Ok(cases)
        })
    }

    fn guest(&self, mut guest: Guest) -> anyhow::Result<Vec<Case>> {
        let mut cases = Vec::new();
        let mut lines = Lines::start(&mut guest.command, &guest.errors)?;
        if let Some(mut broken) = self.listen(guest.number, &mut lines, &mut cases)? {
            drop(lines);
            let words = LastWords::read(&guest.console, &guest.errors);
            if let (Outcome::Failed(why), Some(panic)) = (&mut broken.outcome, words.panic()) {
                *why += &format!(": {panic}");
            }
            // In one piece: others print too.
            println!(
                "{}\n{}\n--- the last lines of guest {}'s console:\n{words}\n---",
                broken.line(),
                broken.output.trim_end(),
                guest.number
            );
            cases.push(broken);
        }
        Ok(cases)
    }

    /// Takes a guest's events until its verdict. Gives a case of its own for a guest that came to none.
    fn listen(
        &self,
        number: usize,
        lines: &mut Lines,
        cases: &mut Vec<Case>,
    ) -> anyhow::Result<Option<Case>> {
        let mut report = Report::new(self.kernel, self.features);
        let mut limit = BOOT_LIMIT;
        loop {
            let why = match lines.next(limit) {
                Next::Line(line) => {
                    let Some(event) = protocol::decode::<Event>(self.nonce, &line) else {
                        continue;
                    };
                    match report.event(event) {
                        Step::Running => continue,
                        Step::Ready { release } => {
                            let seconds = lines.age().as_secs_f64();
                            println!("guest {number}: {release} is ready after {seconds:.1} s");
                            limit = self.limit + SILENCE;
                            continue;
                        }
                        Step::Idle => {
                            let order = self.queue.next();
                            if let Order::Run { program, test } = &order {
                                let program = self.programs.get(*program);
                                let program = program
                                    .context("the queue has a program that the plan has not")?;
                                report.ordered(&program.id, test);
                            }
                            lines.tell(&protocol::encode(self.nonce, &order)?);
                            continue;
                        }
                        Step::Said(text) => {
                            if self.nocapture {
                                print!("{text}");
                            }
                            continue;
                        }
                        Step::Ended(case) => {
                            match case.outcome {
                                Outcome::Failed(_) if !self.nocapture => {
                                    println!("{}\n{}", case.line(), case.output.trim_end());
                                }
                                _ => println!("{}", case.line()),
                            }
                            cases.push(case);
                            continue;
                        }
                        Step::Done => return Ok(None),
                        Step::Broken(why) => why,
                    }
                }
                Next::Silence => format!("the guest hangs: silent for {} s", limit.as_secs()),
                Next::End => "the machine ended without a verdict".to_owned(),
            };
            return Ok(Some(report.broken(&why, lines.age())));
        }
    }
}
