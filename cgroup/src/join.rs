//! How a new process gets into a group.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use sys::{Failure, Step};

/// A process's way into a group, prepared by [`Group::join`](crate::Group::join): into v2 it is started
/// (clone3(2) with CLONE_INTO_CGROUP, Linux 5.7), into the v1 hierarchies it goes itself.
#[derive(Debug, Default)]
pub struct Join {
    pub(crate) unified: Option<OwnedFd>,
    pub(crate) tasks: Vec<(OwnedFd, PathBuf)>,
}

impl Join {
    /// The directory of the group in v2, where there is v2: for CLONE_INTO_CGROUP.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Child side: the calling thread, the only one of its process, joins the v1 hierarchies. System calls
    /// only. To be called before the process gets a cgroup namespace, whose root its groups then are. The
    /// failure's index is for [`Join::describe`].
    ///
    /// By the file `tasks`, not `cgroup.procs`: moving one thread, and that itself, needs no wait for all
    /// others (0.2 ms where the other takes 10 or more).
    ///
    /// # Errors
    /// The kernel refuses: the group is gone (ENODEV), or has no CPU or memory node (ENOSPC), or cannot take
    /// one more.
    pub fn apply(&self) -> Result<(), Failure> {
        for (index, (tasks, _)) in self.tasks.iter().enumerate() {
            rustix::io::retry_on_intr(|| rustix::io::write(tasks, b"0"))
                .step("joining the cgroup")
                .map_err(|failure| failure.of(failure.part, index as u32))?;
        }
        Ok(())
    }

    /// What the failure of `index` is about.
    pub fn describe(&self, index: u32) -> String {
        let task = self.tasks.get(index as usize);
        task.map_or("the cgroup".to_owned(), |(_, path)| path.display().to_string())
    }
}
