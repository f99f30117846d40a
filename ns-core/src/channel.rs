//! Messages between parent and child: a pair of sequenced-packet sockets, so that each message
//! arrives whole; the exec closes the child's end.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use sys::{Failure, Report, Step, message};

use crate::enter::Entered;
use crate::{Error, Event};

/// What opens a gate.
pub(crate) const OPEN: &[u8] = b"g";

/// First byte of a message: a phase (and a descriptor), or a failure.
const PHASE: u8 = b'P';
const FAILURE: u8 = b'F';
/// Before the caller's closure runs: how far the child's way into its namespaces is.
const ENTERED: u8 = b'N';

/// The child's end of the channel to its parent.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'fd> {
    channel: BorrowedFd<'fd>,
}

impl<'fd> Gate<'fd> {
    /// A gate on a connection that is there: that of a [`Door`](crate::Door), or the pair of a parent
    /// and its child.
    pub(crate) fn on(channel: BorrowedFd<'fd>) -> Self {
        Self { channel }
    }

    /// Tells the parent that `phase` is reached, and hands it a descriptor if there is one. Does not
    /// wait. ECANCELED when the parent is gone. Does not allocate.
    pub fn tell(&self, phase: u8, descriptor: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        const OP: &str = "telling the parent how far the child is";
        match self.send(&[PHASE, phase], descriptor) {
            Err(Errno::PIPE) => Err(Failure::new(OP, Errno::CANCELED)),
            result => result.step(OP),
        }
    }

    /// As [`Gate::tell`], and waits until the parent calls [`Child::proceed`](crate::Child::proceed).
    /// ECANCELED when the parent is gone. Does not allocate.
    pub fn wait(&self, phase: u8) -> Result<(), Failure> {
        self.tell(phase, None)?;
        self.opened()
    }

    /// What the child has entered, for [`crate::Spawn::spawn`] itself.
    pub(crate) fn entered(
        &self,
        what: Entered,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Failure> {
        self.send(&[ENTERED, what as u8], descriptor)
            .step("telling the parent which namespaces the child is in")
    }

    /// Waits until the parent calls [`Child::proceed`](crate::Child::proceed), which it may have done already: for a child that
    /// told its phase ([`Gate::tell`]), and had something left to do. ECANCELED when the parent is gone. Does not allocate.
    pub fn opened(&self) -> Result<(), Failure> {
        const OP: &str = "waiting for the parent";
        let mut byte = [0_u8; 1];
        match rustix::io::retry_on_intr(|| rustix::io::read(self.channel, &mut byte)) {
            // Reset: it went with a message of the child unread.
            Ok(0) | Err(Errno::CONNRESET) => Err(Failure::new(OP, Errno::CANCELED)),
            result => result.map(drop).step(OP),
        }
    }

    /// Tells the parent of a failure, and stays until the parent has looked at what is there (it may
    /// look into the child's mount namespace, which ends with the child) and lets go.
    pub(crate) fn fail(&self, failure: &Failure) {
        let mut buffer = [0; Report::MAX];
        let encoded = failure.encode(&mut buffer);
        let mut message = [0; Report::MAX + 1];
        message[0] = FAILURE;
        message[1..=encoded.len()].copy_from_slice(encoded);
        // A parent that is gone reads nothing; the exit status says the rest.
        let _ = self.send(&message[..=encoded.len()], None);
        let _ = self.opened();
    }

    fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        message::send(self.channel, bytes, descriptor.as_slice())
    }
}

/// What the parent received.
pub(crate) enum Message {
    Phase(u8, Option<OwnedFd>),
    Entered(u8, Option<OwnedFd>),
    Failure(Report),
    End,
    Unknown(usize),
}

/// Waits for the next message, and says what it means.
pub(crate) fn next(channel: BorrowedFd<'_>) -> Result<Event, Error> {
    match receive(channel).map_err(Error::system("receiving from the child"))? {
        Message::Phase(phase, descriptor) => Ok(Event::Phase(phase, descriptor)),
        Message::Entered(..) => Err(Error::Protocol { bytes: 2 }),
        Message::Failure(report) => Ok(Event::Failed(report)),
        Message::End => Ok(Event::Executed),
        Message::Unknown(bytes) => Err(Error::Protocol { bytes }),
    }
}

pub(crate) fn receive(channel: BorrowedFd<'_>) -> Result<Message, Errno> {
    let mut bytes = [0; Report::MAX + 1];
    let (count, [descriptor, _]) = message::receive(channel, &mut bytes)?;
    Ok(match &bytes[..count] {
        [] => Message::End,
        [PHASE, phase] => Message::Phase(*phase, descriptor),
        [ENTERED, what] => Message::Entered(*what, descriptor),
        [FAILURE, report @ ..] => match Report::decode(report) {
            Some(report) => Message::Failure(report),
            None => Message::Unknown(count),
        },
        _ => Message::Unknown(count),
    })
}
