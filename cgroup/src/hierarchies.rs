//! Which hierarchies of cgroups the machine has, and where: unified (v2), legacy (v1), hybrid (both).

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::fscontext::FsContext;
use sys::mountinfo::{self, Mount};

use crate::dir::Dir;
use crate::location::{Entry, Location, clean};
use crate::{Error, Group};

/// Where distributions mount them: cgroup v2 itself, or a tmpfs with a directory for each hierarchy.
const BASE: &str = "/sys/fs/cgroup";
/// File systems' numbers (linux/magic.h).
const CGROUP_SUPER_MAGIC: i64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// The hierarchies that are mounted. Costs a few system calls; the table of mounts, which may be long, is
/// read only where they are not in their usual places.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    all: Vec<Hierarchy>,
}

#[derive(Clone, Debug)]
struct Hierarchy {
    /// As `/proc/PID/cgroup` lists them; empty for v2.
    controllers: String,
    root: Dir,
    /// What of the hierarchy is mounted there.
    shown: String,
    /// The caller's group in it.
    own: String,
}

impl Hierarchies {
    /// Those of this machine, as the calling process sees them. Where none is mounted at all, cgroup v2 is
    /// mounted for this value alone (needs CAP_SYS_ADMIN).
    ///
    /// # Errors
    /// `/proc` is not mounted; none is mounted and none may be.
    pub fn find() -> Result<Self, Error> {
        let own = Location::of_process("self")?;
        let mut table = None;
        let mut all = Vec::new();
        for Entry { controllers, path } in own.entries() {
            let usual = Self::usual(controllers);
            let found = match usual {
                Some(found) => Some(found),
                None => {
                    let table = match &mut table {
                        Some(table) => table,
                        none => none.insert(mounts()?),
                    };
                    mounted(table, controllers)?
                }
            };
            all.extend(found.map(|(root, shown)| Hierarchy {
                controllers: controllers.clone(),
                root,
                shown,
                own: path.clone(),
            }));
        }
        if all.is_empty() {
            let own = own.unified().unwrap_or("/").to_owned();
            all.push(Hierarchy {
                controllers: String::new(),
                root: private()?,
                shown: "/".into(),
                own,
            });
        }
        // The unified one first: it is asked first.
        all.sort_by_key(|hierarchy| !hierarchy.controllers.is_empty());
        Ok(Self { all })
    }

    /// A hierarchy in its usual place, if all of it is mounted there.
    fn usual(controllers: &str) -> Option<(Dir, String)> {
        // Files that only the root of a whole hierarchy has, or has not (v1: linux/cgroup-v1.rst; v2:
        // cgroup-v2.rst, "exists on non-root cgroups").
        let (places, magic, mark, marked) = match controllers {
            "" => {
                let places = vec![BASE.to_owned(), format!("{BASE}/unified")];
                (places, CGROUP2_SUPER_MAGIC, "cgroup.events", false)
            }
            names => {
                let name = names.strip_prefix("name=").unwrap_or(names);
                (vec![format!("{BASE}/{name}")], CGROUP_SUPER_MAGIC, "release_agent", true)
            }
        };
        for place in places {
            let Ok(fd) = open(Path::new(&place)) else { continue };
            if rustix::fs::fstatfs(&fd).is_ok_and(|found| found.f_type == magic) {
                let dir = Dir::new(fd, Path::new(&place));
                return (dir.has(mark) == marked).then(|| (dir, "/".to_owned()));
            }
        }
        None
    }

    /// Without the v1 hierarchies that have none of `controllers`: for who needs no group there. A group
    /// costs two system calls in each.
    #[must_use]
    pub fn only(mut self, controllers: &[&str]) -> Self {
        let wanted = |all: &str| all.split(',').any(|name| controllers.contains(&name));
        self.all.retain(|found| found.controllers.is_empty() || wanted(&found.controllers));
        self
    }

    /// Whether controllers are all on v2's side: the machine has no v1 hierarchy.
    pub fn is_unified(&self) -> bool {
        self.all.iter().all(|hierarchy| hierarchy.controllers.is_empty())
    }

    /// The mount points, for a report: v2's first, by its controllers' names otherwise.
    pub fn describe(&self) -> Vec<(String, std::path::PathBuf)> {
        let all = self.all.iter();
        all.map(|one| (one.controllers.clone(), one.root.path())).collect()
    }

    /// Where the group `path` is to lie. An absolute one begins at each hierarchy's root; a relative one at
    /// the caller's own group in v1, and beside the caller's own group in v2, where a group that has
    /// processes cannot give its groups controllers (both as runc).
    ///
    /// # Errors
    /// The path names no group.
    pub fn locate(&self, path: &str) -> Result<Location, Error> {
        let below = clean(path)?;
        let entry = |hierarchy: &Hierarchy| {
            let base = match (path.starts_with('/'), hierarchy.controllers.is_empty()) {
                (true, _) => "",
                (false, true) => hierarchy.own.rsplit_once('/').map_or("", |(above, _)| above),
                (false, false) => hierarchy.own.trim_end_matches('/'),
            };
            Entry { controllers: hierarchy.controllers.clone(), path: format!("{base}/{below}") }
        };
        Ok(Location::new(self.all.iter().map(entry).collect()))
    }

