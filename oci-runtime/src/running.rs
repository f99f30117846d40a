//! A process whose program runs.

use std::os::fd::{BorrowedFd, OwnedFd};

use ns_core::{Child, Exit};
use rustix::process::Pid;

use crate::Error;

/// A process whose program runs: that of a container, or of an exec.
#[derive(Debug)]
pub struct Running {
    child: Child,
    terminal: Option<OwnedFd>,
    warnings: Vec<String>,
}

impl Running {
    pub(crate) fn new(child: Child, terminal: Option<OwnedFd>, warnings: Vec<String>) -> Self {
        Self { child, terminal, warnings }
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// What could not be done without being an error, as sentences: of a program of
    /// [`PreparedExec`](crate::PreparedExec) its warnings, of a restored container what CRIU left to be done, of another
    /// one none (they are [`Prepared`](crate::Prepared)'s).
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Its number, as the caller sees it.
    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// Its descriptor, readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// The master of its terminal, where it has one.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The calling process is not the one that started it.
    pub fn wait(&self) -> Result<Exit, Error> {
        Ok(self.child.wait()?)
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// The signal may not be sent.
    pub fn kill(&self) -> Result<(), Error> {
        Ok(self.child.kill()?)
    }
}
