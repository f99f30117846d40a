//! Health checks: a program that is run in the container again and again, by its supervisor.
//!
//! A thread of the supervisor's own does it, so that nothing that a check waits for (a file system that
//! hangs, a program that does not end) holds up the supervisor itself. What is found goes into the
//! container's state for as long as the process that it is about runs.

mod probe;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use crate::dir::Dir;
use crate::healthcheck::Check;
use crate::record::now;
use crate::{Container, Error, State, group, target};
use probe::{Outcome, Probe};

/// How many results are kept.
const KEPT: usize = 5;

/// Docker's `.State.Health`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// What is known now.
    pub status: HealthStatus,
    /// How many checks have failed since one has not.
    pub failing_streak: u32,
    /// The last results, the oldest first.
    pub log: Vec<HealthResult>,
}

/// What is known of a container's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing yet.
    #[default]
    Starting,
    /// The last check was fine.
    Healthy,
    /// So many checks in a row have failed as may not; or it does not run.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthResult {
    /// When it began.
    pub start: String,
    /// When it had ended.
    pub end: String,
    /// Its exit status: 0 is healthy; -1 where there is none.
    pub exit_code: i32,
    /// What it has printed, or why there is no status.
    pub output: String,
}

impl Container {
    /// What is to be done to know its health; `None`: nothing.
    pub(crate) fn check(&self) -> Option<Check> {
        let check = self.config.healthcheck.as_ref()?;
        check.check(self.config.shell.as_deref())
    }

    /// Its health when it has just been started.
    pub(crate) fn first_health(&self) -> Option<Health> {
        self.check().map(|_| Health::default())
    }
}

impl Health {
    /// Takes a result in; `forgiven` if it is from the time in which a container may fail.
    fn take(&mut self, result: HealthResult, forgiven: bool, retries: u32) {
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !(forgiven && self.status == HealthStatus::Starting) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(result);
        let old = self.log.len().saturating_sub(KEPT);
        self.log.drain(..old);
    }
}

/// The state of a container whose process runs. `None`: it has ended, and its state is the supervisor's
/// alone again.
type Shared = Arc<Mutex<Option<State>>>;

fn lock(state: &Shared) -> MutexGuard<'_, Option<State>> {
    // A thread that has panicked has left a whole state.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The checks of one run of a container.
pub(crate) struct Checks(Option<(Shared, OwnedFd)>);

impl Checks {
    /// Begins to check the container whose process runs since just now, where it is to be checked.
    pub(crate) fn begin(dir: &Dir, container: &Container, state: &State) -> Checks {
        let Some(check) = container.check() else { return Checks(None) };
        let shared = Shared::new(Mutex::new(Some(state.clone())));
        let monitor = |stop| Monitor {
            dir: dir.clone(),
            container: container.clone(),
            run: state.clone(),
            check,
            state: Shared::clone(&shared),
            stop,
            since: Instant::now(),
        };
        match Monitor::begin(monitor) {
            Ok(stop) => Checks(Some((shared, stop))),
            Err(error) => {
                // It runs without being checked, and says so.
                let time = now();
                let output = error.to_string();
                let (start, end) = (time.clone(), time);
                let result = HealthResult { start, end, exit_code: -1, output };
                if let Some(state) = &mut *lock(&shared) {
                    note(dir, container, state, result, false, 1);
                }
                Checks(None)
            }
        }
    }

    /// The state at the end of the process, with what is known of its health. Waits for no check: one
    /// that still runs is ended, and its result is none.
    pub(crate) fn end(self, state: State) -> State {
        let Some((shared, _stop)) = self.0 else { return state };
        let health = lock(&shared).take().and_then(|state| state.health);
        State { health, ..state }
    }
}

/// Takes a result into the state, and writes that down. A disk that is full must not stop the container.
fn note(
    dir: &Dir,
    container: &Container,
    state: &mut State,
    result: HealthResult,
    forgiven: bool,
    retries: u32,
) {
    let health = state.health.get_or_insert_default();
    let before = health.status;
    health.take(result, forgiven, retries);
    let now = health.status;
    let _ = dir.write_state(state);
    if now != before {
        dir.events().health(container, now);
    }
}

