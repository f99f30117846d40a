//! Images made and saved. Needs root.

mod common;

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use common::{Image, Place, assert_whole, layer, load, quick};
use image_store::{
    Digest, Error, NewImage, Pack, SaveFormat, SaveOptions, StoredImage, WhiteoutForm,
};

fn save(place: &Place, references: &[&str], format: SaveFormat) -> Vec<u8> {
    let mut tar = Vec::new();
    let options = SaveOptions { format, ..SaveOptions::default() };
    place.store.save(references, &options, &mut tar).unwrap();
    tar
}

fn members(tar: &[u8]) -> Vec<String> {
    let mut tar = tar::Archive::new(tar);
    let entries = tar.entries().unwrap();
    entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

/// What a layer of these files becomes, so that nothing is lost when it is saved.
fn canonical(files: &[(&str, &[u8])]) -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = temp.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let mut tar = Vec::new();
    Pack::default().write(File::open(temp.path()).unwrap().as_fd(), &mut tar).unwrap();
    tar
}

#[test]
fn what_is_saved_is_loaded_and_saved_the_same() {
    for format in [SaveFormat::DockerArchive, SaveFormat::OciArchive] {
        let one = Place::new();
        let image = Image::new(
            "two:1",
            &[
                layer(&[("a", b"lower"), ("dir/b", b"lower")]),
                layer(&[("dir/.wh.b", b""), ("c", b"upper")]),
            ],
        );
        let first = one.load(&[image]).remove(0);
        one.store.tag("two:1", "two:2").unwrap();
        one.store.tag("two:1", "registry:5000/other:x").unwrap();
        let saved = save(&one, &["two"], format);
        assert_eq!(saved, save(&one, &["two:2", "two:1"], format), "not the same bytes");

        let two = Place::new();
        let path = two.path("saved.tar");
        fs::write(&path, &saved).unwrap();
        let second = load(&two.store, &path).remove(0);
        assert_eq!(second.tags, ["two:1", "two:2"]);
        assert_eq!(second.config.config(), first.config.config());
        // These layers list no directories, and ours do.
        assert_ne!(second.id, first.id);
        assert_eq!(fs::read(second.layers[0].path().join("dir/b")).unwrap(), b"lower");
        let gone = fs::symlink_metadata(second.layers[1].path().join("dir/b")).unwrap();
        assert_eq!(gone.rdev(), 0);
        assert_eq!(save(&two, &["two"], format), saved, "changed by another load and save");
        assert_whole(&two.root());
    }
}

#[test]
fn an_image_of_our_own_layers_keeps_its_id() {
    let place = Place::new();
    let layers = [canonical(&[("etc/x", b"x")]), canonical(&[("etc/y", b"y")])];
    let image = Image::new("own:1", &layers);
    place.load(std::slice::from_ref(&image));
    let saved = save(&place, &["own:1"], SaveFormat::DockerArchive);
    let names = members(&saved);
    let mut expected: Vec<String> =
        layers.iter().map(|layer| Digest::of(layer)).chain([image.id()]).map(|d| d.hex()).collect();
    expected.sort();
    for digest in expected {
        assert!(names.contains(&format!("blobs/sha256/{digest}")), "{names:?}");
    }
    assert_eq!(names[names.len() - 3..], ["index.json", "manifest.json", "oci-layout"]);
    let names = members(&save(&place, &["own:1"], SaveFormat::OciArchive));
    assert!(!names.contains(&"manifest.json".to_owned()));
}

#[test]
fn several_images_are_saved_once_each_and_by_id_without_a_name() {
    let place = Place::new();
    let base = canonical(&[("a", b"a")]);
    let images = [
        Image::new("a:1", std::slice::from_ref(&base)),
        Image::new("b:1", &[base.clone(), canonical(&[("b", b"b")])]),
    ];
    place.load(&images);
    let id = images[1].id().hex();
    let saved = save(&place, &["a:1", &id, "a:1"], SaveFormat::DockerArchive);
    let layers = members(&saved).iter().filter(|name| name.starts_with("blobs/sha256/")).count();
    assert_eq!(layers - 1, 2 + 2 + 2, "layers, configurations and manifests");
    let other = Place::new();
    let path = other.path("saved.tar");
    fs::write(&path, saved).unwrap();
    let mut loaded = load(&other.store, &path);
    loaded.sort_by_key(|image| image.tags.clone());
    assert_eq!(loaded.iter().map(|image| image.tags.len()).collect::<Vec<_>>(), [0, 1]);
    let error = place.store.save(&["nosuch"], &SaveOptions::default(), Vec::new()).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let full = File::create("/dev/full").unwrap();
    let error = place.store.save(&["a:1"], &SaveOptions::default(), full).unwrap_err();
    assert!(matches!(error, Error::Output { .. }), "{error}");
}

