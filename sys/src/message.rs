//! Messages with descriptors between processes: sequenced-packet sockets (unix(7)), on which each
//! message arrives whole.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Most descriptors that one message carries.
pub const DESCRIPTORS: usize = 2;

/// The descriptors that came with a message, in their order.
pub type Descriptors = [Option<OwnedFd>; DESCRIPTORS];

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
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> Result<(usize, Descriptors), Errno> {
    receive_by(socket, bytes, RecvFlags::empty())
}

/// As [`receive`], if there is a message now (EAGAIN otherwise).
pub fn try_receive_all(socket: impl AsFd, bytes: &mut [u8]) -> Result<(usize, Descriptors), Errno> {
    receive_by(socket, bytes, RecvFlags::DONTWAIT)
}

fn receive_by(
    socket: impl AsFd,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> Result<(usize, Descriptors), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let count = loop {
        let mut buffers = [IoSliceMut::new(bytes)];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(&socket, &mut buffers, &mut ancillary, flags) {
            Ok(received) => break received.bytes,
            // The other end went with a message of ours unread in it. That is told once, and before
            // what it has sent.
            Err(Errno::CONNRESET | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
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

/// Sends one message without descriptors if there is room for it now (EAGAIN otherwise).
pub fn try_send(socket: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| rustix::net::send(&socket, bytes, flags)).map(drop)
}

/// Receives one message if there is one now (EAGAIN otherwise); descriptors that come with it are
/// closed. Otherwise as [`receive`].
pub fn try_receive(socket: impl AsFd, bytes: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::recv(&socket, &mut *bytes, RecvFlags::DONTWAIT) {
            Ok((count, _)) => return Ok(count),
            // As in `receive`.
            Err(Errno::CONNRESET | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The address of `name` in the directory `dir`: by the descriptor, since a path may be 107 bytes
/// long and no longer. Allocates.
fn address(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(crate::process::proc_path(dir).join(name))
}

/// Listens at `name` in the directory `dir`, which only the caller's user may connect to. Allocates;
/// needs `/proc`. [`accept`] then does not wait.
pub fn listen(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // The file gets the mode that the socket has (unix(7)).
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &address(dir, name)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Most connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// Connects to who listens at `name` in the directory `dir`. Allocates; needs `/proc`.
pub fn connect(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    connect_by(SocketType::SEQPACKET, dir, name)
}

/// As [`connect`], to a socket of a stream: for the protocols of others. Allocates; needs `/proc`.
pub fn connect_stream(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    connect_by(SocketType::STREAM, dir, name)
}

fn connect_by(kind: SocketType, dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    let address = address(dir, name)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// Whether somebody listens at `name` in the directory `dir`, which never waits. Allocates; needs `/proc`.
pub fn listens(dir: BorrowedFd<'_>, name: &str) -> Result<bool, Errno> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    let address = address(dir, name)?;
    match rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address)) {
        // EAGAIN: more connections wait than the backlog has room for.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Accepts a connection if there is one now (EAGAIN otherwise), close-on-exec.
pub fn accept(listener: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::io::retry_on_intr(|| rustix::net::accept_with(&listener, SocketFlags::CLOEXEC))
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

    /// Also from one that has not read what it got.
    #[test]
    fn the_last_words_of_who_is_gone_arrive() {
        let mut bytes = [0; 8];
        for quick in [true, false] {
            let (a, b) = pair().unwrap();
            send(&b, b"unread", &[]).unwrap();
            send(&a, b"last", &[]).unwrap();
            drop(a);
            for expected in [4, 0, 0] {
                let received = match quick {
                    true => try_receive(&b, &mut bytes),
                    false => receive(&b, &mut bytes).map(|(count, _)| count),
                };
                assert_eq!(received, Ok(expected));
            }
        }
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (a, _b) = pair().unwrap();
        assert_eq!(send(&a, b"x", &[a.as_fd(); DESCRIPTORS + 1]), Err(Errno::INVAL));
    }

    #[test]
    fn who_connects_by_a_name_in_a_long_directory_is_accepted() {
        let base = std::env::temp_dir().join(format!("sys-message-{}", std::process::id()));
        let long = base.join("d".repeat(200));
        std::fs::create_dir_all(&long).unwrap();
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let dir = rustix::fs::open(&long, flags, Mode::empty()).unwrap();
        assert_eq!(connect(dir.as_fd(), "x").err(), Some(Errno::NOENT));
        let listener = listen(dir.as_fd(), "x").unwrap();
        assert_eq!(listen(dir.as_fd(), "x").err(), Some(Errno::ADDRINUSE));
        let mode = rustix::fs::stat(long.join("x")).unwrap().st_mode;
        assert_eq!(mode & 0o777 & !0o600, 0, "{mode:o}");
        assert_eq!(accept(&listener).err(), Some(Errno::AGAIN));
        let client = connect(dir.as_fd(), "x").unwrap();
        let server = accept(&listener).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(try_receive(&server, &mut bytes), Err(Errno::AGAIN));
        try_send(&client, b"one").unwrap();
        try_send(&client, b"two").unwrap();
        assert_eq!(try_receive(&server, &mut bytes), Ok(3));
        assert_eq!(&bytes[..3], b"one");
        while try_send(&server, &[0; 8192]).is_ok() {}
        assert_eq!(try_send(&server, &[0; 8192]), Err(Errno::AGAIN));
        drop(server);
        drop(listener);
        assert_eq!(connect(dir.as_fd(), "x").err(), Some(Errno::CONNREFUSED));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
