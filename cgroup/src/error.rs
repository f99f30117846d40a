//! What can go wrong, as sentences.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// Why a group could not be made, limited, asked or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of a cgroup file system, or of `/proc`.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refuses a limit.
    #[error("{field}: writing {value:?} to {}: {source}{hint}", path.display())]
    Refused {
        /// The limit, as `memory.limit`.
        field: String,
        /// What was written.
        value: String,
        /// To which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
        /// What to do, where that is known: empty, or `; …`.
        hint: String,
    },
    /// A limit has a value that has no meaning.
    #[error("{field}: {reason}")]
    Field {
        /// The limit, as `cpu.idle`.
        field: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A limit needs a controller that the group does not have.
    #[error("{field}: the requested cgroup controller `{controller}` is not available: {reason}")]
    NoController {
        /// The limit.
        field: String,
        /// The controller, as cgroups(7) names it.
        controller: String,
        /// Why not, and how to get it.
        reason: String,
    },
    /// A group's path that names none.
    #[error("{path:?} is no path of a cgroup: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A record of where a group lies that is none.
    #[error(
        "line {line} of the record of a cgroup is not of the form ID:CONTROLLERS:/PATH (cgroups(7), \
         /proc/PID/cgroup): {text:?}"
    )]
    Record {
        /// Its number, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A file of the kernel holds something else than its documentation says.
    #[error("{} holds {text:?}, which is not {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What stands there.
        text: String,
        /// What should.
        expected: &'static str,
    },
    /// Something that should be done by now is not.
    #[error("{what} the cgroup {} was not done after {seconds} seconds; {hint}", path.display())]
    Timeout {
        /// What: `freezing`.
        what: &'static str,
        /// Which group.
        path: PathBuf,
        /// How long it was waited.
        seconds: u64,
        /// What may be the reason, and what to do.
        hint: &'static str,
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

    pub(crate) fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }

    /// What the kernel said, where it said something.
    pub fn source_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } | Self::Refused { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// Whether the caller has not the right to do it: without root, who has no delegated group gets this,
    /// and may go on without a group where nothing was asked of it. (A file system that is mounted
    /// read-only counts: so cgroups are in most containers.)
    pub fn is_permission(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self.source_kind(), Some(PermissionDenied | ReadOnlyFilesystem))
    }

    /// Whether the group is not there, or has gone while it was looked at (ENODEV).
    pub fn is_not_found(&self) -> bool {
        let gone = matches!(self, Self::Io { source, .. }
            if Errno::from_io_error(source) == Some(Errno::NODEV));
        gone || self.source_kind() == Some(io::ErrorKind::NotFound)
    }

    /// The same error of the limit `field` where the limit had a shorter name: `memory.limit` becomes
    /// `linux.resources.memory.limit`.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        if let Self::Refused { field, .. }
        | Self::Field { field, .. }
        | Self::NoController { field, .. } = &mut self
        {
            *field = format!("{prefix}.{field}");
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As told to who has a file of a group open when that goes (kernfs: ENODEV).
    #[test]
    fn a_group_that_goes_while_it_is_read_is_not_there() {
        let read = |errno: Errno| Error::io("reading", "cpu.stat")(errno.into());
        assert!(read(Errno::NODEV).is_not_found() && read(Errno::NOENT).is_not_found());
        assert!(!read(Errno::BUSY).is_not_found());
        // A disk that there is not is no group that there is not.
        let refused = Error::Refused {
            field: "blockIO".to_owned(),
            value: "8:99 rbps=1".to_owned(),
            path: "io.max".into(),
            source: Errno::NODEV.into(),
            hint: String::new(),
        };
        assert!(!refused.is_not_found());
    }
}
