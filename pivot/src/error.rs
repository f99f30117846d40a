//! What is wrong with an input, found in the parent.

use std::io;
use std::path::PathBuf;

/// Why something could not be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A string that no system call can take.
    #[error("the {what} {value:?} contains a NUL byte, which no path or option can; remove it")]
    Nul {
        /// What it is: `mount option`, `mount target`.
        what: &'static str,
        /// The string.
        value: String,
    },
    /// fsconfig(2) takes values of 255 bytes at most.
    #[error(
        "the mount option {option:?} for {target} has {len} bytes, and the kernel takes 255 at most; \
         shorten it"
    )]
    OptionTooLong {
        /// The option's name.
        option: String,
        /// Where the mount is to be.
        target: String,
        /// Its length in bytes.
        len: usize,
    },
    /// An option that has no meaning for a new file system.
    #[error(
        "the mount option {option:?} for {target} belongs to a bind mount, and {fstype} is a file \
         system of its own; remove the option, or give the type \"bind\""
    )]
    OnlyForBinds {
        /// The option.
        option: &'static str,
        /// Where the mount is to be.
        target: String,
        /// The file system's type.
        fstype: String,
    },
    /// An option that only the file system itself could have.
    #[error(
        "the mount option {option:?} for {target} is one of a file system, and a bind is of one that is \
         there already; remove it"
    )]
    NotOfBinds {
        /// The option's name.
        option: String,
        /// Where the mount is.
        target: String,
    },
    /// A target that a mount must not have.
    #[error("{target:?} cannot be the target of a mount of type {fstype}: {reason}")]
    Target {
        /// The target as it was given.
        target: String,
        /// The file system's type.
        fstype: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// A path that is not of the form asked for.
    #[error("the {what} {path:?} is not usable: {reason}")]
    Path {
        /// What it is the path of: `device`, `masked path`.
        what: &'static str,
        /// The path as it was given.
        path: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// The propagation of a root file system that is none of the known ones.
    #[error(
        "{word:?} is no propagation of a root file system; use private, slave, shared or unbindable, \
         or one of them with an r before it"
    )]
    Propagation {
        /// What was given.
        word: String,
    },
    /// A file of the host that is needed cannot be read or opened.
    #[error("{op} {path} failed: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The host's device node is another device than the one asked for.
    #[error(
        "{path} on the host is {found}, and {expected} is wanted in the container; correct the \
         device's numbers, or bind the right node"
    )]
    OtherDevice {
        /// The node on the host.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// `/proc/self/mountinfo` is not what the manual page describes.
    #[error(transparent)]
    Mountinfo(#[from] sys::mountinfo::ParseError),
}

impl Error {
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { op, path, source }
    }
}

/// `value` as a C string; `what` names it in the error.
pub(crate) fn c_string(what: &'static str, value: &str) -> Result<std::ffi::CString, Error> {
    std::ffi::CString::new(value).map_err(|_| Error::Nul { what, value: value.to_owned() })
}
