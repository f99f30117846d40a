//! Children of this process in place of a container's, and clients on bare sockets.

use std::process::{Child, Command};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::*;
use crate::wire::{self, MESSAGE};

mod pipes;

/// A child whose streams are a hub's pipes.
struct Fake {
    child: Child,
    pidfd: OwnedFd,
}

impl Fake {
    fn new(script: &str, stdin: bool) -> (Fake, Pipes) {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (out, stdout) = pipe();
        let (err, stderr) = pipe();
        let outputs = vec![(out, Outlet::Stdout), (err, Outlet::Stderr)];
        let mut pipes = Pipes { outputs, stdin: None };
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(stdout).stderr(stderr);
        if stdin {
            let (read, write) = pipe();
            rustix::io::ioctl_fionbio(&write, true).unwrap();
            command.stdin(read);
            pipes.stdin = Some(write);
        } else {
            command.stdin(std::process::Stdio::null());
        }
        let child = command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        (Fake { pidfd: pidfd_open(pid, PidfdFlags::empty()).unwrap(), child }, pipes)
    }
}

/// A client that is a socket, and what it has got.
struct Peer {
    socket: OwnedFd,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: Option<i32>,
}

impl Peer {
    fn join(hub: &mut Hub, input: bool) -> Peer {
        let (own, other) = sys::message::pair().unwrap();
        hub.clients.push(Client::new(own, true, input, false));
        Peer { socket: other, stdout: Vec::new(), stderr: Vec::new(), code: None }
    }

    fn say(&self, message: FromClient<'_>) {
        sys::message::send(&self.socket, &message.encode(), &[]).unwrap();
    }

    /// Takes what there is.
    fn read(&mut self) {
        let mut buffer = vec![0; MESSAGE];
        while let Ok(count @ 1..) = sys::message::try_receive(&self.socket, &mut buffer) {
            match (Outlet::of(buffer[0]), Report::decode(&buffer[..count])) {
                (Some(Outlet::Stdout), _) => self.stdout.extend_from_slice(&buffer[1..count]),
                (Some(Outlet::Stderr), _) => self.stderr.extend_from_slice(&buffer[1..count]),
                (None, Some(Report::Exited { code })) => self.code = Some(code),
                (None, other) => panic!("{other:?}"),
            }
        }
    }
}

/// Runs the hub until the child has ended, with `each` after every turn.
fn run(hub: &mut Hub, fake: &mut Fake, mut each: impl FnMut(&mut Hub)) {
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while !hub.turn(&[fake.pidfd.as_fd()], Some(Duration::from_millis(5))).unwrap()[..]
        .contains(&true)
    {
        assert!(std::time::Instant::now() < limit, "the child has not ended");
        each(hub);
    }
    let code = fake.child.wait().unwrap().code().unwrap();
    hub.rest();
    hub.dismiss(&Report::Exited { code });
}

