//! A started process and the terminal of who started it, joined until the process ends.

mod parts;

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{Winsize, isatty, tcgetwinsize, tcsetwinsize};
use sys::process::SignalFd;

use crate::{Error, Session};
use parts::{Buffer, Descriptor, Raw};

/// The signals that are passed on, as `docker run --sig-proxy`: all that can be caught and do not
/// speak of the receiver itself (as CHLD, PIPE or SEGV do).
pub(crate) fn passed_on() -> Vec<Signal> {
    let named = [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::TERM,
        Signal::CONT,
        Signal::TSTP,
        Signal::IO,
        Signal::POWER,
    ];
    let realtime = sys::signal::REALTIME_MIN..=sys::signal::REALTIME_MAX;
    named.into_iter().chain(realtime.filter_map(sys::signal::from_number)).collect()
}

/// Holds back the signals that [`attach`] passes on, until it does: one that comes when the process
/// has started and `attach` has not begun is for the process, and must not end the starter.
///
/// # Errors
/// The kernel refuses it.
pub(crate) fn hold_signals() -> Result<(), Error> {
    // They stay blocked when the descriptor is closed; a later one reads what is pending.
    let held = SignalFd::new(&passed_on());
    held.map(drop).map_err(|errno| Error::system("open a descriptor for", "signals", errno))
}

/// The most that can be in the kernel's buffers of a pseudoterminal when its process ends (640 KiB
/// is the limit of one direction), with room to spare.
const IN_FLIGHT: usize = 1 << 20;

/// Joins `session` and the caller until the process has ended, and returns its exit status.
///
/// With a terminal (`-t`): what the process writes goes to `stdout`; with `interactive`, what comes
/// from `stdin` goes to the process, and `stdin`, where it is a terminal, is in raw mode for that
/// time and restored at every end. The window's size of `stdout`, or else of `stdin`, is the
/// process's, now and when it changes. A `stdout` that nobody reads any more loses the output and does not end the process.
///
/// With or without a terminal, signals that this process gets (HUP, INT, QUIT, TERM, USR1, USR2 and
/// others that can be caught) go to the session's process. They stay blocked for the calling thread;
/// other threads of a program must have them blocked too.
///
/// # Errors
/// The terminal cannot be set, read or written; signals cannot be read; [`Session::wait`] fails. The
/// process then still runs.
pub fn attach(
    session: Session,
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    interactive: bool,
) -> Result<i32, Error> {
    follow(&session, stdin, stdout, interactive)?;
    session.wait()
}

/// What is needed of a started process.
pub(crate) trait Process {
    /// The pseudoterminal's master.
    fn terminal(&self) -> Option<BorrowedFd<'_>>;
    /// Sends a signal.
    fn signal(&self, signal: Signal) -> Result<(), Error>;
    /// Becomes readable when the process has ended.
    fn end(&self) -> BorrowedFd<'_>;
    /// Called once it has ended, while its output may still be on the way.
    fn reap(&self) -> Result<(), Error>;
}

impl Process for Session {
    fn terminal(&self) -> Option<BorrowedFd<'_>> {
        Session::terminal(self)
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        Session::signal(self, signal)
    }

    fn end(&self) -> BorrowedFd<'_> {
        Session::end(self)
    }

    fn reap(&self) -> Result<(), Error> {
        Session::reap(self)
    }
}

/// The size of the first of `terminals` that is one: what a process's pseudoterminal should have.
pub(crate) fn window_size(terminals: &[BorrowedFd<'_>]) -> Option<Winsize> {
    terminals.iter().find_map(|fd| tcgetwinsize(fd).ok())
}

/// [`attach`] up to the end of the process.
fn follow(
    process: &impl Process,
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    interactive: bool,
) -> Result<(), Error> {
    let mut signals = passed_on();
    if process.terminal().is_some() {
        signals.push(Signal::WINCH);
    }
    // Before all else: what comes from now on waits until it can be passed on.
    let signals = SignalFd::new(&signals)
        .map_err(|errno| Error::system("open a descriptor for", "signals", errno))?;
    let Some(master) = process.terminal() else {
        return watch(process, &signals);
    };
    Relay::new(process, &signals, master, stdin, stdout, interactive)?.run()
}

/// Passes signals on until the process has ended.
fn watch(process: &impl Process, signals: &SignalFd) -> Result<(), Error> {
    loop {
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::from_borrowed_fd(process.end(), PollFlags::IN),
        ];
        wait(&mut fds, None)?;
        if !fds[1].revents().is_empty() {
            return Ok(());
        }
        while let Some(signal) = next(signals)? {
            pass_on(process, signal);
        }
    }
}

