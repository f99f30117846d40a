//! Clients whose outputs are pipes.

use std::io::Read;
use std::time::Instant;

use rustix::fs::Mode;
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

use super::*;
use crate::log::{Form, Limits};
use crate::output::ROOM;
use crate::rotated::Reader;
use crate::wire::IS_WRITTEN;

impl Peer {
    /// Offers pipes as its outputs.
    fn offer(&self, stdout: Option<&OwnedFd>, stderr: Option<&OwnedFd>) {
        let message = FromClient::Pipes { stdout: stdout.is_some(), stderr: stderr.is_some() };
        let pipes: Vec<_> = [stdout, stderr].into_iter().flatten().map(AsFd::as_fd).collect();
        sys::message::send(&self.socket, &message.encode(), &pipes).unwrap();
    }

    /// The next message, if there is one: nothing of it is taken as output.
    fn next(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; MESSAGE];
        let count = sys::message::try_receive(&self.socket, &mut buffer).ok()?;
        buffer.truncate(count);
        Some(buffer)
    }
}

/// Does what there is to do now.
fn turns(hub: &mut Hub) {
    for _ in 0..200 {
        hub.turn(&[], Some(Duration::from_millis(1))).unwrap();
    }
}

/// A hub with one client, which has offered `stdout` and said that all before is written.
fn with_pipe(hub: &mut Hub, stdout: &OwnedFd) -> Peer {
    let peer = Peer::join(hub, false);
    peer.offer(Some(stdout), None);
    hub.turn(&[], Some(Duration::from_secs(1))).unwrap();
    assert_eq!(peer.next(), Some(vec![IS_WRITTEN]));
    peer.say(FromClient::Written);
    hub.turn(&[], Some(Duration::from_secs(1))).unwrap();
    peer
}

/// Messages first, then nothing until the client has written them, then the pipe, and at last
/// messages again: what was full at the end of the process.
#[test]
fn a_pipe_comes_after_the_messages_before_it_and_before_those_after_it() {
    let mut hub = Hub::new(false);
    let mut peer = Peer::join(&mut hub, false);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (mut fake, pipes) = Fake::new("seq 1 400000; echo error >&2; exit 7", false);
    hub.begin(pipes, None, false).unwrap();
    turns(&mut hub);
    let mut all = Vec::new();
    peer.offer(Some(&write), None);
    drop(write);
    turns(&mut hub);
    while let Some(message) = peer.next().filter(|message| *message != [IS_WRITTEN]) {
        assert_eq!(message[0], Outlet::Stdout.kind());
        all.extend_from_slice(&message[1..]);
        hub.turn(&[], Some(Duration::ZERO)).unwrap();
    }
    assert!(!all.is_empty());
    turns(&mut hub);
    assert_eq!(peer.next(), None);
    peer.say(FromClient::Written);
    let reader = std::thread::spawn(move || {
        // Slowly at first.
        std::thread::sleep(Duration::from_millis(300));
        let (mut file, mut bytes) = (std::fs::File::from(read), Vec::new());
        file.read_to_end(&mut bytes).unwrap();
        bytes
    });
    run(&mut hub, &mut fake, |_| {});
    while !hub.clients.is_empty() {
        hub.turn(&[], Some(Duration::from_millis(1))).unwrap();
        peer.read();
    }
    peer.read();
    let moved = reader.join().unwrap();
    assert!(moved.len() > 1_500_000, "{}", moved.len());
    all.extend([moved, std::mem::take(&mut peer.stdout)].concat());
    assert!(all == numbers(400_000), "{} bytes", all.len());
    assert_eq!((peer.code, &*peer.stderr), (Some(7), &b"error\n"[..]));
}

/// An offer and output that are found in one turn: no message follows the question.
#[test]
fn output_waits_from_the_offer_on() {
    let mut hub = Hub::new(false);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut peer = Peer::join(&mut hub, false);
    let (mut fake, pipes) = Fake::new("seq 1 1000; read end; seq 1001 2000", true);
    hub.begin(pipes, None, false).unwrap();
    assert!(target::ended(hub.sources[0].fd.as_fd(), Duration::from_secs(60)).unwrap());
    peer.offer(Some(&write), None);
    drop(write);
    turns(&mut hub);
    assert_eq!((peer.next(), peer.next()), (Some(vec![IS_WRITTEN]), None));
    peer.say(FromClient::Written);
    turns(&mut hub);
    let mut moved = vec![0; 1 << 16];
    let count = rustix::io::read(&read, &mut moved).unwrap();
    assert!(moved[..count] == numbers(1000), "{count} bytes");
    hub.stdin = None;
    run(&mut hub, &mut fake, |_| peer.read());
    assert_eq!(
        peer.stdout.len() + std::io::read_to_string(std::fs::File::from(read)).unwrap().len(),
        5000
    );
}

