//! What the host and the guest say to each other.
//!
//! The host puts one [`Plan`] into the initramfs (`/plan.json`). The guest answers on a virtio port: one line for each
//! [`Event`], the run's nonce, a space and the event as JSON. Anything else on that port is not a word of the guest's.
//! A guest that asks ([`Event::Idle`]) is told what to do next by a line with an [`Order`], in the same form.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The name of the virtio port that carries events and orders.
pub(super) const PORT: &str = "vm.result";

/// What the guest shall do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Starts each line of the guest's, so that nothing left over or half-written is taken for an event.
    pub(super) nonce: String,
    /// The modules to load, in order, as paths in the initramfs.
    pub(super) modules: Vec<PathBuf>,
    /// Where the images of the second disk are bound to. Empty: there is no second disk.
    pub(super) images: Vec<PathBuf>,
    /// The owner of the tree on the root disk was not root: the guest gives it to root.
    pub(super) chown: bool,
    /// Which tests are run.
    pub(super) selection: Selection,
    /// How long one test may take, in seconds.
    pub(super) limit: u64,
    /// Open a shell on the console instead of running tests.
    pub(super) shell: bool,
    /// The environment of each test, beside its program's.
    pub(super) env: BTreeMap<String, String>,
    /// The programs that orders name by their place in this list.
    pub(super) programs: Vec<Program>,
}

/// Which tests are run, by what `program test` contains.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Selection {
    /// It must contain one of these. Empty: whatever it contains.
    pub(super) filters: Vec<String>,
    /// It must contain none of these.
    pub(super) skip: Vec<String>,
}

impl Selection {
    /// Whether this test is run.
    pub(super) fn wants(&self, program: &Program, test: &str) -> bool {
        let name = format!("{} {test}", program.id);
        let named = |parts: &[String]| parts.iter().any(|part| name.contains(part));
        (self.filters.is_empty() || named(&self.filters)) && !named(&self.skip)
    }
}

/// What the host tells a guest that is idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Run a test.
    Run {
        /// The program's place in the plan.
        program: usize,
        /// The test's name in it; of no meaning for programs that are not asked for one test.
        test: String,
    },
    /// Break on purpose.
    Break(Provoke),
    /// Nothing is left: give the verdict.
    Finish,
}

/// One program that holds tests, or is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    /// The package and the target: `sys`, `engine::walk`, `sys::example/resolve`.
    pub(super) id: String,
    /// How to get tests out of it.
    pub(super) kind: Kind,
    /// Where it lies, on the host and in the guest.
    pub(super) path: PathBuf,
    /// The package's directory, where Cargo runs tests.
    pub(super) dir: PathBuf,
    /// What Cargo sets for a test's run.
    pub(super) env: BTreeMap<String, String>,
}

/// How a program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A program of the standard test harness: listed, then one process for each test.
    Harness,
    /// A test with `harness = false`, an example or a doc test that stands alone: passed if it exits with 0.
    Plain,
    /// The doc tests of a crate that rustdoc merged into one program: run once, its lines read.
    DocTests,
}

/// What `--provoke` breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(super) enum Provoke {
    /// A kernel panic, by sysrq.
    Panic,
    /// The guest says nothing any more.
    Hang,
    /// The machine goes off without a verdict.
    Poweroff,
}

/// What the guest reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    /// The machine is up.
    Ready {
        /// `uname -r`.
        release: String,
    },
    /// Nothing to do: the guest waits for an order.
    Idle,
    /// A test begins.
    Start {
        /// The program's id.
        program: String,
        /// The test's name in it.
        test: String,
    },
    /// The running test printed this.
    Output(String),
    /// The test that began last has ended.
    End {
        /// How it ended.
        status: Status,
        /// The time it took.
        millis: u64,
    },
    /// The guest could not do its work; no verdict.
    Fault(String),
    /// Nothing more comes.
    Done {
        /// How many tests have ended: the host must have heard of as many.
        tests: usize,
        /// The shell's exit status, with `--shell`.
        shell: Option<i32>,
    },
}

/// How a test ended, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    /// It exited with 0 and left nothing behind.
    Passed,
    /// It did not, for this reason.
    Failed(String),
}

/// The line that carries an event or an order, with its end.
pub(super) fn encode<T: Serialize>(nonce: &str, word: &T) -> anyhow::Result<String> {
    Ok(format!("{nonce} {}\n", serde_json::to_string(word)?))
}

/// The event or the order that a line carries; `None` if the line does not belong to this run.
pub(super) fn decode<T: DeserializeOwned>(nonce: &str, line: &str) -> Option<T> {
    let json = line.strip_prefix(nonce)?.strip_prefix(' ')?;
    serde_json::from_str(json).ok()
}
