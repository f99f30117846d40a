//! What a power cut takes of a load that was left to the kernel is found before it is used: of layers, and of the image's
//! own records. A load of the same archive makes it whole again.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Image, Place, layer, load, quick};
use image_store::{
    CheckOptions, Error, Grade, LayerForm, LoadOptions, Platform, Problem, Source, StoredImage,
};

const REGULAR: tar::EntryType = tar::EntryType::Regular;

fn two_layers() -> Image {
    Image::new("two:1", &[layer(&[("a", b"lower"), ("b", b"lower")]), layer(&[("a", b"upper")])])
}

/// As if `image` had been loaded before this boot: its records then have another boot's id.
fn reboot(place: &Place, image: &StoredImage) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let layers = image.layers.iter().map(|layer| layer.path().with_file_name("layer.json"));
    // The record of a tar has no boot: it is looked at with the image.
    let layers = layers.filter(|_| image.index.is_none());
    for path in layers.chain([record(place, image)]) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(boot.trim()), "{text}");
        fs::write(&path, text.replace(boot.trim(), "another")).unwrap();
    }
}

fn record(place: &Place, image: &StoredImage) -> PathBuf {
    place.root().join("images").join(image.id.hex()).join("image.json")
}

fn is_lost(error: &Error, layer: &Path) -> bool {
    matches!(error, Error::Damaged { path, problem: Problem::Lost } if path == layer)
}

#[test]
fn what_is_whole_is_looked_at_once() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    let image = load(&place.store, &path).remove(0);
    reboot(&place, &image);
    place.store.find("two:1").unwrap();
    let text = fs::read_to_string(record(&place, &image)).unwrap();
    assert!(!text.contains("boot") && text.contains("\"durable\":true"), "{text}");
    let layer = fs::read_to_string(image.layers[1].path().with_file_name("layer.json")).unwrap();
    assert!(!layer.contains("boot") && layer.contains("content"), "{layer}");
    // From now on nobody looks, so that this is not found.
    fs::write(image.layers[1].path().join("a"), b"").unwrap();
    place.store.find("two:1").unwrap();
    assert!(place.store.known(&path, &Platform::host()).unwrap().is_some());
}

#[test]
fn what_is_lost_is_said_and_loaded_again() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    for (cut, removed) in [("a", false), ("a", true)] {
        let image = load(&place.store, &path).remove(0);
        reboot(&place, &image);
        let diff = image.layers[0].path();
        let before = fs::read(diff.join(cut)).unwrap();
        match removed {
            true => fs::remove_file(diff.join(cut)).unwrap(),
            false => fs::write(diff.join(cut), b"").unwrap(),
        }
        let error = place.store.find("two:1").unwrap_err();
        assert!(is_lost(&error, diff), "{error}");
        assert!(error.to_string().contains("went down"), "{error}");
        assert!(place.store.known(&path, &Platform::host()).unwrap().is_none());
        let again = load(&place.store, &path).remove(0);
        assert_eq!(fs::read(again.layers[0].path().join(cut)).unwrap(), before);
        place.store.find("two:1").unwrap();
        assert_eq!(common::names(&place.root().join("staging")), Vec::<String>::new());
        place.store.remove("two:1", true, &|_| false).unwrap();
    }
}

#[test]
fn what_is_lost_can_be_removed() {
    let place = Place::new();
    let image = place.load(&[two_layers()]).remove(0);
    reboot(&place, &image);
    fs::write(image.layers[0].path().join("a"), b"").unwrap();
    assert!(place.store.find("two:1").is_err());
    let removed = place.store.remove("two:1", false, &|_| false).unwrap();
    assert_eq!(removed.image, Some(image.id));
    assert_eq!(removed.layers.len(), image.layers.len());
}

#[test]
fn a_durable_load_leaves_nothing_to_look_at() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    let durable = LoadOptions { durable: true, ..quick() };
    let image = place.store.load(&Source::Path(path), &durable, &()).unwrap().remove(0);
    for path in [record(&place, &image), image.layers[0].path().with_file_name("layer.json")] {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("boot"), "{text}");
    }
}

