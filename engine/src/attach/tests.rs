//! A pseudoterminal as the user's, another one as the process's, and a hub between.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt};
use rustix::termios::{LocalModes, Termios, tcgetattr, tcsetwinsize};

use super::*;
use crate::hub::Hub;
use crate::output::{Pipes, open};
use crate::session::Watch;

/// A child in place of a container's process.
struct Fake {
    child: Child,
    pidfd: OwnedFd,
    /// What the hub gets.
    streams: Option<(Pipes, Option<OwnedFd>)>,
    tty: bool,
}

impl Fake {
    fn new(mut command: Command, pipes: Pipes, master: Option<OwnedFd>) -> Fake {
        let child = command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        let tty = master.is_some();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        Fake { pidfd, child, streams: Some((pipes, master)), tty }
    }

    /// A shell with a terminal of its own.
    fn shell(script: &str) -> Fake {
        let (master, slave) = pty();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "sh", "-c", script]);
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        Fake::new(command, Pipes::default(), Some(master))
    }

    fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).unwrap();
    }

    fn status(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// Attaches the caller's terminal to the child, with a hub on a thread of its own.
fn follow(
    fake: &mut Fake,
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    input: bool,
) -> Result<(), Error> {
    follow_with(fake, stdin, stdout, &AttachOptions { input, ..AttachOptions::default() }).map(drop)
}

fn follow_with(
    fake: &mut Fake,
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    options: &AttachOptions,
) -> Result<AttachEnd, Error> {
    let (own, channel) = sys::message::pair().unwrap();
    let (pipes, master) = fake.streams.take().unwrap();
    let pidfd = || fake.pidfd.try_clone().unwrap();
    let (watched, input) = (pidfd(), options.input);
    std::thread::spawn(move || {
        let mut hub = Hub::new(true);
        hub.add_starter(channel, true, input);
        hub.begin(pipes, master, input).unwrap();
        while !hub.turn(&[watched.as_fd()], None).unwrap().contains(&true) {}
        hub.rest();
        hub.dismiss(&Report::Exited { code: 0 });
        while hub.has_clients() {
            hub.turn(&[], None).unwrap();
        }
    });
    let session = Session::new("test", Watch::Supervisor, own, pidfd()).streams(fake.tty, true);
    attach(session, Streams { stdin, stdout, stderr: stdout }, options)
}

fn pty() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, slave)
}

fn is_raw(terminal: &OwnedFd) -> bool {
    !tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ICANON)
}

/// Everything in a mode that can be compared.
fn modes(mode: &Termios) -> String {
    format!("{mode:?}")
}