/// The next pending signal.
fn next(signals: &SignalFd) -> Result<Option<Signal>, Error> {
    let number = signals.next().map_err(|errno| Error::system("read", "signals", errno))?;
    Ok(number.and_then(sys::signal::from_number))
}

/// Sends the process a signal. That this fails means that it has just ended, which its end tells.
fn pass_on(process: &impl Process, signal: Signal) {
    drop(process.signal(signal));
}

/// Waits for what `fds` say; an interruption counts as nothing.
fn wait(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<(), Error> {
    match poll(fds, timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::system("wait for", "the process and its terminal", errno)),
    }
}

/// Who is waited for.
#[derive(Clone, Copy)]
enum Who {
    Signals,
    End,
    Master,
    Stdin,
    Stdout,
}

/// Everything between a process's terminal and the caller's.
struct Relay<'a, P: Process> {
    process: &'a P,
    signals: &'a SignalFd,
    master: BorrowedFd<'a>,
    stdin: Descriptor<'a>,
    stdout: Descriptor<'a>,
    /// Restores the caller's terminal when the relay is dropped.
    raw: Option<Raw<'a>>,
    /// Where the window's size comes from.
    window: [BorrowedFd<'a>; 2],
    to_process: Buffer,
    to_user: Buffer,
    /// Whether there is more to come from the process's terminal.
    master_open: bool,
    /// Whether there is more to come from the caller.
    stdin_open: bool,
    /// Whether somebody still takes the output.
    stdout_open: bool,
}

impl<'a, P: Process> Relay<'a, P> {
    fn new(
        process: &'a P,
        signals: &'a SignalFd,
        master: BorrowedFd<'a>,
        stdin: BorrowedFd<'a>,
        stdout: BorrowedFd<'a>,
        interactive: bool,
    ) -> Result<Self, Error> {
        let raw = (interactive && isatty(stdin)).then(|| Raw::set(stdin)).transpose()?;
        parts::set_nonblocking(master)?;
        let relay = Relay {
            process,
            signals,
            master,
            stdin: Descriptor::new(stdin, OFlags::RDONLY),
            stdout: Descriptor::new(stdout, OFlags::WRONLY),
            raw,
            window: [stdout, stdin],
            to_process: Buffer::default(),
            to_user: Buffer::default(),
            master_open: true,
            stdin_open: interactive,
            stdout_open: true,
        };
        relay.resize()?;
        Ok(relay)
    }

    /// Gives the process's terminal the size of the caller's; the kernel tells the process.
    fn resize(&self) -> Result<(), Error> {
        let Some(size) = window_size(&self.window) else { return Ok(()) };
        tcsetwinsize(self.master, size)
            .map_err(|errno| Error::system("set the window size of", "the terminal", errno))
    }