fn numbers(last: u32) -> Vec<u8> {
    (1..=last).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

#[test]
fn every_client_gets_all_output_and_the_status() {
    let mut hub = Hub::new(false);
    let mut peers = [Peer::join(&mut hub, false), Peer::join(&mut hub, false)];
    let (mut fake, pipes) = Fake::new("seq 1 200000; echo error >&2; exit 7", false);
    hub.begin(pipes, None, false).unwrap();
    run(&mut hub, &mut fake, |_| peers.iter_mut().for_each(Peer::read));
    let others = std::thread::spawn(move || {
        hub.finish(false).unwrap();
    });
    while !others.is_finished() {
        peers.iter_mut().for_each(Peer::read);
    }
    others.join().unwrap();
    for mut peer in peers {
        peer.read();
        assert_eq!((peer.code, &*peer.stderr), (Some(7), &b"error\n"[..]));
        assert!(peer.stdout == numbers(200_000), "{} bytes", peer.stdout.len());
    }
}

/// The process waits, the hub does not grow, and another client's messages are heard.
#[test]
fn who_reads_nothing_holds_the_process_and_loses_nothing() {
    let mut hub = Hub::new(false);
    let (mut slow, mut quick) = (Peer::join(&mut hub, false), Peer::join(&mut hub, true));
    let (mut fake, pipes) = Fake::new("seq 1 500000; read line; echo $line; exit 2", true);
    hub.begin(pipes, None, false).unwrap();
    for _ in 0..200 {
        hub.turn(&[], Some(Duration::from_millis(1))).unwrap();
        quick.read();
    }
    let queued: usize = hub.clients.iter().map(Client::queued).sum();
    assert!((256 << 10..1 << 20).contains(&queued), "{queued}");
    assert!(fake.child.try_wait().unwrap().is_none());
    quick.say(FromClient::Input(b"heard\n"));
    run(&mut hub, &mut fake, |_| {
        slow.read();
        quick.read();
    });
    while !hub.clients.is_empty() {
        hub.turn(&[], Some(Duration::from_millis(1))).unwrap();
        slow.read();
        quick.read();
    }
    slow.read();
    quick.read();
    let expected = [numbers(500_000), b"heard\n".to_vec()].concat();
    for peer in [slow, quick] {
        assert!(peer.stdout == expected && peer.code == Some(2), "{:?}", peer.code);
    }
}

#[test]
fn a_client_that_goes_stops_nothing() {
    let mut hub = Hub::new(false);
    let gone = Peer::join(&mut hub, true);
    let mut stays = Peer::join(&mut hub, false);
    let (mut fake, pipes) = Fake::new("seq 1 100000; read line; echo got:$line", true);
    hub.begin(pipes, None, false).unwrap();
    gone.say(FromClient::Input(b"from the one that goes\n"));
    drop(gone);
    run(&mut hub, &mut fake, |_| stays.read());
    while !hub.clients.is_empty() {
        hub.turn(&[], Some(Duration::from_millis(1))).unwrap();
        stays.read();
    }
    stays.read();
    assert!(stays.stdout.ends_with(b"got:from the one that goes\n"));
}

/// Docker's StdinOnce: also where the client is killed.
#[test]
fn the_input_ends_with_that_of_a_client_only_where_it_should() {
    for (once, killed) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut hub = Hub::new(once);
        let mut client = Some(Peer::join(&mut hub, true));
        let mut watches = Peer::join(&mut hub, false);
        let (mut fake, pipes) = Fake::new("cat; echo end", true);
        hub.begin(pipes, None, false).unwrap();
        client.as_ref().unwrap().say(FromClient::Input(b"words\n"));
        match killed {
            true => drop(client.take()),
            false => client.as_ref().unwrap().say(FromClient::InputEnd),
        }
        for _ in 0..50 {
            hub.turn(&[], Some(Duration::from_millis(2))).unwrap();
            watches.read();
        }
        assert_eq!(hub.stdin.is_none(), once, "killed: {killed}");
        hub.stdin = None;
        run(&mut hub, &mut fake, |_| watches.read());
        watches.read();
        assert_eq!(watches.stdout, b"words\nend\n");
    }
}

/// As in a shell's pipeline, but not where somebody else is attached.
#[test]
fn an_output_that_the_starter_does_not_read_is_closed() {
    for others in [false, true] {
        let mut hub = Hub::new(false);
        let (own, starter) = sys::message::pair().unwrap();
        hub.add_starter(own, true, false);
        let other = others.then(|| Peer::join(&mut hub, false));
        let (mut fake, pipes) = Fake::new("sleep 0.1; exec yes", false);
        hub.begin(pipes, None, false).unwrap();
        let message = FromClient::OutputEnd(Outlet::Stdout).encode();
        sys::message::send(&starter, &message, &[]).unwrap();
        if let Some(mut other) = other {
            for _ in 0..100 {
                hub.turn(&[], Some(Duration::from_millis(2))).unwrap();
                other.read();
                sys::message::try_receive(&starter, &mut vec![0; MESSAGE]).ok();
            }
            assert!(!other.stdout.is_empty() && fake.child.try_wait().unwrap().is_none());
            fake.child.kill().unwrap();
        }
        while !hub.turn(&[fake.pidfd.as_fd()], None).unwrap()[..].contains(&true) {}
        fake.child.wait().unwrap();
    }
}

/// What cannot be understood is no reason to stop, and a client that has been told the end is not heard.
#[test]
fn nonsense_parts_with_a_client() {
    let mut hub = Hub::new(true);
    let (nonsense, mut told) = (Peer::join(&mut hub, false), Peer::join(&mut hub, true));
    sys::message::send(&nonsense.socket, &[wire::REPORT, 1, 2], &[]).unwrap();
    hub.turn(&[], Some(Duration::from_secs(1))).unwrap();
    assert_eq!(hub.clients.len(), 1);
    hub.dismiss(&Report::Exited { code: 0 });
    assert!(hub.clients.is_empty());
    told.read();
    assert_eq!(told.code, Some(0));
}
