//! A program that says when it is ready, to whom the runtime's caller has named (sd_notify(3)).

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Stdio;

use serde_json::json;

use super::Oci;
use crate::harness::Started;

/// What has a program of the shell say it: logger(1) sends datagrams to /dev/log.
const SAYS: &str = "ln -s $NOTIFY_SOCKET /dev/log; logger \"$(printf 'x\\nREADY=1\\nSTATUS=up')\"";

/// Whoever is told.
struct Told {
    socket: UnixDatagram,
    /// As `NOTIFY_SOCKET` has it.
    name: String,
}

impl Told {
    fn new(oci: &Oci) -> Told {
        let path = oci.dir().join("told");
        let socket = UnixDatagram::bind(&path).unwrap();
        Told::of(socket, path.to_str().unwrap().to_owned())
    }

    fn of(socket: UnixDatagram, name: String) -> Told {
        socket.set_nonblocking(true).unwrap();
        Told { socket, name }
    }

    /// What has come by now.
    fn heard(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut message = [0; 4096];
        loop {
            match self.socket.recv(&mut message) {
                Ok(count) => all.push(String::from_utf8(message[..count].to_vec()).unwrap()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn ok(&self, oci: &Oci, args: &[&str]) {
        let mut command = oci.command(args);
        command.env("NOTIFY_SOCKET", &self.name);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "{args:?}");
    }

    fn run(&self, oci: &Oci) -> String {
        let mut command = oci.command(&["run", "a"]);
        command.env("NOTIFY_SOCKET", &self.name);
        let out = Started::new(command, None).wait();
        assert_eq!(out.code, 0, "{}", out.stderr);
        out.stdout
    }
}

#[test]
fn a_run_in_the_foreground_passes_it_on() {
    let script = "echo $NOTIFY_SOCKET; ls ${NOTIFY_SOCKET%/*}; echo x >$NOTIFY_SOCKET.x || true";
    let oci = Oci::new(&["sh", "-c", &format!("{SAYS}; {script}")]);
    let told = Told::new(&oci);
    // The program's own is below the name of the other one (as crun).
    assert_eq!(told.run(&oci), format!("{}/notify\nnotify\n", told.name));
    assert_eq!(told.heard(), ["READY=1"]);
    assert!(oci.names().is_empty(), "nothing is left");
}

#[test]
fn one_without_a_path_is_told_too() {
    let oci = Oci::new(&["sh", "-c", &format!("{SAYS}; echo $NOTIFY_SOCKET")]);
    let name = format!("runtime-oci-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let told = Told::of(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"));
    assert_eq!(told.run(&oci), "/run/notify/notify\n");
    assert_eq!(told.heard(), ["READY=1"]);
}

#[test]
fn a_start_and_a_detached_run_wait_for_it() {
    let oci = Oci::new(&["sh", "-c", &format!("sleep 1; {SAYS}; exec sleep 1000")]);
    let told = Told::new(&oci);
    told.ok(&oci, &["create", "a"]);
    assert!(told.heard().is_empty());
    told.ok(&oci, &["start", "a"]);
    assert_eq!(told.heard(), ["READY=1"]);
    oci.ok(&["delete", "--force", "a"]);
    told.ok(&oci, &["run", "--detach", "a"]);
    let process = format!("MAINPID={}", oci.state("a")["pid"]);
    assert_eq!(told.heard(), ["READY=1", &process]);
    oci.ok(&["delete", "--force", "a"]);
    assert!(oci.names().is_empty(), "nothing is left");
}

#[test]
fn a_program_that_ends_without_a_word_is_not_waited_for() {
    let oci = Oci::new(&["sleep", "1"]);
    let told = Told::new(&oci);
    for way in [&["create", "start"][..], &["run --detach"]] {
        for verb in way {
            let args: Vec<&str> = verb.split(' ').chain(["a"]).collect();
            told.ok(&oci, &args);
        }
        oci.wait_for("a", "stopped");
        oci.ok(&["delete", "a"]);
    }
    assert!(told.heard().is_empty());
}

#[test]
fn a_socket_that_the_configuration_names_stays() {
    let oci = Oci::new(&["true"]);
    let env = json!(["PATH=/bin", "NOTIFY_SOCKET=/own"]);
    oci.configure(|config| config["process"]["env"] = env, &["sh", "-c", "echo $NOTIFY_SOCKET"]);
    assert_eq!(Told::new(&oci).run(&oci), "/own\n");
}
