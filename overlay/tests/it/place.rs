//! A directory with layers; what is mounted below it goes when it is dropped.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use overlay::{Error, Form, Overlay};
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that mounted nothing there has nothing to unmount.
        for name in ["merged", "other"] {
            while rustix::mount::unmount(self.path(name), UnmountFlags::DETACH).is_ok() {}
        }
    }
}

impl Place {
    /// With empty directories `merged`, `other`, `upper`, `work`, `a` and `b`.
    pub(crate) fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        for name in ["merged", "other", "upper", "work", "a", "b"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `a` upon `b`, with the upper directory.
    pub(crate) fn overlay(&self) -> Overlay {
        let lowers = ["a", "b"].map(|name| self.path(name));
        Overlay::new().lowers(lowers).upper(self.path("upper")).work(self.path("work"))
    }

    pub(crate) fn mount(&self, overlay: &Overlay) -> Result<Form, Error> {
        overlay.mount_at(open(&self.path("merged")).as_fd(), open(self.dir.path()).as_fd())
    }

    /// Mounts a tmpfs at `other`, with a mount option that it may need.
    pub(crate) fn tmpfs(&self, read_only: bool) {
        let flags = match read_only {
            true => rustix::mount::MountFlags::RDONLY,
            false => rustix::mount::MountFlags::empty(),
        };
        rustix::mount::mount(c"tmpfs", self.path("other"), c"tmpfs", flags, c"size=1m").unwrap();
    }
}

pub(crate) fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// Says that this kernel lacks a feature of docs/kernel-features.md; who runs the tests decides whether it may.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
pub(crate) fn skipped(feature: &str, why: &str) {
    println!("SKIPPED: feature {feature}: {why}");
}
