//! A process and the terminal of who is attached to it, joined until the process ends or the user
//! leaves it.

mod parts;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios::isatty;
use sys::process::SignalFd;

use crate::detach::Matcher;
use crate::report::Report;
use crate::wire::{FromClient, MESSAGE, Outlet, PAYLOAD};
use crate::{DetachKeys, Error, Session, wire};
use parts::{Descriptor, Raw};

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

/// The caller's three descriptors.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'a> {
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
}

impl Streams<'static> {
    /// Those of the calling process.
    pub fn own() -> Streams<'static> {
        Streams {
            stdin: rustix::stdio::stdin(),
            stdout: rustix::stdio::stdout(),
            stderr: rustix::stdio::stderr(),
        }
    }
}

/// How somebody is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    /// `-i`: what comes from standard input goes to the process, if that takes input.
    pub input: bool,
    /// `--sig-proxy`: signals go to the process. Without, one that would end the caller ends
    /// [`attach`].
    pub sig_proxy: bool,
    /// `--detach-keys`
    pub detach_keys: DetachKeys,
}

impl Default for AttachOptions {
    /// Without input, and as Docker otherwise.
    fn default() -> AttachOptions {
        AttachOptions { input: false, sig_proxy: true, detach_keys: DetachKeys::default() }
    }
}

/// How [`attach`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachEnd {
    /// The process ended: its exit status, or 128 and the number of the signal that ended it.
    Exited(i32),
    /// The user typed the keys to detach: the process goes on.
    Detached,
    /// The caller got this signal, and `sig_proxy` was not set: the process goes on.
    Interrupted(i32),
}

/// Joins `session` and the caller until the process has ended or the user detaches.
///
/// What the process writes goes to standard output and error. With a terminal (`-t`) and input,
/// standard input, where it is a terminal, is in raw mode for that time and restored at every end; then
/// the keys to detach are looked for. The window's size of standard output, or else of standard input, is
/// the process's, now and when it changes. A standard output that nobody reads any more loses the output
/// of a terminal; to a process without one it is closed, as in a shell's pipeline, unless others are
/// attached too.
///
/// With or without a terminal, signals that this process gets (HUP, INT, QUIT, TERM, USR1, USR2 and
/// others that can be caught) go to the session's process. They stay blocked for the calling thread;
/// other threads of a program must have them blocked too. But TSTP, in raw mode, stops this process, with
/// its terminal as it was before.
///
/// # Errors
/// Standard input and output cannot be set, read or written; signals cannot be read; the supervisor was
/// killed ([`Error::Supervisor`]).
pub fn attach(
    session: Session,
    streams: Streams<'_>,
    options: &AttachOptions,
) -> Result<AttachEnd, Error> {
    let mut signals = passed_on();
    if session.has_terminal() {
        signals.push(Signal::WINCH);
    }
    // Before all else: what comes from now on waits until it can be passed on.
    let signals = SignalFd::new(&signals)
        .map_err(|errno| Error::system("open a descriptor for", "signals", errno))?;
    Client::new(&session, &signals, streams, options)?.run()
}

/// Who is waited for.
#[derive(Clone, Copy)]
enum Who {
    Signals,
    Supervisor,
    Stdin,
    Output,
}

/// Everything between a supervisor and the caller.
struct Client<'a> {
    session: &'a Session,
    signals: &'a SignalFd,
    sig_proxy: bool,
    stdin: Descriptor<'a>,
    stdout: Descriptor<'a>,
    stderr: Descriptor<'a>,
    /// Restores the caller's terminal when this is dropped.
    raw: Option<Raw<'a>>,
    keys: Option<Matcher>,
    /// Where the window's size comes from.
    window: [BorrowedFd<'a>; 2],
    /// Messages for the supervisor. Input is read when there are none.
    outgoing: VecDeque<Vec<u8>>,
    /// One from the supervisor, and how much of it is dealt with.
    incoming: Vec<u8>,
    written: usize,
    length: usize,
    /// Whether there is more to come from the caller.
    stdin_open: bool,
    /// Outputs that nobody takes any more.
    closed: Vec<Outlet>,
}

/// How many messages of output are dealt with before anything else is looked at.
const AT_ONCE: usize = 16;

