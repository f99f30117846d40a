//! A bind mount: prepared as a detached tree in the parent, attached in the child.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::mount::{self, Change, Propagation};
use sys::{Failure, Step, below};

use crate::spec::propagation_word;
use crate::target::{PROC_MAGIC, Target};
use crate::{Error, sharing, source};

/// Mode of target directories that are made.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// What a bind gets, as mount_setattr(2) takes it. The default changes nothing, and cuts the tree
/// off the host's mounts.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'fd> {
    /// Flags to set on the mount itself.
    pub set: MountAttrFlags,
    /// Flags to clear on it; with an access time mode in `set`, `MOUNT_ATTR__ATIME`.
    pub clear: MountAttrFlags,
    /// Flags to set on it and all below it, after those above.
    pub tree_set: MountAttrFlags,
    /// Flags to clear on it and all below it.
    pub tree_clear: MountAttrFlags,
    /// `rslave` is `(Slave, true)`, `slave` is `(Slave, false)`. None is `rprivate`.
    ///
    /// Without the `r`, the mounts below: of `shared` stay as they are on the host, of the others
    /// they become slaves. So nothing but `shared` lets mounts out of the container.
    pub propagation: Option<(Propagation, bool)>,
    /// `shared` or `slave` of a source whose mount is neither is no error. Nothing that is mounted on the host
    /// later is seen through it then.
    pub apart: bool,
    /// A user namespace whose id maps translate owners (Linux 5.12).
    pub idmap: Option<BorrowedFd<'fd>>,
    /// The id maps hold for all below too (`ridmap`).
    pub idmap_tree: bool,
    /// A source that is a symbolic link is bound itself (`src-nofollow`).
    pub source_nofollow: bool,
    /// A target that is a symbolic link is covered itself (`dest-nofollow`).
    pub target_nofollow: bool,
}

impl Default for Attributes<'_> {
    fn default() -> Self {
        Self {
            set: MountAttrFlags::empty(),
            clear: MountAttrFlags::empty(),
            tree_set: MountAttrFlags::empty(),
            tree_clear: MountAttrFlags::empty(),
            propagation: None,
            apart: false,
            idmap: None,
            idmap_tree: false,
            source_nofollow: false,
            target_nofollow: false,
        }
    }
}

/// A detached tree, ready to be attached. It goes when this is dropped, unless it was.
#[derive(Debug)]
pub struct Bind {
    tree: OwnedFd,
    target: Target,
    kind: below::Kind,
    follow: bool,
    description: String,
}

impl Bind {
    /// Parent side. Opens `source` once (a symbolic link there is followed: it is the host's own),
    /// clones its mount, `recursive` with all below it, and sets `attributes` on the clone.
    /// `target` is absolute, in the container.
    ///
    /// Errors: a source that is missing or cannot be reached (with the component of the path that is
    /// to blame), `shared` or `slave` of a mount that is neither, a target of `/`, `/proc` or in it,
    /// attributes that the kernel refuses. open_tree(2) is Linux 5.2, mount_setattr(2) 5.12.
    pub fn prepare(
        source: &Path,
        target: &str,
        recursive: bool,
        attributes: &Attributes<'_>,
    ) -> Result<Self, Error> {
        let opened = match attributes.source_nofollow {
            true => source::open_itself(source, target)?,
            false => source::open(source, target)?,
        };
        Self::of_descriptor(opened.as_fd(), source, target, recursive, attributes)
    }

