//! What can go wrong, as sentences.

use std::path::PathBuf;

use rustix::io::Errno;
use sys::Report;

/// Why there is no overlay mount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No lower directory was given.
    #[error("an overlay mount needs at least one lower directory, and none was given")]
    NoLower,
    /// One lower directory and nothing else.
    #[error(
        "an overlay mount without an upper directory needs at least two lower directories, and \
         there is only {lower:?}: give an upper and a work directory, or bind-mount this one"
    )]
    OneLower {
        /// The only one.
        lower: PathBuf,
    },
    /// More lower directories than the kernel takes.
    #[error(
        "{layers} lower directories are more than the {} that the kernel takes in one overlay \
         mount: merge some of the layers",
        crate::MAX_LOWERS
    )]
    TooManyLowers {
        /// How many, each path counted once.
        layers: usize,
    },
    /// Upper without work, or work without upper.
    #[error("an overlay mount needs an upper and a work directory together: {missing} is missing")]
    Incomplete {
        /// `upperdir` or `workdir`.
        missing: &'static str,
    },
    /// A path with a NUL byte.
    #[error("{option} {path:?} of an overlay mount has a NUL byte in it")]
    Nul {
        /// `lowerdir`, `upperdir` or `workdir`.
        option: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A layer that cannot be opened.
    #[error("{option} {path:?} of an overlay mount: {}", sentence(*errno))]
    Layer {
        /// `lowerdir`, `upperdir` or `workdir`.
        option: &'static str,
        /// The path.
        path: PathBuf,
        /// What opening it gave.
        errno: Errno,
    },
    /// Upper and work are not in one mount.
    #[error(
        "workdir {work:?} of an overlay mount must lie in the same mount as upperdir {upper:?}, \
         and does not: put both below one directory"
    )]
    OtherMount {
        /// The upper directory.
        upper: PathBuf,
        /// The work directory.
        work: PathBuf,
    },
    /// One of upper and work lies in the other.
    #[error(
        "upperdir {upper:?} and workdir {work:?} of an overlay mount must not lie in each other: \
         put them side by side"
    )]
    Nested {
        /// The upper directory.
        upper: PathBuf,
        /// The work directory.
        work: PathBuf,
    },
    /// The upper directory's file system cannot hold what overlayfs writes.
    #[error(
        "upperdir {upper:?} of an overlay mount lies on {what}: put it on another file system \
         (ext4, xfs, btrfs, tmpfs)"
    )]
    UpperFileSystem {
        /// The upper directory.
        upper: PathBuf,
        /// What is wrong with its file system.
        what: &'static str,
    },
    /// A volatile mount's mark.
    #[error(
        "workdir {work:?} of an overlay mount was last used by a volatile mount, whose data may be \
         lost: start with a new upper and work directory, or, where losing data does not matter, \
         remove {mark:?}"
    )]
    Volatile {
        /// The work directory.
        work: PathBuf,
        /// The mark.
        mark: PathBuf,
    },
    /// The paths do not fit into what this kernel takes.
    #[error(
        "an overlay mount of {layers} lower directories needs {bytes} bytes of options, and this \
         kernel takes {} at most: Linux 6.8 and later take each layer alone (each path up to 255 \
         bytes, more from 6.13 on), older ones need shorter paths",
        crate::options::PAGE
    )]
    TooLong {
        /// How many lower directories.
        layers: usize,
        /// Bytes of the shortest option string, with its NUL.
        bytes: usize,
    },
    /// The base directory cannot be worked in.
    #[error("working in the base directory of an overlay's relative paths: {}", sentence(*.0))]
    Base(Errno),
    /// The kernel refused, for a reason that none of the above names.
    #[error("mounting an overlay with {options}: {report}{}", hint(report.errno))]
    Mount {
        /// The options of the mount.
        options: String,
        /// The step that failed, with the kernel's errno and words.
        report: Report,
    },
}

/// The errno in words, and what to do where that is clear.
fn sentence(errno: Errno) -> String {
    let hint = match errno {
        Errno::NOENT => " (it has to be made first)",
        Errno::NOTDIR => " (every layer has to be a directory)",
        Errno::ACCESS => " (it, or a directory above it, may not be searched)",
        _ => "",
    };
    format!("{}{hint}", std::io::Error::from(errno))
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => {
            "; it needs CAP_SYS_ADMIN in the user namespace of the mount namespace (and Linux 5.11 \
             when that is not the first one)"
        }
        Errno::NODEV => "; this kernel has no overlay file system: `modprobe overlay`",
        Errno::LOOP => {
            "; two of the directories are the same one, or one lies in another: each layer has to \
             be a tree of its own"
        }
        Errno::BUSY => "; the upper or the work directory is in use by another overlay mount",
        Errno::STALE => "; the upper directory was made for other lower directories",
        Errno::NOSPC => {
            "; the file system of the upper directory is full, or the mount namespace has \
             /proc/sys/fs/mount-max mounts"
        }
        _ => "",
    }
}
