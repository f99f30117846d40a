//! What can go wrong on the parent's side.

use std::path::PathBuf;

use rustix::io::Errno;
use sys::Report;

/// Why a process could not be started or waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{op}: {}{}", std::io::Error::from(*errno), hint(*errno, op))]
    System {
        /// What was tried.
        op: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// An id map could not be written.
    #[error(
        "writing the id map {map:?} to {}: {}; the caller needs CAP_SETUID and CAP_SETGID over \
         its own user namespace, and every id must be one of the caller's own \
         (user_namespaces(7), \"Defining user and group ID mappings\")",
        path.display(), std::io::Error::from(*errno)
    )]
    IdMap {
        /// The file below `/proc`.
        path: PathBuf,
        /// What was written.
        map: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// Id maps without a new user namespace.
    #[error("id maps were given, and no new user namespace to write them to: ask for both or none")]
    MapsWithoutUser,
    /// Clocks without a new time namespace.
    #[error("clocks were given, and no new time namespace that has them: ask for both or none")]
    OffsetsWithoutTime,
    /// Mounts to copy without a new mount namespace that can be a copy.
    #[error(
        "a mount namespace to be copied was given, and no new one that can be a copy of it: ask for a new one, and for no \
         user namespace, which would have to own both"
    )]
    NoMountsToCopy,
    /// A kind of namespace is to be new and joined.
    #[error(
        "a {kind} namespace is asked for as a new one and as one to join: choose one of the two"
    )]
    NewAndJoined {
        /// The kind, as below `/proc/PID/ns`.
        kind: &'static str,
    },
    /// The process has threads where it must not.
    #[error(
        "the program has {threads} threads, and only one with a single thread can go on in a second \
         process: do this before threads are started, or after they have ended"
    )]
    Threads {
        /// How many.
        threads: usize,
    },
    /// The child failed before its exec.
    #[error("{0}")]
    Child(Report),
    /// The child said something that is not of the protocol.
    #[error("the child process sent {bytes} bytes that are no message of this program")]
    Protocol {
        /// How many bytes.
        bytes: usize,
    },
}

impl Error {
    pub(crate) fn system(op: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { op, errno }
    }
}

fn hint(errno: Errno, op: &str) -> &'static str {
    match (errno, op) {
        (Errno::PERM, crate::spawn::CLONE) => {
            "; new namespaces need CAP_SYS_ADMIN, or a new user namespace beside them where the \
             system allows those (kernel.unprivileged_userns_clone, AppArmor)"
        }
        (Errno::NOSPC | Errno::USERS, crate::spawn::CLONE) => {
            "; a limit of /proc/sys/user/max_*_namespaces is reached"
        }
        (Errno::AGAIN, crate::spawn::CLONE) => {
            "; a limit on processes is reached (RLIMIT_NPROC, pids.max, kernel.pid_max)"
        }
        (Errno::NOSYS, _) => "; the kernel is too old for it, or a seccomp filter hides it",
        _ => "",
    }
}
