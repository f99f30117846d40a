//! What is still to be run: one queue for all guests of a run, from which each takes the next test when it is idle. A
//! share for each from the start would leave one of them waiting for the other: tests take from 5 ms to 40 s.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use super::protocol::{Kind, Order, Program, Provoke, Selection};
use super::report::{Case, Outcome};
use crate::sh;

/// The orders that no guest has got yet, shared by the threads that talk to the guests.
#[derive(Debug)]
pub(super) struct Queue(Mutex<VecDeque<Order>>);

impl Queue {
    /// Asks the programs, which run on the host too, for their tests, and puts those that are selected into the queue, in
    /// the programs' order; before them, what breaks one guest on purpose.
    pub(super) fn list(
        programs: &[Program],
        selection: &Selection,
        provoke: Option<Provoke>,
    ) -> anyhow::Result<Queue> {
        let mut orders: VecDeque<_> = provoke.map(Order::Break).into_iter().collect();
        for (index, program) in programs.iter().enumerate() {
            for test in tests(program, selection)? {
                orders.push_back(Order::Run { program: index, test });
            }
        }
        Ok(Queue::new(orders))
    }

    /// The tests that failed. What a doc test's order stands for is not known by the test's name, and a guest that broke
    /// is no test.
    pub(super) fn of_failed(programs: &[Program], cases: &[Case]) -> Queue {
        let order = |case: &Case| {
            let is_it = |program: &Program| {
                program.id == case.program && !matches!(program.kind, Kind::DocTests)
            };
            let program = programs.iter().position(is_it)?;
            Some(Order::Run { program, test: case.test.clone() })
        };
        let failed = cases.iter().filter(|case| matches!(case.outcome, Outcome::Failed(_)));
        Queue::new(failed.filter_map(order).collect())
    }

    /// A queue of these.
    pub(super) fn new(orders: VecDeque<Order>) -> Queue {
        Queue(Mutex::new(orders))
    }

    /// What the next guest does that is idle: [`Order::Finish`] if nothing is left.
    pub(super) fn next(&self) -> Order {
        // A thread that panics does so outside of `pop_front`: the queue is whole.
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.pop_front().unwrap_or(Order::Finish)
    }

    /// How many orders no guest has got.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The tests of a program that are to be run. Doc tests that were merged are not told apart before they have run: one
/// order stands for all of them, and the guest looks at their names.
fn tests(program: &Program, selection: &Selection) -> anyhow::Result<Vec<String>> {
    let all = match program.kind {
        Kind::Plain => vec!["main".to_owned()],
        Kind::DocTests => {
            let any = Selection { filters: Vec::new(), skip: selection.skip.clone() };
            let wanted = any.wants(program, "");
            return Ok(wanted.then(|| "doc".to_owned()).into_iter().collect());
        }
        Kind::Harness => {
            let mut command = Command::new(&program.path);
            command.args(["--list", "--format", "terse"]);
            command.envs(&program.env).current_dir(&program.dir);
            let listed = sh::text(&mut command)
                .with_context(|| format!("asking {} for its tests", program.id))?;
            names(&listed)
        }
    };
    Ok(all.into_iter().filter(|test| selection.wants(program, test)).collect())
}

/// The names in what a harness prints for `--list --format terse`.
pub(super) fn names(listed: &str) -> Vec<String> {
    listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}
