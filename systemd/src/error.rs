//! What can go wrong, as sentences.

use std::io;

/// Why systemd made, changed or stopped no unit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine's init is another one (sd_booted(3)).
    ///
    /// The first words are runc's.
    #[error(
        "systemd cgroup flag passed, but systemd support for managing cgroups is not available: there is no \
         directory {directory}, so systemd does not run here; leave --systemd-cgroup out, and let the engine use \
         the driver cgroupfs"
    )]
    NotRunning {
        /// What systemd makes when it starts.
        directory: &'static str,
    },
    /// A user's systemd, whose bus has no known place.
    #[error(
        "there is no bus of the user's systemd: DBUS_SESSION_BUS_ADDRESS is not set, and there is no bus in \
         XDG_RUNTIME_DIR; install dbus-user-session, and log in again"
    )]
    NoUserBus,
    /// No connection to a bus.
    #[error("connecting to systemd by {address}: {source}{hint}")]
    Connect {
        /// The bus.
        address: String,
        /// What the kernel said.
        source: io::Error,
        /// What to do, where that is known: empty, or `; …`.
        hint: &'static str,
    },
    /// The connection broke, or nobody answered in time.
    #[error("{call}: speaking to systemd: {source}")]
    Io {
        /// What was asked for.
        call: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What came is not what the D-Bus specification describes.
    #[error("{call}: what came over D-Bus is no answer: {reason}")]
    Protocol {
        /// What was asked for.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An error of systemd's, or of the bus.
    #[error("{call}: systemd refuses it: {message} ({name})")]
    Refused {
        /// What was asked for.
        call: String,
        /// D-Bus's name of the error.
        name: String,
        /// In the words of who refuses.
        message: String,
    },
    /// A job of systemd's that did not do what it was for.
    #[error(
        "{call}: systemd's job ended as {result:?}; `systemctl status {unit}` or the journal may have the reason"
    )]
    Job {
        /// What was asked for.
        call: String,
        /// The unit.
        unit: String,
        /// `failed`, `timeout`, `canceled` … (org.freedesktop.systemd1(5), JobRemoved).
        result: String,
    },
    /// A value that has no meaning.
    #[error("{field}: {reason}")]
    Field {
        /// Which, as `linux.cgroupsPath`.
        field: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl Error {
    pub(crate) fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn protocol(call: &str, reason: impl ToString) -> Self {
        Self::Protocol { call: call.to_owned(), reason: reason.to_string() }
    }

    /// Whether it is the D-Bus error of this name: `org.freedesktop.systemd1.` and `name`.
    pub(crate) fn is(&self, name: &str) -> bool {
        matches!(self, Self::Refused { name: own, .. }
            if own.strip_prefix("org.freedesktop.systemd1.") == Some(name))
    }
}
