//! The cgroup file systems, in the form that the host has: unified (v2), or legacy and hybrid (a
//! tmpfs with a mount for each hierarchy).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Access, AtFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::mount::{self, Change};
use sys::mountinfo::{self, Mount};
use sys::{Failure, Step};

use crate::error::c_string;
use crate::target::{make_directory, without_umask};
use crate::words::MountWords;
use crate::{Error, Filesystem};

/// Where a host has its cgroup file systems, and what statfs(2) says of cgroup2 (CGROUP2_SUPER_MAGIC of linux/magic.h).
const USUAL: &str = "/sys/fs/cgroup";
const CGROUP2: u64 = 0x6367_7270;

/// The directory of the unified hierarchy beside those of v1.
const UNIFIED: &CStr = c"unified";

/// How often a hierarchy that is just going is tried again, and how long after: the kernel is done with one in
/// milliseconds, on a busy machine in tenths of a second.
const TRIES: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(1);

/// The cgroup mount of a container, prepared. The child must be in its new cgroup namespace, or it
/// sees the host's whole hierarchy.
#[derive(Debug)]
pub enum Cgroups {
    /// One cgroup2 file system (Linux 4.5; the host has nothing else, or nothing at all).
    Unified(Filesystem),
    /// Legacy hierarchies, and the unified one beside them where the host is hybrid.
    Legacy(Legacy),
}

/// A tmpfs, in it a mount for each hierarchy in which the process has a group of its own (the directories of the others
/// are empty, as is that of one without controllers that somebody has taken away since it was found), and a link for
/// each controller that shares one (`cpu -> cpu,cpuacct`).
#[derive(Debug)]
pub struct Legacy {
    base: Filesystem,
    read_only: bool,
    hierarchies: Vec<Hierarchy>,
    links: Vec<(CString, CString)>,
}

#[derive(Debug)]
struct Hierarchy {
    name: CString,
    filesystem: Filesystem,
    /// It has a name and no controllers: the kernel mounts it where it is there, and makes no new one.
    named: bool,
}

impl Hierarchy {
    /// Its mount; none where it has gone since it was found.
    fn detached(&self) -> Result<Option<OwnedFd>, Failure> {
        for _ in 0..TRIES {
            match self.filesystem.detached() {
                // It is going: the kernel waits for that and begins the call again, which finds the context used.
                Err(failure) if failure.errno == Errno::BUSY => std::thread::sleep(PAUSE),
                Err(failure) if failure.errno == Errno::INVAL && self.named => return Ok(None),
                done => return done.map(Some),
            }
        }
        self.filesystem.detached().map(Some)
    }
}

