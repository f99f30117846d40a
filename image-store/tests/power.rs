//! What a power cut takes of a load that was left to the kernel is found before it is used.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Image, Place, layer, load, quick};
use image_store::{CheckOptions, Error, LoadOptions, Platform, Problem, Source, StoredImage};

const REGULAR: tar::EntryType = tar::EntryType::Regular;

fn two_layers() -> Image {
    Image::new("two:1", &[layer(&[("a", b"lower"), ("b", b"lower")]), layer(&[("a", b"upper")])])
}

/// As if `image` had been loaded before this boot: its records then have another boot's id.
fn reboot(place: &Place, image: &StoredImage) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let layers = image.layers.iter().map(|layer| layer.path().with_file_name("layer.json"));
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
