//! All containers, as `ps` shows them.
//!
//! A thousand are to be there within 50 ms, so they are read on all processors, each with as few system calls as will do.

use std::sync::LazyLock;
use std::thread::{Builder, scope};

use crate::dir::{Dir, Root};
use crate::{Container, Engine, Error, State, group, pause, tidy};

/// So many are worth a thread, whose start costs as much as reading some of them.
const A_THREAD: usize = 64;
/// More processors only wait for each other, at the kernel's locks of the directory.
const THREADS: usize = 4;

type Listed = Vec<(Container, State)>;

impl Engine {
    /// All containers with their states, the newest first.
    ///
    /// # Errors
    /// A record is damaged; a system call fails.
    pub fn list(&self) -> Result<Vec<(Container, State)>, Error> {
        let dirs = self.root.dirs()?;
        let root = &self.root;
        let freezer = LazyLock::new(|| group::freezer().ok());
        let look = |dirs: &[Dir]| -> Result<Listed, Error> {
            let mut listed = Vec::with_capacity(dirs.len());
            for dir in dirs {
                listed.extend(one(root, dir, || {
                    freezer.as_ref().is_some_and(|freezer| group::is_frozen_in(freezer, dir))
                })?);
            }
            Ok(listed)
        };
        let mut all = in_parts(&dirs, &look)?;
        all.sort_by(|(a, _), (b, _)| b.created.cmp(&a.created));
        Ok(all)
    }
}

/// The container of this directory; one that is just being made or removed has no record.
fn one(
    root: &Root,
    dir: &Dir,
    is_frozen: impl FnOnce() -> bool,
) -> Result<Option<(Container, State)>, Error> {
    let state = tidy::tidied(root, dir)?;
    let Some(container) = dir.container()? else { return Ok(None) };
    let status = pause::status(state.status, is_frozen);
    Ok(Some((container, State { status, ..state })))
}

/// What `look` finds in all directories, of which each thread has its part. All have ended when this returns: a
/// supervisor is split off a process with one thread.
fn in_parts(
    dirs: &[Dir],
    look: &(impl Fn(&[Dir]) -> Result<Listed, Error> + Sync),
) -> Result<Listed, Error> {
    let most = (dirs.len() / A_THREAD).min(THREADS);
    // Not more than there are processors for: asked for only where there is more than one part.
    let processors = || rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    let threads = if most > 1 { most.min(processors() as usize) } else { 1 };
    let mut parts = dirs.chunks(dirs.len().div_ceil(threads.max(1)).max(1));
    let own = parts.next().unwrap_or_default();
    scope(|scope| {
        // Where no thread can be made, this one does its work, too.
        let started: Vec<_> = parts
            .map(|part| {
                let thread = Builder::new().name("list".into());
                thread.spawn_scoped(scope, move || look(part)).map_err(|_| part)
            })
            .collect();
        let mut all = look(own)?;
        for part in started {
            all.extend(match part {
                Ok(thread) => match thread.join() {
                    Ok(listed) => listed?,
                    Err(panic) => std::panic::resume_unwind(panic),
                },
                Err(part) => look(part)?,
            });
        }
        Ok(all)
    })
}
