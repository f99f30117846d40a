//! What can be wrong with a filter.

/// Why a filter cannot be compiled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A field has a value that has no meaning.
    #[error("{field} of the seccomp filter: {reason}")]
    Field {
        /// The field, as `syscalls[3].args[0].index`.
        field: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The program is longer than the kernel takes (BPF_MAXINSNS of linux/bpf_common.h).
    #[error(
        "the seccomp filter makes a program of {instructions} instructions, and the kernel takes no \
         more than 4096: name fewer conditions or architectures"
    )]
    TooLarge {
        /// How many there would be.
        instructions: usize,
    },
    /// The machine's system calls are not known here.
    #[error(
        "there is no table of system calls for the architecture {machine}, so that no seccomp \
         filter can be made for it; run without one"
    )]
    Machine {
        /// The name of the architecture.
        machine: String,
    },
}

impl Error {
    pub(crate) fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }

    /// The same with the place of the filter itself before the field: `linux.seccomp`.
    #[must_use]
    pub fn below(self, place: &str) -> Self {
        match self {
            Self::Field { field, reason } => {
                Self::Field { field: format!("{place}.{field}"), reason }
            }
            other => other,
        }
    }
}
