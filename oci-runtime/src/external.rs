//! What of a container comes from outside, which CRIU does not write down: each under a key at the checkpoint, and under
//! the same key given again at the restore.
//!
//! | what | key |
//! |---|---|
//! | a bind mount, and what is mounted below its source on the host | where it is in the container |
//! | a node of the host that is bound: a device, a mask | where it is; `/dev/null` for all masks |
//! | a network or PID namespace that was joined | `extRootNetNS`, `extRootPidNS` |
//! | a pipe that is standard input, output or error | `pipe:[INODE]`, in `descriptors.json` |
//!
//! The keys are runc's, so that one restores what the other wrote.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pivot::MountWords;
use rustix::fs::{Mode, OFlags};
use sys::below;
use sys::mountinfo::Mount;

use crate::{Error, spec};

/// The file of the checkpoint that says what the standard descriptors were.
pub(crate) const DESCRIPTORS: &str = "descriptors.json";
/// All masks of files are this one.
pub(crate) const NULL: &str = "/dev/null";

/// A bind mount of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    /// Absolute, in the container, as it was written.
    pub(crate) target: PathBuf,
    /// Absolute, on the host.
    pub(crate) source: PathBuf,
}

/// The bind mounts of `spec`, whose bundle is `bundle`.
pub(crate) fn binds(spec: &spec::Spec, bundle: &Path) -> Vec<Bind> {
    let mounts = spec.mounts().iter().flatten();
    let bind = |mount: &spec::Mount| {
        let source = bundle.join(mount.source().as_ref()?);
        is_bind(mount).then(|| Bind { target: target(mount), source: whole(&source) })
    };
    mounts.filter_map(bind).collect()
}

pub(crate) fn is_bind(mount: &spec::Mount) -> bool {
    let words = MountWords::parse(mount.options().as_deref().unwrap_or_default());
    (mount.typ().as_deref() == Some("bind") || words.bind.is_some()) && !words.remount
}

/// Where a mount goes, absolute and without empty components.
pub(crate) fn target(mount: &spec::Mount) -> PathBuf {
    Path::new("/").join(mount.destination()).components().collect()
}

/// The path without links and dots, where there is something.
fn whole(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Refuses what a checkpoint could be made of, and not be restored as it was.
///
/// # Errors
/// [`Error::Field`].
pub(crate) fn check(spec: &spec::Spec, unified: bool) -> Result<(), Error> {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let words = MountWords::parse(mount.options().as_deref().unwrap_or_default());
        let given = |maps: &Option<Vec<spec::LinuxIdMapping>>| {
            maps.as_ref().is_some_and(|maps| !maps.is_empty())
        };
        let owners = words.data.iter().any(|datum| matches!(&*datum.key, "idmap" | "ridmap"));
        if words.idmap.is_some()
            || owners
            || given(mount.uid_mappings())
            || given(mount.gid_mappings())
        {
            let reason = "CRIU does not know mounts with other owners, and would restore it without them; a container \
                          that has one cannot be checkpointed";
            return Err(Error::field(format!("mounts[{index}]"), reason));
        }
        let own = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
        let own = own.into_iter().any(|one| one.typ() == spec::LinuxNamespaceType::Cgroup);
        if mount.typ().as_deref() == Some("cgroup") && !unified && !own {
            let reason = "it shows groups of cgroup v1 without a cgroup namespace, which is not restored; add {\"type\": \
                          \"cgroup\"} to linux.namespaces, or start the machine with cgroup v2 alone";
            return Err(Error::field(format!("mounts[{index}]"), reason));
        }
    }
    Ok(())
}

/// The mounts of a running container that come from outside: where each is, and its key. `mounts` are those of the
/// container's process, `host` the caller's; `root` is the container's.
pub(crate) fn mounted(
    binds: &[Bind],
    mounts: &[Mount],
    host: &[Mount],
    root: BorrowedFd<'_>,
) -> Vec<(PathBuf, PathBuf)> {
    let mut all = BTreeSet::new();
    let at = |target: &Path| mounts.iter().rev().find(|mount| mount.target == target);
    for bind in binds {
        let place = place(root, &bind.target);
        if at(&place).is_some() {
            all.insert((place.clone(), bind.target.clone()));
        }
        // What a recursive bind brought along; what the container mounted there itself is its own.
        for (below, source) in submounts(bind, host) {
            let below = place.join(below.strip_prefix(&bind.target).unwrap_or(&below));
            if at(&below).is_some_and(|mount| is_same(mount, source)) {
                all.insert((below.clone(), below));
            }
        }
    }
    let known: BTreeSet<PathBuf> = all.iter().map(|(place, _)| place.clone()).collect();
    let foreign =
        mounts.iter().filter(|mount| !known.contains(&mount.target) && is_foreign(mount, mounts));
    all.extend(foreign.map(|mount| {
        let is_null = mount.root == Path::new("/null") && mount.fstype == "devtmpfs";
        let key = if is_null { PathBuf::from(NULL) } else { mount.target.clone() };
        (mount.target.clone(), key)
    }));
    all.into_iter().collect()
}