impl Cgroups {
    /// Prepares the mount on `target` (absolute) with the OCI option words `options`; reads
    /// `/proc/self/mountinfo` and `/proc/self/cgroup` to see what the host has. A host that has cgroup2 itself on
    /// `/sys/fs/cgroup` is unified, whatever else is mounted elsewhere (as for runc and crun).
    pub fn prepare<S: AsRef<str>>(target: &str, options: &[S]) -> Result<Self, Error> {
        const CGROUPS: &str = "/proc/self/cgroup";
        const MOUNTS: &str = "/proc/self/mountinfo";
        let hierarchies = sys::whole::read_path(CGROUPS).map_err(Error::io("reading", CGROUPS))?;
        let hierarchies = String::from_utf8_lossy(&hierarchies);
        // One of each kind is enough; without a v1 hierarchy none is mounted.
        let none_of_v1 = is_unified() || hierarchies.lines().all(|line| line.starts_with("0::"));
        let (mut unified, mut legacy) = (None, None);
        let mounts = File::open(MOUNTS).and_then(|file| {
            mountinfo::visit(file, |mount| {
                match &mount.fstype[..] {
                    "cgroup2" => unified = unified.take().or(Some(mount)),
                    "cgroup" if !none_of_v1 => legacy = legacy.take().or(Some(mount)),
                    _ => {}
                }
                match unified.is_some() && (none_of_v1 || legacy.is_some()) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
        });
        mounts.map_err(Error::io("reading", MOUNTS))?;
        let mounts: Vec<Mount> = unified.into_iter().chain(legacy).collect();
        Self::of_host(target, options, &mounts, &hierarchies)
    }

    /// As [`Cgroups::prepare`], for a process that is in a cgroup namespace of its own when it mounts: from there the kernel
    /// takes no options of cgroup2 (`apply_cgroup_root_flags` of kernel/cgroup/cgroup.c, Linux 4.13), so that those of a
    /// unified host need not be read.
    pub fn prepare_for_namespace<S: AsRef<str>>(
        target: &str,
        options: &[S],
    ) -> Result<Self, Error> {
        match is_unified() {
            true => Self::of_host(target, options, &[], ""),
            false => Self::prepare(target, options),
        }
    }

    /// As [`Cgroups::prepare`], of a host that has `mounts` and whose `/proc/self/cgroup` holds
    /// `hierarchies` (cgroups(7)).
    pub fn of_host<S: AsRef<str>>(
        target: &str,
        options: &[S],
        mounts: &[Mount],
        hierarchies: &str,
    ) -> Result<Self, Error> {
        let options: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        let unified = mounts.iter().find(|mount| mount.fstype == "cgroup2");
        let legacy = mounts.iter().any(|mount| mount.fstype == "cgroup");
        if legacy {
            return Legacy::new(target, &options, unified, hierarchies).map(Self::Legacy);
        }
        unified_filesystem(target, &options, unified).map(Self::Unified)
    }

    /// Child side. Mounts below `root`. The failure's index, for the legacy form, is the hierarchy's
    /// from 1; 0 is the tmpfs and all else.
    pub fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        match self {
            Self::Unified(filesystem) => filesystem.apply(root),
            Self::Legacy(legacy) => legacy.apply(root),
        }
    }

    /// What the failure of `index` is about.
    pub fn describe(&self, index: u32) -> String {
        match self {
            Self::Unified(filesystem) => filesystem.describe(),
            Self::Legacy(legacy) => {
                let hierarchy =
                    (index as usize).checked_sub(1).and_then(|i| legacy.hierarchies.get(i));
                hierarchy.map_or(&legacy.base, |hierarchy| &hierarchy.filesystem).describe()
            }
        }
    }
}

fn is_unified() -> bool {
    rustix::fs::statfs(USUAL).is_ok_and(|found| found.f_type as u64 == CGROUP2)
}

/// cgroup2 with the options that the host's has: mounted from the initial cgroup namespace, options
/// that are left out would be switched off for the whole host (nsdelegate, cgroups(7)). A host that has
/// it nowhere has none to lose.
fn unified_filesystem(
    target: &str,
    options: &[&str],
    host: Option<&Mount>,
) -> Result<Filesystem, Error> {
    let of_host = host.map(|host| host.super_options.to_string_lossy()).unwrap_or_default();
    let mut all = options.to_vec();
    all.extend(of_host.split(',').filter(|word| !matches!(*word, "rw" | "ro" | "seclabel" | "")));
    Filesystem::new("cgroup2", target, Some("cgroup"), &all)
}

impl Legacy {
    fn new(
        target: &str,
        options: &[&str],
        unified: Option<&Mount>,
        hierarchies: &str,
    ) -> Result<Self, Error> {
        let read_only =
            MountWords::parse(options).mount.set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
        // Directories are made in the tmpfs before it becomes read-only.
        let mut base: Vec<&str> = options.iter().copied().filter(|word| *word != "ro").collect();
        base.push("mode=755");
        let mut legacy = Self {
            base: Filesystem::new("tmpfs", target, Some("tmpfs"), &base)?,
            read_only,
            hierarchies: Vec::new(),
            links: Vec::new(),
        };
        for line in hierarchies.lines() {
            // `4:cpu,cpuacct:/path`, `1:name=systemd:/path`, `0::/path`
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers)) = (fields.next(), fields.next()) else { continue };
            match (controllers, unified) {
                ("", None) => {}
                ("", Some(unified)) => {
                    let on = format!("{target}/unified");
                    let filesystem = unified_filesystem(&on, options, Some(unified))?;
                    let name = UNIFIED.to_owned();
                    legacy.hierarchies.push(Hierarchy { name, filesystem, named: false });
                }
                _ => legacy.add(target, options, controllers)?,
            }
        }
        Ok(legacy)
    }

    fn add(&mut self, target: &str, options: &[&str], controllers: &str) -> Result<(), Error> {
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        let mut all = options.to_vec();
        all.push(controllers);
        let filesystem =
            Filesystem::new("cgroup", &format!("{target}/{name}"), Some("cgroup"), &all)?;
        let name = c_string("cgroup hierarchy", name)?;
        if controllers.contains(',') {
            for controller in controllers.split(',') {
                self.links.push((c_string("cgroup controller", controller)?, name.clone()));
            }
        }
        let named = controllers.starts_with("name=");
        self.hierarchies.push(Hierarchy { name, filesystem, named });
        Ok(())
    }

    fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let base = self.base.detached()?;
        self.base.attach(root, base.as_fd())?;
        for (index, hierarchy) in self.hierarchies.iter().enumerate() {
            let mount = || {
                let directory = make_directory(base.as_fd(), &hierarchy.name)?;
                let Some(mount) = hierarchy.detached()? else { return Ok(()) };
                // Where it has no group of its own it would see those of all others.
                if is_whole(mount.as_fd(), &hierarchy.name)? {
                    return Ok(());
                }
                mount::attach(mount, directory).step("attaching the cgroup hierarchy")
            };
            mount().map_err(|failure| failure.of(0, index as u32 + 1))?;
        }
        for (name, to) in &self.links {
            without_umask(|| rustix::fs::symlinkat(to, &base, name))
                .step("making a cgroup controller's link")?;
        }
        if self.read_only {
            let change =
                Change { set: Some(MountAttrFlags::MOUNT_ATTR_RDONLY), ..Change::default() };
            mount::change(&base, &change).step("making the tmpfs of the cgroups read-only")?;
        }
        Ok(())
    }

    /// The directories and links below the target, sorted; links as `cpu -> cpu,cpuacct`.
    pub fn names(&self) -> Vec<String> {
        let text = |name: &CString| name.to_string_lossy().into_owned();
        let mut names: Vec<String> = self.hierarchies.iter().map(|h| text(&h.name)).collect();
        names.extend(self.links.iter().map(|(name, to)| format!("{} -> {}", text(name), text(to))));
        names.sort();
        names
    }
}

