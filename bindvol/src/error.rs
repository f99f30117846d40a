//! What is wrong with a source, a target or a volume, found in the parent.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sys::Failure;

/// Why a bind or a volume could not be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path that no system call can take.
    #[error("the {what} {value:?} contains a NUL byte, which no path can; remove it")]
    Nul {
        /// `source`, `target`, `subpath`.
        what: &'static str,
        /// The path.
        value: String,
    },
    /// A target that nothing may be mounted on.
    #[error("the target {target:?} {reason}")]
    Target {
        /// As it was given.
        target: String,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// The source, or a directory that it should lie in, is not there.
    #[error(
        "the source {source_path:?} of the bind on {target} does not exist: there is no {missing:?}; \
         make it first, or ask for that (--mount type=bind,bind-create-src,…)"
    )]
    Missing {
        /// The source as it was given.
        source_path: PathBuf,
        /// Where the bind is to be.
        target: String,
        /// The first of its components that is missing.
        missing: PathBuf,
    },
    /// A symbolic link on the way to the source leads nowhere.
    #[error(
        "the source {source_path:?} of the bind on {target} does not exist: the symbolic link \
         {link:?} leads to {to:?}, which is missing"
    )]
    Dangling {
        /// The source as it was given.
        source_path: PathBuf,
        /// Where the bind is to be.
        target: String,
        /// The link.
        link: PathBuf,
        /// What it holds.
        to: PathBuf,
    },
    /// Something on the way to the source is no directory.
    #[error(
        "the source {source_path:?} of the bind on {target} cannot be reached: {file:?} is no \
         directory"
    )]
    InTheWay {
        /// The source as it was given.
        source_path: PathBuf,
        /// Where the bind is to be.
        target: String,
        /// What is in the way.
        file: PathBuf,
    },
    /// A directory on the way to the source may not be searched.
    #[error(
        "the source {source_path:?} of the bind on {target} cannot be reached: the directory \
         {directory:?} may not be searched by uid {uid}; give it the x bit for that user, or choose \
         another place"
    )]
    NotSearchable {
        /// The source as it was given.
        source_path: PathBuf,
        /// Where the bind is to be.
        target: String,
        /// The directory.
        directory: PathBuf,
        /// Who may not.
        uid: u32,
    },
    /// Something else about the source.
    #[error("{op} {source_path:?} for the bind on {target}: {}{}", io::Error::from(*errno), hint(*errno))]
    Source {
        /// What was tried: `opening the source`.
        op: &'static str,
        /// The source as it was given.
        source_path: PathBuf,
        /// Where the bind is to be.
        target: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// `shared` or `slave` of a source whose mount is neither.
    #[error(
        "the source {source_path:?} of the bind on {target} cannot be {word}: it is mounted on \
         {mount:?}, which is no {needed} mount; run `mount --make-rshared {}`, or use rprivate",
        mount.display()
    )]
    NotShared {
        /// The source as it was given.
        source_path: PathBuf,
        /// Where the bind is to be.
        target: String,
        /// The propagation asked for.
        word: &'static str,
        /// Where the source's mount is.
        mount: PathBuf,
        /// What it would have to be: `shared`, `shared or slave`.
        needed: &'static str,
    },
    /// A name that no volume can have.
    #[error(
        "{name:?} is no name for a volume: up to 255 letters, digits, \"_\", \".\" and \"-\", a letter \
         or digit first"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is no such volume.
    #[error("there is no volume {name:?}")]
    NoVolume {
        /// Its name.
        name: String,
    },
    /// What is to be mounted of a volume is not in it.
    #[error(
        "{subpath:?} of the volume {name:?} cannot be opened: {}; make it in the volume first",
        io::Error::from(*errno)
    )]
    Subpath {
        /// The volume.
        name: String,
        /// The path in it.
        subpath: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The image has a file where a volume, a directory, is to be.
    #[error(
        "the image has no directory at {target:?} but something else, or a file on the way there; a \
         volume is a directory: choose another target, or bind a file"
    )]
    NoDirectory {
        /// Where the volume is to be.
        target: String,
    },
    /// A volume could not be filled; the next time goes on where this one ended.
    #[error(
        "filling the volume {name:?} from the image's {path:?}: {}: {}{}",
        failure.op, io::Error::from(failure.errno), hint(failure.errno)
    )]
    Fill {
        /// The volume.
        name: String,
        /// What in the image.
        path: PathBuf,
        /// The step, and what the kernel said.
        failure: Box<Failure>,
    },
    /// A system call on a directory of volumes, or on a file that is needed.
    #[error("{op} {path:?}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// `/proc/thread-self/mountinfo` is not what the manual page describes.
    #[error(transparent)]
    Mountinfo(#[from] sys::mountinfo::ParseError),
}

impl Error {
    pub(crate) fn io<E: Into<io::Error>>(op: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { op, path: path.to_owned(), source: source.into() }
    }
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => {
            "; mounting needs CAP_SYS_ADMIN in the user namespace of the mount namespace, and flags \
             that a more privileged namespace has set stay"
        }
        Errno::NOSYS => "; it needs Linux 5.12",
        Errno::NOSPC => {
            "; the file system is full, or the mount namespace has /proc/sys/fs/mount-max mounts"
        }
        Errno::DQUOT => "; the quota is used up",
        Errno::XDEV => "; another file system is mounted there, which belongs to no image",
        Errno::NOTSUP => "; the volume's file system cannot hold it",
        Errno::INVAL => {
            "; the kernel refuses it for this mount: it is unbindable, or its file system knows no \
             id-mapped mounts"
        }
        _ => "",
    }
}
