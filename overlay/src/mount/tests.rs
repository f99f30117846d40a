//! The forms, with kernels that lack `lowerdir+` played by the argument that tells it.

use super::*;
use std::path::PathBuf;

/// A directory with layers; what is mounted at `merged` goes when this does.
struct Store {
    dir: tempfile::TempDir,
}

impl Drop for Store {
    fn drop(&mut self) {
        let merged = self.path("merged");
        let flags = rustix::mount::UnmountFlags::DETACH;
        while rustix::mount::unmount(&merged, flags).is_ok() {}
    }
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Self { dir };
        for name in ["merged", "upper", "work"] {
            std::fs::create_dir(store.path(name)).unwrap();
        }
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `count` lower directories, each with a file of its own name and one that all have; the
    /// directories' names have `length` bytes.
    fn lowers(&self, count: usize, length: usize) -> Vec<PathBuf> {
        let names = (0..count).map(|n| format!("{n:0length$}"));
        let made = names.map(|name| {
            let path = self.path(&name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(&name), "").unwrap();
            std::fs::write(path.join("top"), &name).unwrap();
            path
        });
        made.collect()
    }

    fn open(&self, name: &str) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(self.path(name), flags, Mode::empty()).unwrap()
    }

    fn mount(&self, overlay: &Overlay, per_layer: bool) -> Result<Form, Error> {
        let (target, base) = (self.open("merged"), self.open(""));
        overlay.mount_with(target.as_fd(), base.as_fd(), || per_layer)
    }

    fn overlay(&self, lowers: &[PathBuf]) -> Overlay {
        Overlay::new().lowers(lowers).upper(self.path("upper")).work(self.path("work"))
    }

    /// All layers show, and the first is the topmost.
    fn assert_merged(&self, lowers: &[PathBuf]) {
        let merged = self.path("merged");
        for lower in lowers {
            let name = lower.file_name().unwrap();
            assert!(merged.join(name).exists(), "{name:?} is missing");
        }
        let top = std::fs::read_to_string(merged.join("top")).unwrap();
        assert_eq!(top.as_str(), lowers[0].file_name().unwrap());
        std::fs::write(merged.join("written"), "").unwrap();
        assert!(self.path("upper/written").exists());
    }
}

/// Says that this kernel lacks a feature of docs/kernel-features.md; who runs the tests decides whether it may.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn skipped(feature: &str, why: &str) {
    println!("SKIPPED: feature {feature}: {why}");
}

#[test]
fn what_fits_a_page_is_one_string() {
    let store = Store::new();
    let lowers = store.lowers(3, 3);
    assert_eq!(store.mount(&store.overlay(&lowers), true).unwrap(), Form::OneString);
    store.assert_merged(&lowers);
}

#[test]
fn a_page_is_filled_to_its_last_byte() {
    let store = Store::new();
    let lowers = store.lowers(20, 150);
    let length = |lowers: &[PathBuf]| {
        store.overlay(lowers).string(Path::to_owned).unwrap().to_bytes_with_nul().len()
    };
    // The last layer's name makes up what is left, then one byte more.
    let left = PAGE - length(&lowers) - 1 - store.path("").as_os_str().len();
    for (more, form) in [(0, Form::OneString), (1, Form::Relative)] {
        let mut lowers = lowers.clone();
        let mut left = left + more;
        while left > 200 {
            let name = format!("{}x{:0100}", left, 0);
            lowers.push(store.path(&name));
            left -= name.len() + store.path("").as_os_str().len() + 1;
        }
        lowers.push(store.path(&"z".repeat(left)));
        for lower in &lowers[20..] {
            std::fs::create_dir_all(lower).unwrap();
        }
        assert_eq!(length(&lowers), PAGE + more);
        assert_eq!(store.mount(&store.overlay(&lowers), false).unwrap(), form);
        rustix::mount::unmount(store.path("merged"), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn more_than_a_page_goes_layer_by_layer() {
    let store = Store::new();
    let lowers = store.lowers(127, 60);
    if !takes_layers_alone() {
        // The tests below are for such a kernel.
        skipped("overlay_lowerdir_append", "this kernel takes no lowerdir+");
        return;
    }
    assert_eq!(store.mount(&store.overlay(&lowers), true).unwrap(), Form::PerLayer);
    store.assert_merged(&lowers);
}

#[test]
fn without_lowerdir_plus_paths_are_relative() {
    let store = Store::new();
    let lowers = store.lowers(127, 26);
    let before = std::env::current_dir().unwrap();
    assert_eq!(store.mount(&store.overlay(&lowers), false).unwrap(), Form::Relative);
    store.assert_merged(&lowers);
    assert_eq!(std::env::current_dir().unwrap(), before);
}

#[test]
fn without_lowerdir_plus_too_much_is_an_error_that_says_the_kernel() {
    let store = Store::new();
    let lowers = store.lowers(127, 60);
    let error = store.mount(&store.overlay(&lowers), false).unwrap_err();
    assert!(matches!(error, Error::TooLong { layers: 127, bytes } if bytes > PAGE), "{error}");
    assert!(error.to_string().contains("Linux 6.8"), "{error}");
}
