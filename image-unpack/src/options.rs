//! What the caller chooses, and what it gets.

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::pending::Pending;

/// How a layer is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// What the layer may cost at most.
    pub limits: Limits,
    /// How a whiteout is written.
    pub form: WhiteoutForm,
    /// Set owners, make devices, and set privileged attributes: needs root. Without it files belong to the caller,
    /// a device is an empty file, and `security.*` and `trusted.*` attributes are left out ([`Omitted`] counts them).
    pub owners: bool,
    /// Read and decode on a thread of its own, while the calling one makes the files: for a layer that would keep one
    /// processor busy when the others have nothing to do. Takes 2 MiB of memory. Default: false.
    pub read_ahead: bool,
}

/// How a whiteout and an opaque directory are written for overlayfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhiteoutForm {
    /// A character device 0:0, and `trusted.overlay.opaque`.
    #[default]
    Device,
    /// An empty file with the attribute `overlay.whiteout` in a directory that has `overlay.opaque=x` (Linux 6.8).
    Xattr {
        /// `user.overlay.*`, for a mount with `userxattr`; else `trusted.overlay.*`.
        user: bool,
    },
}

/// What was unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// Entries of the layer's tar.
    pub entries: u64,
    /// Bytes of its files, holes included.
    pub bytes: u64,
    /// What is in the directory, before [`Pending::settle`]; `None` where entries took the place of others, so that
    /// it would have to be counted.
    pub tally: Option<Tally>,
    /// What was left out for want of privilege.
    pub omitted: Omitted,
    /// What has to wait for the lower layers.
    pub pending: Pending,
}

/// What a directory holds, all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Names, of directories too.
    pub names: u64,
    /// Bytes of the files, holes included; those of several names are counted for each.
    pub bytes: u64,
}

/// What a layer has and its directory has not; worth one line to the user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Omitted {
    /// Devices that became empty files.
    pub devices: u64,
    /// Extended attributes that cannot be set here.
    pub xattrs: u64,
}
