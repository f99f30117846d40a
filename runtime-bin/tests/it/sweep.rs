//! One fault at each of many points of a command, one after the other, and what came of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use crate::fault::{self, Fault};
use crate::harness::Out;

/// That a failure is told as one, with the errno's words, or was none: what failed could be done without.
#[track_caller]
pub(crate) fn assert_said(errno: Errno, out: &Out) {
    let words = |errno: Errno| {
        let words = std::io::Error::from(errno).to_string();
        words.split(" (").next().unwrap_or_default().to_lowercase()
    };
    let said = out.stderr.to_lowercase();
    // Of a thread that there is no memory for the C library says EAGAIN (pthread_create(3)).
    let is_a_thread = errno == Errno::NOMEM
        && said.contains("start a thread")
        && said.contains(&words(Errno::AGAIN));
    assert!(
        out.code == 0 || said.contains(&words(errno)) || is_a_thread,
        "without {:?}: {out:?}",
        words(errno)
    );
}

/// One fault at points of several steps.
pub(crate) struct Sweep {
    fault: Fault,
    sample: usize,
    found: Found,
}

/// What came of the faults so far.
#[derive(Default)]
struct Found {
    tries: usize,
    hits: usize,
    /// How the commands ended: of each exit status how many did. A signal is a negative one.
    codes: BTreeMap<i32, usize>,
    /// Faults after which the command succeeded all the same.
    borne: Vec<String>,
    wrong: Vec<String>,
}

impl Sweep {
    /// At `sample` points of each step, spread evenly; at all with RACE_SECONDS.
    pub(crate) fn new(fault: Fault, sample: usize) -> Sweep {
        let sample = if std::env::var_os("RACE_SECONDS").is_some() { usize::MAX } else { sample };
        Sweep { fault, sample, found: Found::default() }
    }

    /// Whether all points are tried.
    pub(crate) fn is_all(&self) -> bool {
        self.sample == usize::MAX
    }

    /// Each time a command of `program` that `prepare` gives, in a world of the same state, is run with a fault at a point;
    /// `look` finds what is wrong with what it left. That does not end the sweep, but the world is another one from then on.
    /// All points are tried in as many worlds side by side as there are processors.
    #[expect(clippy::print_stdout, reason = "a test's words to its runner")]
    pub(crate) fn step<W: Send>(
        &mut self,
        name: &str,
        program: &Path,
        new: impl Fn() -> W + Sync,
        prepare: impl Fn(&mut W) -> Command + Sync,
        look: impl Fn(&mut W, Out, Option<Errno>) + Sync,
    ) {
        let fault = self.fault;
        // What is made once in a world is no part of the second run. For a sample the first one is near enough.
        let (runs, workers) = match self.is_all() {
            true => (2, std::thread::available_parallelism().map_or(1, usize::from)),
            false => (1, 1),
        };
        let ready = || {
            let mut world = new();
            let mut count = 0;
            for _ in 0..runs {
                let (started, points) = fault::start(prepare(&mut world), program, fault, None);
                let out = started.wait();
                assert_eq!(out.code, 0, "{name} fails without a fault: {out:?}");
                count = points.count();
                look(&mut world, out, None);
            }
            (world, count)
        };
        let (first, count) = ready();
        println!("{fault:?} of {name}: {count} points");
        let sample = self.sample.min(count);
        let next = AtomicUsize::new(0);
        let found = Mutex::new(std::mem::take(&mut self.found));
        let work = |mut world: W| {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= sample {
                    return;
                }
                // In the middle of each part.
                let at = (2 * number + 1) * count / (2 * sample) + 1;
                let (mut hit, mut code) = (None, None);
                let tried = catch_unwind(AssertUnwindSafe(|| {
                    let (started, points) =
                        fault::start(prepare(&mut world), program, fault, Some(at));
                    let out = started.wait();
                    hit = points.hit();
                    code = Some(out.code);
                    let errno = match (fault, &hit) {
                        (Fault::Errno(errno), Some(_)) => Some(errno),
                        _ => None,
                    };
                    look(&mut world, out, errno);
                }));
                let what = format!("{fault:?} of {name} at {at} of {count}, {hit:?}");
                let mut found = found.lock().unwrap();
                found.tries += 1;
                found.hits += usize::from(hit.is_some());
                if hit.is_some()
                    && let Some(code) = code
                {
                    *found.codes.entry(code).or_default() += 1;
                }
                if let Err(why) = tried {
                    let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
                    found.wrong.push(format!("{what}: {why}"));
                    drop(found);
                    let spoiled = std::mem::replace(&mut world, new());
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(spoiled)));
                } else if hit.is_some() && code == Some(0) {
                    found.borne.push(what);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..workers.min(sample) {
                scope.spawn(|| work(ready().0));
            }
            work(first);
        });
        self.found = found.into_inner().unwrap();
    }

    /// Fails if anything was wrong, or if there were hardly any faults.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "a test's words to its runner")]
    pub(crate) fn end(self) {
        let Sweep { fault, found: Found { tries, hits, codes, borne, wrong }, .. } = self;
        let count = borne.len();
        println!(
            "{fault:?}: {tries} tries, {hits} faults, {count} of them borne, exit statuses {codes:?}"
        );
        if std::env::var_os("FAULT_TELL").is_some() {
            println!("borne: {borne:#?}");
        }
        assert!(wrong.is_empty(), "{} of {tries}: {wrong:#?}", wrong.len());
        assert!(hits * 3 >= tries * 2, "{hits} faults in {tries} tries");
    }
}
