//! What dead supervisors left, tidied up by the next command.

use std::time::Duration;

use crate::dir::{Attempt, Dir, Root};
use crate::remove::{end, release, remove};
use crate::{Error, State, Status};

/// Ends and removes, or writes down as ended, what nobody manages any more.
///
/// One container that cannot be tidied up (its process hangs in the kernel, the disk is full, a record
/// is damaged) keeps nobody from the others: what is wrong with it is told to who asks for it.
pub(crate) fn tidy(root: &Root) -> Result<(), Error> {
    for dir in root.dirs()? {
        let _ = look_at(root, &dir);
    }
    Ok(())
}

fn look_at(root: &Root, dir: &Dir) -> Result<(), Error> {
    match dir.state()?.status {
        Status::Created | Status::Exited => return Ok(()),
        // Somebody may just be between making it and locking it.
        Status::Creating => root.settle()?,
        Status::Running | Status::Paused | Status::Restarting | Status::Removing => {}
    }
    if !dir.path().exists() {
        return Ok(());
    }
    match dir.try_lock()? {
        Attempt::Taken(_lock) => abandoned(root, dir),
        Attempt::Held => Ok(()),
        Attempt::Gone => root.remove_without_lock(dir),
    }
}

/// A container whose lock was free. Its state is read again: it may have come to its end meanwhile.
pub(crate) fn abandoned(root: &Root, dir: &Dir) -> Result<(), Error> {
    let state = dir.state()?;
    let container = dir.container()?;
    if let (Status::Running, Some(container)) = (state.status, &container) {
        end(dir, &state)?;
        dir.tell_end(container, 137, Duration::ZERO);
    }
    match (state.status, container) {
        (Status::Created | Status::Exited, _) => Ok(()),
        (Status::Running | Status::Restarting, Some(container))
            if !container.host_config.auto_remove =>
        {
            end(dir, &state)?;
            release(dir)?;
            dir.write_state(&State {
                error: "the supervising process was killed, and the container was ended after it"
                    .to_owned(),
                ..state.exited(137)
            })
        }
        (_, container) => {
            let with_volumes = container.as_ref().is_some_and(|c| c.host_config.auto_remove)
                || state.status == Status::Creating;
            remove(root, dir, container.as_ref(), with_volumes)
        }
    }
}
