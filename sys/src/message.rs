//! Messages with descriptors between processes: sequenced-packet sockets (unix(7)), on which each
//! message arrives whole.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most descriptors that one message carries.
pub const DESCRIPTORS: usize = 2;

/// Two connected sockets, close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one message with at most [`DESCRIPTORS`] descriptors (EINVAL for more). EPIPE when nobody
/// can receive it any more; no signal is raised.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    if descriptors.len() > DESCRIPTORS {
        return Err(Errno::INVAL);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let bytes = [IoSlice::new(bytes)];
    let send = || rustix::net::sendmsg(&socket, &bytes, &mut ancillary, SendFlags::NOSIGNAL);
    rustix::io::retry_on_intr(send).map(drop)
}

/// Receives one message into `bytes`: how many there were, and the descriptors (close-on-exec), in
/// their order. 0 bytes: the other end is closed. What is longer than `bytes` is cut.
pub fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
) -> Result<(usize, [Option<OwnedFd>; DESCRIPTORS]), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut buffers = [IoSliceMut::new(bytes)];
        rustix::net::recvmsg(&socket, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let count = match received {
        Ok(received) => received.bytes,
        // The other end went with a message of ours unread in it.
        Err(Errno::CONNRESET) => 0,
        Err(errno) => return Err(errno),
    };
    let mut descriptors = [const { None }; DESCRIPTORS];
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            for (place, descriptor) in descriptors.iter_mut().zip(received) {
                *place = Some(descriptor);
            }
        }
    }
    Ok((count, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_and_its_descriptors_arrive_whole() {
        let (a, b) = pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(&a, b"first", &[read.as_fd(), write.as_fd()]).unwrap();
        send(&a, b"second", &[]).unwrap();
        let mut bytes = [0; 64];
        let (count, descriptors) = receive(&b, &mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"first");
        let [Some(read), Some(write)] = descriptors else { panic!() };
        rustix::io::write(&write, b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut bytes), Ok(1));
        let (count, descriptors) = receive(&b, &mut bytes).unwrap();
        assert_eq!((&bytes[..count], descriptors.iter().flatten().count()), (&b"second"[..], 0));
        drop(a);
        assert_eq!(receive(&b, &mut bytes).unwrap().0, 0);
        assert_eq!(send(&b, b"x", &[]), Err(Errno::PIPE));
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (a, _b) = pair().unwrap();
        assert_eq!(send(&a, b"x", &[a.as_fd(); DESCRIPTORS + 1]), Err(Errno::INVAL));
    }
}