/// Waits, with a limit that only a failure reaches.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reads until `wanted` has come, and returns all up to there.
fn read_until(from: &mut impl Read, wanted: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(wanted.as_bytes()) {
        let read = from.read(&mut byte).unwrap();
        assert_ne!(read, 0, "the end came before {wanted:?}: {}", String::from_utf8_lossy(&text));
        text.extend(byte);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_terminal_is_raw_while_the_process_runs_and_restored_after_it() {
    let (user, terminal) = pty();
    let before = tcgetattr(&terminal).unwrap();
    let mut fake = Fake::shell("read line; echo \"got:$line\"; exit 7");
    let mut user = std::fs::File::from(user);
    std::thread::scope(|scope| {
        let relay = scope.spawn(|| follow(&mut fake, terminal.as_fd(), terminal.as_fd(), true));
        eventually("raw mode", || is_raw(&terminal));
        user.write_all(b"hello\r").unwrap();
        read_until(&mut user, "got:hello\r\n");
        relay.join().unwrap().unwrap();
    });
    assert_eq!(modes(&tcgetattr(&terminal).unwrap()), modes(&before));
    assert_eq!(fake.status(), Some(7));
}

#[test]
fn without_interactive_nothing_is_read_and_the_mode_stays() {
    let (user, terminal) = pty();
    let mut user = std::fs::File::from(user);
    user.write_all(b"typed ahead\n").unwrap();
    let mut fake = Fake::shell("echo shown; test -t 0 && stty -echo && echo 'is a terminal'");
    let before = tcgetattr(&terminal).unwrap();
    follow(&mut fake, terminal.as_fd(), terminal.as_fd(), false).unwrap();
    assert_eq!(modes(&tcgetattr(&terminal).unwrap()), modes(&before));
    read_until(&mut user, "is a terminal");
    let mut line = [0; 32];
    let read = rustix::io::read(&terminal, &mut line).unwrap();
    assert_eq!(&line[..read], b"typed ahead\n");
    assert_eq!(fake.status(), Some(0));
}

#[test]
fn a_terminal_is_restored_after_an_error() {
    let (user, terminal) = pty();
    let before = tcgetattr(&terminal).unwrap();
    // Nobody reads this output: an error in the middle of the relay.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut fake = Fake::shell("echo lost; read line");
    let error = follow(&mut fake, terminal.as_fd(), full.as_fd(), true).unwrap_err();
    assert!(error.to_string().starts_with("cannot write to standard output"), "{error}");
    assert_eq!(modes(&tcgetattr(&terminal).unwrap()), modes(&before));
    fake.signal(Signal::KILL);
    fake.status();
    drop(user);
}

#[test]
fn output_that_nobody_takes_does_not_end_the_process() {
    let (output, input) = std::io::pipe().unwrap();
    drop(output);
    let mut fake = Fake::shell("seq 1 200000; exit 3");
    let null = std::fs::File::open("/dev/null").unwrap();
    follow(&mut fake, null.as_fd(), input.as_fd(), true).unwrap();
    assert_eq!(fake.status(), Some(3));
}

/// The numbers from 1 to this, one a line, are 8 MiB and a little: far more than any buffer holds.
const LINES: u32 = 1_300_000;

/// Checks that `from` gives each number once and in order, and how much that was.
fn check_lines(from: impl Read) {
    let mut from = std::io::BufReader::with_capacity(1 << 16, from);
    let (mut line, mut expected, mut bytes) = (String::new(), String::new(), 0);
    for number in 1..=LINES {
        line.clear();
        expected.clear();
        std::io::BufRead::read_line(&mut from, &mut line).unwrap();
        std::fmt::Write::write_fmt(&mut expected, format_args!("{number}\n")).unwrap();
        assert_eq!(line, expected);
        bytes += line.len();
    }
    assert!(bytes > 8 << 20, "{bytes}");
    assert_eq!(from.read(&mut [0]).unwrap_or(0), 0, "more than was written");
}

#[test]
fn much_output_arrives_whole_in_a_pipe_and_at_a_terminal() {
    let script = format!("stty raw -echo; seq 1 {LINES}");
    let null = std::fs::File::open("/dev/null").unwrap();
    let (output, input) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let mut fake = Fake::shell(&script);
        scope.spawn(move || {
            follow(&mut fake, null.as_fd(), input.as_fd(), false).unwrap();
            assert_eq!(fake.status(), Some(0));
        });
        check_lines(output);
    });
    let (user, terminal) = pty();
    std::thread::scope(|scope| {
        let mut fake = Fake::shell(&script);
        scope.spawn(move || {
            follow(&mut fake, terminal.as_fd(), terminal.as_fd(), true).unwrap();
            assert_eq!(fake.status(), Some(0));
        });
        // The mode is restored at the end, when the last lines may be on their way: no matter, since
        // it changes what is written later only.
        check_lines(std::fs::File::from(user));
    });
}