    /// Relays until the process has ended and what it wrote before is written.
    fn run(mut self) -> Result<(), Error> {
        // As long as one slave is open, reading the master does not fail with EIO, even when the
        // process has none open now and opens /dev/tty later.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let mut slave = ioctl_tiocgptpeer(self.master, flags).ok();
        let mut ended = false;
        let mut after_end = 0;
        loop {
            let last = ended && self.to_user.is_empty();
            if last && (!self.master_open || after_end >= IN_FLIGHT) {
                return Ok(());
            }
            let found = self.poll(ended, last)?;
            let mut read = 0;
            for (who, events) in &found {
                match who {
                    Who::Signals => self.signals()?,
                    Who::End => {
                        ended = true;
                        // Who reads the output may take any time, or stop.
                        self.process.reap()?;
                        slave = None;
                        self.to_process = Buffer::default();
                        self.stdin_open = false;
                        // A master that gave EIO before may have got something since.
                        self.master_open = true;
                    }
                    Who::Master => read = self.master(*events)?,
                    Who::Stdin => self.stdin()?,
                    Who::Stdout => self.stdout()?,
                }
            }
            if ended {
                after_end += read;
            }
            // poll(2) on a master waits for what its slave's writers have written, so that nothing
            // to read after the end means nothing to come. A writer that outlives the process (of
            // `exec`) does not hold this one: IN_FLIGHT.
            if last && read == 0 {
                return Ok(());
            }
            debug_assert!(ended || slave.is_some() || !found.is_empty());
        }
    }

    /// Waits until something can be done, and says what. With `last`, only looks.
    fn poll(&self, ended: bool, last: bool) -> Result<Vec<(Who, PollFlags)>, Error> {
        let mut who = vec![Who::Signals];
        let mut fds = vec![PollFd::new(self.signals, PollFlags::IN)];
        let mut add = |name, fd, flags: PollFlags| {
            // Without flags not at all: a hang-up is told in any case, again and again.
            if !flags.is_empty() {
                who.push(name);
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        };
        let when = |condition, flags| if condition { flags } else { PollFlags::empty() };
        add(Who::End, self.process.end(), when(!ended, PollFlags::IN));
        let reads = when(self.master_open && self.to_user.has_room(), PollFlags::IN);
        let writes = when(self.master_open && !self.to_process.is_empty(), PollFlags::OUT);
        add(Who::Master, self.master, reads | writes);
        let reads = when(self.stdin_open && self.to_process.has_room(), PollFlags::IN);
        add(Who::Stdin, self.stdin.as_fd(), reads);
        add(Who::Stdout, self.stdout.as_fd(), when(!self.to_user.is_empty(), PollFlags::OUT));
        wait(&mut fds, last.then_some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        let found = who.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(found.filter(|(_, events)| !events.is_empty()).collect())
    }

    /// Passes signals on, and follows the window's size.
    fn signals(&self) -> Result<(), Error> {
        while let Some(signal) = next(self.signals)? {
            if signal == Signal::WINCH {
                self.resize()?;
                continue;
            }
            if signal == Signal::CONT {
                // The shell set its own mode while this program was stopped.
                if let Some(raw) = &self.raw {
                    raw.again()?;
                }
                self.resize()?;
            }
            pass_on(self.process, signal);
        }
        Ok(())
    }

    /// Reads and writes the process's terminal; how many bytes were read.
    fn master(&mut self, events: PollFlags) -> Result<usize, Error> {
        let fail = |op| move |errno| Error::system(op, "the process's terminal", errno);
        let mut read = 0;
        if self.to_user.has_room() && events.intersects(!PollFlags::OUT) {
            match self.to_user.fill(self.master).map_err(fail("read"))? {
                Some(bytes) => read = bytes,
                None => self.master_open = false,
            }
            if !self.stdout_open {
                self.to_user = Buffer::default();
            }
        }
        if events.contains(PollFlags::OUT)
            && !self.to_process.drain(self.master).map_err(fail("write to"))?
        {
            self.to_process = Buffer::default();
        }
        Ok(read)
    }

    /// Reads the caller's input.
    fn stdin(&mut self) -> Result<(), Error> {
        let read = self.to_process.fill(self.stdin.as_fd());
        let read = read.map_err(|errno| Error::system("read", "standard input", errno))?;
        self.stdin_open = read.is_some();
        Ok(())
    }

    /// Writes the process's output.
    fn stdout(&mut self) -> Result<(), Error> {
        let open = self.to_user.drain(self.stdout.as_fd());
        if !open.map_err(|errno| Error::system("write to", "standard output", errno))? {
            self.stdout_open = false;
            self.to_user = Buffer::default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
