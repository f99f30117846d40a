//! Where a process's input and output, its log and its clients meet, in one thread that never waits
//! for any one of them.
//!
//! What the process writes goes to the log and to all clients. When one of them takes its part too
//! slowly, nothing more is read (the process waits, as it would for a pipe's reader), so nothing is
//! lost; one that is gone is forgotten.

mod client;
mod sink;
mod source;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{Winsize, tcsetwinsize};
use sys::message::Descriptors;

use crate::dir::Dir;
use crate::log::Log;
use crate::output::{Pipes, READ};
use crate::report::Report;
use crate::supervise::ending_signals;
use crate::wire::{FromClient, Outlet, PAYLOAD};
use crate::{Error, target};
use client::Client;
use sink::{Sinks, sink_of};
use source::Source;

/// The most that can be in the kernel's buffers of a pseudoterminal or a pipe when its process ends
/// (640 KiB is the limit of one direction), with room to spare.
const IN_FLIGHT: usize = 1 << 20;

/// How much input may wait to be written before the clients are left alone, bytes.
const INPUT: usize = 64 * 1024;

/// The input and output of one process after another, and who is attached.
pub(crate) struct Hub {
    log: Option<Log>,
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
    sources: Vec<Source>,
    /// Whether the process's streams are a terminal.
    tty: bool,
    /// As long as one slave is open, reading the master does not fail with EIO, even when the process
    /// has none open now and opens one later.
    slave: Option<OwnedFd>,
    /// Standard input, or a terminal's master once more.
    stdin: Option<OwnedFd>,
    /// What is to be written to it.
    input: Vec<u8>,
    /// Whether it is closed when that is done.
    input_ended: bool,
    /// Whether the input ends with that of a client (Docker's StdinOnce).
    once: bool,
    /// Whether there is a process.
    runs: bool,
    buffer: Vec<u8>,
}

/// Who is waited for.
enum Who {
    Other(usize),
    Listener,
    Client(usize),
    Source(usize),
    /// The pipe that this source's output goes to.
    Sink(usize),
    Stdin,
}

impl Hub {
    /// With `once`, the input ends with that of a client.
    pub(crate) fn new(once: bool) -> Hub {
        Hub {
            log: None,
            listener: None,
            clients: Vec::new(),
            sources: Vec::new(),
            tty: false,
            slave: None,
            stdin: None,
            input: Vec::new(),
            input_ended: false,
            once,
            runs: false,
            buffer: vec![0; READ + 1],
        }
    }

    /// Writes all output to this log from now on.
    pub(crate) fn keep_log(&mut self, log: Log) {
        self.log = Some(log);
    }

    /// Takes clients who connect by the container's directory.
    pub(crate) fn listen(&mut self, dir: &Dir) -> Result<(), Error> {
        self.listener = Some(dir.listen()?);
        Ok(())
    }

    /// The starter: whether it gets the output and sends input.
    pub(crate) fn add_starter(&mut self, channel: OwnedFd, listens: bool, input: bool) {
        self.clients.push(Client::new(channel, listens, input, true));
    }

    /// Tells the starter that the program runs.
    pub(crate) fn tell_started(&self, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
        match self.clients.first() {
            Some(starter) => Report::Started.send(starter.as_fd(), &[pidfd]),
            None => Ok(()),
        }
    }

    /// Begins with a process: its pipes, or its terminal's master; `takes_input` for the latter.
    pub(crate) fn begin(
        &mut self,
        pipes: Pipes,
        terminal: Option<OwnedFd>,
        takes_input: bool,
    ) -> Result<(), Error> {
        let source = |(fd, outlet)| Source::new(fd, outlet, false);
        self.sources = pipes.outputs.into_iter().map(source).collect();
        (self.stdin, self.tty, self.runs) = (pipes.stdin, terminal.is_some(), true);
        (self.input_ended, self.input) = (false, Vec::new());
        if let Some(master) = terminal {
            let failed = |errno| Error::system("set up", "the process's terminal", errno);
            rustix::io::ioctl_fionbio(&master, true).map_err(failed)?;
            if takes_input {
                self.stdin = Some(rustix::io::fcntl_dupfd_cloexec(&master, 3).map_err(failed)?);
            }
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            self.slave = ioctl_tiocgptpeer(&master, flags).ok();
            self.sources.push(Source::new(master, Outlet::Stdout, true));
        }
        Ok(())
    }

