//! A connection to a message bus, or to systemd itself, that waits for each answer.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use zvariant::{OwnedObjectPath, Type};

use crate::Error;
use crate::message::{self, FIXED, Message, Target};

/// How long systemd may take for an answer, and for a job: as runc.
const PATIENCE: Duration = Duration::from_secs(30);

const BUS: Target<'static> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};
/// The jobs of systemd that end, told to who has asked for one (org.freedesktop.systemd1(5), "Signals").
const MATCH: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                     interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// The connection.
#[derive(Debug)]
pub(crate) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Jobs that have ended since somebody asked: path, result.
    ended: Vec<(OwnedObjectPath, String)>,
}

impl Bus {
    /// Connects as the user `uid`, by the number that the other side knows. `direct`: to systemd's own socket,
    /// where there is no bus in between.
    pub(crate) fn connect(path: &Path, uid: u32, direct: bool) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Self { stream, serial: 0, ended: Vec::new() };
        bus.authenticate(uid)?;
        if !direct {
            let hello = bus.call::<_, (String,)>(
                "greeting the bus",
                Target { member: "Hello", ..BUS },
                &(),
            );
            hello.map_err(io::Error::other)?;
            let target = Target { member: "AddMatch", ..BUS };
            bus.call::<_, ()>("asking the bus for systemd's signals", target, &(MATCH,))
                .map_err(io::Error::other)?;
        }
        Ok(bus)
    }

    /// By the credentials of the socket (the D-Bus specification, "Authentication Protocol", EXTERNAL).
    fn authenticate(&mut self, uid: u32) -> io::Result<()> {
        let identity: String =
            uid.to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        // All by one write, as systemd's own library: the server reads the commands one by one.
        self.stream.write_all(format!("\0AUTH EXTERNAL {identity}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        // Byte by byte: what follows is not of this protocol.
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        match line.starts_with(b"OK") {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&line);
                let refused = format!("it does not know user {uid}: it says {:?}", said.trim_end());
                Err(io::Error::new(ErrorKind::PermissionDenied, refused))
            }
        }
    }

    /// Calls a method and waits for its answer. `what` says in errors what is done.
    pub(crate) fn call<B, R>(
        &mut self,
        what: &str,
        target: Target<'_>,
        body: &B,
    ) -> Result<R, Error>
    where
        B: serde::Serialize + Type,
        R: serde::de::DeserializeOwned + Type,
    {
        self.serial += 1;
        let serial = self.serial;
        let bytes =
            message::call(serial, target, body).map_err(|error| Error::protocol(what, error))?;
        let failed = |source| Error::Io { call: what.to_owned(), source };
        self.stream.write_all(&bytes).map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next(what, deadline)?;
            if message.reply_to != Some(serial) {
                self.keep(&message);
                continue;
            }
            return match message.kind {
                2 => message.body().map_err(|reason| Error::protocol(what, reason)),
                _ => Err(Error::Refused {
                    call: what.to_owned(),
                    message: message.body::<(String,)>().map(|(words,)| words).unwrap_or_default(),
                    name: message.error,
                }),
            };
        }
    }

    /// Waits for the end of a job; its result.
    pub(crate) fn job(&mut self, what: &str, job: &OwnedObjectPath) -> Result<String, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.ended.iter().position(|(path, _)| path == job) {
                return Ok(self.ended.swap_remove(at).1);
            }
            let message = self.next(what, deadline)?;
            self.keep(&message);
        }
    }

    /// Notes what is told of a job: it may end before the answer that names it is here.
    fn keep(&mut self, message: &Message) {
        const SIGNAL: u8 = 4;
        let told = message.kind == SIGNAL
            && message.interface == "org.freedesktop.systemd1.Manager"
            && message.member == "JobRemoved";
        if let (true, Ok((_, job, _, result))) =
            (told, message.body::<(u32, OwnedObjectPath, String, String)>())
        {
            self.ended.push((job, result));
        }
    }

    fn next(&mut self, what: &str, deadline: Instant) -> Result<Message, Error> {
        let read = |stream: &mut UnixStream, bytes: &mut [u8]| {
            let done = match deadline.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => {
                    stream.set_read_timeout(Some(left)).and_then(|()| stream.read_exact(bytes))
                }
                _ => Err(ErrorKind::TimedOut.into()),
            };
            done.map_err(|error| match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    let seconds = PATIENCE.as_secs();
                    let late =
                        format!("no answer within {seconds} seconds; does `systemctl` answer?");
                    io::Error::new(ErrorKind::TimedOut, late)
                }
                ErrorKind::UnexpectedEof => {
                    io::Error::new(error.kind(), "the connection was closed")
                }
                _ => error,
            })
            .map_err(|source| Error::Io { call: what.to_owned(), source })
        };
        let mut start = [0; FIXED];
        read(&mut self.stream, &mut start)?;
        let total = message::total(&start).map_err(|reason| Error::protocol(what, reason))?;
        let mut bytes = start.to_vec();
        bytes.resize(total, 0);
        read(&mut self.stream, &mut bytes[FIXED..])?;
        Message::parse(&bytes).map_err(|reason| Error::protocol(what, reason))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::message::said;

    const JOB: &str = "/org/freedesktop/systemd1/job/1";

    /// Connects, directly, to somebody who says `login` and then `after`, and closes.
    fn connected(login: &str, after: Vec<u8>) -> io::Result<Bus> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let said = [login.as_bytes(), &after].concat();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&said).unwrap();
            // Until the other side has said all that it wants.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        Bus::connect(&path, 0, true)
    }

    fn asked<R: serde::de::DeserializeOwned + Type>(after: Vec<u8>) -> (Bus, Result<R, Error>) {
        let mut bus = connected("OK 0123\r\n", after).unwrap();
        let answer = bus.call("trying", BUS, &("x",));
        (bus, answer)
    }

    #[test]
    fn who_is_not_let_in_is_told() {
        let error = connected("REJECTED EXTERNAL\r\n", vec![]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("REJECTED EXTERNAL"), "{error}");
        assert_eq!(connected("", vec![]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    /// The job may end before the answer that names it is here; what others are answered is not for this call.
    #[test]
    fn a_job_is_awaited_whenever_it_ends() {
        let job = OwnedObjectPath::try_from(JOB).unwrap();
        let other = said::removed("/org/freedesktop/systemd1/job/2", "failed");
        let answer = said::answer(2, 1, &(job.clone(),));
        let ended = said::removed(JOB, "done");
        for order in
            [[&other, &ended, &answer], [&other, &answer, &ended], [&answer, &other, &ended]]
        {
            let mut after = said::answer(2, 99, &("not for this one",));
            order.iter().for_each(|message| after.extend(*message));
            let (mut bus, named) = asked::<(OwnedObjectPath,)>(after);
            assert_eq!(named.unwrap().0, job);
            assert_eq!(bus.job("waiting", &job).unwrap(), "done");
        }
    }

    #[test]
    fn an_error_has_its_own_words() {
        let (_, refused) = asked::<()>(said::answer(3, 1, &("Unit x not loaded.",)));
        let error = refused.unwrap_err();
        assert!(error.is("NoSuchUnit") && !error.is("UnitExists"));
        let words =
            "trying: systemd refuses it: Unit x not loaded. (org.freedesktop.systemd1.NoSuchUnit)";
        assert_eq!(error.to_string(), words);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let (_, form) = asked::<(u32,)>(said::answer(2, 1, &("text",)));
        assert!(form.unwrap_err().to_string().contains("the form \"s\", not \"u\""));
        let (_, garbage) = asked::<()>(b"HTTP/1.1 400 Bad Request\r\n".to_vec());
        assert!(garbage.unwrap_err().to_string().contains("begins as no message does"));
        let (_, closed) = asked::<()>(vec![]);
        assert!(closed.unwrap_err().to_string().contains("the connection was closed"));
        let half = said::answer(2, 1, &("text",));
        let (_, cut) = asked::<(String,)>(half[..half.len() - 3].to_vec());
        assert!(cut.unwrap_err().to_string().contains("the connection was closed"));
    }
}