    /// Makes the group at `location`, and those above it that are missing, in every hierarchy. One that is
    /// there already is taken as it is. On a unified machine it gets all controllers that it can have.
    ///
    /// # Errors
    /// It may not be made ([`Error::is_permission`]); then nothing of it is left.
    pub fn create(&self, location: &Location) -> Result<Group, Error> {
        let mut group = Group::new(self.parts(location));
        group.make().inspect_err(|_| group.unmake())?;
        if self.is_unified() {
            group.enable_all();
        }
        Ok(group)
    }

    /// The group at `location`, as far as it is there.
    ///
    /// # Errors
    /// It is in no hierarchy ([`Error::is_not_found`]).
    pub fn open(&self, location: &Location) -> Result<Group, Error> {
        let mut parts = self.parts(location);
        let first = parts.first().map(|(_, dir)| dir.path()).unwrap_or_default();
        parts.retain(|(_, dir)| dir.has(""));
        match parts.is_empty() {
            true => {
                Err(Error::io("opening the cgroup", first)(std::io::ErrorKind::NotFound.into()))
            }
            false => Ok(Group::new(parts)),
        }
    }

    fn parts(&self, location: &Location) -> Vec<(String, Dir)> {
        let part = |hierarchy: &Hierarchy| {
            let path = location.of(&hierarchy.controllers)?;
            let dir = hierarchy.root.below(below(path, &hierarchy.shown));
            (dir.path() != hierarchy.root.path()).then(|| (hierarchy.controllers.clone(), dir))
        };
        self.all.iter().filter_map(part).collect()
    }
}

/// `path` as it is to be found below a mount that shows `shown`. What is not below that is taken to be of
/// another view of the same place, as in a container that has the host's cgroup namespace.
fn below<'a>(path: &'a str, shown: &str) -> &'a str {
    let rest = path.strip_prefix(shown.trim_end_matches('/'));
    rest.filter(|rest| rest.starts_with('/') || rest.is_empty()).unwrap_or(path)
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn mounts() -> Result<Vec<Mount>, Error> {
    let path = "/proc/self/mountinfo";
    Ok(mountinfo::parse(&sys::whole::read_path(path).map_err(Error::io("reading", path))?)?)
}

/// The mount of a hierarchy that shows most of it.
fn mounted(table: &[Mount], controllers: &str) -> Result<Option<(Dir, String)>, Error> {
    let is_it = |mount: &&Mount| {
        let options = mount.super_options.to_string_lossy();
        match controllers {
            "" => mount.fstype == "cgroup2",
            names => {
                let mut names = names.split(',');
                mount.fstype == "cgroup"
                    && names.all(|name| options.split(',').any(|it| it == name))
            }
        }
    };
    let shortest = |mount: &&Mount| mount.root.as_os_str().len();
    let Some(mount) = table.iter().filter(is_it).min_by_key(shortest) else { return Ok(None) };
    match open(&mount.target) {
        Ok(fd) => {
            let shown = mount.root.to_string_lossy().into_owned();
            Ok(Some((Dir::new(fd, &mount.target), shown)))
        }
        // Another mount lies over it.
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::io("opening the cgroup file system", &mount.target)(errno.into())),
    }
}

/// Cgroup v2, attached nowhere. Not where it is mounted already: this sets the options of all its mounts
/// anew.
fn private() -> Result<Dir, Error> {
    let mount = FsContext::open(c"cgroup2")
        .and_then(|context| context.mount(MountAttrFlags::empty()))
        .map_err(|failure| {
            Error::io("mounting cgroup2, since no cgroups are mounted,", BASE)(failure.errno.into())
        })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(&mount, c".", flags, Mode::empty())
        .map_err(|errno| Error::io("opening", "cgroup2")(errno.into()))?;
    Ok(Dir::new(root, Path::new("(a mount of its own of cgroup2)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_shows_a_part_is_looked_into() {
        for (path, shown, expected) in [
            ("/a/b", "/", "/a/b"),
            ("/a/b", "/a", "/b"),
            ("/a", "/a", ""),
            ("/ab", "/a", "/ab"),
            ("/b", "/a", "/b"),
        ] {
            assert_eq!(below(path, shown), expected, "{path} {shown}");
        }
    }

    #[test]
    fn a_hierarchy_is_found_in_the_table_of_mounts() {
        let table = mountinfo::parse(
            b"30 23 0:26 /x /tmp rw - cgroup cgroup rw,cpuacct,cpu\n\
              31 23 0:26 / / rw - cgroup cgroup rw,cpuacct,cpu\n\
              32 23 0:27 /part /proc rw - cgroup2 cgroup2 rw,nsdelegate\n",
        )
        .unwrap();
        let found = |controllers| {
            let found = mounted(&table, controllers).unwrap();
            found.map(|(dir, shown)| (dir.path().display().to_string(), shown))
        };
        assert_eq!(found("cpu,cpuacct"), Some(("/".into(), "/".into())));
        assert_eq!(found(""), Some(("/proc".into(), "/part".into())));
        assert_eq!(found("memory"), None);
        assert_eq!(found("name=systemd"), None);
    }
}