/// A part of a file system of which the container has nothing above it: CRIU could not find it.
fn is_foreign(mount: &Mount, mounts: &[Mount]) -> bool {
    let above = |other: &Mount| {
        (other.major, other.minor) == (mount.major, mount.minor)
            && other.root != mount.root
            && mount.root.starts_with(&other.root)
    };
    mount.target != Path::new("/")
        && mount.root != Path::new("/")
        && !mount.fstype.starts_with("cgroup")
        && !mounts.iter().any(above)
}

fn is_same(mount: &Mount, other: &Mount) -> bool {
    (mount.major, mount.minor, &mount.root) == (other.major, other.minor, &other.root)
}

/// What is mounted below the source of a bind mount on the host: where that is in the container.
pub(crate) fn submounts<'a>(
    bind: &'a Bind,
    host: &'a [Mount],
) -> impl Iterator<Item = (PathBuf, &'a Mount)> {
    host.iter().filter_map(|mount| {
        let below = mount.target.strip_prefix(&bind.source).ok()?;
        (!below.as_os_str().is_empty()).then(|| (bind.target.join(below), mount))
    })
}

/// Where a path of the container leads to, in it; the path itself where it leads nowhere.
pub(crate) fn place(root: BorrowedFd<'_>, target: &Path) -> PathBuf {
    let found = || {
        let path = CString::new(target.as_os_str().as_bytes()).ok()?;
        let top = sys::process::path_of(root).ok()?;
        let found = below::open(root, &path, OFlags::PATH).ok()?;
        let found = sys::process::path_of(&found).ok()?;
        let below = found.strip_prefix(&top).ok()?;
        Some(Path::new("/").join(below))
    };
    found().unwrap_or_else(|| target.to_owned())
}

/// A container's root, or one on the host.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::io("opening the container's root", path)(errno.into()))
}

/// The mounts that a process sees.
pub(crate) fn mounts_of(process: &str) -> Result<Vec<Mount>, Error> {
    let path = format!("/proc/{process}/mountinfo");
    let bytes = sys::whole::read_path(&path).map_err(Error::io("reading", &path))?;
    sys::mountinfo::parse(&bytes)
        .map_err(|error| Error::io("reading", path)(std::io::Error::other(error)))
}

/// Makes the places that mounts go to in the root, where they are missing: CRIU makes none.
///
/// # Errors
/// One cannot be made.
pub(crate) fn make_places(spec: &spec::Spec, root: &Path, binds: &[Bind]) -> Result<(), Error> {
    const MODE: Mode = Mode::from_raw_mode(0o755);
    for mount in spec.mounts().iter().flatten() {
        let target = target(mount);
        // The kernel's own have theirs.
        if mount.typ().as_deref().is_some_and(|kind| kind.starts_with("cgroup")) {
            continue;
        }
        let above = spec.mounts().iter().flatten().filter(|other| {
            let other = self::target(other);
            other != target && target.starts_with(&other)
        });
        let above = above.max_by_key(|other| self::target(other).components().count());
        let (dir, below) = match above {
            None => (root, target.as_path()),
            Some(above) => {
                let at = self::target(above);
                // What lies in a file system of the container's is CRIU's to restore.
                let Some(bind) = binds.iter().rev().find(|bind| bind.target == at) else {
                    continue;
                };
                (bind.source.as_path(), target.strip_prefix(&at).unwrap_or(&target))
            }
        };
        let source = binds.iter().find(|bind| bind.target == target);
        let kind = match source.is_none_or(|bind| bind.source.is_dir()) {
            true => below::Kind::Directory,
            false => below::Kind::File,
        };
        let path = CString::new(below.as_os_str().as_bytes())
            .map_err(|error| Error::io("naming", below)(error.into()))?;
        let made = open_root(dir).and_then(|dir_fd| {
            below::make(dir_fd.as_fd(), &path, kind, MODE).map_err(|errno| {
                let place = dir.join(below.strip_prefix("/").unwrap_or(below));
                Error::io("making the place of a mount,", place)(errno.into())
            })
        });
        drop(made?);
    }
    Ok(())
}

/// A kind of namespace that CRIU takes from outside whole.
pub(crate) const NAMESPACES: [(spec::LinuxNamespaceType, &str, &str); 2] = [
    (spec::LinuxNamespaceType::Network, "net", "extRootNetNS"),
    (spec::LinuxNamespaceType::Pid, "pid", "extRootPidNS"),
];