/// The thread that checks.
struct Monitor {
    dir: Dir,
    container: Container,
    /// The state that names the process.
    run: State,
    check: Check,
    state: Shared,
    /// Readable once it is to end.
    stop: OwnedFd,
    since: Instant,
}

impl Monitor {
    /// Starts the thread; it ends when what is returned is dropped.
    fn begin(monitor: impl FnOnce(OwnedFd) -> Monitor) -> Result<OwnedFd, Error> {
        let (stop, stopper) = pipe_with(PipeFlags::CLOEXEC)
            .map_err(|errno| Error::system("make", "a pipe for the health check", errno))?;
        let monitor = monitor(stop);
        let thread = std::thread::Builder::new().name("health".to_owned());
        thread
            .spawn(move || monitor.run())
            .map_err(|error| Error::system("start", "a thread for the health check", error))?;
        Ok(stopper)
    }

    fn run(&self) {
        while let Some(pause) = self.pause() {
            // Where it cannot be waited, checking without a pause would be worse than not at all.
            if target::ended(self.stop.as_fd(), pause).unwrap_or(true) {
                return;
            }
            if self.is_at_rest() {
                continue;
            }
            let begun = self.since.elapsed();
            let container = &self.dir.as_it_is_now(&self.container);
            let probe = Probe {
                dir: &self.dir,
                container,
                state: &self.run,
                command: &self.check.command,
                timeout: self.check.timeout,
            };
            match probe.run(self.stop.as_fd()) {
                Outcome::Ended => return,
                // It was stopped or frozen meanwhile: that is no fault of the program's.
                Outcome::Result(_) if self.is_at_rest() => {}
                Outcome::Result(result) => {
                    let forgiven = begun < self.check.start_period;
                    if let Some(state) = &mut *lock(&self.state) {
                        note(&self.dir, container, state, result, forgiven, self.check.retries);
                    }
                }
            }
        }
    }

    /// How long until the next check; `None` when the process has ended.
    fn pause(&self) -> Option<Duration> {
        let state = lock(&self.state);
        let health = state.as_ref()?.health.as_ref();
        let starting = health.is_none_or(|health| health.status == HealthStatus::Starting);
        match starting && self.since.elapsed() < self.check.start_period {
            true => Some(self.check.start_interval),
            false => Some(self.check.interval),
        }
    }

    /// Whether the container is being stopped, or frozen.
    fn is_at_rest(&self) -> bool {
        self.dir.is_stopped() || group::is_frozen(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> HealthResult {
        let time = now();
        HealthResult { start: time.clone(), end: time, exit_code, output: exit_code.to_string() }
    }

    #[test]
    fn a_streak_makes_it_unhealthy_and_one_success_healthy() {
        let mut health = Health::default();
        for (exit_code, status, streak) in [
            (1, HealthStatus::Starting, 1),
            (0, HealthStatus::Healthy, 0),
            (-1, HealthStatus::Healthy, 1),
            (2, HealthStatus::Unhealthy, 2),
            (2, HealthStatus::Unhealthy, 3),
            (0, HealthStatus::Healthy, 0),
        ] {
            health.take(result(exit_code), false, 2);
            assert_eq!((health.status, health.failing_streak), (status, streak));
        }
        let outputs: Vec<_> = health.log.iter().map(|result| &*result.output).collect();
        assert_eq!(outputs, ["0", "-1", "2", "2", "0"], "the last five");
    }

    #[test]
    fn a_container_that_starts_may_fail() {
        let mut health = Health::default();
        health.take(result(1), true, 1);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
        // Once it was healthy, it has started.
        health.take(result(0), true, 1);
        health.take(result(1), true, 1);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Unhealthy, 1));
    }

    #[test]
    fn it_is_written_as_docker_writes_it() {
        let mut health = Health::default();
        health.take(result(0), false, 1);
        let json = serde_json::to_value(&health).unwrap();
        assert_eq!((&json["Status"], &json["FailingStreak"]), (&"healthy".into(), &0.into()));
        let mut keys: Vec<_> = json["Log"][0].as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["End", "ExitCode", "Output", "Start"]);
        assert_eq!(serde_json::from_value::<Health>(json).unwrap(), health);
    }
}
