//! A gate that outlives the parent: the child waits at a socket in a directory until some process of the
//! host comes and lets it go on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use sys::process::SignalFd;
use sys::program::exit_now;
use sys::{Failure, Step, message};

use crate::channel::{self, OPEN};
use crate::{Error, Event, Gate};

/// The child's side, made before the clone. The connection that lets it go on is from then on its
/// channel: a [`Gate`] that closes on exec.
///
/// ```text
/// creator                         child                       starter
/// ───────                         ─────                       ───────
/// Door::listen, Spawn::spawn ──►  Door::attend, Attended::pass
/// (ends)                              ◄── connection ───────  Knock::new
///                                     ◄── byte ─────────────  Knock::proceed
///                                 … exec ── end ───────────►  Knock::next: Executed
///                                    or Gate::fail ────────►               Failed(report)
/// ```
#[derive(Debug)]
pub struct Door {
    listener: OwnedFd,
}

impl Door {
    /// Listens at `name` in the directory `dir` of the host, where only the caller's user may connect
    /// (mode 0600). Allocates; needs `/proc`.
    ///
    /// # Errors
    /// EADDRINUSE where there is such a name already.
    pub fn listen(dir: BorrowedFd<'_>, name: &str) -> Result<Self, Error> {
        let listener =
            message::listen(dir, name).map_err(Error::system("listening for the start"))?;
        Ok(Self { listener })
    }

    /// Child side. From now on a signal that ends programs ends the child, also as the first process of a PID namespace,
    /// which the kernel lets ignore what it has no handler for (pid_namespaces(7)): before anybody is told that it
    /// waits, so that none is lost.
    ///
    /// # Errors
    /// No descriptor for the signals.
    pub fn attend(&self) -> Result<Attended<'_>, Failure> {
        let signals = SignalFd::new(&ENDING).step("blocking signals before the start")?;
        Ok(Attended { door: self, signals })
    }
}

/// The signals that end a program which does not handle them, and which others send to end it.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// A [`Door`] at which the child may begin to wait.
#[derive(Debug)]
pub struct Attended<'a> {
    door: &'a Door,
    signals: SignalFd,
}

impl Attended<'_> {
    /// Waits for a [`Knock`] that says go on, and gives its connection.
    fn wait(&self) -> Result<OwnedFd, Failure> {
        const OP: &str = "waiting for the start";
        let listener = &self.door.listener;
        loop {
            let mut both = [
                PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut both, None)).step(OP)?;
            if !both[1].revents().is_empty()
                && let Some(signal) = self.signals.next().step(OP)?
            {
                // As a shell says it of a program that a signal has ended.
                exit_now(128 + signal as u8);
            }
            let connection = match message::accept(listener) {
                Ok(connection) => connection,
                // It went before it was accepted.
                Err(Errno::AGAIN | Errno::CONNABORTED) => continue,
                Err(errno) => return Err(Failure::new(OP, errno)),
            };
            let mut byte = [0_u8; 1];
            let read = rustix::io::retry_on_intr(|| rustix::io::read(&connection, &mut byte));
            if read == Ok(1) {
                return Ok(connection);
            }
        }
    }

    /// Child side. Waits for a [`Knock`] that says go on, and runs `body` then, which ends in an exec; its
    /// failure goes to who knocked, and is returned too. Who comes and goes without a word ([`Knock::new`]
    /// alone, to see whether the child waits) changes nothing. Does not allocate.
    pub fn pass<T>(&self, body: impl FnOnce(Gate<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let connection = self.wait()?;
        sys::process::unblock(&ENDING).step("unblocking signals for the start")?;
        let gate = Gate::on(connection.as_fd());
        body(gate).inspect_err(|failure| gate.fail(failure))
    }
}

/// The starter's side of a [`Door`].
#[derive(Debug)]
pub struct Knock {
    channel: OwnedFd,
}

impl Knock {
    /// Connects to the child that waits at `name` in `dir`; `None` where none waits any more: it went
    /// on, or has ended. Allocates; needs `/proc`.
    ///
    /// # Errors
    /// The socket may not be connected to.
    pub fn new(dir: BorrowedFd<'_>, name: &str) -> Result<Option<Self>, Error> {
        match message::connect(dir, name) {
            Ok(channel) => Ok(Some(Self { channel })),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(errno) => Err(Error::System { op: "finding the process that waits", errno }),
        }
    }

    /// Lets the child go on.
    ///
    /// # Errors
    /// EPIPE when it has ended.
    pub fn proceed(&self) -> Result<(), Error> {
        message::send(&self.channel, OPEN, &[]).map_err(Error::system("letting the child go on"))
    }

    /// Waits for what the child says next; as [`Child::next`](crate::Child::next).
    ///
    /// # Errors
    /// As there.
    #[expect(clippy::should_implement_trait, reason = "an iterator's next cannot fail")]
    pub fn next(&mut self) -> Result<Event, Error> {
        channel::next(self.channel.as_fd())
    }
}