/// The process waits, and so does the hub; another client gets the rest together with the first.
#[test]
fn a_full_pipe_is_waited_for_and_left_when_another_client_comes() {
    let mut hub = Hub::new(false);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut one = with_pipe(&mut hub, &write);
    drop(write);
    let (mut fake, pipes) = Fake::new("seq 1 300000", false);
    hub.begin(pipes, None, false).unwrap();
    turns(&mut hub);
    let start = Instant::now();
    hub.turn(&[], Some(Duration::from_millis(300))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300), "a turn without anything to do");
    assert_eq!((one.next(), fake.child.try_wait().unwrap().is_none()), (None, true));
    // As `accept` does.
    hub.close_sinks();
    let mut two = Peer::join(&mut hub, false);
    two.offer(Some(&pipe_with(PipeFlags::CLOEXEC).unwrap().1), None);
    run(&mut hub, &mut fake, |_| {
        one.read();
        two.read();
    });
    while !hub.clients.is_empty() {
        hub.turn(&[], Some(Duration::from_millis(1))).unwrap();
        one.read();
        two.read();
    }
    one.read();
    two.read();
    let mut all = Vec::new();
    std::fs::File::from(read).read_to_end(&mut all).unwrap();
    all.extend_from_slice(&one.stdout);
    assert!(all == numbers(300_000) && one.stdout == two.stdout, "{} bytes", all.len());
}

/// What cannot be moved to: a file that is open for reading only, a pipe without a reader.
#[test]
fn what_the_kernel_refuses_goes_by_messages() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (closed, unread) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    drop(closed);
    for sink in [
        &read,
        &unread,
        &rustix::fs::open("/dev/full", rustix::fs::OFlags::RDWR, Mode::empty()).unwrap(),
    ] {
        let mut hub = Hub::new(false);
        let mut peer = with_pipe(&mut hub, sink);
        let (mut fake, pipes) = Fake::new("seq 1 1000", false);
        hub.begin(pipes, None, false).unwrap();
        run(&mut hub, &mut fake, |_| peer.read());
        peer.read();
        assert!(peer.stdout == numbers(1000), "{} bytes", peer.stdout.len());
    }
    drop(write);
}

/// The log gets what the pipe gets.
#[test]
fn the_log_has_what_goes_to_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut hub = Hub::new(false);
    hub.keep_log(Log::open(&path, Form::Local, Limits::default()).unwrap());
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut peer = with_pipe(&mut hub, &write);
    drop(write);
    let (mut fake, pipes) = Fake::new("seq 1 100000", false);
    hub.begin(pipes, None, false).unwrap();
    let reader = std::thread::spawn(move || {
        let (mut file, mut bytes) = (std::fs::File::from(read), Vec::new());
        file.read_to_end(&mut bytes).unwrap();
        bytes
    });
    run(&mut hub, &mut fake, |_| peer.read());
    peer.read();
    let moved = reader.join().unwrap();
    assert!(moved.len() > 400_000, "{}", moved.len());
    assert!([moved, peer.stdout].concat() == numbers(100_000));
    let (mut log, mut text) = (Reader::open(path).unwrap().unwrap(), Vec::new());
    while let Some(piece) = log.piece().unwrap() {
        text.extend_from_slice(piece.bytes);
    }
    assert!(text == numbers(100_000));
}

/// A process that is faster than its readers: each turn moves, reads and keeps as much as may be read at a time.
#[test]
fn much_output_is_taken_in_large_pieces() {
    const TURNS: usize = 6;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut hub = Hub::new(false);
    hub.keep_log(Log::open(&path, Form::Local, Limits::default()).unwrap());
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let _peer = with_pipe(&mut hub, &write);
    assert_eq!(fcntl_getpipe_size(&read).unwrap(), ROOM);
    let (mut fake, pipes) = Fake::new("exec cat /dev/zero", false);
    fcntl_setpipe_size(&pipes.outputs[0].0, ROOM).unwrap();
    hub.begin(pipes, None, false).unwrap();
    let (mut file, mut moved) = (std::fs::File::from(read), vec![0; READ]);
    for _ in 0..TURNS {
        // Until the process waits for room.
        while rustix::io::ioctl_fionread(&hub.sources[0].fd).unwrap() < ROOM as u64 {
            std::thread::sleep(Duration::from_millis(1));
        }
        hub.turn(&[], Some(Duration::from_secs(1))).unwrap();
        file.read_exact(&mut moved).unwrap();
    }
    hub.flush_log();
    let (mut log, mut sizes) = (Reader::open(path).unwrap().unwrap(), Vec::new());
    while let Some(piece) = log.piece().unwrap() {
        sizes.push(piece.bytes.len());
    }
    assert_eq!(sizes, [READ; TURNS]);
    fake.child.kill().unwrap();
    fake.child.wait().unwrap();
}

/// Its descriptors go with it, also where its input is not taken and so not asked for.
#[test]
fn the_pipes_of_a_client_that_goes_are_closed() {
    let mut hub = Hub::new(false);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let peer = with_pipe(&mut hub, &write);
    drop(write);
    let (mut fake, pipes) = Fake::new("exec sleep 1000", true);
    hub.begin(pipes, None, false).unwrap();
    for _ in 0..4 {
        peer.say(FromClient::Input(&[0; PAYLOAD]));
        hub.turn(&[], Some(Duration::from_millis(10))).unwrap();
    }
    assert!(hub.input.len() >= INPUT);
    drop(peer);
    turns(&mut hub);
    assert!(hub.clients.is_empty());
    assert_eq!(rustix::io::read(&read, &mut [0]), Ok(0));
    fake.child.kill().unwrap();
    fake.child.wait().unwrap();
}
