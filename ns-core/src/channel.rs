//! Messages between parent and child: a pair of sequenced-packet sockets, so that each message
//! arrives whole; the exec closes the child's end.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use sys::{Failure, Report, Step};

/// First byte of a message: a phase (and a descriptor), or a failure.
const PHASE: u8 = b'P';
const FAILURE: u8 = b'F';

pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// The child's end of the channel to its parent.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'fd> {
    channel: BorrowedFd<'fd>,
}

impl<'fd> Gate<'fd> {
    pub(crate) fn new(channel: BorrowedFd<'fd>) -> Self {
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

    pub(crate) fn opened(&self) -> Result<(), Failure> {
        const OP: &str = "waiting for the parent";
        let mut byte = [0_u8; 1];
        match rustix::io::retry_on_intr(|| rustix::io::read(self.channel, &mut byte)) {
            // Reset: it went with a message of the child unread.
            Ok(0) | Err(Errno::CONNRESET) => Err(Failure::new(OP, Errno::CANCELED)),
            result => result.map(drop).step(OP),
        }
    }

    pub(crate) fn fail(&self, failure: &Failure) {
        let mut buffer = [0; Report::MAX];
        let encoded = failure.encode(&mut buffer);
        let mut message = [0; Report::MAX + 1];
        message[0] = FAILURE;
        message[1..=encoded.len()].copy_from_slice(encoded);
        // A parent that is gone reads nothing; the exit status says the rest.
        let _ = self.send(&message[..=encoded.len()], None);
    }

    fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors;
        if let Some(descriptor) = descriptor {
            descriptors = [descriptor];
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let bytes = [IoSlice::new(bytes)];
        rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(self.channel, &bytes, &mut ancillary, SendFlags::NOSIGNAL)
        })
        .map(drop)
    }
}

/// What the parent received.
pub(crate) enum Message {
    Phase(u8, Option<OwnedFd>),
    Failure(Report),
    End,
    Unknown(usize),
}

pub(crate) fn receive(channel: BorrowedFd<'_>) -> Result<Message, Errno> {
    let mut bytes = [0; Report::MAX + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(channel, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let count = match received {
        Ok(received) => received.bytes,
        // The child's end went with a message of ours unread in it.
        Err(Errno::CONNRESET) => 0,
        Err(errno) => return Err(errno),
    };
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(match &bytes[..count] {
        [] => Message::End,
        [PHASE, phase] => Message::Phase(*phase, descriptor),
        [FAILURE, report @ ..] => match Report::decode(report) {
            Some(report) => Message::Failure(report),
            None => Message::Unknown(count),
        },
        _ => Message::Unknown(count),
    })
}
