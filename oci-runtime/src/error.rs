//! What can go wrong, as sentences.

use std::io;
use std::path::PathBuf;

use sys::Report;

/// Why a container could not be made, or a program not be run in one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or descriptor of the host.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// `config.json` is not of the form that the specification describes.
    #[error("{}: {field}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where in it: `process.rlimits[1].type`.
        field: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A field has a value that has no meaning.
    #[error("{field} of the container's configuration: {reason}")]
    Field {
        /// The field, as `process.cwd`.
        field: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A field asks for something that this program does not do.
    #[error(
        "{field} of the container's configuration asks for something that is not supported; leave \
         it out"
    )]
    Unsupported {
        /// The field, as `linux.intelRdt`.
        field: String,
    },
    /// A mount of a file system, a device or a mask.
    #[error(transparent)]
    Pivot(#[from] pivot::Error),
    /// A bind mount.
    #[error(transparent)]
    Bind(#[from] bindvol::Error),
    /// A seccomp filter that no program can be made of.
    #[error(transparent)]
    Seccomp(seccomp_oci::Error),
    /// A cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The unit that systemd makes for a cgroup.
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
    /// Starting the process.
    #[error(transparent)]
    Process(#[from] ns_core::Error),
    /// A step in the container failed.
    #[error("{what}: {report}")]
    Setup {
        /// On what: `the proc file system on /proc (…)`.
        what: String,
        /// The step, and what the kernel said.
        report: Report,
    },
    /// A hook failed.
    ///
    /// The words are runc's.
    #[error("error running {kind} hook #{index}: {}: {reason}", path.display())]
    Hook {
        /// When it was run: `createRuntime`.
        kind: &'static str,
        /// Its number among those of its kind, from 0.
        index: usize,
        /// The program.
        path: PathBuf,
        /// How it ended, and what it wrote.
        reason: String,
    },
    /// Something failed, and then so did `poststop` hooks.
    #[error("{error}; and {failed}")]
    Poststop {
        /// What failed first.
        error: Box<Error>,
        /// What the hooks failed of.
        failed: String,
    },
    /// The container has no program that could be started.
    #[error(
        "the container's configuration has no process, so that there is nothing to start: add \
         \"process\" to config.json, and create the container again"
    )]
    NoProcess,
    /// The process ended before its program ran, without a word.
    #[error(
        "the container's process ended before its program was executed ({0}); was it killed, or is \
         memory short?"
    )]
    Died(ns_core::Exit),
    /// There is no container of this id.
    ///
    /// The first words are runc's, by which engines know it.
    #[error(
        "container does not exist: there is no {id:?} in {}; `list` shows which there are, `--root` \
         names another directory",
        home.display()
    )]
    NoSuchContainer {
        /// The id.
        id: String,
        /// The directory of all containers.
        home: PathBuf,
    },
    /// A container whose processes are in no group of their own.
    #[error(
        "container {id:?} has no cgroup, by which its processes are found; it has stopped, or it was \
         made where cgroups cannot be"
    )]
    NoGroup {
        /// The container.
        id: String,
    },
    /// The id is taken.
    #[error(
        "container with given ID already exists: {id:?}; delete that container, or take another id"
    )]
    ContainerExists {
        /// The id.
        id: String,
    },
    /// An id that cannot be one.
    #[error("invalid container ID format: {id:?}: {reason}")]
    Id {
        /// What was given.
        id: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// What cannot be done with a container of this status.
    #[error("{refusal}: container {id:?} is {status}")]
    Refused {
        /// In runc's words, by which engines know it.
        refusal: &'static str,
        /// The container.
        id: String,
        /// How far it is.
        status: crate::Status,
    },
    /// A process that SIGKILL does not end.
    #[error(
        "the process {pid} of container {id:?} was killed and has not ended; it may wait for a disk \
         or a file server: try again when that answers"
    )]
    Endless {
        /// The container.
        id: String,
        /// Its first process.
        pid: i32,
    },
    /// Checkpoints are CRIU's work, which is not there.
    #[error(
        "checkpoints are made and restored by CRIU, and there is no program {} that can be executed (PATH is {path:?}); \
         install it, on Debian as the package criu, or name it by --criu",
        program.display()
    )]
    NoCriu {
        /// What was looked for.
        program: PathBuf,
        /// Where.
        path: String,
    },
    /// A CRIU that does not know what is asked of it.
    #[error(
        "CRIU {version} is too old: this runtime needs 3.15 or later; install one, or name it by --criu"
    )]
    OldCriu {
        /// Its version.
        version: String,
    },
    /// CRIU tried, and failed.
    #[error("{op} container {id:?}: CRIU failed: {reason}; its log is {}", log.display())]
    Criu {
        /// What was tried: `making a checkpoint of`.
        op: &'static str,
        /// The container.
        id: String,
        /// What it said.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
    /// An option of a checkpoint or restore that has no meaning here.
    #[error("{option}: {reason}")]
    Option {
        /// As it was given: `--parent-path x`.
        option: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The command is not there or cannot be executed.
    ///
    /// The words are those by which engines tell 127 from 126.
    #[error("exec: {command:?}: {reason}")]
    Command {
        /// The command, as it was given.
        command: String,
        /// What is wrong with it, and what to do.
        reason: String,
        /// Which of the two.
        problem: CommandProblem,
    },
}

/// What is wrong with a command, as shells tell it by their exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandProblem {
    /// It is not there: 127.
    NotFound,
    /// It is there and cannot be executed: 126.
    CannotExecute,
}

impl CommandProblem {
    /// The exit status for it.
    pub fn status(self) -> u8 {
        match self {
            Self::NotFound => 127,
            Self::CannotExecute => 126,
        }
    }
}

impl Error {
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { op, path, source }
    }

    /// The same error, with what failed besides while what it had made was tidied up.
    pub(crate) fn and(self, others: Vec<String>) -> Self {
        match self {
            Self::Hook { kind, index, path, reason } => {
                let reason =
                    others.into_iter().fold(reason, |all, one| format!("{all}; and {one}"));
                Self::Hook { kind, index, path, reason }
            }
            error => error,
        }
    }

    pub(crate) fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }
}