/// Whether the mount shows a hierarchy from its root on, the unified one or another: `release_agent` is in a root only
/// (cgroups(7)), and `cgroup.type` in all but a root (Linux 4.14).
fn is_whole(mount: BorrowedFd<'_>, name: &CStr) -> Result<bool, Failure> {
    let unified = name == UNIFIED;
    let file = if unified { c"cgroup.type" } else { c"release_agent" };
    match rustix::fs::accessat(mount, file, Access::EXISTS, AtFlags::empty()) {
        Ok(()) => Ok(!unified),
        Err(Errno::NOENT) => Ok(unified),
        Err(errno) => Err(Failure::new("looking at the cgroup hierarchy", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];

    fn of_host(mountinfo: &str, hierarchies: &str) -> Result<Cgroups, Error> {
        let mounts = mountinfo::parse(mountinfo.as_bytes()).unwrap();
        Cgroups::of_host("/sys/fs/cgroup", &OPTIONS, &mounts, hierarchies)
    }

    #[test]
    fn a_unified_host() {
        let line =
            "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let cgroups = of_host(line, "0::/user.slice\n").unwrap();
        assert!(matches!(&cgroups, Cgroups::Unified(_)));
        assert_eq!(
            cgroups.describe(0),
            "the cgroup2 file system on /sys/fs/cgroup \
             (ro,nosuid,nodev,noexec,nsdelegate,memory_recursiveprot)"
        );
    }

    #[test]
    fn a_hybrid_host() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
                      33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                      34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let hierarchies = "3:cpu,cpuacct:/a\n2:pids:/a\n1:name=systemd:/a:b\n0::/a\n";
        let cgroups = of_host(mounts, hierarchies).unwrap();
        let Cgroups::Legacy(legacy) = &cgroups else { panic!("{cgroups:?}") };
        let names =
            ["cpu -> cpu,cpuacct", "cpu,cpuacct", "cpuacct -> cpu,cpuacct", "pids", "systemd"];
        assert_eq!(legacy.names()[..5], names);
        assert_eq!(legacy.names()[5..], ["unified"]);
        let on = "the cgroup file system on /sys/fs/cgroup/systemd";
        assert_eq!(cgroups.describe(3), format!("{on} (ro,nosuid,nodev,noexec,name=systemd)"));
        let on = "the tmpfs file system on /sys/fs/cgroup";
        assert_eq!(cgroups.describe(0), format!("{on} (nosuid,nodev,noexec,mode=755)"));
        assert_eq!(cgroups.describe(77), cgroups.describe(0));
    }

    #[test]
    fn a_legacy_host_without_the_unified_hierarchy() {
        let mounts = "34 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let Cgroups::Legacy(legacy) = of_host(mounts, "1:cpu:/\n0::/\nnonsense\n").unwrap() else {
            panic!()
        };
        assert_eq!(legacy.names(), ["cpu"]);
    }

    #[test]
    fn a_host_without_any() {
        assert!(matches!(of_host("", "0::/\n"), Ok(Cgroups::Unified(_))));
    }
}