impl<'a> Client<'a> {
    fn new(
        session: &'a Session,
        signals: &'a SignalFd,
        streams: Streams<'a>,
        options: &AttachOptions,
    ) -> Result<Self, Error> {
        let Streams { stdin, stdout, stderr } = streams;
        let input = options.input && session.takes_input();
        let is_terminal = input && session.has_terminal() && isatty(stdin);
        let raw = is_terminal.then(|| Raw::set(stdin)).transpose()?;
        let mut client = Client {
            session,
            signals,
            sig_proxy: options.sig_proxy,
            stdin: Descriptor::new(stdin, OFlags::RDONLY),
            stdout: Descriptor::new(stdout, OFlags::WRONLY),
            stderr: Descriptor::new(stderr, OFlags::WRONLY),
            raw,
            keys: is_terminal.then(|| Matcher::new(&options.detach_keys)),
            window: [stdout, stdin],
            outgoing: VecDeque::new(),
            incoming: vec![0; MESSAGE],
            written: 0,
            length: 0,
            stdin_open: input,
            closed: Vec::new(),
        };
        client.hand_over_pipes();
        client.resize();
        Ok(client)
    }

    /// Gives the supervisor the outputs that are pipes: what the process writes need not take the way by
    /// messages then.
    fn hand_over_pipes(&self) {
        let (stdout, stderr) = (self.stdout.is_pipe(), self.stderr.is_pipe());
        if self.session.has_terminal() || !(stdout || stderr) {
            return;
        }
        let outputs = [(stdout, &self.stdout), (stderr, &self.stderr)];
        let pipes = outputs.into_iter().filter(|(is, _)| *is).map(|(_, output)| output.as_fd());
        let message = FromClient::Pipes { stdout, stderr }.encode();
        // That the supervisor is gone is told by what comes from it.
        let _ = sys::message::send(self.session.channel(), &message, &pipes.collect::<Vec<_>>());
    }

    /// Gives the process's terminal the size of the caller's; the kernel tells the process.
    fn resize(&mut self) {
        if let Some(size) =
            oci_runtime::window_size(&self.window).filter(|_| self.session.has_terminal())
        {
            self.outgoing.push_back(FromClient::from(size).encode());
        }
    }

    fn run(mut self) -> Result<AttachEnd, Error> {
        loop {
            self.send()?;
            for who in self.poll()? {
                let end = match who {
                    Who::Signals => self.signals()?,
                    Who::Supervisor => self.receive()?,
                    Who::Stdin => self.read_stdin()?,
                    Who::Output => {
                        self.write()?;
                        None
                    }
                };
                if let Some(end) = end {
                    return Ok(end);
                }
            }
        }
    }

    /// The output that the message in hand is for, with the part of it that is still to be written.
    fn pending(&self) -> Option<Outlet> {
        Outlet::of(self.incoming[0]).filter(|_| self.written < self.length)
    }