    /// Waits until something can be done, at most `timeout`, and does it. Says which of `others` are
    /// readable.
    pub(crate) fn turn(
        &mut self,
        others: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> Result<Vec<bool>, Error> {
        let mut ready = vec![false; others.len()];
        let holds = self.log.as_ref().is_some_and(Log::holds);
        let now = Instant::now();
        let rested = self.sources.iter().filter_map(|source| source.pace.rest(now)).min();
        let first = match rested {
            Some(left) => Some(timeout.map_or(left, |timeout| timeout.min(left))),
            None if holds => Some(Duration::ZERO),
            None => timeout,
        };
        let mut found = self.poll(others, first, now)?;
        let is_output = |(who, _): &_| matches!(who, Who::Source(_) | Who::Sink(_));
        if holds && rested.is_none() && !found.iter().any(is_output) {
            // Nothing more comes at once.
            self.flush_log();
            if found.is_empty() {
                found = self.poll(others, timeout, now)?;
            }
        }
        for (who, events) in found {
            match who {
                Who::Other(number) => ready[number] = true,
                Who::Listener => self.accept(),
                Who::Client(number) => {
                    if events.intersects(PollFlags::OUT | PollFlags::ERR) {
                        self.clients[number].flush();
                    }
                    if events.intersects(PollFlags::IN | PollFlags::HUP) {
                        self.hear(number);
                    }
                }
                Who::Source(number) => {
                    let count = self.take(number);
                    self.sources[number].pace.took(count, Instant::now());
                }
                Who::Sink(number) => {
                    if let Some(sink) = sink_of(&mut self.clients, self.sources[number].outlet) {
                        sink.full = false;
                    }
                }
                Who::Stdin => self.write_input(),
            }
        }
        self.clients.retain(|client| !client.is_done());
        self.sources.retain(|source| !source.ended);
        Ok(ready)
    }

    /// Something without events is not asked for: a hang-up is told in any case, again and again.
    fn poll(
        &self,
        others: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
        now: Instant,
    ) -> Result<Vec<(Who, PollFlags)>, Error> {
        let most = others.len() + self.clients.len() + self.sources.len() + 2;
        let (mut who, mut fds) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut add = |name, fd, events: PollFlags| {
            if !events.is_empty() {
                who.push(name);
                fds.push(PollFd::from_borrowed_fd(fd, events));
            }
        };
        let when = |condition, events| if condition { events } else { PollFlags::empty() };
        for (number, fd) in others.iter().enumerate() {
            add(Who::Other(number), *fd, PollFlags::IN);
        }
        if let Some(listener) = self.listener.as_ref().filter(|_| self.runs) {
            add(Who::Listener, listener.as_fd(), PollFlags::IN);
        }
        let has_room = self.input.len() < INPUT;
        for (number, client) in self.clients.iter().enumerate() {
            let events = when(client.is_heard() && has_room, PollFlags::IN)
                | when(client.is_waiting(), PollFlags::OUT)
                // Its pipes are closed with it, also where its input waits.
                | when(client.sinks.exist(), PollFlags::RDHUP);
            add(Who::Client(number), client.as_fd(), events);
        }
        // A client that has been told the end holds nobody up.
        let holds = |client: &Client| client.is_full() || client.sinks.are_awaited();
        if !self.clients.iter().any(|client| client.is_heard() && holds(client)) {
            for (number, source) in self.sources.iter().enumerate() {
                if source.pace.rest(now).is_some() {
                    continue;
                }
                let sink = self.clients.iter().find_map(|client| client.sinks.get(source.outlet));
                match sink.filter(|sink| sink.full) {
                    Some(sink) => add(Who::Sink(number), sink.as_fd(), PollFlags::OUT),
                    None => add(Who::Source(number), source.fd.as_fd(), PollFlags::IN),
                }
            }
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            add(Who::Stdin, stdin.as_fd(), PollFlags::OUT);
        }
        // More than the kernel can count is for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(Error::system("wait for", "the process", errno)),
        }
        let found = who.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(found.filter(|(_, events)| !events.is_empty()).collect())
    }

    /// Takes one more client. Whom this fails for sees its connection closed.
    fn accept(&mut self) {
        let Some(Ok(socket)) = self.listener.as_ref().map(sys::message::accept) else { return };
        let mut client = Client::new(socket, true, false, false);
        // From now on all get the same.
        self.close_sinks();
        if let Ok(message) = Report::Started.encode() {
            client.send(&message);
            self.clients.push(client);
        }
    }

    /// Reads what a client says.
    fn hear(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if !client.is_heard() {
            return; // sending shows whether it is still there
        }
        let (message, descriptors) = match client.receive(&mut self.buffer) {
            None => (None, Descriptors::default()),
            Some((0, _)) => return,
            Some((count, descriptors)) => (FromClient::decode(&self.buffer[..count]), descriptors),
        };
        match message {
            Some(FromClient::Join { input }) => client.has_input = input,
            Some(FromClient::Input(bytes)) => {
                if self.stdin.is_some() {
                    self.input.extend_from_slice(bytes);
                    self.write_input();
                }
            }
            Some(FromClient::InputEnd) => {
                client.has_input = false;
                self.end_input();
            }
            Some(FromClient::Resize { rows, columns }) => self.resize(rows, columns),
            Some(FromClient::OutputEnd(outlet)) => {
                // As in a shell's pipeline: who writes to nobody is told so.
                if client.owns && self.clients.len() == 1 && !self.tty {
                    let closed = self.sources.iter_mut().filter(|source| source.outlet == outlet);
                    closed.for_each(|source| source.ended = true);
                }
            }
            Some(FromClient::Pipes { stdout, stderr }) => {
                // What goes to one of several must not go past the others.
                if !self.tty
                    && self.clients.iter().filter(|client| client.takes_output()).count() == 1
                {
                    let outlets = [(stdout, Outlet::Stdout), (stderr, Outlet::Stderr)];
                    let outlets = outlets.into_iter().filter_map(|(is, of)| is.then_some(of));
                    let pipes = outlets.zip(descriptors.into_iter().flatten());
                    self.clients[number].take_sinks(Sinks::new(pipes));
                }
            }
            Some(FromClient::Written) => client.sinks.open(),
            // It is gone, or speaks another language.
            None => {
                let had_input = client.has_input;
                client.has_input = false;
                client.drop_it();
                if had_input {
                    self.end_input();
                }
            }
        }
    }

