//! A gate that outlives the parent: the child waits at a socket in a directory until some process of the
//! host comes and lets it go on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use sys::{Failure, Step, message};

use crate::channel::{self, OPEN};
use crate::{Error, Event, Gate};

/// The child's side, made before the clone. The connection that lets it go on is from then on its
/// channel: a [`Gate`] that closes on exec.
///
/// ```text
/// creator                         child                       starter
/// ───────                         ─────                       ───────
/// Door::listen, Spawn::spawn ──►  Door::pass
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

    /// Waits for a [`Knock`] that says go on, and gives its connection.
    fn wait(&self) -> Result<OwnedFd, Failure> {
        const OP: &str = "waiting for the start";
        loop {
            let mut listener = [PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN)];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut listener, None)).step(OP)?;
            let connection = match message::accept(&self.listener) {
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