#[test]
fn much_input_arrives_whole() {
    let (user, terminal) = pty();
    let bytes: usize = (1..=LINES).map(|n| n.ilog10() as usize + 2).sum();
    let script = format!(
        "stty raw -echo; echo ready; head -c {bytes} | cmp - <(seq 1 {LINES}) && echo same"
    );
    let mut fake = Fake::shell(&format!("bash -c '{script}'"));
    let mut user = std::fs::File::from(user);
    std::thread::scope(|scope| {
        let relay = scope.spawn(|| follow(&mut fake, terminal.as_fd(), terminal.as_fd(), true));
        read_until(&mut user, "ready\n");
        let mut lines = std::io::BufWriter::with_capacity(1 << 16, &user);
        for number in 1..=LINES {
            lines.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        lines.flush().unwrap();
        drop(lines);
        read_until(&mut user, "same\n");
        relay.join().unwrap().unwrap();
    });
    assert_eq!(fake.status(), Some(0));
}

#[test]
fn the_last_words_of_a_short_process_arrive() {
    for number in 0..100 {
        let (output, input) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut fake = Fake::shell(&format!("echo {number}; echo last"));
        if number % 2 == 0 {
            // Also when it ended before anybody looked.
            fake.child.wait().unwrap();
        }
        follow(&mut fake, null.as_fd(), input.as_fd(), false).unwrap();
        drop(input);
        fake.status();
        let text = std::io::read_to_string(output).unwrap();
        assert_eq!(text, format!("{number}\r\nlast\r\n"));
    }
}

#[test]
fn a_terminal_that_nobody_has_open_may_be_opened_again() {
    let (output, input) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut fake = Fake::shell("exec 0</dev/null 1>/dev/null 2>&1; sleep 0.1; echo back >/dev/tty");
    follow(&mut fake, null.as_fd(), input.as_fd(), false).unwrap();
    drop(input);
    assert_eq!(std::io::read_to_string(output).unwrap(), "back\r\n");
    assert_eq!(fake.status(), Some(0));
}

#[test]
fn a_writer_that_outlives_the_process_does_not_hold_it() {
    let (output, input) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    // Its shell is the session's leader; the hang-up at its end goes to the foreground only.
    let mut fake = Fake::shell("(trap '' HUP; exec yes) & sleep 0.1; exit 4");
    std::thread::scope(|scope| {
        let read = scope.spawn(move || std::io::copy(&mut &output, &mut std::io::sink()).unwrap());
        follow(&mut fake, null.as_fd(), input.as_fd(), false).unwrap();
        drop(input);
        assert!(read.join().unwrap() > 0);
    });
    // Without the master, `yes` gets EIO.
    assert_eq!(fake.status(), Some(4));
}

/// A relay as a process of its own, whose terminal and signals are its own too: started by the tests
/// below, and nothing where nobody says what to run.
#[test]
fn as_a_program() {
    let Ok(script) = std::env::var("RELAY_SCRIPT") else { return };
    let mut fake = match std::env::var_os("RELAY_PLAIN") {
        Some(_) => {
            let (_, pipes) = open(false, false).unwrap();
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            Fake::new(command, pipes, None)
        }
        None => Fake::shell(&script),
    };
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    follow(&mut fake, stdin, stdout, true).unwrap();
    let status = fake.status();
    rustix::io::write(stdout, format!("status {status:?}\n").as_bytes()).unwrap();
}

/// Starts [`as_a_program`] below `terminal`. The test harness has a thread of its own, so all
/// signals must be blocked from the start; and who runs the tests in the background of a shell ignores some, which a
/// shell could not trap then.
fn program(terminal: &OwnedFd, script: &str) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--ctty", "env", "--default-signal=INT,QUIT,HUP,TERM"]);
    command.arg("--block-signal=TERM,WINCH,INT,HUP,USR1,CONT");
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "attach::tests::as_a_program", "--nocapture"]);
    command.env("RELAY_SCRIPT", script);
    let fd = || Stdio::from(terminal.try_clone().unwrap());
    command.stdin(fd()).stdout(fd()).stderr(fd());
    command
}

#[test]
fn a_terminal_is_restored_after_sigterm() {
    let (user, terminal) = pty();
    let before = tcgetattr(&terminal).unwrap();
    let mut user = std::fs::File::from(user);
    let script = "trap 'echo on TERM; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut child = program(&terminal, script).spawn().unwrap();
    read_until(&mut user, "ready\r\n");
    assert!(is_raw(&terminal));
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    read_until(&mut user, "on TERM\r\n");
    read_until(&mut user, "status Some(5)\r\n");
    assert_eq!(modes(&tcgetattr(&terminal).unwrap()), modes(&before));
    read_until(&mut user, "test result: ok");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_window_has_the_size_of_the_users() {
    let size = |rows, cols| rustix::termios::Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let (user, terminal) = pty();
    tcsetwinsize(&user, size(33, 101)).unwrap();
    let mut user = std::fs::File::from(user);
    let script = "trap 'stty size' WINCH; read line; stty size; while test \"$line\" != end; do read line; done";
    let mut child = program(&terminal, script).spawn().unwrap();
    user.write_all(b"start\r").unwrap();
    read_until(&mut user, "33 101\r\n");
    tcsetwinsize(&user, size(44, 202)).unwrap();
    read_until(&mut user, "44 202\r\n");
    user.write_all(b"end\r").unwrap();
    read_until(&mut user, "status Some(0)\r\n");
    read_until(&mut user, "test result: ok");
    assert!(child.wait().unwrap().success());
}

#[test]
fn without_a_terminal_signals_are_passed_on() {
    let (user, terminal) = pty();
    let mut user = std::fs::File::from(user);
    let script = "trap 'echo on USR1' USR1; trap 'echo on INT; exit 6' INT; \
                  echo ready; while :; do sleep 0.01; done";
    let mut child = program(&terminal, script).env("RELAY_PLAIN", "1").spawn().unwrap();
    read_until(&mut user, "ready\r\n");
    assert!(!is_raw(&terminal));
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::USR1).unwrap();
    read_until(&mut user, "on USR1\r\n");
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    read_until(&mut user, "on INT\r\n");
    read_until(&mut user, "status Some(6)\r\n");
    assert!(child.wait().unwrap().success());
}
