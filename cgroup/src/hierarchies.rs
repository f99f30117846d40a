//! Which hierarchies of cgroups the machine has, and where: unified (v2), legacy (v1), hybrid (both).

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
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
}

impl Hierarchies {
    /// Those of this machine, as the calling process sees them. Where cgroup v2 is all that is in the usual place, a v1
    /// hierarchy that is mounted elsewhere is left alone, as by runc and crun. Where none is mounted at all, cgroup v2
    /// is mounted for this value alone (needs CAP_SYS_ADMIN).
    ///
    /// # Errors
    /// `/proc` is not mounted, where more than cgroup v2 may be; none is mounted and none may be.
    pub fn find() -> Result<Self, Error> {
        let base = Usual::base();
        let unified = base.is_unified().then(|| base.hierarchy("")).flatten();
        if let Some((root, shown)) = unified {
            return Ok(Self { all: vec![Hierarchy { controllers: String::new(), root, shown }] });
        }
        let own = Location::of_process("self")?;
        let entries = own.entries().iter();
        let entries = entries.filter(|entry| !base.is_unified() || entry.controllers.is_empty());
        let mut sought: Vec<Sought<'_>> = entries
            .map(|entry| Sought { entry, found: base.hierarchy(&entry.controllers) })
            .collect();
        if sought.iter().any(|one| !one.is_whole()) {
            let path = "/proc/self/mountinfo";
            let failed = || Error::io("reading", path);
            let file = File::open(path).map_err(failed())?;
            look_for(&mut sought, file)?.map_err(failed())?;
        }
        let mut all: Vec<_> = sought.into_iter().filter_map(Sought::hierarchy).collect();
        if all.is_empty() {
            let (controllers, shown) = (String::new(), "/".to_owned());
            all.push(Hierarchy { controllers, root: private()?, shown });
        }
        // The unified one first: it is asked first.
        all.sort_by_key(|hierarchy| !hierarchy.controllers.is_empty());
        Ok(Self { all })
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
    /// The path names no group; it is relative, and `/proc` is not mounted.
    pub fn locate(&self, path: &str) -> Result<Location, Error> {
        let below = clean(path)?;
        let own = match path.starts_with('/') {
            true => None,
            false => Some(Location::of_process("self")?),
        };
        let entry = |hierarchy: &Hierarchy| {
            let own = own.as_ref().and_then(|own| own.of(&hierarchy.controllers));
            let base = match (own, hierarchy.controllers.is_empty()) {
                (None, _) => "",
                (Some(own), true) => own.rsplit_once('/').map_or("", |(above, _)| above),
                (Some(own), false) => own.trim_end_matches('/'),
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

    pub(crate) fn parts(&self, location: &Location) -> Vec<(String, Dir)> {
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

/// What is mounted at [`BASE`].
enum Usual {
    /// Cgroup v2, and this is its directory.
    Unified(OwnedFd),
    /// Something else, perhaps with directories for the hierarchies.
    Directories,
}

impl Usual {
    fn base() -> Self {
        match open_a(CGROUP2_SUPER_MAGIC, Path::new(BASE)) {
            Ok(Some(fd)) => Self::Unified(fd),
            _ => Self::Directories,
        }
    }

    fn is_unified(&self) -> bool {
        matches!(self, Self::Unified(_))
    }

    /// A hierarchy in its usual place, if all of it is mounted there.
    fn hierarchy(&self, controllers: &str) -> Option<(Dir, String)> {
        // Files that only the root of a whole hierarchy has, or has not (v1: linux/cgroup-v1.rst; v2:
        // cgroup-v2.rst, "exists on non-root cgroups").
        let (name, mark, marked) = match controllers {
            "" => ("unified", "cgroup.events", false),
            _ => {
                let name = controllers.strip_prefix("name=").unwrap_or(controllers);
                (name, "release_agent", true)
            }
        };
        let dir = match self {
            Self::Unified(fd) if controllers.is_empty() => {
                Dir::new(fd.try_clone().ok()?, Path::new(BASE))
            }
            _ => {
                let place = Path::new(BASE).join(name);
                Dir::new(open_a(magic(controllers), &place).ok().flatten()?, &place)
            }
        };
        (dir.has(mark) == marked).then(|| (dir, "/".to_owned()))
    }
}

/// A hierarchy, and where most of it was found so far.
struct Sought<'a> {
    entry: &'a Entry,
    /// Its directory, and what of it is mounted there.
    found: Option<(Dir, String)>,
}

impl Sought<'_> {
    fn is_whole(&self) -> bool {
        self.found.as_ref().is_some_and(|(_, shown)| shown == "/")
    }

    fn hierarchy(self) -> Option<Hierarchy> {
        let controllers = self.entry.controllers.clone();
        self.found.map(|(root, shown)| Hierarchy { controllers, root, shown })
    }

    /// Takes a mount of it that shows more than what was found so far.
    fn look_at(&mut self, mount: &Mount) -> Result<(), Error> {
        let shown = mount.root.to_string_lossy();
        let is_more = self.found.as_ref().is_none_or(|(_, found)| shown.len() < found.len());
        if !is_more || !is_of(mount, &self.entry.controllers) {
            return Ok(());
        }
        match open_a(magic(&self.entry.controllers), &mount.target) {
            Ok(Some(fd)) => self.found = Some((Dir::new(fd, &mount.target), shown.into_owned())),
            // Another mount lies over it.
            Ok(None) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => {
                return Err(Error::io("opening the cgroup file system", &mount.target)(
                    errno.into(),
                ));
            }
        }
        Ok(())
    }
}

/// Looks for what is not whole yet in a table of mounts, no further than is needed.
fn look_for(sought: &mut [Sought<'_>], table: impl Read) -> Result<io::Result<()>, Error> {
    let mut failed = None;
    let read = mountinfo::visit(table, |mount| {
        if !matches!(&mount.fstype[..], "cgroup" | "cgroup2") {
            return ControlFlow::Continue(());
        }
        if let Err(error) = sought.iter_mut().try_for_each(|one| one.look_at(&mount)) {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        match sought.iter().all(Sought::is_whole) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    failed.map_or(Ok(read), Err)
}

/// Whether it is a mount of the hierarchy with these controllers.
fn is_of(mount: &Mount, controllers: &str) -> bool {
    match controllers {
        "" => mount.fstype == "cgroup2",
        names => {
            let options = mount.super_options.to_string_lossy();
            let mut names = names.split(',');
            mount.fstype == "cgroup" && names.all(|name| options.split(',').any(|it| it == name))
        }
    }
}

fn magic(controllers: &str) -> i64 {
    if controllers.is_empty() { CGROUP2_SUPER_MAGIC } else { CGROUP_SUPER_MAGIC }
}

/// The directory at `path`, if it is of the file system with this number.
fn open_a(magic: i64, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let fd = open(path)?;
    Ok((rustix::fs::fstatfs(&fd)?.f_type == magic).then_some(fd))
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
    fn a_mount_is_of_the_hierarchy_with_all_its_controllers() {
        let table = mountinfo::parse(
            b"30 23 0:26 / /a rw - cgroup cgroup rw,cpuacct,cpu\n\
              31 23 0:27 / /b rw - cgroup2 cgroup2 rw,nsdelegate\n\
              32 23 0:28 / /c rw - tmpfs cpu rw,cpu\n",
        )
        .unwrap();
        let of = |controllers| {
            let found = table.iter().filter(|mount| is_of(mount, controllers));
            found.map(|mount| mount.target.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of("cpu,cpuacct"), ["/a"]);
        assert_eq!(of(""), ["/b"]);
        assert_eq!(of("memory").len() + of("name=systemd").len(), 0);
    }

    #[test]
    fn what_is_no_cgroup_file_system_is_passed_over() {
        // Others lie over what the table tells of.
        let table = b"30 23 0:26 / /proc rw - cgroup2 cgroup2 rw\n\
                      31 23 0:26 / /nowhere rw - cgroup2 cgroup2 rw\n\
                      32 23 0:26 / /proc/version rw - cgroup2 cgroup2 rw\n";
        let own: Location = "0::/a\n".parse().unwrap();
        let mut sought = [Sought { entry: &own.entries()[0], found: None }];
        look_for(&mut sought, &table[..]).unwrap().unwrap();
        assert!(sought[0].found.is_none());
    }
}
