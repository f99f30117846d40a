//! What is wrong with the text of an option.

use rustix::io::Errno;

/// Why a `-v`, `--mount` or `--tmpfs` option cannot be used; shows the whole text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {text:?}: {problem}")]
pub struct SyntaxError {
    /// `-v`, `--mount` or `--tmpfs`.
    pub flag: &'static str,
    /// Its text as it was given.
    pub text: String,
    /// What is wrong.
    pub problem: Problem,
}

impl SyntaxError {
    pub(crate) fn new(flag: &'static str, text: &str, problem: Problem) -> Self {
        Self { flag, text: text.to_owned(), problem }
    }
}

/// What is wrong with an option's text, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A NUL byte, which ends a string for the kernel.
    #[error("it contains a NUL byte, which no path or option can; remove it")]
    Nul,
    /// More colons than fields.
    #[error(
        "it has {parts} parts with colons between, and 3 are the most (SOURCE:TARGET:OPTIONS); a path \
         with a colon can be given with --mount"
    )]
    Parts {
        /// How many.
        parts: usize,
    },
    /// Something that has to be given.
    #[error("the {what} is missing; {hint}")]
    Missing {
        /// `target`, `source`.
        what: &'static str,
        /// How to give it.
        hint: &'static str,
    },
    /// A target that nothing can be mounted on.
    #[error("the target {target:?} {reason}")]
    Target {
        /// As it was given.
        target: String,
        /// What it is not, and what to write.
        reason: &'static str,
    },
    /// A source, or the path in a volume, that is ambiguous.
    #[error("the {what} {path:?} {reason}")]
    Path {
        /// `source`, `subpath`.
        what: &'static str,
        /// As it was given.
        path: String,
        /// What is wrong with it, and what to write.
        reason: &'static str,
    },
    /// A source that is neither a path nor a volume's name.
    #[error(
        "{name:?} is no name for a volume: up to 255 letters, digits, \"_\", \".\" and \"-\", a letter \
         or digit first; a path of the host begins with \"/\" or \"./\""
    )]
    Name {
        /// As it was given.
        name: String,
    },
    /// An option that there is not.
    #[error("the option {option:?} is not known; known are {known}")]
    Unknown {
        /// The option.
        option: String,
        /// Those that there are.
        known: &'static str,
    },
    /// An option that others have.
    #[error("the option {option:?} is not supported: {reason}")]
    Unsupported {
        /// The option.
        option: String,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// Two options that cannot both hold.
    #[error("the option {option:?} contradicts {other:?}; give one of them")]
    Contradiction {
        /// The later one.
        option: String,
        /// The earlier one.
        other: String,
    },
    /// An option of another kind of mount.
    #[error("the option {option:?} belongs to {owner}, and this is {kind}; remove it")]
    NotFor {
        /// The option.
        option: String,
        /// `a bind mount`, `a volume`, `a tmpfs`.
        owner: &'static str,
        /// What it was given to.
        kind: &'static str,
    },
    /// An option that makes sense only beside another.
    #[error("the option {option:?} needs {needs:?} as well")]
    Needs {
        /// The option.
        option: String,
        /// What else has to be given.
        needs: &'static str,
    },
    /// A value that an option does not take.
    #[error("the option {option:?} does not take the value {value:?}; it takes {expected}")]
    Value {
        /// The option.
        option: String,
        /// Its value.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// Quotes that do not pair.
    #[error(
        "{reason}; a field with a comma or a quote stands in quotes as a whole, \
         \"source=/a,b\", and a quote in it is doubled"
    )]
    Quotes {
        /// What is wrong.
        reason: &'static str,
    },
    /// A relative source, and no directory that it could be relative to.
    #[error(
        "the source {path:?} is relative, and the working directory cannot be told: {}; give an \
         absolute path", std::io::Error::from(*errno)
    )]
    WorkingDirectory {
        /// The source.
        path: String,
        /// What getcwd(3) said.
        errno: Errno,
    },
}
