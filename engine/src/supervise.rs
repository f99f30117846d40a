//! The supervising process of a container: its parent, which has its input and output, keeps its log
//! and exit status and tidies up behind it. It is split off the process that starts the container, and holds the
//! container's lock for as long as it lives.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use oci_runtime::{Prepared, Running};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use sys::erase::Removed;
use sys::process::SignalFd;

use crate::base::Base;
use crate::dir::{Dir, Lock, Root};
use crate::health::Checks;
use crate::hub::Hub;
use crate::json::Staged;
use crate::log::Log;
use crate::oom::Oom;
use crate::output::Pipes;
use crate::record::now;
use crate::remove::{end, release, remove};
use crate::report::Report;
use crate::restart::Backoff;
use crate::run::Made;
use crate::tidy::abandoned;
use crate::{Container, Error, LogConfig, State, Status, bundle, group, output, signal, target};

/// How often it is looked, between two starts, whether the container is to be stopped.
const LOOK: Duration = Duration::from_millis(50);

/// What the supervisor is given.
pub(crate) struct Supervisor {
    pub(crate) root: Root,
    pub(crate) dir: Dir,
    pub(crate) made: Made,
    pub(crate) prepared: Prepared,
    /// To the process that starts the container.
    pub(crate) channel: OwnedFd,
    /// Who that is to the container.
    pub(crate) starter: Starter,
    pub(crate) pipes: Pipes,
    /// Whether the container goes if it cannot be started: `run`.
    pub(crate) new: bool,
    /// Kept for others.
    pub(crate) base: Option<Base>,
    /// Held until this process ends.
    pub(crate) lock: Lock,
}

/// Who starts a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starter {
    /// Somebody who stays, and has its output; with `input` its input too.
    Attached {
        /// Whether it sends input.
        input: bool,
    },
    /// Somebody who wants to know that it runs (`-d`).
    Passing,
}

impl Supervisor {
    /// Runs the container to its end; the exit status of the supervising process.
    pub(crate) fn run(self) -> u8 {
        let Supervisor { root, dir, made, prepared, channel, starter, pipes, new, base, lock } =
            self;
        let Made { container, layers } = made;
        let mut hub = Hub::new(container.config.stdin_once);
        match starter {
            Starter::Attached { input } => hub.add_starter(channel, true, input),
            Starter::Passing => hub.add_starter(channel, false, false),
        }
        // Without it, the next start makes another.
        let _ = base.as_ref().map(|base| base.tell(&root));
        // Where an attempt to tidy up fails, what went wrong first is told, and the next command tries
        // again.
        let mut removed = Removed::default();
        let report = match begin(&dir, &container, prepared, &mut hub) {
            Ok(started) => {
                let ended = live(&root, &dir, &container, started, &mut hub, pipes);
                // Before the lock goes: who follows the log reads until then.
                hub.flush_log();
                if let Ok(state) = &ended {
                    // For who waits for a container that goes with its record; that goes on without.
                    let _ = lock.note(state.exit_code);
                }
                match tidy(&root, &dir, &container, ended, &mut removed) {
                    Ok(code) => Report::Exited { code },
                    Err(error) => {
                        // Its files are the user's by now, and stay without --rm.
                        let _ = abandoned(&root, &dir);
                        Report::failed(&error)
                    }
                }
            }
            Err(error) => {
                let _ = match new {
                    true => remove(&root, &dir, Some(&container), true).map(drop),
                    false => not_started(&dir, &error),
                };
                Report::failed(&error)
            }
        };
        // The container's root is not mounted any more.
        drop(layers);
        // Who reads slowly, or not at all, keeps nobody from the container.
        drop(lock);
        hub.dismiss(&report);
        let finished = hub.finish(false);
        // Nobody waits any more, so that it is freed by the kernel, with the last of this process: who looks for processes
        // does not find it at that.
        std::mem::forget(removed);
        match finished {
            Ok(()) => 0,
            Err(_) => 1,
        }
    }
}

