//! Layers, loaded and mounted.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use image_store::{Error, LayerForm, LoadOptions, Mounted, Source, StoredImage};
use overlay::Overlay;
use rustix::mount::UnmountFlags;

use crate::common::{Image, Place, quick};
use crate::tar::Tar;
use crate::tree;

/// How the layers of an image come into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One load, which unpacks all of them at the same time.
    AtOnce,
    /// A load for each, with those below it in the store.
    OneByOne,
}

/// A mounted overlay, read-only; unmounted when dropped.
pub(crate) struct Mount {
    path: PathBuf,
    _layers: Option<Mounted>,
}

impl Mount {
    /// Mounts an image's layers as a container's root is mounted: by their short links, relative to the store.
    pub(crate) fn new(place: &Place, image: &StoredImage) -> Mount {
        // One lower directory alone is no overlay; an empty one below all of them changes nothing.
        let bottom = place.path("bottom");
        fs::create_dir_all(&bottom).unwrap();
        if image.index.is_some() {
            crate::common::fsck(&place.root(), image);
        }
        let layers = place.store.mount(&image.id).unwrap();
        let lowers = image.lowers();
        let mut overlay = Overlay::new().lowers(lowers.iter().map(|lower| lower.link.as_str()));
        if lowers.len() < overlay::MAX_LOWERS {
            overlay = overlay.lower(&bottom);
        }
        let merged = place.path("merged");
        fs::create_dir_all(&merged).unwrap();
        overlay.mount_at(File::open(&merged).unwrap().as_fd(), place.store.dir()).unwrap();
        Mount { path: merged, _layers: layers }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// See [`tree::lines`].
    pub(crate) fn lines(&self) -> Vec<String> {
        lines(&self.path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.path, UnmountFlags::DETACH).unwrap();
    }
}

/// The lines of a directory's tree.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    tree::lines(OwnedFd::from(File::open(path).unwrap()).as_fd())
}

/// Loads an image of these layers, lowest first.
pub(crate) fn load(
    place: &Place,
    layers: &[Vec<u8>],
    options: &LoadOptions,
    way: Way,
) -> Result<StoredImage, Error> {
    let first = if way == Way::AtOnce { layers.len() } else { 1 };
    let mut loaded = None;
    for count in first..=layers.len() {
        let path =
            place.archive(&format!("{count}.tar"), &[Image::new("test:1", &layers[..count])]);
        loaded = place.store.load(&Source::Path(path), options, &())?.pop();
    }
    Ok(loaded.unwrap())
}

/// The forms that images can have here. Where it is not the index, `indexed::the_form_is_to_be_had_here` says so, once
/// for all tests.
pub(crate) fn forms() -> Vec<LayerForm> {
    static HERE: LazyLock<bool> = LazyLock::new(|| {
        let place = Place::new();
        let indexed = load(&place, &[Tar::new().end()], &with(LayerForm::Index), Way::AtOnce);
        !matches!(indexed, Err(Error::NoIndex { .. }))
    });
    [LayerForm::Dir].into_iter().chain(HERE.then_some(LayerForm::Index)).collect()
}

/// Options for a form.
pub(crate) fn with(layer_form: LayerForm) -> LoadOptions {
    LoadOptions { layer_form, ..quick() }
}

/// Layers to be, lowest first, as they come out whichever way they go in, and in whichever form they are kept.
pub(crate) fn expect(layers: impl IntoIterator<Item = Tar>, expected: &[&str]) {
    let layers: Vec<Vec<u8>> = layers.into_iter().map(Tar::end).collect();
    for form in forms() {
        for way in [Way::AtOnce, Way::OneByOne] {
            let place = Place::new();
            let image = load(&place, &layers, &with(form), way).unwrap();
            let found = Mount::new(&place, &image).lines();
            assert_eq!(found, expected, "{form} {way:?}: {found:#?}");
        }
    }
}

/// Layers that must be refused with a sentence of these words.
pub(crate) fn refuse(layers: impl IntoIterator<Item = Tar>, words: &str) {
    let layers: Vec<Vec<u8>> = layers.into_iter().map(Tar::end).collect();
    for form in forms() {
        let place = Place::new();
        let said = load(&place, &layers, &with(form), Way::AtOnce).unwrap_err().to_string();
        assert!(said.contains(words), "{form}: no {words:?} in: {said}");
        assert!(place.store.images().unwrap().whole.is_empty());
        crate::common::assert_whole(&place.root());
    }
}

/// Says that this kernel lacks a feature of docs/kernel-features.md; who runs the tests decides whether it may.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
pub(crate) fn skipped(feature: &str, why: &str) {
    println!("SKIPPED: feature {feature}: {why}");
}
