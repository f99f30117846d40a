//! The mounts of a specification, each with the crate whose kind it is.

use std::os::fd::BorrowedFd;
use std::path::Path;

use bindvol::{Attributes, Bind};
use oci_spec::runtime as oci;
use pivot::{Cgroups, Filesystem, MountWords};
use sys::Failure;

use crate::Error;

/// A mount, ready for the child.
#[derive(Debug)]
pub(crate) enum Mount {
    Filesystem(Filesystem),
    Cgroups(Box<Cgroups>),
    Bind(Bind),
}

impl Mount {
    /// `index` of `mounts` names it in errors; a relative source counts from the bundle.
    pub(crate) fn prepare(bundle: &Path, index: usize, mount: &oci::Mount) -> Result<Self, Error> {
        let field = |name: &str| format!("mounts[{index}].{name}");
        let Some(target) = mount.destination().to_str() else {
            return Err(Error::field(field("destination"), "it is not UTF-8"));
        };
        let options = mount.options().clone().unwrap_or_default();
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            return Err(Error::Unsupported { field: field("uidMappings") });
        }
        let words = MountWords::parse(&options);
        let fstype = mount.typ().as_deref().unwrap_or("none");
        if fstype == "bind" || words.bind.is_some() {
            let Some(source) = mount.source() else {
                return Err(Error::field(field("source"), "a bind mount needs one"));
            };
            return Self::bind(&bundle.join(source), target, words, &field("options"));
        }
        if matches!(fstype, "cgroup" | "cgroup2") {
            return Ok(Self::Cgroups(Box::new(Cgroups::prepare(target, &options)?)));
        }
        let source = mount.source().as_ref().map(|source| source.to_string_lossy());
        let filesystem = Filesystem::new(fstype, target, source.as_deref(), &options)?;
        if filesystem.copy_up() {
            return Err(Error::Unsupported { field: format!("{} (tmpcopyup)", field("options")) });
        }
        Ok(Self::Filesystem(filesystem))
    }

    fn bind(source: &Path, target: &str, words: MountWords, field: &str) -> Result<Self, Error> {
        if words.idmap.is_some() || words.remount {
            return Err(Error::Unsupported { field: format!("{field} (idmap, remount)") });
        }
        if let Some(datum) = words.data.first() {
            let reason = format!("{:?} is no option of a bind mount of {target}", datum.key);
            return Err(Error::field(field, reason));
        }
        let attributes = Attributes {
            set: words.mount.set,
            clear: words.mount.clear,
            tree_set: words.tree.set,
            tree_clear: words.tree.clear,
            propagation: words.propagation,
            ..Attributes::default()
        };
        let recursive = words.bind == Some(true);
        Ok(Self::Bind(Bind::prepare(source, target, recursive, &attributes)?))
    }

    /// Child side.
    pub(crate) fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        match self {
            Self::Filesystem(filesystem) => filesystem.apply(root),
            Self::Cgroups(cgroups) => cgroups.apply(root),
            Self::Bind(bind) => bind.apply(root),
        }
    }

    /// What the failure of `index` is about.
    pub(crate) fn describe(&self, index: u32) -> String {
        match self {
            Self::Filesystem(filesystem) => filesystem.describe(),
            Self::Cgroups(cgroups) => cgroups.describe(index),
            Self::Bind(bind) => bind.describe(),
        }
    }
}
