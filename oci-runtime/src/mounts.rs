//! The mounts of a specification, each with the crate whose kind it is.

use std::borrow::Cow;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bindvol::{Attributes, Bind};
use ns_core::Namespaces;
use oci_spec::runtime as oci;
use pivot::{Cgroups, Datum, Filesystem, MountWords, Remount, SUPERBLOCK};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::{Failure, below};

use crate::idmap::{self, IdMaps};
use crate::namespaces::{OwnNamespaces, id_map};
use crate::symlink::Symlink;
use crate::{Error, labels, shown_group};

/// File systems that a user namespace may have only with a namespace of its own of the kind that they
/// show; without it the host's is bound, as crun does.
const OF_NAMESPACES: [(&str, Namespaces, &str); 3] = [
    ("sysfs", Namespaces::NETWORK, "/sys"),
    ("mqueue", Namespaces::IPC, "/dev/mqueue"),
    ("proc", Namespaces::PID, "/proc"),
];
/// The host's, for the same.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What a tmpfs has by itself (tmpfs(5)).
const DEFAULT_MODE: u32 = 0o1777;
/// File systems that take no SELinux context as an option: they have one for all mounts.
const UNLABELLED: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// A mount, ready for the child.
#[derive(Debug)]
pub(crate) struct Mount {
    kind: Kind,
    /// Absolute.
    target: String,
    /// Makes it read-only after all else is done.
    protection: Option<Remount>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Filesystem(Filesystem),
    /// A file system that was filled in the parent.
    Filled(Filesystem, OwnedFd),
    Cgroups(Box<Cgroups>),
    /// The cgroups from the process's own down, in the caller's cgroup namespace.
    OwnCgroups(Box<Cgroups>),
    /// Those that the kernel may refuse it, then the host's; with the mount's words, for what takes the host's place
    /// once the container has a group ([`Mount::show_group`]).
    ForeignCgroups(Box<Kind>, Vec<String>),
    Bind(Bind),
    /// The first of two that the kernel permits.
    Either(Box<Kind>, Box<Kind>),
    /// In this order.
    Several(Vec<Kind>),
    Remount(Remount),
    Symlink(Symlink),
}

/// Prepares the mounts of a container.
pub(crate) struct Mounts<'a> {
    bundle: &'a Path,
    namespaces: Option<&'a OwnNamespaces>,
    label: Option<String>,
    id_maps: IdMaps,
    warnings: &'a mut Vec<String>,
}

impl<'a> Mounts<'a> {
    /// For a container with `namespaces`; a relative source counts from the bundle.
    pub(crate) fn new(
        bundle: &'a Path,
        namespaces: &'a OwnNamespaces,
        linux: &oci::Linux,
        warnings: &'a mut Vec<String>,
    ) -> Self {
        let mut label = linux.mount_label().clone().filter(|label| !label.is_empty());
        if label.is_some() && !labels::has_selinux() {
            let text = "linux.mountLabel is ignored: selinux is not supported by this kernel, or not \
                        enabled";
            warnings.push(text.to_owned());
            label = None;
        }
        Self { bundle, namespaces: Some(namespaces), label, id_maps: IdMaps::default(), warnings }
    }

    /// For mounts outside of a container's configuration: sources are absolute, and there are no
    /// namespaces beside the host's.
    pub(crate) fn plain(warnings: &'a mut Vec<String>) -> Self {
        let bundle = Path::new("/");
        Self { bundle, namespaces: None, label: None, id_maps: IdMaps::default(), warnings }
    }

