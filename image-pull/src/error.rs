//! What can go wrong, each as a sentence.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use image_store::Digest;

/// An image that cannot be pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer came.
    #[error("cannot reach {server}: {why}")]
    Unreachable {
        /// the server
        server: String,
        /// what failed, and what to do
        why: String,
    },
    /// The registry gives the image to others only, or does not say whether it has it.
    #[error(
        "the registry {registry} denies access to {repository}: {answer}; the name may be misspelt, or the repository may be private: {hint}"
    )]
    Denied {
        /// the registry
        registry: String,
        /// the repository
        repository: String,
        /// what the registry said
        answer: String,
        /// how to log in
        hint: String,
    },
    /// The registry has no such image.
    #[error("the registry {registry} has no {what}: {answer}; the name or the tag may be misspelt")]
    NotFound {
        /// the registry
        registry: String,
        /// the repository with its tag or digest
        what: String,
        /// what the registry said
        answer: String,
    },
    /// The registry has had too many requests from here.
    #[error(
        "{server} takes no more requests from here for now: {answer}{}; wait, or log in, which raises most registries' limits",
        asked(wait)
    )]
    TooMany {
        /// the server
        server: String,
        /// what it said
        answer: String,
        /// how long it asks to wait
        wait: Option<Duration>,
    },
    /// The registry answers with an error of its own.
    #[error("{server} answers {url} with {answer}")]
    Answer {
        /// the server
        server: String,
        /// what was asked for
        url: String,
        /// what it said
        answer: String,
    },
    /// What the registry says is not what the distribution specification has.
    #[error("{server} is no registry as the distribution specification has it: {why}")]
    Protocol {
        /// the server
        server: String,
        /// what it did
        why: String,
    },
    /// The manifest is larger than [`Limits::json`](image_store::Limits::json).
    #[error(
        "the manifest {version} of {server} is over the limit of {limit} bytes of JSON; if the image is trusted, raise it by --image-limit json=NUMBER"
    )]
    ManifestSize {
        /// the server
        server: String,
        /// tag or digest
        version: String,
        /// in bytes
        limit: u64,
    },
    /// The manifest has another digest than it was asked for by.
    #[error(
        "the registry {registry} gives a manifest with the digest {found} for {expected}; it is damaged or forged"
    )]
    Digest {
        /// the registry
        registry: String,
        /// the digest that was asked for, or that the registry told
        expected: Digest,
        /// the digest of what came
        found: Digest,
    },
    /// An image of before 2016.
    #[error(
        "{name} is stored in the form of Docker before 1.10 (schema 1), which has no digests of layers; push it anew with a current program"
    )]
    OldManifest {
        /// the image
        name: String,
    },
    /// Bytes kept being cut off.
    #[error(
        "the connection to {server} was cut {cuts} times without progress, the last time after {got}: {why}"
    )]
    Cut {
        /// the server
        server: String,
        /// how often
        cuts: u32,
        /// what came
        got: String,
        /// what cut it
        why: String,
    },
    /// A blob of another size than the manifest says.
    #[error("{server} has {found} bytes for {digest}, and the manifest says {expected}")]
    Size {
        /// the server
        server: String,
        /// the blob
        digest: Digest,
        /// bytes, as the manifest says
        expected: u64,
        /// bytes, as the registry says
        found: u64,
    },
    /// Another layer failed, so that this one is not needed.
    #[error("given up, since another layer failed")]
    Cancelled,
    /// A file with credentials cannot be used.
    #[error("cannot read the credentials in {}: {source}", path.display())]
    AuthFile {
        /// the file
        path: PathBuf,
        /// what is wrong
        source: io::Error,
    },
    /// A credential helper cannot be run, or fails.
    #[error(
        "the credential helper {program}, which {} names for {registry}, fails: {why}; install it, or log in anew",
        path.display()
    )]
    Helper {
        /// the program
        program: String,
        /// the file that names it
        path: PathBuf,
        /// the registry
        registry: String,
        /// what went wrong
        why: String,
    },
    /// The machine has no certificates of authorities.
    #[error(
        "this machine has no certificates to tell {server} by: {why}; install the package ca-certificates, or set SSL_CERT_FILE"
    )]
    NoRoots {
        /// the server
        server: String,
        /// what was looked at
        why: String,
    },
    /// The store, or the image itself.
    #[error(transparent)]
    Store(#[from] image_store::Error),
}

fn asked(wait: &Option<Duration>) -> String {
    wait.map_or(String::new(), |wait| format!(" (it asks to wait {} s)", wait.as_secs()))
}
