//! The start of a container that waits without its creator.

use std::os::fd::AsFd;
use std::time::Duration;

use ns_core::{Event, Knock};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use sys::Report;

use crate::hooks::Hooks;
use crate::parts::PART_COMMAND;
use crate::process::Command;
use crate::{Error, Home, Recorded, Status, explain};

/// The socket at which a created container's process waits, in the container's directory.
pub(crate) const DOOR: &str = "start";

/// How long a process that could not execute its program may take to end.
const ENDING: Duration = Duration::from_secs(10);

impl Recorded {
    /// Lets the program of the created container `id` run, with its `startContainer` hooks before and its
    /// `poststart` hooks after it.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; it is not created ([`Error::Refused`]); it has no program
    /// ([`Error::NoProcess`]); a hook failed, or the program cannot be executed, and the container has
    /// stopped then; after a `poststart` hook that failed it is deleted.
    pub fn start(home: &Home, id: &str) -> Result<(), Error> {
        let (container, lock) = Self::open_locked(home, id)?;
        let refuse = |status| {
            let refusal = match status {
                Status::Stopped => "cannot start a container that has stopped",
                Status::Creating => "cannot start a container that is still being made",
                _ => "cannot start an already running container",
            };
            Err(container.refuse(refusal, status))
        };
        match container.status_locked(&lock)? {
            Status::Created => {}
            status => return refuse(status),
        }
        let (Some((pid, pidfd)), Some(mut knock)) =
            (container.process()?, Knock::new(container.place.dir(), DOOR)?)
        else {
            return refuse(Status::Stopped);
        };
        // While the process waits: afterwards it may end, and its root with it.
        let config = container.config_for_start()?;
        if config.process().is_none() {
            return Err(Error::NoProcess);
        }
        let hooks = Hooks::prepare(&config, container.id(), container.bundle())?;
        if let Err(error) = hooks.start_container(pidfd.as_fd(), pid, &|| container.join()) {
            container.end()?;
            return Err(error);
        }
        knock.proceed()?;
        let error = match knock.next()? {
            Event::Executed => {
                container.place.remove_file(DOOR)?;
                let Err(error) = hooks.poststart(pid) else { return Ok(()) };
                drop(lock);
                return Err(error.and(match Self::delete(home, id, true) {
                    Ok(failed) => failed,
                    Err(second) => vec![second.to_string()],
                }));
            }
            Event::Failed(report) => explained(&config, pid, report),
            Event::Phase(..) => Error::Process(ns_core::Error::Protocol { bytes: 2 }),
        };
        // It stays until it is let go.
        drop(knock);
        sys::process::ended(pidfd.as_fd(), ENDING).map_err(|errno| {
            Error::io("waiting for the process", "of the container")(errno.into())
        })?;
        Err(error)
    }
}

/// What the process tells, looked into while it is there.
fn explained(config: &crate::spec::Spec, pid: Pid, report: Report) -> Error {
    let what = || "the container's process".to_owned();
    if report.part != PART_COMMAND {
        return Error::Setup { what: what(), report };
    }
    let path = format!("/proc/{}/root", pid.as_raw_nonzero());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty());
    let command = config.process().as_ref().map(Command::prepare);
    match (root, command) {
        (Ok(root), Some(Ok(command))) => explain::command(&command, root.as_fd(), &report),
        _ => Error::Setup { what: what(), report },
    }
}