    /// All of a configuration, for the root that `root` is open on.
    pub(crate) fn prepare(
        &mut self,
        spec: &oci::Spec,
        root: BorrowedFd<'_>,
    ) -> Result<Vec<Mount>, Error> {
        let mut all: Vec<Mount> = Vec::new();
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let mount = like_covered(mount, &all, root)?;
            let Mount { mut kind, target, protection } = self.one(index, &mount)?;
            if let Kind::Filesystem(filesystem) = kind {
                let filled = match filesystem.copy_up() {
                    true => fill(&filesystem, &target, &all, root)?,
                    false => None,
                };
                kind = match filled {
                    Some(tree) => Kind::Filled(filesystem, tree),
                    None => Kind::Filesystem(filesystem),
                };
            }
            all.push(Mount { kind, target, protection });
        }
        Ok(all)
    }

    /// One of them; `index` of `mounts` names it in errors.
    pub(crate) fn one(&mut self, index: usize, mount: &oci::Mount) -> Result<Mount, Error> {
        let field = |name: &str| format!("mounts[{index}].{name}");
        let Some(target) = mount.destination().to_str() else {
            return Err(Error::field(field("destination"), "it is not UTF-8"));
        };
        if target.is_empty() {
            return Err(Error::field(field("destination"), "it is missing"));
        }
        let mut target = target.to_owned();
        if !target.starts_with('/') {
            self.warnings.push(format!(
                "{} {target:?} is not absolute, which is deprecated; it is taken as /{target}",
                field("destination")
            ));
            target.insert(0, '/');
        }
        let Some(writable) = to_be_filled(&target, mount) else {
            let kind = self.kind(&field, &target, mount)?;
            return Ok(Mount { kind, target, protection: None });
        };
        let kind = self.kind(&field, &target, &writable)?;
        let protection = Some(Remount::new(&target, &["bind", "ro"])?);
        Ok(Mount { kind, target, protection })
    }

    fn kind(
        &mut self,
        field: &dyn Fn(&str) -> String,
        target: &str,
        mount: &oci::Mount,
    ) -> Result<Kind, Error> {
        let mut options = mount.options().clone().unwrap_or_default();
        let words = MountWords::parse(&options);
        if words.remount {
            return Ok(Kind::Remount(Remount::new(target, &options)?));
        }
        let fstype = mount.typ().as_deref().filter(|fstype| !fstype.is_empty()).unwrap_or("none");
        if fstype == "bind" || words.bind.is_some() {
            let Some(source) = mount.source() else {
                return Err(Error::field(field("source"), "a bind mount needs one"));
            };
            return self.bind(field, &self.bundle.join(source), target, words, mount);
        }
        if mapped(mount) || words.idmap.is_some() {
            let reason = "only bind mounts can have other owners";
            return Err(Error::field(field("uidMappings"), reason));
        }
        if matches!(fstype, "cgroup" | "cgroup2") {
            let cgroups = Box::new(Cgroups::prepare_for_namespace(target, &options)?);
            let lacks = self.lacks(Namespaces::CGROUP);
            return Ok(match (lacks, self.in_user()) {
                (false, _) => Kind::Cgroups(cgroups),
                (true, false) => Kind::OwnCgroups(cgroups),
                (true, true) => Kind::ForeignCgroups(
                    Box::new(or_the_hosts(Kind::Cgroups(cgroups), CGROUPS, target, &words)),
                    options,
                ),
            });
        }
        if let Some(label) = self.label.as_ref().filter(|_| !UNLABELLED.contains(&fstype)) {
            options.push(format!("context=\"{label}\""));
        }
        let source = mount.source().as_ref().map(|source| source.to_string_lossy());
        let filesystem =
            Kind::Filesystem(Filesystem::new(fstype, target, source.as_deref(), &options)?);
        let shown = OF_NAMESPACES.iter().find(|(name, ..)| *name == fstype);
        match shown {
            Some((_, kind, host)) if self.in_user() && self.lacks(*kind) => {
                Ok(or_the_hosts(filesystem, host, target, &words))
            }
            _ => Ok(filesystem),
        }
    }

    /// Whether it has no new namespace of this kind.
    fn lacks(&self, kind: Namespaces) -> bool {
        self.namespaces.is_some_and(|namespaces| !namespaces.new.contains(kind))
    }

    fn in_user(&self) -> bool {
        self.namespaces.is_some_and(|namespaces| namespaces.kinds().contains(Namespaces::USER))
    }

    fn bind(
        &mut self,
        field: &dyn Fn(&str) -> String,
        source: &Path,
        target: &str,
        words: MountWords,
        mount: &oci::Mount,
    ) -> Result<Kind, Error> {
        let owners =
            |datum: &&Datum| matches!(&*datum.key, "idmap" | "ridmap") && datum.value.is_some();
        let others = words
            .data
            .iter()
            .filter(|datum| !SUPERBLOCK.contains(&datum.key.as_str()) && !owners(datum));
        for datum in others {
            let what = format!("{:?} is no option of a bind mount of {target}", datum.key);
            // As `mode=755`: of file systems, which the kernel ignores of binds (mount(2)), as the
            // specification's own tests expect. A word by itself may be meant to protect something.
            match datum.value {
                Some(_) => {
                    self.warnings.push(format!("{}: {what}; it is ignored", field("options")));
                }
                None => return Err(Error::field(field("options"), what)),
            }
        }
        if words.copy_symlink
            && let Ok(link) = std::fs::read_link(source)
        {
            return Ok(Kind::Symlink(Symlink::new(target, &link)?));
        }
        let recursive = words.bind == Some(true);
        let mut attributes = Attributes {
            set: words.mount.set,
            clear: words.mount.clear,
            tree_set: words.tree.set,
            tree_clear: words.tree.clear,
            propagation: words.propagation,
            source_nofollow: words.source_nofollow,
            target_nofollow: words.target_nofollow,
            ..Attributes::default()
        };
        let of_container = self.namespaces.is_some();
        let own = words.data.iter().rev().find(owners);
        if mapped(mount) || words.idmap.is_some() || own.is_some() {
            let maps = own.and_then(|datum| datum.value.as_deref());
            attributes.idmap = Some(self.owners(field, mount, maps)?);
            attributes.idmap_tree = match own {
                Some(datum) => datum.key == "ridmap",
                None => words.idmap == Some(true),
            };
        }
        let bind = match Bind::prepare(source, target, recursive, &attributes) {
            // As runc: engines look for that themselves where it matters.
            Err(error @ bindvol::Error::NotShared { .. }) if of_container => {
                attributes.apart = true;
                let bind = Bind::prepare(source, target, recursive, &attributes);
                let what = "nothing that is mounted later is seen through it";
                self.warnings.push(format!("{}: {error}; {what}", field("options")));
                bind
            }
            prepared => prepared,
        };
        Ok(Kind::Bind(bind?))
    }

    /// The user namespace whose id maps a mount gets: its own (of the fields, or as crun's option `maps` has
    /// them), or the container's.
    fn owners(
        &mut self,
        field: &dyn Fn(&str) -> String,
        mount: &oci::Mount,
        maps: Option<&str>,
    ) -> Result<BorrowedFd<'_>, Error> {
        if mapped(mount) {
            let uids = id_map(&field("uidMappings"), mount.uid_mappings().as_deref())?;
            let gids = id_map(&field("gidMappings"), mount.gid_mappings().as_deref())?;
            for (name, map) in [("uidMappings", &uids), ("gidMappings", &gids)] {
                if map.is_empty() {
                    return Err(Error::field(field(name), "a mount needs both or none"));
                }
            }
            return self.id_maps.namespace(&uids, &gids);
        }
        if let Some(maps) = maps {
            let own = self.namespaces.map(OwnNamespaces::id_maps).unwrap_or_default();
            let (uids, gids) = idmap::read(maps, own).map_err(|reason| {
                Error::field(field("options"), format!("idmap={maps}: {reason}"))
            })?;
            return self.id_maps.namespace(&uids, &gids);
        }
        let Some(namespaces) = self.namespaces.filter(|_| self.in_user()) else {
            let reason = "idmap needs uidMappings and gidMappings, or a container with a user \
                          namespace";
            return Err(Error::field(field("options"), reason));
        };
        if let Some(joined) = namespaces.joined_user() {
            return Ok(joined.as_fd());
        }
        let (uids, gids) = namespaces.id_maps();
        self.id_maps.namespace(uids, gids)
    }
}

