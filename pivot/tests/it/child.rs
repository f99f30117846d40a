//! A child in new namespaces, ended when it is dropped.

use ns_core::{Event, Namespaces, Spawn};
use sys::{Failure, Report};

pub(crate) struct Child(ns_core::Child);

impl Child {
    /// Runs `body` in new mount, PID, IPC, network and cgroup namespaces.
    pub(crate) fn spawn(body: impl FnOnce() -> Failure) -> Self {
        let kinds = Namespaces::MOUNT
            | Namespaces::PID
            | Namespaces::IPC
            | Namespaces::NETWORK
            | Namespaces::CGROUP;
        Self(Spawn::new().namespaces(kinds).spawn(|_| Err(body())).unwrap())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.pid().as_raw_nonzero().get()
    }

    /// What the child failed with.
    pub(crate) fn report(mut self) -> Report {
        match self.0.next().unwrap() {
            Event::Failed(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