    fn output(&self, outlet: Outlet) -> &Descriptor<'a> {
        match outlet {
            Outlet::Stdout => &self.stdout,
            Outlet::Stderr => &self.stderr,
        }
    }

    /// Waits until something can be done, and says what.
    fn poll(&self) -> Result<Vec<Who>, Error> {
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
        let pending = self.pending();
        let flags = when(pending.is_none(), PollFlags::IN)
            | when(!self.outgoing.is_empty(), PollFlags::OUT);
        add(Who::Supervisor, self.session.channel(), flags);
        let reads = self.stdin_open && self.outgoing.is_empty();
        add(Who::Stdin, self.stdin.as_fd(), when(reads, PollFlags::IN));
        if let Some(outlet) = pending {
            add(Who::Output, self.output(outlet).as_fd(), PollFlags::OUT);
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => {
                return Err(Error::system("wait for", "the process and its terminal", errno));
            }
        }
        let found = who.into_iter().zip(&fds);
        Ok(found.filter(|(_, fd)| !fd.revents().is_empty()).map(|(who, _)| who).collect())
    }

    /// Passes signals on, and follows the window's size.
    fn signals(&mut self) -> Result<Option<AttachEnd>, Error> {
        loop {
            let number = self.signals.next();
            let number = number.map_err(|errno| Error::system("read", "signals", errno))?;
            let Some(signal) = number.and_then(sys::signal::from_number) else { return Ok(None) };
            match (signal, &self.raw) {
                (Signal::WINCH, _) => {
                    self.resize();
                    continue;
                }
                (Signal::TSTP, Some(raw)) => {
                    raw.stop()?;
                    self.resize();
                    continue;
                }
                (Signal::CONT, raw) => {
                    // The shell set its own mode while this program was stopped.
                    raw.as_ref().map_or(Ok(()), Raw::again)?;
                    self.resize();
                }
                _ => {}
            }
            if self.sig_proxy {
                // That this fails means that it has just ended, which its end tells.
                drop(self.session.signal(signal));
            } else if ![Signal::CONT, Signal::TSTP].contains(&signal) {
                return Ok(Some(AttachEnd::Interrupted(signal.as_raw())));
            }
        }
    }

    /// Sends what there is room for.
    fn send(&mut self) -> Result<(), Error> {
        while let Some(message) = self.outgoing.front() {
            match sys::message::try_send(self.session.channel(), message) {
                Ok(()) => drop(self.outgoing.pop_front()),
                Err(Errno::AGAIN | Errno::NOBUFS) => break,
                // It is gone, or says so just now.
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => self.outgoing.clear(),
                Err(errno) => return Err(Error::system("send to", "the supervisor", errno)),
            }
        }
        Ok(())
    }

    /// Takes what the supervisor says.
    fn receive(&mut self) -> Result<Option<AttachEnd>, Error> {
        for _ in 0..AT_ONCE {
            if self.pending().is_some() {
                break;
            }
            match sys::message::try_receive(self.session.channel(), &mut self.incoming) {
                Ok(0) => return Err(self.session.lost()),
                Ok(count) => (self.written, self.length) = (1, count),
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(Error::system("hear from", "the supervisor", errno)),
            }
            if self.pending().is_some() {
                self.write()?;
                continue;
            }
            // What came before it is written by now.
            if self.incoming[..self.length] == [wire::IS_WRITTEN] {
                self.outgoing.push_back(FromClient::Written.encode());
                continue;
            }
            let report = Report::decode(&self.incoming[..self.length]);
            if let Some(end) = report.and_then(|report| self.session.end(report)) {
                return end.map(|code| Some(AttachEnd::Exited(code)));
            }
        }
        Ok(None)
    }

    /// Reads the caller's input.
    fn read_stdin(&mut self) -> Result<Option<AttachEnd>, Error> {
        let mut message = vec![0; MESSAGE];
        message[0] = wire::INPUT;
        match rustix::io::read(self.stdin.as_fd(), &mut message[1..=PAYLOAD]) {
            // A terminal that is hung up gives EIO.
            Ok(0) | Err(Errno::IO) => {
                self.stdin_open = false;
                self.outgoing.push_back(FromClient::InputEnd.encode());
            }
            Ok(count) => {
                message.truncate(count + 1);
                if let Some(keys) = &mut self.keys {
                    let (passed, detach) = keys.take(&message[1..]);
                    if !passed.is_empty() {
                        self.outgoing.push_back(FromClient::Input(&passed).encode());
                    }
                    if detach {
                        self.send()?;
                        return Ok(Some(AttachEnd::Detached));
                    }
                } else {
                    self.outgoing.push_back(message);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Error::system("read", "standard input", errno)),
        }
        Ok(None)
    }

    /// Writes the process's output.
    fn write(&mut self) -> Result<(), Error> {
        while let Some(outlet) = self.pending() {
            if self.closed.contains(&outlet) {
                self.written = self.length;
                break;
            }
            let bytes = &self.incoming[self.written..self.length];
            match self.output(outlet).write(bytes) {
                Ok(count) => self.written += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // Nobody reads it.
                Err(Errno::PIPE | Errno::IO | Errno::CONNRESET) => {
                    self.closed.push(outlet);
                    self.outgoing.push_back(FromClient::OutputEnd(outlet).encode());
                }
                Err(errno) => {
                    let name = match outlet {
                        Outlet::Stdout => "standard output",
                        Outlet::Stderr => "standard error",
                    };
                    return Err(Error::system("write to", name, errno));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
