//! What dead supervisors left, and power cuts, tidied up by the next command.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::dir::{Attempt, Dir, Root};
use crate::remove::{end, release, remove};
use crate::{Error, State, Status};

/// So many containers are looked at by a command that is not about all of them: a start beside thousands costs what the
/// first one did.
const LOOKS: usize = 32;
/// Where there are more, only one of so many commands looks: even to list a thousand takes a tenth of a start.
const TURNS: u32 = 8;

/// Ends and removes, or writes down as ended, what nobody manages any more: of many containers some, others each time.
/// Gives how many there are.
///
/// One container that cannot be tidied up (its process hangs in the kernel, the disk is full, a record
/// is damaged) keeps nobody from the others: what is wrong with it is told to who asks for it.
pub(crate) fn some(root: &Root) -> Result<usize, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    if let Some(many) = root.count()?.filter(|&count| count > LOOKS)
        && !now.is_multiple_of(TURNS)
    {
        return Ok(many);
    }
    let mut dirs = root.dirs()?;
    if dirs.len() > LOOKS {
        let first = (now / TURNS) as usize % dirs.len();
        dirs.rotate_left(first);
    }
    for dir in dirs.iter().take(LOOKS) {
        let _ = look_at(root, dir);
    }
    Ok(dirs.len())
}

/// The state of one container, when that was done with it.
pub(crate) fn tidied(root: &Root, dir: &Dir) -> Result<State, Error> {
    match look_at(root, dir) {
        Ok(Some(state)) => Ok(state),
        Ok(None) | Err(_) => dir.state(),
    }
}

/// The state, if nothing was to be done.
fn look_at(root: &Root, dir: &Dir) -> Result<Option<State>, Error> {
    let state = dir.state()?;
    match state.status {
        Status::Created | Status::Exited if !dir.has_lost_its_record()? => return Ok(Some(state)),
        Status::Created | Status::Exited => {}
        // Somebody may just be between making it and locking it.
        Status::Creating => {
            root.settle()?;
            if !dir.path().exists() {
                return Ok(Some(state));
            }
        }
        Status::Running | Status::Paused | Status::Restarting | Status::Removing => {}
    }
    match dir.try_lock()? {
        Attempt::Held => return Ok(Some(state)),
        Attempt::Taken(_lock) => abandoned(root, dir)?,
        Attempt::Gone => root.remove_without_lock(dir)?,
    }
    Ok(None)
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
        (Status::Created | Status::Exited, Some(_)) => Ok(()),
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
            remove(root, dir, container.as_ref(), with_volumes).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_dead_ones_all_go_by_and_by_and_each_command_knows_how_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let many = LOOKS + 8;
        for number in 0..many {
            std::fs::create_dir(root.dir(&format!("{number:064x}")).path()).unwrap();
        }
        let mut commands = 0;
        loop {
            let left = root.dirs().unwrap().len();
            assert_eq!(some(&root).unwrap(), left);
            if left == 0 {
                break;
            }
            commands += 1;
            assert!(commands < 10_000, "{left} of {many} are left");
        }
    }
}