/// Starts the container for the first time, and tells the starter.
fn begin(
    dir: &Dir,
    container: &Container,
    prepared: Prepared,
    hub: &mut Hub,
) -> Result<Started, Error> {
    let get_ready = || {
        let config = container.host_config.log_config.as_ref();
        if let Some(form) = LogConfig::form(config) {
            let limits = config.map(LogConfig::limits).unwrap_or_default();
            hub.keep_log(Log::open(&dir.log(form), form, limits)?);
        }
        hub.listen(dir)
    };
    let started = start(dir, container, prepared, 0, get_ready)?;
    hub.tell_started(started.running.pidfd())?;
    Ok(started)
}

/// Writes down that a container that was there before could not be started.
fn not_started(dir: &Dir, error: &Error) -> Result<(), Error> {
    let state = dir.state()?;
    end(dir, &state)?;
    release(dir)?;
    dir.write_state(&State { error: error.to_string(), ..state.exited(error.exit_code().into()) })
}

/// Makes and starts the container's process, and writes that down; while the process makes its mounts, that and what
/// else has to be done before the program runs.
fn start(
    dir: &Dir,
    container: &Container,
    prepared: Prepared,
    restart_count: u32,
    get_ready: impl FnOnce() -> Result<(), Error>,
) -> Result<Started, Error> {
    let prepare = |pid: Pid| -> Result<(State, Staged), Error> {
        get_ready()?;
        let pid_start = sys::process::start_time(pid).map_err(|errno| {
            Error::system("look at the process", format!("/proc/{}", pid.as_raw_nonzero()), errno)
        })?;
        let state = State {
            status: Status::Running,
            pid: pid.as_raw_nonzero().get(),
            pid_start: pid_start.unwrap_or_default(), // it has ended: `start` says so
            started_at: now(),
            restart_count,
            health: container.first_health(),
            ..State::default()
        };
        let staged = dir.stage_state(&state)?;
        Ok((state, staged))
    };
    let (created, done) = prepared.create_while(prepare)?;
    let (state, staged) = done?;
    // Before the program runs: whoever finds this supervisor dead has to find the process.
    staged.put()?;
    let mut running = created.start()?;
    dir.tell_start(container);
    let terminal = running.take_terminal();
    Ok(Started { running, terminal, state, since: Instant::now() })
}

struct Started {
    running: Running,
    terminal: Option<OwnedFd>,
    state: State,
    since: Instant,
}

/// The container's life: runs, and runs again where its policy says so. Gives its last state.
fn live(
    root: &Root,
    dir: &Dir,
    container: &Container,
    started: Started,
    hub: &mut Hub,
    pipes: Pipes,
) -> Result<State, Error> {
    leave_the_starter()?;
    let mut watcher = Watcher { dir, container, hub, signals: ending_signals()? };
    let mut backoff = Backoff::new();
    let (mut started, mut pipes) = (started, pipes);
    loop {
        let since = started.since;
        let mut state = watcher.watch(started, pipes)?;
        // `update` may have changed it.
        let now = dir.container()?;
        let policy = now.as_ref().unwrap_or(container).host_config.restart_policy;
        if dir.is_stopped() || !policy.again(state.exit_code, state.restart_count) {
            return Ok(state);
        }
        state.status = Status::Restarting;
        dir.write_state(&state)?;
        // As with Docker, who is attached is so to one run.
        watcher.hub.dismiss(&Report::Exited { code: state.exit_code });
        if watcher.pause(backoff.next(since.elapsed()))? {
            state.status = Status::Exited;
            return Ok(state);
        }
        let config = &container.config;
        let again = output::open(config.tty, config.open_stdin).and_then(|(stdio, pipes)| {
            // With the name and the volumes that it has by now.
            let now = dir.container()?;
            let container = now.as_ref().unwrap_or(container);
            let prepared = bundle::prepare(root, dir, container, stdio)?;
            Ok((start(dir, container, prepared, state.restart_count + 1, || Ok(()))?, pipes))
        });
        (started, pipes) = match again {
            Ok(again) => again,
            Err(error) => {
                state.status = Status::Exited;
                state.error = error.to_string();
                state.exit_code = error.exit_code().into();
                return Ok(state);
            }
        };
    }
}

