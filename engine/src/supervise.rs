//! The supervising process of a container: its parent, which keeps its log and exit status and
//! tidies up behind it. It is split off the process that starts the container, and holds the
//! container's lock for as long as it lives.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use oci_runtime::{Prepared, Running};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use sys::process::SignalFd;

use crate::dir::{Dir, Lock, Root};
use crate::log::Log;
use crate::output::{Attached, Output, Taken};
use crate::record::now;
use crate::remove::{end, release, remove};
use crate::report::Report;
use crate::restart::Backoff;
use crate::tidy::abandoned;
use crate::{Container, Error, LogConfig, State, Status, bundle, group, signal, target};

/// How often it is looked, between two starts, whether the container is to be stopped.
const LOOK: Duration = Duration::from_millis(50);

/// What the supervisor is given.
pub(crate) struct Supervisor {
    pub(crate) root: Root,
    pub(crate) dir: Dir,
    pub(crate) container: Container,
    pub(crate) prepared: Prepared,
    /// To the process that starts the container.
    pub(crate) channel: OwnedFd,
    pub(crate) output: Output,
    /// Whether the container goes if it cannot be started: `run`.
    pub(crate) new: bool,
    /// Held until this process ends.
    pub(crate) lock: Lock,
}

impl Supervisor {
    /// Runs the container to its end; the exit status of the supervising process.
    pub(crate) fn run(self) -> u8 {
        let Supervisor { root, dir, container, prepared, channel, output, new, lock } = self;
        let channel = channel.as_fd();
        // Where an attempt to tidy up fails, what went wrong first is told, and the next command tries
        // again.
        let report = match start(&dir, prepared, 0).and_then(|started| started.tell(channel)) {
            Ok(started) => {
                let ended = live(&root, &dir, &container, started, channel, output);
                if let Ok(state) = &ended {
                    // For who waits for a container that goes with its record; that goes on without.
                    let _ = lock.note(state.exit_code);
                }
                match tidy(&root, &dir, &container, ended) {
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
                    true => remove(&root, &dir, Some(&container), true),
                    false => not_started(&dir, &error),
                };
                Report::failed(&error)
            }
        };
        drop(lock);
        match report.send(channel, &[]) {
            Ok(()) => 0,
            Err(_) => 1,
        }
    }
}

/// Writes down that a container that was there before could not be started.
fn not_started(dir: &Dir, error: &Error) -> Result<(), Error> {
    let state = dir.state()?;
    end(&state)?;
    release(dir)?;
    dir.write_state(&State { error: error.to_string(), ..state.exited(error.exit_code().into()) })
}

/// Makes and starts the container's process, and writes that down.
fn start(dir: &Dir, prepared: Prepared, restart_count: u32) -> Result<Started, Error> {
    let created = prepared.create()?;
    let pid = created.pid();
    let state = State {
        status: Status::Running,
        pid: pid.as_raw_nonzero().get(),
        pid_start: target::start_time(pid).unwrap_or_default(),
        started_at: now(),
        restart_count,
        ..State::default()
    };
    // Before the program runs: whoever finds this supervisor dead has to find the process.
    dir.write_state(&state)?;
    let mut running = created.start()?;
    let terminal = running.take_terminal();
    Ok(Started { running, terminal, state, since: Instant::now() })
}

struct Started {
    running: Running,
    terminal: Option<OwnedFd>,
    state: State,
    since: Instant,
}

impl Started {
    /// Tells the starter that the program runs.
    fn tell(self, channel: BorrowedFd<'_>) -> Result<Started, Error> {
        let mut descriptors = vec![self.running.pidfd()];
        descriptors.extend(self.terminal.as_ref().map(AsFd::as_fd));
        Report::Started.send(channel, &descriptors)?;
        Ok(self)
    }
}