    /// Parent side. As [`Bind::prepare`], of a source that is open already (O_PATH is enough);
    /// `shown` names it in messages.
    pub fn of_descriptor(
        source: BorrowedFd<'_>,
        shown: &Path,
        target: &str,
        recursive: bool,
        attributes: &Attributes<'_>,
    ) -> Result<Self, Error> {
        let target = Target::new(target, source, shown)?;
        let failed = |op| {
            let (source_path, target) = (shown.to_owned(), target.text.clone());
            move |errno| Error::Source { op, source_path, target, errno }
        };
        let stat = rustix::fs::fstat(source).map_err(failed("looking at the source"))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => below::Kind::Directory,
            _ => below::Kind::File,
        };
        if let Some(propagation) = attributes.propagation.filter(|_| !attributes.apart) {
            sharing::check(source, shown, &target.text, propagation)?;
        }
        let tree = mount::clone_tree(source, c"", recursive)
            .map_err(failed("cloning the mount of the source"))?;
        for (op, change) in changes(attributes) {
            mount::change(&tree, &change).map_err(failed(op))?;
        }
        let description = format!(
            "the bind of {} on {} ({})",
            shown.display(),
            target.text,
            words(attributes).join(",")
        );
        let follow = !attributes.target_nofollow;
        Ok(Self { tree, target, kind, follow, description })
    }

    /// The detached tree.
    pub fn tree(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// Child side. Attaches the tree to its target below `root`, once. A missing target is made, and
    /// its parents: a directory for a directory, an empty file for anything else; symbolic links are
    /// followed as a process with that root would.
    ///
    /// ENOTDIR, EISDIR: the root has something of the other kind there. EPERM: the root's own links
    /// lead into its `/proc`. EBUSY: they lead to the root itself. EINVAL: it was attached before, or
    /// `root` was opened in another mount namespace.
    pub fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let target = match self.follow {
            true => below::make(root, &self.target.path, self.kind, DIRECTORY_MODE),
            false => self.target.make_itself(root, self.kind, DIRECTORY_MODE),
        };
        let target = target.map_err(|errno| {
            let op = match (errno, self.kind) {
                (Errno::NOTDIR, below::Kind::Directory) => {
                    "making the target of a directory, where the root has a file in the way"
                }
                (Errno::NOTDIR, below::Kind::File) => {
                    "making the target, where the root has a file in place of a directory"
                }
                (Errno::ISDIR, _) => "making the target of a file, where the root has a directory",
                (Errno::ROFS, _) => {
                    "making the target, which is not there, in a read-only root (choose one that \
                         is there)"
                }
                _ => "opening or making the target",
            };
            Failure::new(op, errno)
        })?;
        let stat = rustix::fs::fstat(&target).step("looking at the target")?;
        let of_root = rustix::fs::fstat(root).step("looking at the root")?;
        if (stat.st_dev, stat.st_ino) == (of_root.st_dev, of_root.st_ino) {
            return Err(Failure::new("mounting on a link that leads to the root", Errno::BUSY));
        }
        let filesystem = rustix::fs::fstatfs(&target).step("looking at the target")?;
        if filesystem.f_type as u64 == PROC_MAGIC && !self.target.in_proc {
            return Err(Failure::new("mounting on a link that leads into /proc", Errno::PERM));
        }
        mount::attach(&self.tree, target).step("attaching the bind to its target")
    }

    /// `the bind of /mnt/x on /data (ro)`, for sentences about a failure.
    pub fn describe(&self) -> String {
        self.description.clone()
    }
}

/// The calls of mount_setattr(2), in their order.
fn changes<'fd>(attributes: &Attributes<'fd>) -> impl Iterator<Item = (&'static str, Change<'fd>)> {
    let &Attributes { set, clear, tree_set, tree_clear, propagation, idmap, idmap_tree, .. } =
        attributes;
    let (propagation, recursive) = propagation.unwrap_or((Propagation::Private, true));
    // The clones of shared mounts are their peers, until this.
    let cut =
        Change { propagation: Some(Propagation::Slave), recursive: true, ..Change::default() };
    let spread = Change { propagation: Some(propagation), recursive, ..Change::default() };
    let flags = |set: MountAttrFlags, clear: MountAttrFlags, recursive| {
        let change = Change { set: Some(set), clear: Some(clear), recursive, ..Change::default() };
        (!set.is_empty() || !clear.is_empty()).then_some(change)
    };
    let map = idmap.map(|idmap| Change {
        idmap: Some(idmap),
        recursive: idmap_tree,
        ..Change::default()
    });
    let cut = (propagation != Propagation::Shared && !recursive).then_some(cut);
    [
        ("cutting the mounts below off the host's, for the source", cut),
        ("setting the propagation of", Some(spread)),
        ("setting the flags of", flags(set, clear, false)),
        ("setting the flags, for all that is mounted below, of", flags(tree_set, tree_clear, true)),
        ("mapping the ids of", map),
    ]
    .into_iter()
    .filter_map(|(op, change)| Some((op, change?)))
}

/// The attributes as mount(8) would show them.
fn words(attributes: &Attributes<'_>) -> Vec<&'static str> {
    let set = (attributes.set - attributes.tree_clear) | attributes.tree_set;
    let read_only = set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
    let mut words = vec![if read_only { "ro" } else { "rw" }];
    let flags = [
        (MountAttrFlags::MOUNT_ATTR_NOSUID, "nosuid"),
        (MountAttrFlags::MOUNT_ATTR_NODEV, "nodev"),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, "noexec"),
    ];
    words.extend(flags.iter().filter(|(flag, _)| set.contains(*flag)).map(|(_, word)| *word));
    words.extend(attributes.propagation.map(propagation_word));
    words.extend(attributes.idmap.map(|_| "idmap"));
    words
}
