//! One group: a directory in each hierarchy.

use std::io;
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::dir::Dir;
use crate::{Error, Join};

/// What of v2 a group gets where it can: the controllers that this crate has limits or numbers of.
const CONTROLLERS: [&str; 7] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"];

/// A group of processes: a directory in every hierarchy that the machine has.
///
/// Dropping it changes nothing: a group lives until it is removed.
#[derive(Debug)]
pub struct Group {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    /// Empty for v2.
    controllers: String,
    dir: Dir,
    /// Made by this value.
    made: bool,
}

/// Where a controller of a group is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// In a v1 hierarchy.
    Legacy(&'a Dir),
    /// In v2.
    Unified(&'a Dir),
}

impl Group {
    pub(crate) fn new(parts: Vec<(String, Dir)>) -> Self {
        let part = |(controllers, dir)| Part { controllers, dir, made: false };
        Self { parts: parts.into_iter().map(part).collect() }
    }

    pub(crate) fn make(&mut self) -> Result<(), Error> {
        for part in &mut self.parts {
            let dir = &part.dir;
            let failed =
                |dir: &Dir, errno: Errno| Error::io("making the cgroup", dir.path())(errno.into());
            part.made = match dir.make() {
                Ok(made) => made,
                Err(Errno::NOENT) => {
                    for above in dir.lineage() {
                        above.make().map_err(|errno| failed(&above, errno))?;
                    }
                    true
                }
                Err(errno) => return Err(failed(dir, errno)),
            };
            if part.controllers.split(',').any(|name| name == "cpuset") {
                inherit_cpuset(dir)?;
            }
        }
        Ok(())
    }

    /// Takes back what `make` did, as far as it came.
    pub(crate) fn unmake(&self) {
        for part in self.parts.iter().filter(|part| part.made) {
            // Nobody is in it yet. The error that is told is the one of making it.
            let _ = part.dir.remove();
        }
    }

    pub(crate) fn dirs(&self) -> impl Iterator<Item = &Dir> {
        self.parts.iter().map(|part| &part.dir)
    }

    /// The part in v2.
    pub(crate) fn unified(&self) -> Option<&Dir> {
        self.parts.iter().find(|part| part.controllers.is_empty()).map(|part| &part.dir)
    }

    /// The part in the v1 hierarchy of a controller.
    pub(crate) fn legacy(&self, controller: &str) -> Option<&Dir> {
        let mut parts = self.parts.iter();
        parts
            .find(|part| part.controllers.split(',').any(|name| name == controller))
            .map(|part| &part.dir)
    }

    /// Its directories, for messages and for who hands them on: `memory` and where, v2's under the empty
    /// name.
    pub fn paths(&self) -> Vec<(String, PathBuf)> {
        self.parts.iter().map(|part| (part.controllers.clone(), part.dir.path())).collect()
    }

    /// Where a controller is, for numbers: none where the group does not have it.
    pub(crate) fn find(&self, controller: &str) -> Result<Option<Place<'_>>, Error> {
        if let Some(dir) = self.legacy(controller) {
            return Ok(Some(Place::Legacy(dir)));
        }
        let Some(dir) = self.unified() else { return Ok(None) };
        Ok(has_controller(dir, controller)?.then_some(Place::Unified(dir)))
    }

    /// Where a controller is, for the limit `field`: v2's are switched on, on the way down to the group,
    /// where they are not.
    pub(crate) fn place(&self, field: &str, controller: &str) -> Result<Place<'_>, Error> {
        if let Some(place) = self.find(controller)? {
            return Ok(place);
        }
        let missing = |reason: String| Error::NoController {
            field: field.to_owned(),
            controller: controller.to_owned(),
            reason,
        };
        let Some(dir) = self.unified() else {
            return Err(missing(format!(
                "no v1 hierarchy that has it is mounted; mount it, as by `mount -t cgroup -o \
                 {controller} cgroup /sys/fs/cgroup/{controller}`"
            )));
        };
        if !has_controller(&dir.top(), controller)? {
            return Err(missing(
                "the kernel was built or started without it (cgroup_disable=), whoever made the group \
                 that this runs in has not handed it on, or a v1 hierarchy has it that is not mounted \
                 here (see /proc/cgroups)"
                    .to_owned(),
            ));
        }
        match enable(dir, &[controller]) {
            Some((path, error)) => Err(missing(format!(
                "writing \"+{controller}\" to {}: {error}{}",
                path.display(),
                match Errno::from_io_error(&error) {
                    Some(Errno::BUSY) =>
                        "; that group has processes of its own, and v2 gives controllers to groups of \
                         groups only: start from another group, or give the path of one",
                    _ => "",
                }
            ))),
            None => match self.find(controller)? {
                Some(place) => Ok(place),
                None => Err(missing("it does not appear in the group".to_owned())),
            },
        }
    }

    /// Switches a controller of v2 on for the files of v2 itself; whether the group has it now.
    pub(crate) fn enable_unified(&self, dir: &Dir, controller: &str) -> Result<bool, Error> {
        if !has_controller(dir, controller)? && has_controller(&dir.top(), controller)? {
            drop(enable(dir, &[controller]));
        }
        has_controller(dir, controller)
    }

    /// Gives the group all controllers of v2 that it can have: so there are numbers of all. What it cannot
    /// have is told when a limit needs it.
    pub(crate) fn enable_all(&self) {
        if let Some(dir) = self.unified() {
            let has = dir.read("cgroup.controllers").unwrap_or_default();
            let had = dir.top().read("cgroup.controllers").unwrap_or_default();
            let all: Vec<&str> = CONTROLLERS
                .into_iter()
                .filter(|name| lists(&had, name) && !lists(&has, name))
                .collect();
            if !all.is_empty() {
                drop(enable(dir, &all));
            }
        }
    }

    /// What lets a process that is started next join, prepared.
    ///
    /// # Errors
    /// The group is gone; its files may not be written.
    pub fn join(&self) -> Result<Join, Error> {
        let mut join = Join::default();
        for part in &self.parts {
            let failed =
                |path: PathBuf| |errno: Errno| Error::io("opening the cgroup", path)(errno.into());
            if part.controllers.is_empty() {
                join.unified = Some(part.dir.open().map_err(failed(part.dir.path()))?);
            } else {
                let path = part.dir.file("tasks");
                let fd = part.dir.open_file("tasks", OFlags::WRONLY);
                join.tasks.push((fd.map_err(failed(path.clone()))?, path));
            }
        }
        Ok(join)
    }

    /// Moves a process, with all its threads, into the group. Dearer than [`Group::join`]: on an idle
    /// machine the kernel may take 10 ms for it.
    ///
    /// # Errors
    /// There is no such process; it may not be moved.
    pub fn add(&self, pid: Pid) -> Result<(), Error> {
        let number = pid.as_raw_nonzero().to_string();
        for dir in self.dirs() {
            dir.write("moving a process by", "cgroup.procs", &number)?;
        }
        Ok(())
    }

    /// The processes in the group and in the groups below it, each once; those that the caller's PID
    /// namespace does not have are left out.
    ///
    /// # Errors
    /// The group is gone.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        let mut all = Vec::new();
        for dir in self.dirs() {
            collect(dir, &mut all)?;
        }
        all.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        all.dedup();
        Ok(all)
    }

    /// Whether it has a process, itself or in a group below. A group that is gone, in all hierarchies or in
    /// one, has none there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_populated(&self) -> Result<bool, Error> {
        if let Some(dir) = self.unified()
            && let Some(events) = dir.read_if_there("cgroup.events")?
            && crate::dir::value_of(&events, "populated") == Some(1)
        {
            return Ok(true);
        }
        Ok(!self.processes()?.is_empty())
    }
}