/// A read-only file system on `/dev` can be written to at first: nodes, links and mount points are made in it
/// (as runc). The mount without the word.
fn to_be_filled(target: &str, mount: &oci::Mount) -> Option<oci::Mount> {
    let options = mount.options().clone().unwrap_or_default();
    let words = MountWords::parse(&options);
    let read_only = words.mount.set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
    let is_new = words.bind.is_none() && !words.remount && mount.typ().as_deref() != Some("bind");
    if target.trim_matches('/') != "dev" || !read_only || !is_new {
        return None;
    }
    let mut mount = mount.clone();
    mount.set_options(Some(options.into_iter().filter(|word| word != "ro").collect()));
    Some(mount)
}

fn mapped(mount: &oci::Mount) -> bool {
    let any = |map: &Option<Vec<oci::LinuxIdMapping>>| map.as_ref().is_some_and(|m| !m.is_empty());
    any(mount.uid_mappings()) || any(mount.gid_mappings())
}

/// `own`, and where the kernel refuses it the host's tree at `host` with the same flags. A host that does
/// not have it offers nothing: the refusal is the error then.
fn or_the_hosts(own: Kind, host: &str, target: &str, words: &MountWords) -> Kind {
    let attributes = Attributes {
        tree_set: words.mount.set | words.tree.set,
        tree_clear: words.mount.clear | words.tree.clear,
        propagation: words.propagation,
        ..Attributes::default()
    };
    match Bind::prepare(Path::new(host), target, true, &attributes) {
        Ok(bind) => Kind::Either(Box::new(own), Box::new(Kind::Bind(bind))),
        Err(_) => own,
    }
}