    /// A client has no more input.
    fn end_input(&mut self) {
        // A terminal's input has no end.
        if self.once && !self.tty {
            self.input_ended = true;
            self.write_input();
        }
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        if !self.input.is_empty() {
            match rustix::io::write(stdin, &self.input) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.input = Vec::new();
                    self.stdin = None;
                }
            }
        }
        if self.input.is_empty() && self.input_ended {
            self.stdin = None;
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        for source in self.sources.iter().filter(|source| source.tty) {
            // It fails for a terminal that is hung up.
            let _ = tcsetwinsize(&source.fd, size);
        }
    }

    /// Reads from a source, for the log and the clients; how many bytes came. A log that cannot be
    /// written (a full disk) loses output, and must not stop the container.
    fn take(&mut self, number: usize) -> usize {
        if self.sources[number].ended {
            return 0;
        }
        let (most, moved) = match self.move_output(number) {
            Some(count) if count == 0 || self.log.is_none() => return count,
            Some(count) => (count, true),
            // What the log alone gets need not fit into a message: fewer turns for what a process prints fast.
            None if self.clients.is_empty() => (READ, false),
            None => (PAYLOAD, false),
        };
        let source = &mut self.sources[number];
        let by_log = moved || self.clients.is_empty();
        let space = self.log.as_mut().filter(|_| by_log).and_then(|log| log.space(most));
        let in_log = space.is_some();
        let count = source.read(space.unwrap_or(&mut self.buffer[1..=most]));
        if let Some(log) = &mut self.log {
            let _ = match count {
                0 => Ok(()),
                count if in_log => log.took(&mut source.line, count),
                count => log.add(&mut source.line, &self.buffer[1..=count]),
            };
            if source.ended {
                let _ = log.finish(&mut source.line);
            }
        }
        if count > 0 && !moved {
            self.buffer[0] = source.outlet.kind();
            for client in &mut self.clients {
                client.output(&self.buffer[..=count]);
            }
        }
        count
    }

    /// Writes what the log has taken to its file: who reads the log is to see it.
    pub(crate) fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            // Of a full disk nobody is told, as in [`Hub::take`].
            let _ = log.flush();
        }
    }

    /// The process has ended: takes what it wrote before. Who outlives it (of `exec`) and writes on
    /// holds nobody.
    pub(crate) fn rest(&mut self) {
        (self.slave, self.stdin, self.runs) = (None, None, false);
        // Nobody waits for room in them.
        self.close_sinks();
        for number in 0..self.sources.len() {
            let mut total = 0;
            while total < IN_FLIGHT {
                let source = &self.sources[number];
                // poll(2) on a master waits for what its slave's writers have written, so that
                // nothing to read after the end means nothing to come.
                if source.ended
                    || !target::ended(source.fd.as_fd(), Duration::ZERO).unwrap_or(false)
                {
                    break;
                }
                total += self.take(number);
            }
            let source = &mut self.sources[number];
            if let Some(log) = &mut self.log {
                let _ = log.finish(&mut source.line);
            }
        }
        self.flush_log();
        // Who still has the terminal open is to know.
        self.sources.retain(|source| !source.ended && !source.tty);
    }

    /// Tells all clients the end, and none of them anything more.
    pub(crate) fn dismiss(&mut self, report: &Report) {
        if let Ok(message) = report.encode() {
            self.clients.iter_mut().for_each(|client| client.dismiss(&message));
        }
        self.clients.retain(|client| !client.is_done());
    }

    /// Whether somebody is attached, or has not got all yet.
    #[cfg(test)]
    pub(crate) fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Goes on until all clients have what is theirs, and with `outputs` until those have ended; or
    /// until somebody ends this process.
    pub(crate) fn finish(&mut self, outputs: bool) -> Result<(), Error> {
        self.listener = None;
        if !outputs {
            self.sources.clear();
        }
        if self.clients.is_empty() && self.sources.is_empty() {
            return Ok(());
        }
        let signals = ending_signals()?;
        while !self.clients.is_empty() || !self.sources.is_empty() {
            if self.turn(&[signals.as_fd()], None)?.contains(&true) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
