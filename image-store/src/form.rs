//! The two forms that an image can have in the store, and which one it gets.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use overlay::Overlay;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::{Report, Step};

use crate::Error;
use crate::erofs;
use crate::store::Store;

/// How an image's layers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerForm {
    /// As an index where this kernel and the store's file system can mount one, else as directories; a small image as
    /// directories in any case (8 MiB in 8 layers).
    #[default]
    Auto,
    /// Unpacked, a directory for each layer.
    Dir,
    /// As their tars, with one EROFS index over all of them, which is mounted. Needs root and Linux 6.4.
    Index,
}

impl std::fmt::Display for LayerForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LayerForm::Auto => "auto",
            LayerForm::Dir => "dir",
            LayerForm::Index => "index",
        })
    }
}

impl std::str::FromStr for LayerForm {
    type Err = ParseLayerFormError;

    fn from_str(text: &str) -> Result<LayerForm, ParseLayerFormError> {
        let all = [LayerForm::Auto, LayerForm::Dir, LayerForm::Index];
        let found = all.into_iter().find(|form| form.to_string() == text);
        found.ok_or_else(|| ParseLayerFormError(text.chars().take(64).collect()))
    }
}

/// A text that names no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no layer form {0:?}; use auto, dir or index")]
pub struct ParseLayerFormError(String);

impl Store {
    /// Lays an overlay over a detached mount, nowhere.
    fn stack(&self, tree: &OwnedFd) -> Result<(), sys::Failure> {
        let below = format!("/proc/self/fd/{}", tree.as_raw_fd());
        let overlay = || Overlay::new().lower(&below).lower(self.dirs().staging.path()).detached();
        if overlay().is_ok() {
            return Ok(());
        }
        // Before 6.15 an overlay takes no mount that is attached nowhere: where nobody sees it, over the root, which
        // hides nothing from who is there already.
        let done = sys::process::in_own_mounts(|| {
            let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .step("opening the root")?;
            sys::mount::attach(tree, root).step("attaching EROFS")?;
            let stacked = overlay().map(drop);
            stacked.map_err(|error| {
                let errno = match error {
                    overlay::Error::Layer { errno, .. } => errno,
                    overlay::Error::Mount { report, .. } => report.errno,
                    _ => Errno::INVAL,
                };
                sys::Failure::new("stacking an overlay on EROFS", errno)
            })
        });
        done.step("making a mount namespace")?
    }
}

/// Whether an image gets an index; `layers` are the bytes of its layers, as they are in the archive. `probe` says why it
/// cannot be mounted, where that is so.
///
/// # Errors
/// It is asked for and cannot be ([`Error::NoIndex`]).
pub(crate) fn takes_index(
    wanted: LayerForm,
    layers: impl IntoIterator<Item = u64>,
    probe: impl FnOnce() -> Result<Option<Report>, Error>,
) -> Result<bool, Error> {
    match wanted {
        LayerForm::Dir => Ok(false),
        LayerForm::Auto => Ok(!is_small(layers) && probe()?.is_none()),
        LayerForm::Index => match probe()? {
            None => Ok(true),
            Some(why) => Err(Error::NoIndex { why: why.to_string() }),
        },
    }
}

/// Whether an image is unpacked about as soon as indexed. A start mounts the index, if no other container of the image
/// runs, and has none of its content in memory, since the kernel lets that go with the mount: 1.3 of 9 ms and more. No
/// load of such an image gains that once.
fn is_small(layers: impl IntoIterator<Item = u64>) -> bool {
    const BYTES: u64 = 8 << 20;
    const LAYERS: usize = 8;
    let (count, bytes) = layers
        .into_iter()
        .fold((0, 0_u64), |(count, sum), bytes| (count + 1, sum.saturating_add(bytes)));
    count <= LAYERS && bytes <= BYTES
}

impl Store {
    /// Mounts the index of an empty layer, and an overlay over it, nowhere: `None` where that goes.
    pub(crate) fn probe(&self) -> Result<Option<Report>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Some(sys::Failure::new("mounting EROFS without root", Errno::PERM).into()));
        }
        if too_old(&rustix::system::uname().release().to_string_lossy()) {
            let op = "reading blocks of 512 bytes by EROFS before Linux 6.4";
            return Ok(Some(sys::Failure::new(op, Errno::OPNOTSUPP).into()));
        }
        let (mut index, device) = (self.spool()?, self.spool()?);
        let failed = |source| Error::System {
            op: "write a file without a name in",
            path: self.dirs().staging.path().to_owned(),
            source,
        };
        device.set_len(512).map_err(failed)?;
        image_unpack::Merge::new("an empty index", &image_unpack::Limits::default()).write(
            &[512],
            [0; 16],
            &mut index,
        )?;
        match erofs::mount(index.as_fd(), None, &[device.as_fd()]) {
            Ok(tree) => {
                // The kernel limits how high file systems can be stacked.
                match self.stack(&tree) {
                    Ok(()) => Ok(None),
                    Err(failure) => Ok(Some(failure.into())),
                }
            }
            // EROFS may not be there, or not for this user, or not with blocks of 512 bytes (before 6.4), or wants block
            // devices where there are none. Directories do in all cases.
            Err(failure) => Ok(Some(failure.into())),
        }
    }
}

/// Whether a kernel of this release mounts an index and shows other bytes than it has: 6.1 has a part of what
/// small blocks need. What the release does not say is left to the attempt.
fn too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (6, 4),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_6_4_are_too_old() {
        for release in ["6.1.0-40-cloud-amd64", "5.15.0", "6.3"] {
            assert!(too_old(release), "{release}");
        }
        for release in ["6.4.0", "6.12.48+deb13-amd64", "7.0-rc1", "x", ""] {
            assert!(!too_old(release), "{release}");
        }
    }

    const LARGE: [u64; 1] = [(8 << 20) + 1];

    #[test]
    fn what_is_small_needs_no_probe_and_takes_an_index_if_that_is_asked_for() {
        for small in [&[8 << 20][..], &[1 << 20; 8], &[]] {
            let layers = || small.iter().copied();
            assert!(!takes_index(LayerForm::Auto, layers(), || panic!("nobody asked")).unwrap());
            assert!(takes_index(LayerForm::Index, layers(), || Ok(None)).unwrap());
        }
        assert!(takes_index(LayerForm::Auto, [1; 9], || Ok(None)).unwrap());
    }

    fn no() -> Result<Option<Report>, Error> {
        Ok(Some(sys::Failure::new("mounting", Errno::NOTBLK).into()))
    }

    #[test]
    fn a_kernel_without_it_gets_directories_unless_it_was_asked_for() {
        assert!(!takes_index(LayerForm::Auto, LARGE, no).unwrap());
        assert!(!takes_index(LayerForm::Dir, LARGE, || panic!("nobody asked")).unwrap());
        assert!(takes_index(LayerForm::Auto, LARGE, || Ok(None)).unwrap());
        assert!(takes_index(LayerForm::Index, LARGE, || Ok(None)).unwrap());
        let said = takes_index(LayerForm::Index, LARGE, no).unwrap_err().to_string();
        assert!(said.contains("--layer-form dir") && said.contains("mounting"), "{said}");
    }

    #[test]
    fn forms_have_names() {
        for form in [LayerForm::Auto, LayerForm::Dir, LayerForm::Index] {
            assert_eq!(form.to_string().parse(), Ok(form));
        }
        let said = "tar".parse::<LayerForm>().unwrap_err().to_string();
        assert!(said.contains("auto, dir or index"), "{said}");
    }
}