/// Makes the file system with what it covers; `None` where it covers nothing.
fn fill(
    filesystem: &Filesystem,
    target: &str,
    before: &[Mount],
    root: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>, Error> {
    let covered = match covered(target, before, root) {
        Ok(Some(covered)) => covered,
        Ok(None) | Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Error::io("opening what a tmpfs covers,", target)(errno.into())),
    };
    let failed = |below: PathBuf, failure: Failure| {
        let path = Path::new(target).join(below);
        Error::io(failure.op, path)(failure.errno.into())
    };
    struct Failed(PathBuf, Failure);
    impl From<Failure> for Failed {
        fn from(failure: Failure) -> Self {
            Self(PathBuf::new(), failure)
        }
    }
    let copy = |to: BorrowedFd<'_>| {
        bindvol::copy_directory(covered.as_fd(), to)
            .map_err(|(path, failure)| Failed(path, failure))
    };
    filesystem.filled(copy).map(Some).map_err(|Failed(path, failure)| failed(path, failure))
}

/// A tmpfs whose mode nobody says has that of the directory that it covers, as runc makes it: what an image
/// lets everybody write to stays so, and nothing else.
fn like_covered<'m>(
    mount: &'m oci::Mount,
    before: &[Mount],
    root: BorrowedFd<'_>,
) -> Result<Cow<'m, oci::Mount>, Error> {
    let options = mount.options().clone().unwrap_or_default();
    let words = MountWords::parse(&options);
    let has_mode = words.data.iter().any(|datum| datum.key == "mode");
    let target = mount.destination().to_string_lossy();
    if mount.typ().as_deref() != Some("tmpfs") || has_mode || words.remount {
        return Ok(Cow::Borrowed(mount));
    }
    let stat = match covered(&target, before, root) {
        Ok(Some(covered)) => rustix::fs::fstat(covered),
        // What is not there, or no directory, the mount itself finds out.
        Ok(None) | Err(_) => return Ok(Cow::Borrowed(mount)),
    };
    let stat =
        stat.map_err(|errno| Error::io("looking at what a tmpfs covers,", &*target)(errno.into()))?;
    let mode = stat.st_mode & 0o7777;
    if mode == DEFAULT_MODE {
        return Ok(Cow::Borrowed(mount));
    }
    let mode = format!("mode={mode:o}");
    let mut mount = mount.clone();
    mount.set_options(Some([options, vec![mode]].concat()));
    Ok(Cow::Owned(mount))
}

