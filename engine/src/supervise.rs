//! The supervising process of a container: its parent, which keeps its log and exit status and
//! tidies up behind it. It is split off the process that starts the container, and holds the
//! container's lock for as long as it lives.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oci_runtime::{Prepared, Running};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use sys::process::SignalFd;

use crate::dir::{Dir, Lock, Root};
use crate::log::{Log, Stream};
use crate::record::now;
use crate::remove::{release, remove};
use crate::report::Report;
use crate::tidy::abandoned;
use crate::{Container, Error, State, Status, group, signal, target};

/// Bytes read of the output at a time.
const BUFFER: usize = 64 * 1024;

/// What the supervisor is given.
pub(crate) struct Supervisor {
    pub(crate) root: Root,
    pub(crate) dir: Dir,
    pub(crate) container: Container,
    pub(crate) prepared: Prepared,
    /// To the process that starts the container.
    pub(crate) channel: OwnedFd,
    pub(crate) output: Output,
    /// Held until this process ends.
    pub(crate) lock: Lock,
}

/// What of the container's input and output the supervisor has.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The pipes of standard output and error, for the log.
    pub(crate) pipes: Vec<(OwnedFd, &'static str)>,
    /// The end of a standard input that stays open and gives nothing (`-d -i`).
    pub(crate) stdin: Option<OwnedFd>,
    /// Whether nobody but the supervisor takes what a terminal shows (`-d -t`).
    pub(crate) terminal: bool,
}

impl Supervisor {
    /// Runs the container to its end; the exit status of the supervising process.
    pub(crate) fn run(self) -> u8 {
        let Supervisor { root, dir, container, prepared, channel, output, lock } = self;
        // Where an attempt to tidy up fails, what went wrong first is told, and the next command tries
        // again.
        let report = match start(&dir, prepared, channel.as_fd()) {
            Ok(started) => {
                let watched = watch(started, &dir, &container, channel.as_fd(), output);
                if let Ok(state) = &watched {
                    // For who waits for a container that goes with its record; that goes on without.
                    let _ = lock.note(state.exit_code);
                }
                match tidy(&root, &dir, &container, watched) {
                    Ok(code) => Report::Exited { code },
                    Err(error) => {
                        // Its files are the user's by now, and stay without --rm.
                        let _ = abandoned(&root, &dir);
                        Report::failed(&error)
                    }
                }
            }
            Err(error) => {
                let _ = remove(&root, &dir, Some(&container), true);
                Report::failed(&error)
            }
        };
        drop(lock);
        match report.send(channel.as_fd(), &[]) {
            Ok(()) => 0,
            Err(_) => 1,
        }
    }
}

/// Makes and starts the container, writes that down, and tells the starter.
fn start(dir: &Dir, prepared: Prepared, channel: BorrowedFd<'_>) -> Result<Started, Error> {
    let created = prepared.create()?;
    let pid = created.pid();
    let state = State {
        status: Status::Running,
        pid: pid.as_raw_nonzero().get(),
        pid_start: target::start_time(pid).unwrap_or_default(),
        started_at: now(),
        ..State::default()
    };
    // Before the program runs: whoever finds this supervisor dead has to find the process.
    dir.write_state(&state)?;
    let mut running = created.start()?;
    let terminal = running.take_terminal();
    let mut descriptors = vec![running.pidfd()];
    descriptors.extend(terminal.as_ref().map(AsFd::as_fd));
    Report::Started.send(channel, &descriptors)?;
    Ok(Started { running, terminal, state })
}

struct Started {
    running: Running,
    terminal: Option<OwnedFd>,
    state: State,
}

