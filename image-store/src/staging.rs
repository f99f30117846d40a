//! Work in progress, and what is left of the dead.
//!
//! A worker's directory below `staging/` is held by an flock of the directory itself, so the kernel
//! lets go of it when the worker dies, however that happens. A directory whose lock is free has
//! no owner: whoever takes the lock may empty and remove it.

use std::io::ErrorKind;

use crate::Error;
use crate::dir::Dir;

/// A directory below `staging/` that this value alone may use. Dropped, it is removed with all that is in it.
#[derive(Debug)]
pub(crate) struct Staging<'a> {
    parent: &'a Dir,
    name: String,
    dir: Dir,
}

impl<'a> Staging<'a> {
    /// Takes the directory of this name, empty. Waits while another worker has it.
    pub(crate) fn acquire(parent: &'a Dir, name: String) -> Result<Staging<'a>, Error> {
        loop {
            parent.make(&name, 0o700)?;
            let Some(dir) = parent.dir(&name)? else { continue };
            dir.lock(true)?;
            // Between make and lock it may have been taken for an orphan, or its last owner removed it.
            if parent.is(&name, &dir)? {
                dir.clear()?;
                dir.spread();
                return Ok(Staging { parent, name, dir });
            }
        }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is an orphan for the next command; there is nobody to tell here.
        let _ = remove(self.parent, &self.name, &self.dir);
    }
}

/// Removes the directories whose owners are dead. `finish` is given the name and the directory of each, to end what its
/// owner was at; where that is `false`, it stays for the next command.
pub(crate) fn collect(
    parent: &Dir,
    finish: impl Fn(&str, &Dir) -> Result<bool, Error>,
) -> Result<(), Error> {
    for name in parent.names()? {
        let dir = match parent.dir(&name) {
            Ok(Some(dir)) => dir,
            Ok(None) => continue,
            // A file or link is nothing that a worker makes.
            Err(Error::System { source, .. }) if source.kind() == ErrorKind::NotADirectory => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if dir.lock(false)? && parent.is(&name, &dir)? && finish(&name, &dir)? {
            remove(parent, &name, &dir)?;
        }
    }
    Ok(())
}

/// Removes a directory whose lock is held.
fn remove(parent: &Dir, name: &str, dir: &Dir) -> Result<(), Error> {
    dir.clear()?;
    parent.rmdir(name)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn collects_orphans_and_leaves_what_is_held() {
        let temp = tempfile::tempdir().unwrap();
        let parent = Dir::open(temp.path()).unwrap();
        let held = Staging::acquire(&parent, "held".into()).unwrap();
        held.dir().write("work", b"x").unwrap();
        std::fs::create_dir_all(temp.path().join("orphan/a/b")).unwrap();
        std::os::unix::fs::symlink("/", temp.path().join("stray")).unwrap();
        collect(&parent, |_, _| Ok(true)).unwrap();
        std::fs::remove_file(temp.path().join("stray")).unwrap();
        assert_eq!(parent.names().unwrap(), ["held"]);
        assert!(held.dir().has("work").unwrap());
        std::fs::create_dir_all(temp.path().join("unfinished/a")).unwrap();
        collect(&parent, |name, _| Ok(name != "unfinished")).unwrap();
        assert!(parent.has("unfinished").unwrap());
        collect(&parent, |_, _| Ok(true)).unwrap();
        assert_eq!(parent.names().unwrap(), ["held"]);
        drop(held);
        assert_eq!(parent.names().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_second_waits_for_the_first_and_finds_it_empty() {
        let temp = tempfile::tempdir().unwrap();
        let parent = Dir::open(temp.path()).unwrap();
        let first = Staging::acquire(&parent, "x".into()).unwrap();
        first.dir().write("work", b"x").unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let second = Staging::acquire(&parent, "x".into()).unwrap();
                sender.send(second.dir().names().unwrap()).unwrap();
            });
            assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err(), "did not wait");
            drop(first);
            assert_eq!(
                receiver.recv_timeout(Duration::from_secs(10)).unwrap(),
                Vec::<String>::new()
            );
        });
        assert_eq!(parent.names().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn many_collectors_and_workers_do_not_disturb_each_other() {
        let temp = tempfile::tempdir().unwrap();
        let parent = Dir::open(temp.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let mine = Staging::acquire(&parent, "same".into()).unwrap();
                        assert_eq!(mine.dir().names().unwrap(), Vec::<String>::new());
                        mine.dir().write("work", b"x").unwrap();
                        assert!(mine.dir().has("work").unwrap(), "removed under its owner");
                    }
                });
                scope.spawn(|| (0..100).for_each(|_| collect(&parent, |_, _| Ok(true)).unwrap()));
            }
        });
        collect(&parent, |_, _| Ok(true)).unwrap();
        assert_eq!(parent.names().unwrap(), Vec::<String>::new());
    }
}
