//! This mount becomes `/`, the old root is gone; below it the standard mounts, devices, masked and
//! read-only paths of a container.
//!
//! **Promise.** After [`enter`] and [`pivot`] the mount namespace of the calling process holds what
//! lies below the given mount and nothing of the host. What is put below it in between
//! ([`Filesystem`], [`Cgroups`], [`Devices`], [`Masks`], [`console`]) goes there by descriptor, never
//! by a path that an image could bend: the targets of kernel file systems may not lead through a
//! symbolic link. pivot_root(2) is used; chroot(2)
//! only by [`Stay`] and [`change_root`], for who asks for it. The crate knows nothing of images, volumes
//! or how processes are made.
//!
//! **Prepare, then apply.** What allocates, reads a path or can fail for its input happens in
//! `new` and `prepare`, in the parent, and fails with an [`Error`]. `apply` and the free functions
//! run in the child between clone and exec, in its new namespaces: system calls only, and what fails
//! is a [`sys::Failure`]. Where a prepared value holds several items, the failure's `index` is the
//! item's, and `describe(index)` names it.
//!
//! The order in the child, single-threaded and in the new mount namespace (and after the new PID,
//! network, IPC and cgroup namespaces, whose file systems are mounted):
//!
//! ```text
//! enter ─ root moved onto "/"          the host's mounts are still there, below
//!   ├ Filesystem::apply                proc, /dev, devpts, sysfs, mqueue, shm   (standard::MOUNTS)
//!   ├ Cgroups::apply                   /sys/fs/cgroup
//!   ├ volumes                          not of this crate: attached below the root's descriptor
//!   ├ Devices::apply                   nodes and links in /dev
//!   └ console::open_pty, console::bind /dev/console
//! pivot ─ root is "/", old root gone
//!   ├ Masks::apply                     read-only, then masked paths
//!   └ read_only                        `--read-only`
//! ```
//!
//! ```
//! use pivot::{Devices, Filesystem, Masks, Nodes, standard};
//!
//! // In the parent: every input is checked here.
//! let mounts: Vec<Filesystem> =
//!     standard::MOUNTS.iter().map(|mount| mount.prepare()).collect::<Result<_, _>>()?;
//! assert_eq!(mounts[0].describe(), "the proc file system on /proc (nosuid,nodev,noexec)");
//! let devices = Devices::prepare(&standard::devices(), Nodes::Make)?;
//! let masks = Masks::prepare(&standard::masked_paths(), &standard::READ_ONLY)?;
//! // In the child (ns-core makes one): see examples/enter.rs.
//! # drop((devices, masks));
//! # Ok::<(), pivot::Error>(())
//! ```
#![forbid(unsafe_code)]

mod cgroups;
pub mod console;
mod devices;
mod error;
mod filesystem;
mod masks;
mod remount;
mod root;
pub mod standard;
mod stay;
mod target;
mod words;

pub use cgroups::{Cgroups, Legacy};
pub use devices::{Device, DeviceKind, Devices, Nodes};
pub use error::Error;
pub use filesystem::Filesystem;
pub use masks::Masks;
pub use remount::Remount;
pub use root::{Place, RootPropagation, change_root, enter, enter_at, pivot, read_only};
pub use stay::Stay;
pub use words::{Attributes, Datum, KNOWN, MountWords, SUPERBLOCK};