/// What is at `target` before it is mounted on: of the last mount that it lies in, or of the root. A new
/// file system has nothing.
fn covered(target: &str, before: &[Mount], root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let names = |path: &str| -> PathBuf {
        path.split('/').filter(|name| !matches!(*name, "" | ".")).collect()
    };
    let target = names(target);
    let outer = before.iter().rev().find_map(|mount| {
        target.strip_prefix(names(&mount.target)).ok().map(|rest| (mount, rest.to_owned()))
    });
    let (tree, rest) = match &outer {
        None => (root, target),
        Some((Mount { kind: Kind::Bind(bind), .. }, rest)) => (bind.tree(), rest.clone()),
        Some((Mount { kind: Kind::Filled(_, tree), .. }, rest)) => (tree.as_fd(), rest.clone()),
        Some(_) => return Ok(None),
    };
    let path = CString::new(rest.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    let path = if path.is_empty() { c".".to_owned() } else { path };
    below::open(tree, &path, OFlags::RDONLY | OFlags::DIRECTORY).map(Some)
}

impl Mount {
    /// Shows the container's group, whose directories `paths` has, where cgroups are to be seen that the container may
    /// not mount: those of the whole host would be seen otherwise.
    ///
    /// # Errors
    /// A directory cannot be opened.
    pub(crate) fn show_group(
        &mut self,
        paths: impl FnOnce() -> Vec<(String, PathBuf)>,
    ) -> Result<(), Error> {
        let Kind::ForeignCgroups(own, options) = &mut self.kind else { return Ok(()) };
        let shown = shown_group::kinds(&self.target, options, &paths())?;
        let shown = Box::new(Kind::Several(shown));
        let own = match std::mem::replace(&mut **own, Kind::Several(Vec::new())) {
            Kind::Either(own, _) => own,
            own => Box::new(own),
        };
        self.kind = Kind::Either(own, shown);
        Ok(())
    }

    /// Child side.
    pub(crate) fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        self.kind.apply(root)
    }

    /// Child side, after everything is there.
    pub(crate) fn protect(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        self.protection.as_ref().map_or(Ok(()), |protection| protection.apply(root))
    }

    /// What the failure of `index` is about.
    pub(crate) fn describe(&self, index: u32) -> String {
        self.kind.describe(index)
    }
}

impl Kind {
    fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        match self {
            Self::Filesystem(filesystem) => filesystem.apply(root),
            Self::Filled(filesystem, tree) => filesystem.attach(root, tree.as_fd()),
            Self::Cgroups(cgroups) => cgroups.apply(root),
            Self::OwnCgroups(cgroups) => ns_core::in_cgroup_namespace(|| cgroups.apply(root)),
            Self::ForeignCgroups(kind, _) => kind.apply(root),
            Self::Bind(bind) => bind.apply(root),
            Self::Either(own, other) => match own.apply(root) {
                Err(failure) if failure.errno == Errno::PERM => other.apply(root),
                result => result,
            },
            Self::Several(all) => all.iter().enumerate().try_for_each(|(index, kind)| {
                kind.apply(root).map_err(|failure| failure.of(0, index as u32))
            }),
            Self::Remount(remount) => remount.apply(root),
            Self::Symlink(symlink) => symlink.apply(root),
        }
    }

    fn describe(&self, index: u32) -> String {
        match self {
            Self::Filesystem(filesystem) | Self::Filled(filesystem, _) => filesystem.describe(),
            Self::Cgroups(cgroups) | Self::OwnCgroups(cgroups) => cgroups.describe(index),
            Self::ForeignCgroups(kind, _) => kind.describe(index),
            Self::Bind(bind) => bind.describe(),
            Self::Either(own, _) => own.describe(index),
            Self::Several(all) => {
                all.get(index as usize).map_or_else(String::new, |kind| kind.describe(0))
            }
            Self::Remount(remount) => remount.describe(),
            Self::Symlink(symlink) => symlink.describe(),
        }
    }
}
