//! The end of a group: its processes, and itself.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal};

use crate::dir::Dir;
use crate::{Error, Group};

/// How long a group may be busy after its processes have ended, or were killed: the kernel takes them out
/// of it a little later, and one that waits for a disk ends when that answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most passes over the processes by which they are killed one by one.
const PASSES: usize = 1_000;

const HINT: &str = "a process of it may wait for a disk or a network file system that does not answer; see \
                    its cgroup.procs, and try again";

impl Group {
    /// Kills all processes of the group and of the groups below it, those that it starts meanwhile too
    /// (cgroup.kill, Linux 5.14; else one by one in the frozen group). They may still be ending when this
    /// returns. A group that is frozen goes on to end.
    ///
    /// # Errors
    /// They may not be killed; some appear faster than they are killed. A group that is gone is no error.
    pub fn kill_all(&self) -> Result<(), Error> {
        let killed = match self.unified() {
            Some(dir) => {
                match dir.write("ending the processes of the cgroup by", "cgroup.kill", "1") {
                    Err(error) if error.is_not_found() => false,
                    Err(error) => return Err(error),
                    Ok(()) => true,
                }
            }
            None => false,
        };
        // v1's freezer holds even the killed; v2's lets them go.
        if killed && self.legacy("freezer").is_none() {
            return Ok(());
        }
        self.kill_each(killed)
            .or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
    }

    /// Without cgroup.kill, and for what is in a v1 hierarchy only: moved there by somebody.
    fn kill_each(&self, killed: bool) -> Result<(), Error> {
        let start = Instant::now();
        let mut known = BTreeSet::new();
        for _ in 0..PASSES {
            if !killed {
                // No new ones while they are looked at. What cannot be frozen is killed all the same.
                let _ = self.freeze();
            }
            let sent = self.signal_now(Signal::KILL);
            self.thaw()?;
            let before = known.len();
            known.extend(sent?);
            // Those that are still there have it, start no more, and end when they can: the kernel may give
            // them no time for a while.
            if known.len() == before {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Error::Timeout {
            what: "ending the processes of",
            path: self.dirs().next().map(Dir::path).unwrap_or_default(),
            seconds: start.elapsed().as_secs(),
            hint: "processes of it start new ones faster than they are killed; limit its pids, and try again",
        })
    }

    /// Sends a signal to every process of the group and of the groups below it; how many there were. By
    /// descriptors, so that none goes to a process that got the number of one that has ended.
    ///
    /// # Errors
    /// The group is gone; a signal may not be sent.
    pub fn signal_each(&self, signal: Signal) -> Result<usize, Error> {
        Ok(self.signal_now(signal)?.len())
    }

    /// As `signal_each`; the numbers of those that got it.
    fn signal_now(&self, signal: Signal) -> Result<Vec<i32>, Error> {
        let mut opened = Vec::new();
        for pid in self.processes()? {
            match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                Ok(fd) => opened.push((pid, fd)),
                // EINVAL: it is just going (Linux before 6.15).
                Err(Errno::SRCH | Errno::INVAL) => {}
                Err(errno) => {
                    let number = pid.as_raw_nonzero().to_string();
                    return Err(Error::io("opening a descriptor of the process", number)(
                        errno.into(),
                    ));
                }
            }
        }
        // Still here after it was opened: so the descriptor is of a process of the group.
        let still = self.processes()?;
        let mut sent = Vec::new();
        for (pid, fd) in opened {
            if !still.contains(&pid) {
                continue;
            }
            match rustix::process::pidfd_send_signal(&fd, signal) {
                Ok(()) => sent.push(pid.as_raw_nonzero().get()),
                Err(Errno::SRCH) => {}
                Err(errno) => {
                    let number = pid.as_raw_nonzero().to_string();
                    return Err(Error::io("sending a signal to the process", number)(errno.into()));
                }
            }
        }
        Ok(sent)
    }

    /// Removes the group and those below it. Its processes must have ended; that the kernel still has them
    /// in it for a moment is waited for. A group that is gone is no error.
    ///
    /// # Errors
    /// It has processes.
    pub fn remove(&self) -> Result<(), Error> {
        self.remove_by(|waited| match waited > Duration::from_secs(1) && self.is_populated()? {
            true => Err(Busy::Still(Errno::BUSY)),
            false => Ok(()),
        })
    }

    /// Kills what is in the group and removes it, and the groups below it.
    ///
    /// # Errors
    /// A process does not end within 10 s.
    pub fn destroy(&self) -> Result<(), Error> {
        self.remove_by(|_| {
            self.kill_all()?;
            Ok(())
        })
    }

    /// Tries until it is done, with `busy` before each new try.
    fn remove_by(&self, busy: impl Fn(Duration) -> Result<(), Busy>) -> Result<(), Error> {
        let start = Instant::now();
        let mut pause = Duration::from_micros(200);
        for dir in self.dirs() {
            while let Err(error) = remove_tree(dir) {
                if error.kind() != ErrorKind::ResourceBusy {
                    return Err(Error::io("removing the cgroup", dir.path())(error));
                }
                let waited = start.elapsed();
                if waited > PATIENCE {
                    let seconds = PATIENCE.as_secs();
                    return Err(Error::Timeout {
                        what: "removing",
                        path: dir.path(),
                        seconds,
                        hint: HINT,
                    });
                }
                match busy(waited) {
                    Ok(()) => {}
                    Err(Busy::Error(error)) => return Err(error),
                    Err(Busy::Still(errno)) => {
                        return Err(Error::io("removing the cgroup", dir.path())(errno.into()));
                    }
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// Why nothing more is tried.
enum Busy {
    Still(Errno),
    Error(Error),
}

impl From<Error> for Busy {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Removes a group and those in it, the lowest first; a group's files go with it.
fn remove_tree(dir: &Dir) -> io::Result<()> {
    match dir.remove() {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY) => {}
        Err(errno) => return Err(errno.into()),
    }
    let groups = match dir.groups() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        groups => groups?,
    };
    groups.iter().try_for_each(|name| remove_tree(&dir.below(name)))?;
    match dir.remove() {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
