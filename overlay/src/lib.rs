//! Layers in, an overlay mount out.
//!
//! **Promise.** Directories, the topmost first, become one overlayfs mount: attached at a directory
//! that the caller has open, or detached. A mount that fails is explained: which layer, which
//! option, what the kernel said, what to do. [`whiteout`] makes and recognises the forms in which a
//! layer says "removed". The crate knows nothing of where layers come from or what runs on them.
//!
//! **Forms.** `mount` and the scripts that read it know `lowerdir=A:B,upperdir=…,workdir=…`, so that
//! is what is made where it fits one page ([`Form::OneString`]). Beyond, each layer is handed over
//! alone ([`Form::PerLayer`], `lowerdir+`, Linux 6.8); on older kernels the paths are shortened
//! against a base directory ([`Form::Relative`]).
//!
//! **Options.** `redirect_dir=off,metacopy=off,index=off` whatever the kernel's defaults are, since
//! layers come from strangers; with `userxattr` the kernel itself allows nothing else. Where they
//! are the kernel's defaults, `mount` does not print them. A kernel built to "always follow
//! redirects" follows those that it finds in a layer, inside the layers: who unpacks a layer has to
//! escape the `trusted.overlay.*` attributes that it brings.
//!
//! ```
//! let overlay = overlay::Overlay::new()
//!     .lower("/store/l/NGINX") // the topmost first
//!     .lower("/store/l/DEBIAN")
//!     .upper("/store/c1/diff")
//!     .work("/store/c1/work");
//! assert_eq!(
//!     overlay.options(),
//!     "lowerdir=/store/l/NGINX:/store/l/DEBIAN,upperdir=/store/c1/diff,workdir=/store/c1/work",
//! );
//! # let dir = tempfile::tempdir()?;
//! # let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
//! # let merged = rustix::fs::open(dir.path(), flags, rustix::fs::Mode::empty())?;
//! # let store = merged.try_clone()?;
//! # use std::os::fd::AsFd;
//! // `merged` and `store` are descriptors of directories; here nothing of the above is there.
//! let error = overlay.mount_at(merged.as_fd(), store.as_fd()).unwrap_err();
//! assert!(error.to_string().contains("/store/l/NGINX"), "{error}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/two-layers.rs` mounts two layers and shows what they become (as root).

#![forbid(unsafe_code)]

mod error;
mod explain;
mod mount;
mod options;
pub mod whiteout;

pub use error::Error;
pub use mount::Form;

use std::path::{Path, PathBuf};

/// Most lower directories that one overlay takes (OVL_MAX_STACK of the kernel's fs/overlayfs).
pub const MAX_LOWERS: usize = 500;

/// An overlay mount being described; [`Overlay::mount_at`] or [`Overlay::detached`] makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    lowers: Vec<PathBuf>,
    upper: Option<PathBuf>,
    work: Option<PathBuf>,
    volatile: bool,
    userxattr: bool,
}

impl Overlay {
    /// An overlay without layers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a lower directory below those added so far: the first one is the topmost.
    ///
    /// A path that was added before is left out: what it holds is hidden by its upper occurrence,
    /// and the kernel refuses repeated layers (ELOOP).
    #[must_use]
    pub fn lower(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        if !self.lowers.iter().any(|lower| lower == path) {
            self.lowers.push(path.to_owned());
        }
        self
    }

    /// Adds many, the topmost first; see [`Overlay::lower`].
    #[must_use]
    pub fn lowers<P: AsRef<Path>>(self, paths: impl IntoIterator<Item = P>) -> Self {
        paths.into_iter().fold(self, Self::lower)
    }

    /// Sets the directory that takes the changes. Without one the overlay is read-only and needs
    /// two lower directories or more (of one, make a bind mount).
    #[must_use]
    pub fn upper(mut self, path: impl AsRef<Path>) -> Self {
        self.upper = Some(path.as_ref().to_owned());
        self
    }

    /// Sets the kernel's own scratch directory: empty, in the same mount as the upper directory.
    #[must_use]
    pub fn work(mut self, path: impl AsRef<Path>) -> Self {
        self.work = Some(path.as_ref().to_owned());
        self
    }

    /// Never syncs the upper directory (Linux 5.10). The kernel leaves a mark in the work directory
    /// and refuses to mount it again until `WORK/work/incompat/volatile` is removed.
    #[must_use]
    pub fn volatile(mut self, volatile: bool) -> Self {
        self.volatile = volatile;
        self
    }

    /// Uses `user.overlay.*` attributes in place of `trusted.overlay.*` (Linux 5.11): for mounts in
    /// a user namespace.
    #[must_use]
    pub fn userxattr(mut self, userxattr: bool) -> Self {
        self.userxattr = userxattr;
        self
    }

    /// The options that name the layers as `/proc/mounts` shows them for [`Form::OneString`]:
    /// `lowerdir=A:B,upperdir=…,workdir=…`. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn options(&self) -> String {
        String::from_utf8_lossy(&self.shown(Path::to_owned)).into_owned()
    }

    /// Every path with the option that names it.
    fn paths(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let lowers = self.lowers.iter().map(|path| ("lowerdir", path.as_path()));
        let upper = self.upper.iter().map(|path| ("upperdir", path.as_path()));
        let work = self.work.iter().map(|path| ("workdir", path.as_path()));
        lowers.chain(upper).chain(work)
    }
}
