//! A process that somebody waits for: signals go on to it, and a terminal is copied.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime as oci;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios::{OptionalActions, Termios, Winsize};
use sys::process::SignalFd;

use crate::{Error, Exit, Notify, Running};

/// What is passed on. SIGCHLD is about the caller's own children, and the rest about what the caller
/// itself did wrong; SIGURG is runtimes' own.
const PASSED: [Signal; 15] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::CONT,
    Signal::TSTP,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
    Signal::WINCH,
    Signal::XCPU,
];

/// Bytes copied at once.
const CHUNK: usize = 32 << 10;

/// The size of the first of `terminals` that is one: what a process's pseudoterminal should have.
pub fn window_size(terminals: &[BorrowedFd<'_>]) -> Option<Winsize> {
    terminals.iter().find_map(|fd| rustix::termios::tcgetwinsize(fd).ok())
}

/// Gives a process's terminal the size of the first of `terminals` that is one, those of the caller: so the program
/// finds it when it begins.
pub fn set_size(process: &mut oci::Process, terminals: &[BorrowedFd<'_>]) {
    if process.terminal() == Some(true)
        && let Some(size) = window_size(terminals)
    {
        let size = oci::BoxBuilder::default().height(size.ws_row).width(size.ws_col).build();
        process.set_console_size(size.ok());
    }
}

/// Waits for the end of `running`. Signals to the caller go on to the process; with a terminal, the
/// caller's standard input and output are it meanwhile. That the program is ready goes on by `notify`.
///
/// # Errors
/// The terminal or the process cannot be waited for.
pub fn wait(mut running: Running, mut notify: Option<Notify>) -> Result<Exit, Error> {
    let signals = SignalFd::new(&PASSED).map_err(failed("listening for signals in"))?;
    let mut terminal = running.take_terminal().map(Terminal::open).transpose()?;
    loop {
        let mut fds = vec![
            PollFd::new(&signals, PollFlags::IN),
            PollFd::from_borrowed_fd(running.pidfd(), PollFlags::IN),
        ];
        if let Some(notify) = &notify {
            fds.push(PollFd::new(notify, PollFlags::IN));
        }
        let others = fds.len();
        if let Some(terminal) = &terminal {
            terminal.watch(&mut fds);
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            ready => ready.map_err(failed("waiting in"))?,
        };
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        while let Some(number) = signals.next().map_err(failed("reading signals in"))? {
            match &terminal {
                Some(terminal) if number == Signal::WINCH.as_raw() => terminal.resize(),
                _ => pass(&running, number)?,
            }
        }
        if let Some(terminal) = &mut terminal {
            terminal.copy(&ready[others..])?;
        }
        // It is said once.
        notify = notify.filter(|notify| !notify.pass());
        if !ready[1].is_empty() {
            if let Some(terminal) = &mut terminal {
                terminal.rest()?;
            }
            return running.wait();
        }
    }
}

fn failed(op: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::io(op, "the foreground")(errno.into())
}

fn pass(running: &Running, number: i32) -> Result<(), Error> {
    let Some(signal) = sys::signal::from_number(number) else { return Ok(()) };
    match rustix::process::pidfd_send_signal(running.pidfd(), signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(failed("passing on a signal in")(errno)),
    }
}

/// The master of the process's terminal, and the caller's standard input and output.
struct Terminal {
    master: OwnedFd,
    /// How the caller's own terminal was, where it has one.
    before: Option<Termios>,
    /// Read from the caller, not yet taken by the process.
    pending: Vec<u8>,
    /// What is copied at once. Not on the stack, of which who has no terminal would touch as much.
    buffer: Vec<u8>,
    input_ended: bool,
    output_ended: bool,
}

impl Terminal {
    fn open(master: OwnedFd) -> Result<Self, Error> {
        rustix::io::ioctl_fionbio(&master, true).map_err(failed("opening the terminal of"))?;
        let stdin = rustix::stdio::stdin();
        let before = rustix::termios::tcgetattr(stdin).ok();
        let (pending, buffer) = (Vec::new(), vec![0; CHUNK]);
        let terminal =
            Self { master, before, pending, buffer, input_ended: false, output_ended: false };
        if let Some(before) = &terminal.before {
            let mut raw = before.clone();
            raw.make_raw();
            rustix::termios::tcsetattr(stdin, OptionalActions::Drain, &raw)
                .map_err(failed("setting the terminal of"))?;
            terminal.resize();
        }
        Ok(terminal)
    }

    /// Gives the process's terminal the size of the caller's.
    fn resize(&self) {
        // A caller without a terminal has no size to give.
        if let Some(size) = window_size(&[rustix::stdio::stdin()]) {
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    /// Adds the master and standard input, in this order.
    fn watch<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        let mut master = PollFlags::empty();
        master.set(PollFlags::IN, !self.output_ended);
        master.set(PollFlags::OUT, !self.pending.is_empty());
        if !self.output_ended {
            fds.push(PollFd::new(&self.master, master));
        }
        if !self.input_ended && self.pending.is_empty() {
            fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }

    /// Copies what is there, given what was found for the descriptors of [`Terminal::watch`].
    fn copy(&mut self, ready: &[PollFlags]) -> Result<(), Error> {
        let mut ready = ready.iter();
        if !self.output_ended {
            let found = ready.next().copied().unwrap_or(PollFlags::empty());
            if found.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.output()?;
            }
            if found.contains(PollFlags::OUT) {
                self.input()?;
            }
        }
        if ready.next().is_some_and(|found| !found.is_empty()) {
            match rustix::io::read(rustix::stdio::stdin(), &mut self.buffer) {
                Ok(0) | Err(Errno::IO) => self.input_ended = true,
                Ok(count) => {
                    self.pending.extend_from_slice(&self.buffer[..count]);
                    self.input()?;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(failed("reading the input of")(errno)),
            }
        }
        Ok(())
    }

    fn input(&mut self) -> Result<(), Error> {
        match rustix::io::write(&self.master, &self.pending) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody has the terminal open any more.
            Err(Errno::IO) => {
                self.pending.clear();
                self.input_ended = true;
            }
            Err(errno) => return Err(failed("writing to the terminal of")(errno)),
        }
        Ok(())
    }

    /// Copies a piece of the output; `false` where there is none now.
    fn output(&mut self) -> Result<bool, Error> {
        match rustix::io::read(&self.master, &mut self.buffer) {
            // EIO: nobody has the terminal open any more.
            Ok(0) | Err(Errno::IO) => {
                self.output_ended = true;
                Ok(false)
            }
            Ok(count) => {
                write_all(rustix::stdio::stdout(), &self.buffer[..count])?;
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(errno) => Err(failed("reading from the terminal of")(errno)),
        }
    }

    /// What the process has written before its end.
    fn rest(&mut self) -> Result<(), Error> {
        while !self.output_ended && self.output()? {}
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that has gone meanwhile needs nothing any more.
            let stdin = rustix::stdio::stdin();
            let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Drain, before);
        }
    }
}

/// Writes all, also to what does not wait.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)];
                rustix::io::retry_on_intr(|| poll(&mut fds, None))
                    .map_err(failed("waiting for the output of"))?;
            }
            Err(errno) => return Err(failed("writing the output of")(errno)),
        }
    }
    Ok(())
}