/// What stands twice has a layer's files counted after it was unpacked: also below the longest path that there is.
#[test]
fn a_directory_with_the_longest_path_is_counted() {
    let path = vec!["d".repeat(255); 16].join("/");
    assert_eq!(path.len(), 4095);
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind) in [(&path[..], tar::EntryType::Directory), ("f", REGULAR), ("f", REGULAR)] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o755);
        tar.append_data(&mut header, name, &b""[..]).unwrap();
    }
    let place = Place::new();
    let image = place.load(&[Image::new("deep:1", &[tar.into_inner().unwrap()])]).remove(0);
    let record = fs::read_to_string(image.layers[0].path().with_file_name("layer.json")).unwrap();
    assert!(record.contains("\"names\":17,\"bytes\":0"), "{record}");
    assert_eq!(place.store.check(&CheckOptions::default()).unwrap().findings, []);
}

/// How an image's entry is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// The name is on the disk, and what is in it is not.
    Empty,
    /// Room for a record is on the disk, and what was to be in it is not.
    Zeros,
    Removed,
}

impl Loss {
    /// Takes an entry; `false` where it cannot be lost in this way.
    fn take(self, path: &Path) -> bool {
        let kind = fs::symlink_metadata(path).unwrap();
        match self {
            Loss::Empty if kind.is_file() => fs::write(path, b"").unwrap(),
            Loss::Zeros if path.extension().is_some_and(|of| of == "json") => {
                fs::write(path, vec![0; usize::try_from(kind.len()).unwrap()]).unwrap();
            }
            Loss::Removed if kind.is_dir() => fs::remove_dir_all(path).unwrap(),
            Loss::Removed => fs::remove_file(path).unwrap(),
            _ => return false,
        }
        true
    }
}