/// Waits for the end of the container's process; takes its output meanwhile.
fn watch(
    started: Started,
    dir: &Dir,
    container: &Container,
    channel: BorrowedFd<'_>,
    output: Output,
) -> Result<State, Error> {
    let Started { running, terminal, state } = started;
    leave_the_starter()?;
    let failed = |errno: Errno| Error::system("wait for", "the container", errno);
    // Who wants to end the supervisor wants to end the container.
    let signals =
        SignalFd::new(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT]).map_err(failed)?;
    let stop = signal::stop(container).unwrap_or(Signal::TERM);
    let Output { pipes, stdin, terminal: mut drain } = output;
    let mut taken = Taken::new(pipes, container.log.then(|| Log::open(&dir.log())).transpose()?);
    let mut attached = true;
    // As long as one slave is open, reading the master does not fail with EIO, even when the process has
    // none open now and opens one later.
    let mut slave = None;
    loop {
        if let (true, None, Some(master)) = (drain, &slave, &terminal) {
            slave = open_slave(master);
        }
        let mut fds = vec![
            PollFd::from_borrowed_fd(running.pidfd(), PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        // No events: POLLHUP comes unasked.
        fds.extend(attached.then(|| PollFd::from_borrowed_fd(channel, PollFlags::empty())));
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
        while let Some(_signal) = signals.next().map_err(failed)? {
            target::send(running.pidfd(), stop)?;
        }
        if attached && ready[2] {
            // The starter is gone. What a terminal shows must still be taken, or who writes waits.
            attached = false;
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
    if !container.host_config.pid_mode.is_empty() {
        // In a PID namespace of its own, they are gone by now.
        group::remove(dir)?;
    }
    // All writers are gone: what is there is all.
    drop(slave);
    taken.rest(terminal.as_ref().filter(|_| drain));
    drop(stdin);
    Ok(state.exited(exit.code()))
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

/// The output that the supervisor takes.
struct Taken {
    sources: Vec<Source>,
    log: Option<Log>,
    /// Of a terminal that nobody else reads.
    shown: Stream,
    buffer: Vec<u8>,
}

struct Source {
    fd: OwnedFd,
    stream: Stream,
}

impl Taken {
    fn new(pipes: Vec<(OwnedFd, &'static str)>, log: Option<Log>) -> Taken {
        let source = |(fd, name)| Source { fd, stream: Stream::new(name) };
        Taken {
            sources: pipes.into_iter().map(source).collect(),
            log,
            shown: Stream::new("stdout"),
            buffer: vec![0; BUFFER],
        }
    }

    /// Reads once of each source that is ready, and forgets those that have ended.
    fn all(&mut self, ready: &[bool]) {
        let mut index = 0;
        let (log, buffer) = (&mut self.log, &mut self.buffer);
        self.sources.retain_mut(|source| {
            let is_ready = ready.get(index).copied().unwrap_or_default();
            index += 1;
            !is_ready || take(source.fd.as_fd(), &mut source.stream, log, buffer)
        });
    }

    /// Reads of a terminal's master; whether more can come.
    fn terminal(&mut self, master: &OwnedFd) -> bool {
        take(master.as_fd(), &mut self.shown, &mut self.log, &mut self.buffer)
    }

    /// Reads what is left in the terminal and the pipes, and ends the last lines.
    fn rest(&mut self, terminal: Option<&OwnedFd>) {
        let more = |fd: BorrowedFd<'_>| target::ended(fd, Duration::ZERO).unwrap_or_default();
        if let Some(master) = terminal {
            while more(master.as_fd()) && self.terminal(master) {}
        }
        for source in &mut self.sources {
            while more(source.fd.as_fd())
                && take(source.fd.as_fd(), &mut source.stream, &mut self.log, &mut self.buffer)
            {
            }
            if let Some(log) = &mut self.log {
                let _ = log.finish(&mut source.stream);
            }
        }
        if let Some(log) = &mut self.log {
            let _ = log.finish(&mut self.shown);
        }
    }
}

/// Reads once and logs it; whether more can come. A log that cannot be written (a full disk) loses
/// output, and must not stop the container.
fn take(fd: BorrowedFd<'_>, stream: &mut Stream, log: &mut Option<Log>, buffer: &mut [u8]) -> bool {
    match rustix::io::read(fd, &mut *buffer) {
        Ok(0) => {
            if let Some(log) = log {
                let _ = log.finish(stream);
            }
            false
        }
        Ok(count) => {
            if let Some(log) = log {
                let _ = log.add(stream, &buffer[..count]);
            }
            true
        }
        Err(Errno::INTR | Errno::AGAIN) => true,
        // EIO: the terminal's last slave is closed.
        Err(_) => false,
    }
}
