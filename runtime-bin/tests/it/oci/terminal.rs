//! Terminals: for a socket, and in the foreground.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::json;

use super::{Oci, WAITS};
use crate::harness::wait_until;
use crate::pty::Terminal;

/// Takes the descriptor that somebody sends to `listener`, and what is said of it.
pub(super) fn receive(listener: &UnixListener) -> (OwnedFd, String) {
    let (connection, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let (count, [descriptor, _]) = sys::message::receive(&connection, &mut name).unwrap();
    (descriptor.unwrap(), String::from_utf8_lossy(&name[..count]).into_owned())
}

/// Reads until `end` was read.
pub(super) fn read_until(master: &mut File, end: &str) -> String {
    let mut text = String::new();
    let mut bytes = [0; 512];
    while !text.contains(end) {
        let count = master.read(&mut bytes).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    text
}

fn with_terminal(args: &[&str]) -> Oci {
    let oci = Oci::new(args);
    let change = |config: &mut serde_json::Value| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = json!({"height": 30, "width": 91});
    };
    oci.configure(change, args);
    oci
}

#[test]
fn the_terminals_master_goes_to_the_console_socket() {
    let oci = with_terminal(&["sh", "-c", "stty size; tty; read line; echo got $line; sleep 1000"]);
    // Longer than a socket's address may be.
    let deep = oci.dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let link = oci.dir.path().join("short");
    std::os::unix::fs::symlink(&deep, &link).unwrap();
    let listener = UnixListener::bind(link.join("console")).unwrap();
    let socket = deep.join("console");
    oci.create(&["--console-socket", socket.to_str().unwrap(), "a"]);
    let (master, name) = receive(&listener);
    assert_eq!(name, "/dev/ptmx");
    let mut master = File::from(master);
    oci.ok(&["start", "a"]);
    let text = read_until(&mut master, "/dev/pts/0");
    assert!(text.contains("30 91"), "{text:?}");
    master.write_all(b"a line\n").unwrap();
    read_until(&mut master, "got a line");
    assert_eq!(oci.ok(&["exec", "a", "sh", "-c", "[ -c /dev/console ] && echo yes"]), "yes\n");
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let oci = Oci::new(&WAITS);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    let socket = oci.dir.path().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap();
    let script = "tty; read line; echo got $line";
    let mut command =
        oci.command(&["exec", "-t", "-d", "--console-socket", socket, "a", "sh", "-c", script]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    let mut master = File::from(receive(&listener).0);
    read_until(&mut master, "/dev/pts/0");
    master.write_all(b"x\n").unwrap();
    read_until(&mut master, "got x");
}

#[test]
fn a_process_descriptor_goes_to_its_socket() {
    let oci = Oci::new(&WAITS);
    let socket = oci.dir.path().join("pidfd");
    let listener = UnixListener::bind(&socket).unwrap();
    oci.create(&["--pidfd-socket", socket.to_str().unwrap(), "a"]);
    let (pidfd, name) = receive(&listener);
    assert_eq!(name, "pidfd");
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    oci.wait_for("a", "stopped");
}

#[test]
fn the_callers_terminal_is_the_containers_in_the_foreground() {
    let oci = with_terminal(&["sh", "-c", "tty; stty size; read line; stty size; exit 4"]);
    let mut terminal = Terminal::start(&oci.command(&["run", "a"]), 40, 100);
    terminal.expect("/dev/pts/0");
    terminal.expect("40 100");
    terminal.resize(41, 101);
    wait_until("the new size", || {
        oci.ok(&["exec", "a", "stty", "size", "-F", "/dev/pts/0"]).contains("41 101")
    });
    terminal.press("x\n");
    terminal.expect("41 101");
    assert_eq!(terminal.wait(), Some(4));
    assert!(oci.names().is_empty());
}

/// Who gets the terminal must be clear.
#[test]
fn a_terminal_needs_somebody_who_shows_it() {
    let oci = with_terminal(&["true"]);
    oci.fails(1, &["cannot allocate tty"], &["create", "a"]);
    oci.fails(1, &["cannot allocate tty"], &["run", "-d", "a"]);
    oci.fails(1, &["cannot use console socket"], &["run", "--console-socket", "x", "a"]);
    oci.fails(1, &["/no/such"], &["create", "--console-socket", "/no/such/socket", "a"]);
    oci.configure(|_| {}, &["true"]);
    oci.fails(1, &["cannot use console socket"], &["create", "--console-socket", "x", "a"]);
    assert!(oci.names().is_empty());
}

/// As of a program without a terminal.
#[test]
fn lines_that_no_terminal_shows_end_as_they_were_written() {
    let oci = with_terminal(&["sh", "-c", "test -t 1 && echo one; echo two"]);
    assert_eq!(oci.ok(&["run", "a"]), "one\ntwo\n");
    oci.configure(|_| {}, &WAITS);
    oci.create(&["b"]);
    oci.ok(&["start", "b"]);
    assert_eq!(
        oci.ok(&["exec", "--tty", "b", "sh", "-c", "test -t 1 && echo one; echo two"]),
        "one\ntwo\n"
    );
}