/// Who wants to end the supervisor wants to end what it watches over.
pub(crate) fn ending_signals() -> Result<SignalFd, Error> {
    SignalFd::new(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT])
        .map_err(|errno| Error::system("open a descriptor for", "signals", errno))
}

/// What is waited for while a container runs.
struct Watcher<'a> {
    dir: &'a Dir,
    container: &'a Container,
    hub: &'a mut Hub,
    signals: SignalFd,
}

impl Watcher<'_> {
    /// Waits for the end of the container's process; takes its output meanwhile.
    fn watch(&mut self, started: Started, pipes: Pipes) -> Result<State, Error> {
        let Started { running, terminal, state, since } = started;
        let stop = signal::stop(self.container).unwrap_or(Signal::TERM);
        self.hub.begin(pipes, terminal, self.container.config.open_stdin)?;
        let checks = Checks::begin(self.dir, self.container, &state);
        let mut oom = Oom::begin(self.dir, self.container);
        loop {
            let mut fds = vec![running.pidfd(), self.signals.as_fd()];
            fds.extend(oom.fd());
            let ready = self.hub.turn(&fds, oom.timeout())?;
            oom.look(ready.get(2) == Some(&true));
            if ready[1] && self.is_told_to_stop()? {
                self.dir.mark_stopped()?;
                self.dir.events().signal(&self.dir.as_it_is_now(self.container), stop);
                target::send(running.pidfd(), stop)?;
                group::thaw(self.dir)?;
            }
            if ready[0] {
                break;
            }
        }
        let exit = running.wait()?;
        let oom_killed = oom.end();
        if !self.container.host_config.pid_mode.is_empty() {
            // In a PID namespace of its own, they are gone by now.
            group::remove(self.dir)?;
        }
        // All writers are gone: what is there is all.
        self.hub.rest();
        self.dir.tell_end(self.container, exit.code(), since.elapsed());
        Ok(State { oom_killed, ..checks.end(state).exited(exit.code()) })
    }

    /// Waits before the next start; whether the container is to be stopped meanwhile.
    fn pause(&mut self, pause: Duration) -> Result<bool, Error> {
        let end = Instant::now() + pause;
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            self.hub.turn(&[self.signals.as_fd()], Some(LOOK.min(left)))?;
            if self.dir.is_stopped() || self.is_told_to_stop()? {
                return Ok(true);
            }
        }
        Ok(self.dir.is_stopped())
    }

    fn is_told_to_stop(&self) -> Result<bool, Error> {
        let failed = |errno| Error::system("wait for", "the container", errno);
        let mut told = false;
        while self.signals.next().map_err(failed)?.is_some() {
            told = true;
        }
        Ok(told)
    }
}

/// The supervisor must not keep the starter's terminal, pipes or directory.
pub(crate) fn leave_the_starter() -> Result<(), Error> {
    let failed = |errno: Errno| Error::system("leave", "the starter's input and output", errno);
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed)?;
    rustix::stdio::dup2_stdin(&null).map_err(failed)?;
    rustix::stdio::dup2_stdout(&null).map_err(failed)?;
    rustix::stdio::dup2_stderr(&null).map_err(failed)?;
    sys::process::drop_inherited().map_err(failed)?;
    rustix::process::chdir(c"/").map_err(failed)
}

/// Unmounts, and removes or writes down the end.
fn tidy(
    root: &Root,
    dir: &Dir,
    container: &Container,
    watched: Result<State, Error>,
    removed: &mut Removed,
) -> Result<i32, Error> {
    let state = watched?;
    if container.host_config.auto_remove {
        *removed = remove(root, dir, Some(container), true)?;
    } else {
        release(dir)?;
        dir.write_state(&state)?;
    }
    Ok(state.exit_code)
}
