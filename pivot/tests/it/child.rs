//! A child in new namespaces that waits, after its set-up, for the test to look at it; ended when it
//! is dropped.

use ns_core::{Event, Namespaces, Spawn};
use rustix::io::Errno;
use sys::{Failure, Report};

pub(crate) struct Child(ns_core::Child);

impl Child {
    /// Runs `setup` in new mount, PID, IPC, network and cgroup namespaces; what it failed with is the
    /// error.
    pub(crate) fn start(setup: impl FnOnce() -> Result<(), Failure>) -> Result<Self, Report> {
        let kinds = Namespaces::MOUNT
            | Namespaces::PID
            | Namespaces::IPC
            | Namespaces::NETWORK
            | Namespaces::CGROUP;
        let child = Spawn::new().namespaces(kinds).spawn(|gate| {
            setup()?;
            gate.wait(1)?;
            Err(Failure::new("the end of the test", Errno::CANCELED))
        });
        let mut child = Self(child.unwrap());
        match child.0.next().unwrap() {
            Event::Phase(..) => Ok(child),
            Event::Failed(report) => Err(report),
            Event::Executed => panic!("the child was killed"),
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.pid().as_raw_nonzero().get()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