/// All that an image has in the store, but for the files in its layers: relative paths.
fn entries(place: &Place) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> =
        ["images", "layers", "blobs", "mounts", "l"].map(PathBuf::from).to_vec();
    while let Some(dir) = dirs.pop() {
        for name in common::names(&place.root().join(&dir)) {
            let path = dir.join(name);
            let is_dir = fs::symlink_metadata(place.root().join(&path)).unwrap().is_dir();
            if is_dir && !path.ends_with("diff") {
                dirs.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

/// The forms of images that this kernel has.
fn forms() -> Vec<LayerForm> {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    let indexed = LoadOptions { layer_form: LayerForm::Index, ..quick() };
    match place.store.load(&Source::Path(path), &indexed, &()) {
        Ok(_) => vec![LayerForm::Dir, LayerForm::Index],
        Err(Error::NoIndex { .. }) => vec![LayerForm::Dir],
        Err(error) => panic!("{error}"),
    }
}

/// A store with an image of which a power cut took one thing, and with one that is whole.
struct Lost {
    place: Place,
    archive: PathBuf,
    options: LoadOptions,
    /// What was lost, for messages.
    what: String,
}

impl Lost {
    /// Each thing that can be lost, and for each form, one after the other.
    fn each(act: impl Fn(&Lost)) {
        let mut count = 0;
        for layer_form in forms() {
            let mut at = 0;
            loop {
                let mut is_last = false;
                for loss in [Loss::Empty, Loss::Zeros, Loss::Removed] {
                    let place = Place::new();
                    let archive = place.archive("two.tar", &[two_layers()]);
                    let options = LoadOptions { layer_form, ..quick() };
                    let source = Source::Path(archive.clone());
                    let image = place.store.load(&source, &options, &()).unwrap().remove(0);
                    let all = entries(&place);
                    is_last = at + 1 == all.len();
                    reboot(&place, &image);
                    if loss.take(&place.root().join(&all[at])) {
                        let what = format!("{layer_form}: {loss:?} {}", all[at].display());
                        place.load(&[Image::new("whole:1", &[layer(&[("w", b"whole")])])]);
                        act(&Lost { place, archive, options, what });
                        count += 1;
                    }
                }
                at += 1;
                if is_last {
                    break;
                }
            }
        }
        assert!(count > 20, "{count} losses");
    }

    fn load(&self) -> StoredImage {
        let source = Source::Path(self.archive.clone());
        let loaded = self.place.store.load(&source, &self.options, &());
        loaded.unwrap_or_else(|error| panic!("{}: {error}", self.what)).remove(0)
    }

    /// That all that there is is whole, and how much that is.
    fn assert_whole(&self, images: usize) {
        let options = CheckOptions { content: true };
        let checked = self.place.store.check(&options).unwrap();
        let damaged = checked.findings.iter().filter(|found| found.grade == Grade::Damage);
        assert_eq!(
            damaged.collect::<Vec<_>>(),
            Vec::<&image_store::Finding>::new(),
            "{}",
            self.what
        );
        let images_now = self.place.store.images().unwrap();
        assert_eq!(images_now.whole.len(), images, "{}", self.what);
        assert!(images_now.damaged.is_empty(), "{}", self.what);
    }

    /// That the image has the files that it had.
    fn assert_files(&self, image: &StoredImage) {
        let mounted = self.place.store.mount(&image.id);
        let _mounted = mounted.unwrap_or_else(|error| panic!("{}: {error}", self.what));
        for lower in image.lowers() {
            let root = self.place.root().join(&lower.link);
            assert_eq!(fs::read(root.join("a")).unwrap().len(), 5, "{}", self.what);
        }
    }
}

#[test]
fn each_loss_is_said_or_does_no_harm() {
    Lost::each(|lost| {
        let (store, what) = (&lost.place.store, &lost.what);
        let images = store.images().unwrap();
        assert!(images.whole.iter().any(|image| image.tags == ["whole:1"]), "{what}");
        for damaged in &images.damaged {
            assert_eq!(damaged.tags, ["two:1"], "{what}");
            let said = damaged.why.to_string();
            assert!(said.contains("image.json") || said.contains("config.json"), "{what}: {said}");
        }
        match store.find("two:1") {
            Ok(image) => lost.assert_files(&image),
            Err(Error::Damaged {
                problem: Problem::Lost | Problem::Missing | Problem::Digest(_),
                ..
            }) => {}
            Err(Error::NotFound { .. }) => assert!(what.contains("Removed images/"), "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
        store.find("whole:1").unwrap();
    });
}

#[test]
fn each_loss_is_mended_by_a_load() {
    Lost::each(|lost| {
        lost.place.store.known(&lost.archive, &Platform::host()).unwrap();
        let image = lost.load();
        assert_eq!(image.tags, ["two:1"], "{}", lost.what);
        lost.assert_files(&image);
        lost.assert_files(&lost.place.store.find("two:1").unwrap());
        lost.assert_whole(2);
        assert_eq!(common::names(&lost.place.root().join("staging")), [""; 0]);
    });
}

#[test]
fn what_has_a_loss_can_be_removed() {
    Lost::each(|lost| {
        let store = &lost.place.store;
        let removed = store.remove("two:1", false, &|_| false);
        let removed = removed.unwrap_or_else(|error| panic!("{}: {error}", lost.what));
        assert_eq!(removed.untagged, ["two:1"], "{}", lost.what);
        // Where the image itself was lost, the next removal takes what is left of it.
        store.remove("whole:1", false, &|_| false).unwrap();
        assert_eq!(entries(&lost.place), Vec::<PathBuf>::new(), "{}", lost.what);
        lost.assert_whole(0);
    });
}

#[test]
fn each_loss_is_repaired() {
    Lost::each(|lost| {
        let options = CheckOptions::default();
        lost.place.store.repair(&options, &|_| false).unwrap();
        let checked = lost.place.store.check(&options).unwrap();
        assert!(!checked.is_damaged(), "{}: {checked:#?}", lost.what);
        lost.place.store.find("whole:1").unwrap();
        lost.assert_files(&lost.load());
        lost.assert_whole(2);
    });
}

/// Which layers a lost image needs nobody knows: the others can go all the same, and the last one takes all layers.
#[test]
fn several_lost_images_can_be_removed() {
    for layer_form in forms() {
        for first in ["one:1", "two:1", "whole:1"] {
            let place = Place::new();
            let one = Image::new("one:1", &two_layers().layers[..1]);
            let whole = Image::new("whole:1", &[layer(&[("w", b"whole")])]);
            let path = place.archive("all.tar", &[one, two_layers(), whole]);
            let options = LoadOptions { layer_form, ..quick() };
            let images = place.store.load(&Source::Path(path.clone()), &options, &()).unwrap();
            for image in &images[..2] {
                fs::write(record(&place, image), b"").unwrap();
            }
            let kept = entries(&place).len();
            let removed = place.store.remove(first, false, &|_| false).unwrap();
            assert_eq!(removed.untagged, [first]);
            assert_eq!(removed.layers, [], "of which nobody knows who needs them");
            assert!(entries(&place).len() > kept - 6, "{:?}", entries(&place));
            // By an id, and by the start of one.
            for image in images.iter().filter(|image| image.tags != [first]) {
                place.store.remove(&image.id.hex()[..12], false, &|_| false).unwrap();
            }
            assert_eq!(entries(&place), Vec::<PathBuf>::new(), "{first}");
            place.store.load(&Source::Path(path), &options, &()).unwrap();
            assert!(!place.store.check(&CheckOptions::default()).unwrap().is_damaged());
        }
    }
}

/// A repair keeps what a container is of, also where nobody can read which layers that has.
#[test]
fn a_lost_image_in_use_is_kept_by_a_repair() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    let image = load(&place.store, &path).remove(0);
    fs::write(record(&place, &image), b"").unwrap();
    let (_, done) = place.store.repair(&CheckOptions::default(), &|_| true).unwrap();
    assert_eq!((done.kept, done.layers), (vec![image.id], vec![]));
    assert!(image.layers.iter().all(|layer| layer.path().is_dir()));
    load(&place.store, &path);
    assert!(!place.store.check(&CheckOptions::default()).unwrap().is_damaged());
}

/// Processes that find the same layer lost: one puts it away, and what is put anew stays.
#[test]
fn many_that_load_at_once_mend_it_once() {
    // Images with a layer in common, each by an archive of its own, so that none waits for another.
    let names = ["a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1", "h:1"];
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for layer_form in forms() {
        for _ in 0..10 {
            let place = Place::new();
            let options = LoadOptions { layer_form, ..quick() };
            let archive = |name: &&'static str| {
                let image = Image::new(name, &two_layers().layers).label(name);
                place.archive(&format!("{}.tar", &name[..1]), &[image])
            };
            let archives: Vec<PathBuf> = names.iter().map(archive).collect();
            let load = |path: &PathBuf| {
                place.store.load(&Source::Path(path.clone()), &options, &()).unwrap().remove(0)
            };
            let images: Vec<StoredImage> = archives.iter().map(load).collect();
            for image in &images {
                let text = fs::read_to_string(record(&place, image)).unwrap();
                fs::write(record(&place, image), text.replace(boot.trim(), "another")).unwrap();
            }
            for layer in &images[0].layers {
                fs::write(layer.path().with_file_name("layer.json"), b"").unwrap();
            }
            std::thread::scope(|scope| {
                let threads: Vec<_> =
                    archives.iter().map(|path| scope.spawn(|| load(path))).collect();
                threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
            });
            let checked = place.store.check(&CheckOptions::default()).unwrap();
            assert_eq!(checked.findings, [], "{layer_form}");
        }
    }
}