/// The processes of `dir` and below. A group that goes meanwhile has none.
fn collect(dir: &Dir, all: &mut Vec<Pid>) -> Result<(), Error> {
    let read = |dir: &Dir| match dir.read_if_there("cgroup.procs") {
        // EOPNOTSUPP: a threaded group (v2), whose processes are those of the group above.
        Ok(text) => Ok(text.unwrap_or_default()),
        Err(error) => Err(error),
    };
    let numbers = read(dir)?;
    all.extend(numbers.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)));
    match dir.groups() {
        Ok(groups) => groups.iter().try_for_each(|name| collect(&dir.below(name), all)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("listing the groups of", dir.path())(error)),
    }
}

fn lists(text: &str, controller: &str) -> bool {
    text.split_ascii_whitespace().any(|name| name == controller)
}

fn has_controller(dir: &Dir, controller: &str) -> Result<bool, Error> {
    Ok(lists(&dir.read("cgroup.controllers")?, controller))
}

/// Switches controllers on in all groups above `dir`; the first refusal, and where.
fn enable(dir: &Dir, controllers: &[&str]) -> Option<(PathBuf, io::Error)> {
    const FILE: &str = "cgroup.subtree_control";
    let mut refused = None;
    let parent = dir.parent();
    for above in std::iter::once(dir.top()).chain(parent.lineage()) {
        let on = above.read(FILE).unwrap_or_default();
        let missing: Vec<&str> =
            controllers.iter().copied().filter(|name| !lists(&on, name)).collect();
        let words: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
        // All by one write: each costs the kernel a pass over the tree. One that is refused refuses all.
        if words.is_empty() {
            continue;
        }
        match above.write_raw(FILE, &words.join(" ")) {
            Ok(()) => continue,
            // It has processes. One by one those that threads can be counted by would be taken, and no process could be
            // in the groups below any more (cgroup-v2.rst, "Threads": "domain invalid").
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => {
                refused.get_or_insert((above.file(FILE), error));
                continue;
            }
            Err(_) => {}
        }
        for word in &words {
            if let Err(error) = above.write_raw(FILE, word) {
                refused.get_or_insert((above.file(FILE), error));
            }
        }
    }
    refused
}

/// A new group of v1's cpuset has no CPUs and no memory nodes, and no process can join it: it, and what was
/// made above it, gets those of the one above.
fn inherit_cpuset(dir: &Dir) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if !dir.read(file)?.trim().is_empty() {
            continue;
        }
        for group in dir.lineage() {
            if group.path() == dir.path() || group.read(file)?.trim().is_empty() {
                let value = group.parent().read(file)?;
                group.write("giving the cpuset of the group above to", file, value.trim())?;
            }
        }
    }
    Ok(())
}
