//! What a container is prepared of: the types of its configuration, or those and the text of its filter.

use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::runtime as oci;

use super::Prepared;
use crate::stdio::Stdio;
use crate::{Config, Error};

impl Prepared {
    /// Checks and opens all that `spec`, of the bundle `dir`, asks for. Nothing is changed on the
    /// host. `stdio` is for a process without a terminal.
    ///
    /// # Errors
    /// A field has no meaning, or is not supported; something that it names on the host is missing.
    pub fn new(dir: &Path, spec: &oci::Spec, stdio: Stdio) -> Result<Self, Error> {
        Self::with_cache(dir, spec, stdio, None)
    }

    /// As [`Prepared::new`]; what is made of the seccomp filter is kept in the directory `cache`, which
    /// should be the caller's alone.
    ///
    /// # Errors
    /// As there.
    pub fn with_cache(
        dir: &Path,
        spec: &oci::Spec,
        stdio: Stdio,
        cache: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Error> {
        Self::prepare(dir, spec, None, stdio, cache)
    }

    /// As [`Prepared::with_cache`], with `cache` from [`Home::programs`](crate::Home::programs).
    ///
    /// # Errors
    /// As there.
    pub fn with_config(
        dir: &Path,
        config: &Config,
        stdio: Stdio,
        cache: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Error> {
        Self::prepare(dir, config.spec(), config.text(), stdio, cache)
    }
}