fn config(diff_ids: &[Digest]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "architecture": image_store::Platform::host().architecture,
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))
    .unwrap()
}

fn create(
    place: &Place,
    base: Option<&StoredImage>,
    tar: &[u8],
    name: Option<&str>,
) -> Result<StoredImage, Error> {
    let mut file = place.store.spool().unwrap();
    file.write_all(tar).unwrap();
    file.rewind().unwrap();
    let layer = place.store.layer_tar(file, "the new layer", &image_unpack::Limits::default())?;
    let new = NewImage { base, layer: &layer, config: &config, name };
    place.store.create(&new, &quick(), &())
}

#[test]
fn an_image_is_made_upon_another() {
    let place = Place::new();
    let base = canonical(&[("dir/a", b"a"), ("b", b"b")]);
    let below = place.load(&[Image::new("base:1", std::slice::from_ref(&base))]).remove(0);
    // An opaque directory without an entry of its own takes its attributes from below.
    let top = layer(&[("dir/.wh..wh..opq", b""), ("dir/new", b"new")]);
    let image = create(&place, Some(&below), &top, Some("made")).unwrap();
    assert_eq!(image.tags, ["made:latest"]);
    let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
    assert_eq!(diff_ids, [Digest::of(&base), Digest::of(&top)]);
    let attribute = image.layers[1].path().join("dir");
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(attribute, c"trusted.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");
    assert_eq!(place.store.layer_size(&image.layers[1]).unwrap(), Some(3));
    assert_eq!(place.store.raw_config(&image.id).unwrap(), config(&diff_ids));
    assert_whole(&place.root());
    // The same again is the same image; without a name it has none more.
    let again = create(&place, Some(&below), &top, None).unwrap();
    assert_eq!((again.id, again.tags), (image.id, image.tags));
    // The base stays as long as it is needed.
    place.store.remove("base:1", false, &|_| false).unwrap();
    assert!(place.store.find("made").unwrap().layers[0].path().join("b").exists());
    let removed = place.store.remove("made", false, &|_| false).unwrap();
    assert_eq!(removed.layers.len(), 2);
    assert_whole(&place.root());
    // Its base has gone meanwhile.
    let error = create(&place, Some(&below), &top, Some("late")).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(place.store.images().unwrap().whole.is_empty());
    assert_whole(&place.root());
}

#[test]
fn what_is_no_layer_leaves_nothing() {
    let place = Place::new();
    let message = |tar: &[u8], name| create(&place, None, tar, name).unwrap_err().to_string();
    assert!(message(b"", None).contains("empty"));
    assert!(message(&[b'x'; 2000], None).contains("the new layer"));
    let cut = &layer(&[("a", b"a")])[..600];
    assert!(message(cut, None).contains("the new layer"));
    assert!(message(&layer(&[("a", b"a")]), Some("No Name")).contains("No Name"));
    assert!(place.store.images().unwrap().whole.is_empty());
    assert_whole(&place.root());
}

#[test]
fn a_new_image_is_the_overlays_own_form() {
    let place = Place::new();
    let image = create(&place, None, &layer(&[(".wh.gone", b"")]), Some("w")).unwrap();
    // With nothing below, there is nothing to hide.
    assert_eq!(fs::read_dir(image.layers[0].path()).unwrap().count(), 0);
    let mut tar = Vec::new();
    let root = File::open(image.layers[0].path()).unwrap();
    let pack = Pack { layer: Some(WhiteoutForm::Device), ..Pack::default() };
    pack.write(root.as_fd(), &mut tar).unwrap();
    assert_eq!(members(&tar), ["./"]);
}
