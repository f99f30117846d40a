//! What a container's supervisor knows of processes that were killed for want of memory.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use cgroup::OomWatch;

use crate::dir::Dir;
use crate::{Container, group};

/// How long it is looked again after the kernel has told of the want of memory: v1 tells before it kills.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: u32 = 50;

/// Tells of them in events, and keeps whether there were any.
pub(crate) struct Oom<'a> {
    dir: &'a Dir,
    container: &'a Container,
    /// None where memory is not counted, or the group is gone.
    watch: Option<OomWatch>,
    /// How often it is looked again.
    looks: u32,
    killed: bool,
}

impl<'a> Oom<'a> {
    pub(crate) fn begin(dir: &'a Dir, container: &'a Container) -> Oom<'a> {
        let group = group::open(dir).ok().flatten();
        let watch = group.and_then(|group| group.watch_oom().ok());
        Oom { dir, container, watch, looks: 0, killed: false }
    }

    /// What to wait for, beside time.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// When to look again.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        (self.looks > 0).then_some(LOOK)
    }

    /// Looks; `told` says that the descriptor was readable.
    pub(crate) fn look(&mut self, told: bool) {
        if !told && self.looks == 0 {
            return;
        }
        self.looks = if told { LOOKS } else { self.looks - 1 };
        let Some(watch) = &mut self.watch else { return };
        match watch.kills() {
            None => (self.watch, self.looks) = (None, 0),
            Some(0) => {}
            Some(_) => {
                self.killed = true;
                let container = self.dir.as_it_is_now(self.container);
                self.dir.events().container(&container, "oom", &[]);
            }
        }
    }

    /// Whether there were any, when the container has ended and its group is still there.
    pub(crate) fn end(mut self) -> bool {
        self.look(true);
        self.killed
    }
}
