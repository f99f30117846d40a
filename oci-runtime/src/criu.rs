//! CRIU, which writes processes to files and makes processes of them again: started as a child, and asked over a socket.
//!
//! By its protocol and not by its command line: the master of a restored terminal comes by the socket alone, and so does
//! what is to be done between the making of the namespaces and that of the processes, which the command line has a
//! program of one's own for. The numbers of fields are those of images/rpc.proto of its sources.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cgroup::Join;
use ns_core::{Child, Event, Spawn};
use rustix::fs::Access;
use rustix::io::FdFlags;
use rustix::process::Pid;
use sys::exec::Program;
use sys::{Failure, Step};

use crate::container::end;
use crate::criu_message::{Message, Value, fields};
use crate::{CriuOptions, Error, Stdio};

/// The program's name.
const NAME: &str = "criu";
/// 3.15 is the first that knows PID namespaces of others; numbers as CRIU makes them of its versions.
const LEAST: u64 = 31500;
/// More than any answer has.
const LONGEST: usize = 64 << 10;

/// What it is asked for: criu_req_type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Dump = 1,
    Restore = 2,
    Notify = 6,
    Version = 10,
    PreDump = 13,
}

/// What it tells on its way, and waits for an answer to.
#[derive(Debug)]
pub(crate) struct Notice {
    /// `setup-namespaces`, `post-restore`, …
    pub(crate) name: String,
    /// The first process of what it restores, with some of them.
    pub(crate) pid: Option<Pid>,
    /// The terminal's master, with `orphan-pts-master`.
    pub(crate) descriptor: Option<OwnedFd>,
}

/// A CRIU that waits for a request.
#[derive(Debug)]
pub(crate) struct Criu {
    child: Child,
    socket: OwnedFd,
}

/// Why it did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// In its own words, as far as it has any.
    Own(String),
    /// Of what was to be done at a notice.
    Other(Error),
}

