//! Errors from what is at hand, and what they mean for a program's exit.

use std::io;
use std::path::PathBuf;

use crate::{Container, Error};

impl Error {
    /// The exit status of `run` and `exec` with this error: 127 when the command is not found, 126
    /// when it cannot be executed, 125 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Start { code, .. } => *code,
            Error::Runtime(oci_runtime::Error::Command { problem, .. }) => problem.status(),
            _ => 125,
        }
    }

    /// Whether an option's value is what is wrong.
    pub fn is_of_option(&self) -> bool {
        matches!(self, Error::Option { .. } | Error::NotYet { .. } | Error::Mode { .. })
    }

    /// An [`Error::System`].
    pub(crate) fn system(
        op: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Error {
        Error::System { op, path: path.into(), source: source.into() }
    }

    /// An [`Error::Option`].
    pub(crate) fn option(option: &'static str, value: &str, why: &'static str) -> Error {
        Error::Option { option, value: shorten(value), why }
    }

    /// An [`Error::NotYet`].
    pub(crate) fn not_yet(option: &'static str, value: &str, what: &'static str) -> Error {
        Error::NotYet { option, value: shorten(value), what }
    }

    /// An [`Error::NotRunning`].
    pub(crate) fn not_running(container: &Container) -> Error {
        Error::NotRunning { name: container.name.clone(), id: container.id.clone() }
    }

    /// An [`Error::Invalid`].
    pub(crate) fn invalid(what: &'static str, value: &str, why: &'static str) -> Error {
        Error::Invalid { what, value: shorten(value), why }
    }
}

/// Text from outside, cut for a message.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(256).collect()
}