/// The container's life: runs, and runs again where its policy says so. Gives its last state.
fn live(
    root: &Root,
    dir: &Dir,
    container: &Container,
    started: Started,
    channel: BorrowedFd<'_>,
    output: Output,
) -> Result<State, Error> {
    leave_the_starter()?;
    // Who wants to end the supervisor wants to end the container.
    let signals = SignalFd::new(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT])
        .map_err(|errno| Error::system("open a descriptor for", "signals", errno))?;
    // Where the starter takes the output there is nothing to write down.
    let logs = container.log && (output.terminal || !output.pipes.is_empty());
    let limits = container.host_config.log_config.as_ref().map(LogConfig::limits);
    let log = logs.then(|| Log::open(&dir.log(), limits.unwrap_or_default())).transpose()?;
    let mut watcher = Watcher { dir, container, channel: Some(channel), signals };
    let mut taken = Taken::new(log);
    let mut backoff = Backoff::new();
    let (mut started, mut output) = (started, output);
    loop {
        let since = started.since;
        let mut state = watcher.watch(started, output, &mut taken)?;
        let policy = container.host_config.restart_policy;
        if dir.is_stopped() || !policy.again(state.exit_code, state.restart_count) {
            return Ok(state);
        }
        state.status = Status::Restarting;
        dir.write_state(&state)?;
        if watcher.pause(backoff.next(since.elapsed()))? {
            state.status = Status::Exited;
            return Ok(state);
        }
        let again = Output::open(container, Attached::Supervisor).and_then(|(stdio, output)| {
            // With the name and the volumes that it has by now.
            let now = dir.container()?;
            let prepared = bundle::prepare(root, dir, now.as_ref().unwrap_or(container), stdio)?;
            Ok((start(dir, prepared, state.restart_count + 1)?, output))
        });
        (started, output) = match again {
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

/// What is waited for while a container runs.
struct Watcher<'a> {
    dir: &'a Dir,
    container: &'a Container,
    /// To the starter, while that is there.
    channel: Option<BorrowedFd<'a>>,
    signals: SignalFd,
}

fn failed(errno: Errno) -> Error {
    Error::system("wait for", "the container", errno)
}

impl Watcher<'_> {
    /// Waits for the end of the container's process; takes its output meanwhile.
    fn watch(
        &mut self,
        started: Started,
        output: Output,
        taken: &mut Taken,
    ) -> Result<State, Error> {
        let Started { running, terminal, state, .. } = started;
        let stop = signal::stop(self.container).unwrap_or(Signal::TERM);
        let Output { pipes, stdin, terminal: mut drain } = output;
        taken.begin(pipes);
        // As long as one slave is open, reading the master does not fail with EIO, even when the process
        // has none open now and opens one later.
        let mut slave = None;
        loop {
            if let (true, None, Some(master)) = (drain, &slave, &terminal) {
                slave = open_slave(master);
            }
            let mut fds = vec![
                PollFd::from_borrowed_fd(running.pidfd(), PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            // No events: POLLHUP comes unasked.
            let channel = self.channel.as_ref();
            fds.extend(channel.map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::empty())));
            let first = fds.len();
            fds.extend(taken.sources.iter().map(|source| PollFd::new(&source.fd, PollFlags::IN)));
            let master = terminal.as_ref().filter(|_| drain);
            fds.extend(master.map(|master| PollFd::new(master, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if self.is_told_to_stop()? {
                self.dir.mark_stopped()?;
                target::send(running.pidfd(), stop)?;
            }
            if self.channel.is_some() && ready[2] {
                // The starter is gone. What a terminal shows must still be taken, or who writes waits.
                self.channel = None;
                drain = terminal.is_some();
                continue;
            }
            if let (Some(master), Some(true)) = (&terminal, ready.get(first + taken.sources.len()))
                && drain
                && !taken.terminal(master)
            {
                drain = false;
            }
            taken.all(&ready[first..]);
            if ready[0] {
                break;
            }
        }
        let exit = running.wait()?;
        if !self.container.host_config.pid_mode.is_empty() {
            // In a PID namespace of its own, they are gone by now.
            group::remove(self.dir)?;
        }
        // All writers are gone: what is there is all.
        drop(slave);
        taken.rest(terminal.as_ref().filter(|_| drain));
        drop(stdin);
        Ok(state.exited(exit.code()))
    }

    /// Waits before the next start; whether the container is to be stopped meanwhile.
    fn pause(&mut self, pause: Duration) -> Result<bool, Error> {
        let end = Instant::now() + pause;
        while Instant::now() < end {
            if self.dir.is_stopped() || self.is_told_to_stop()? {
                return Ok(true);
            }
            std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(self.dir.is_stopped())
    }

    fn is_told_to_stop(&self) -> Result<bool, Error> {
        let mut told = false;
        while self.signals.next().map_err(failed)?.is_some() {
            told = true;
        }
        Ok(told)
    }
}

fn open_slave(master: &OwnedFd) -> Option<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    ioctl_tiocgptpeer(master, flags).ok()
}

/// The supervisor must not keep the starter's terminal, pipes or directory.
fn leave_the_starter() -> Result<(), Error> {
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
) -> Result<i32, Error> {
    let state = watched?;
    if container.host_config.auto_remove {
        remove(root, dir, Some(container), true)?;
    } else {
        release(dir)?;
        dir.write_state(&state)?;
    }
    Ok(state.exit_code)
}