/// The namespaces of `spec` that have a path: their kinds, and it.
pub(crate) fn joined(spec: &spec::Spec) -> impl Iterator<Item = (spec::LinuxNamespaceType, &Path)> {
    let all = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    all.filter_map(|namespace| {
        let path = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())?;
        Some((namespace.typ(), path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(dev: u32, root: &str, target: &str, fstype: &str) -> Mount {
        let line = format!("1 1 0:{dev} {root} {target} rw - {fstype} none rw\n");
        sys::mountinfo::parse(line.as_bytes()).unwrap().remove(0)
    }

    fn spec(mounts: serde_json::Value) -> spec::Spec {
        let spec = serde_json::json!({"ociVersion": "1.2.0", "mounts": mounts});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn what_comes_from_outside_is_told_from_the_containers_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        let bind = Bind { target: "/vol".into(), source: "/srv/vol".into() };
        let mounts = [
            mount(1, "/b/rootfs", "/", "ext4"),
            mount(2, "/", "/proc", "proc"),
            mount(2, "/sys", "/proc/sys", "proc"),
            mount(3, "/null", "/proc/kcore", "devtmpfs"),
            mount(4, "/", "/dev", "tmpfs"),
            mount(4, "/null", "/proc/keys", "tmpfs"),
            mount(5, "/0", "/dev/console", "devpts"),
            mount(5, "/", "/dev/pts", "devpts"),
            mount(3, "/tty", "/dev/tty", "devtmpfs"),
            mount(6, "/c1", "/sys/fs/cgroup", "cgroup2"),
            mount(1, "/srv/vol", "/vol", "ext4"),
            mount(7, "/", "/vol/sub", "tmpfs"),
            mount(8, "/", "/vol/own", "tmpfs"),
        ];
        let host = [mount(7, "/", "/srv/vol/sub", "tmpfs"), mount(9, "/", "/srv/vol/own", "tmpfs")];
        let found = mounted(&[bind], &mounts, &host, root.as_fd());
        let found: Vec<_> = found
            .iter()
            .map(|(place, key)| (place.to_str().unwrap(), key.to_str().unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                ("/dev/tty", "/dev/tty"),
                ("/proc/kcore", NULL),
                ("/vol", "/vol"),
                ("/vol/sub", "/vol/sub")
            ]
        );
    }

    #[test]
    fn a_target_that_is_a_link_is_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("real/conf")).unwrap();
        std::os::unix::fs::symlink("/real/conf", dir.path().join("conf")).unwrap();
        let root = open_root(dir.path()).unwrap();
        assert_eq!(place(root.as_fd(), Path::new("/conf")), Path::new("/real/conf"));
        assert_eq!(place(root.as_fd(), Path::new("/nowhere")), Path::new("/nowhere"));
    }

    /// As after a volume was emptied, and a mount that lies in it.
    #[test]
    fn places_are_made_where_they_are_missing() {
        let dir = tempfile::tempdir().unwrap();
        let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
        for dir in [&root, &volume] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(dir.path().join("file"), "").unwrap();
        let spec = spec(serde_json::json!([
            {"destination": "/proc", "type": "proc"},
            {"destination": "/vol", "type": "bind", "source": "volume"},
            {"destination": "/vol/for/nested", "type": "none", "source": "volume", "options": ["rbind"]},
            {"destination": "/etc/file", "source": "file", "options": ["bind"]},
            {"destination": "/tmp", "type": "tmpfs"},
            {"destination": "/tmp/x", "type": "bind", "source": "volume"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup"},
        ]));
        let binds = binds(&spec, dir.path());
        assert_eq!(binds.len(), 4);
        make_places(&spec, &root, &binds).unwrap();
        for made in ["root/proc", "root/vol", "root/tmp", "volume/for/nested"] {
            assert!(dir.path().join(made).is_dir(), "{made}");
        }
        assert!(root.join("etc/file").is_file());
        for other in ["root/vol/for", "root/tmp/x", "root/sys"] {
            assert!(!dir.path().join(other).exists(), "{other}");
        }
    }

    #[test]
    fn what_would_not_be_as_it_was_is_refused() {
        let map = serde_json::json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        let volume = |more: serde_json::Value| {
            let mut volume =
                serde_json::json!({"destination": "/v", "type": "bind", "source": "/"});
            volume.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec(serde_json::json!([{"destination": "/proc", "type": "proc"}, volume]))
        };
        for more in [
            serde_json::json!({"uidMappings": map}),
            serde_json::json!({"options": ["bind", "idmap"]}),
            serde_json::json!({"options": ["bind", "idmap=uids=0-1-1"]}),
        ] {
            let error = check(&volume(more.clone()), true).unwrap_err().to_string();
            assert!(error.starts_with("mounts[1]"), "{more}: {error}");
        }
        check(&volume(serde_json::json!({"options": ["bind", "ro"]})), true).unwrap();
        let groups = spec(serde_json::json!([{"destination": "/c", "type": "cgroup"}]));
        check(&groups, true).unwrap();
        let error = check(&groups, false).unwrap_err().to_string();
        assert!(error.contains("cgroup v1"), "{error}");
    }
}