impl Criu {
    /// Starts it, with these descriptors open under their numbers; in a cgroup, where one is given.
    ///
    /// # Errors
    /// It is not there ([`Error::NoCriu`]), too old ([`Error::OldCriu`]), or does not answer.
    pub(crate) fn start(
        options: &CriuOptions,
        stdio: Stdio,
        group: Option<&Join>,
        kept: &[BorrowedFd<'_>],
    ) -> Result<Self, Error> {
        let path = locate(options.program.as_deref())?;
        let (socket, its) = sys::message::pair()
            .map_err(|errno| Error::io("making a socket for", NAME)(errno.into()))?;
        let program = program(&path, &its)?;
        let kept = [&[its.as_fd()], kept].concat();
        let first = || crate::group::enter(group);
        let mut spawn = Spawn::new().first(&first);
        if let Some(fd) = group.and_then(Join::unified) {
            spawn = spawn.cgroup(fd);
        }
        let mut child = spawn.spawn(|_| become_criu(&program, &stdio, &kept))?;
        drop(its);
        match child.next()? {
            Event::Executed => Self { child, socket }.checked(),
            Event::Failed(report) => {
                child.wait()?;
                Err(Error::Setup { what: format!("CRIU, the program {}", path.display()), report })
            }
            Event::Phase(..) => Err(Error::Process(ns_core::Error::Protocol { bytes: 2 })),
        }
    }

    /// Sees that it is one of those that know what is asked for later.
    fn checked(self) -> Result<Self, Error> {
        const KEEP_OPEN: u32 = 4;
        const VERSION: u32 = 10;
        let request = Message::default().number(1, Request::Version as u64).flag(KEEP_OPEN, true);
        let answer = self
            .tell(&request)
            .and_then(|()| self.hear())
            .and_then(|answer| answer.ok_or_else(|| self.silent()))?;
        let version = fields(&answer.bytes).and_then(|all| {
            let parts = fields(find(&all, VERSION)?.bytes()?)?;
            let part = |wanted| find(&parts, wanted)?.number().filter(|part| *part < 10_000);
            Some((part(1)?, part(2)?, part(4).unwrap_or(0)))
        });
        match version {
            Some((major, minor, sub)) if major * 10_000 + minor * 100 + sub >= LEAST => Ok(self),
            Some((major, minor, sub)) => {
                Err(Error::OldCriu { version: format!("{major}.{minor}.{sub}") })
            }
            None => Err(self.silent()),
        }
    }

    /// Asks it for something, and does what is to be done at its notices. What it returns is the first process of what
    /// was restored.
    pub(crate) fn ask(
        mut self,
        request: Request,
        options: &Message,
        at: &mut dyn FnMut(Notice) -> Result<(), Error>,
    ) -> Result<Option<Pid>, Refusal> {
        const NOTIFY_SUCCESS: u32 = 3;
        let mut refused = None;
        let done = self.talk(
            Message::default().number(1, request as u64).message(2, options),
            &mut |notice| {
                let done = at(notice).map_err(|error| refused = Some(error)).is_ok();
                // The field is required to be there in the negative, too.
                Message::default()
                    .number(1, Request::Notify as u64)
                    .number(NOTIFY_SUCCESS, done.into())
            },
        );
        match (refused, done) {
            (Some(error), _) => Err(Refusal::Other(error)),
            (None, done) => done,
        }
    }

    fn talk(
        &mut self,
        request: Message,
        at: &mut dyn FnMut(Notice) -> Message,
    ) -> Result<Option<Pid>, Refusal> {
        self.tell(&request).map_err(Refusal::Other)?;
        loop {
            let Some(answer) = self.hear().map_err(Refusal::Other)? else {
                let how = self.child.wait().map_err(|error| Refusal::Other(error.into()))?;
                return Err(Refusal::Own(format!("it ended before it was done ({how})")));
            };
            let answer = answer.read().ok_or_else(|| Refusal::Other(self.silent()))?;
            match answer {
                Answer::Notice(notice) => {
                    let reply = at(notice);
                    self.tell(&reply).map_err(Refusal::Other)?;
                }
                Answer::Done(pid) => {
                    // What it does after its answer (it lets a restored process go) is done when it ends.
                    let how = self.child.wait().map_err(|error| Refusal::Other(error.into()))?;
                    return match how {
                        ns_core::Exit::Status(0) => Ok(pid),
                        how => Err(Refusal::Own(how.to_string())),
                    };
                }
                Answer::Failed(reason) => {
                    // It ends by itself, when its log is whole.
                    self.child.wait().map_err(|error| Refusal::Other(error.into()))?;
                    return Err(Refusal::Own(reason));
                }
            }
        }
    }

    fn tell(&self, message: &Message) -> Result<(), Error> {
        match sys::message::send(&self.socket, message.as_bytes(), &[]) {
            // It ended: what it said before is told by who hears it next.
            Ok(()) | Err(rustix::io::Errno::PIPE) => Ok(()),
            Err(errno) => Err(Error::io("asking", NAME)(errno.into())),
        }
    }

    /// `None` where it has ended.
    fn hear(&self) -> Result<Option<Heard>, Error> {
        let mut bytes = vec![0; LONGEST];
        let (count, [descriptor, _]) = sys::message::receive(&self.socket, &mut bytes)
            .map_err(|errno| Error::io("reading the answer of", NAME)(errno.into()))?;
        bytes.truncate(count);
        Ok((count > 0).then_some(Heard { bytes, descriptor }))
    }

    /// Of one that says nothing that can be understood.
    fn silent(&self) -> Error {
        let reason = "it does not answer as CRIU does; see that `criu --version` works";
        Error::io("asking", NAME)(std::io::Error::other(reason))
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        end(&self.child);
    }
}

/// A message of CRIU's, whole.
struct Heard {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

enum Answer {
    Notice(Notice),
    Done(Option<Pid>),
    Failed(String),
}

impl Heard {
    /// `None` where it is no answer.
    fn read(self) -> Option<Answer> {
        let all = fields(&self.bytes)?;
        let pid = |value: Option<Value<'_>>| Pid::from_raw(i32::try_from(value?.number()?).ok()?);
        let text = |value: Value<'_>| Some(String::from_utf8_lossy(value.bytes()?).into_owned());
        let succeeded = find(&all, 2)?.number()? != 0;
        if !succeeded {
            let errno =
                find(&all, 7).and_then(Value::number).and_then(|number| i32::try_from(number).ok());
            let said = find(&all, 9).and_then(text).map(|said| said.trim().to_owned());
            let reason = said.filter(|said| !said.is_empty()).or_else(|| {
                Some(
                    std::io::Error::from_raw_os_error(errno.filter(|errno| *errno > 0)?)
                        .to_string(),
                )
            });
            return Some(Answer::Failed(
                reason.unwrap_or_else(|| "it does not say why".to_owned()),
            ));
        }
        if find(&all, 1)?.number()? == Request::Notify as u64 {
            let notice = fields(find(&all, 5)?.bytes()?)?;
            let name = find(&notice, 1).and_then(text)?;
            let pid = pid(find(&notice, 2));
            return Some(Answer::Notice(Notice { name, pid, descriptor: self.descriptor }));
        }
        let restored = find(&all, 4).and_then(Value::bytes).and_then(fields);
        Some(Answer::Done(restored.and_then(|restored| pid(find(&restored, 1)))))
    }
}

/// The value of a field, where it is there.
fn find<'a>(all: &[(u32, Value<'a>)], wanted: u32) -> Option<Value<'a>> {
    all.iter().find(|(field, _)| *field == wanted).map(|(_, value)| *value)
}

/// Where it is: as it was named, or by PATH.
fn locate(named: Option<&Path>) -> Result<PathBuf, Error> {
    let program = named.unwrap_or(Path::new(NAME));
    let found = match program.components().count() {
        1 => in_path(program),
        _ => Some(program.to_owned()).filter(|path| can_run(path)),
    };
    found.ok_or_else(|| Error::NoCriu {
        program: program.to_owned(),
        path: std::env::var_os("PATH").unwrap_or_default().to_string_lossy().into_owned(),
    })
}

/// A program that PATH leads to.
pub(crate) fn in_path(program: impl AsRef<Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(&program)).find(|path| can_run(path))
}

fn can_run(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

fn program(path: &Path, socket: &OwnedFd) -> Result<Program, Error> {
    let text =
        |text: &[u8]| CString::new(text).map_err(|error| Error::io("starting", path)(error.into()));
    let path = text(path.as_os_str().as_bytes())?;
    let args = [path.clone(), text(b"swrk")?, text(socket.as_raw_fd().to_string().as_bytes())?];
    let entry = |(name, value): (OsString, OsString)| {
        text(&[name.as_bytes(), b"=", value.as_bytes()].concat())
    };
    let env = std::env::vars_os().map(entry).collect::<Result<_, _>>()?;
    Ok(Program::new(vec![path], args.to_vec(), env))
}

/// Child side.
fn become_criu(
    program: &Program,
    stdio: &Stdio,
    kept: &[BorrowedFd<'_>],
) -> Result<Infallible, Failure> {
    stdio.apply()?;
    sys::process::cloexec_from(3).step("closing the descriptors of the runtime on exec")?;
    for fd in kept {
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).step("leaving a descriptor to CRIU")?;
    }
    sys::process::reset_signals().step("resetting the signals")?;
    Err(program.exec())
}
