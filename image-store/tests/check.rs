//! Looking through a store: all that can be damaged is found, and nothing else.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use common::{Image, Place, layer, load, many_files, names, quick};
use image_store::{CheckOptions, Checked, Grade, Progress, SaveFormat, SaveOptions, Source, Store};

fn two_layers() -> Image {
    Image::new("two:1", &[layer(&[("a", b"lower")]), layer(&[("b", b"upper")])])
}

fn check(place: &Place) -> Checked {
    place.store.check(&CheckOptions { content: true }).unwrap()
}

#[test]
fn a_whole_store_is_whole() {
    let place = Place::new();
    assert_eq!(check(&place), Checked::default());
    let mut other = Image::new("other:1", &two_layers().layers[..1]);
    other.tags.push("other:2");
    place.load(&[two_layers(), other, Image::new("empty:1", &[])]);
    let checked = check(&place);
    assert_eq!((checked.images, checked.layers, checked.names), (3, 2, 4));
    assert_eq!(checked.findings, []);
    // These layers' tars list no root directory, so that writing them anew gives other bytes.
    assert_eq!(checked.verified, 0);
    let mut saved = Vec::new();
    let options = SaveOptions { format: SaveFormat::OciArchive, ..SaveOptions::default() };
    place.store.save(&["two:1"], &options, &mut saved).unwrap();
    let again = Place::new();
    fs::write(again.path("x.tar"), saved).unwrap();
    load(&again.store, &again.path("x.tar"));
    assert_eq!(check(&again).verified, 2);
    assert_eq!(again.store.check(&CheckOptions::default()).unwrap().verified, 0);
    // A byte that is not what it was.
    let path = again.store.find("two:1").unwrap().layers[0].path().join("a");
    fs::write(path, b"Lower").unwrap();
    assert_eq!(check(&again).verified, 1);
}

/// [`check`] after a repair; the images that it removed.
fn repair(place: &Place) -> (Checked, Vec<image_store::Digest>) {
    let options = CheckOptions { content: true };
    let (found, done) = place.store.repair(&options, &|_| false).unwrap();
    assert!(found.is_damaged());
    assert_eq!(done.kept, []);
    (check(place), done.images.into_iter().map(|(id, _)| id).collect())
}

/// Where something is damaged, and what is said of it.
struct Damage {
    make: fn(&Place),
    path: &'static str,
    words: &'static str,
    /// Whether removing the image, and loading it again, is the remedy.
    again: bool,
    /// Whether the image is gone.
    gone: bool,
}

fn image_file(place: &Place, name: &str) -> PathBuf {
    place.root().join("images").join(two_layers().id().hex()).join(name)
}

fn layer_file(place: &Place, at: usize, name: &str) -> PathBuf {
    let chain: Vec<String> = {
        let ids: Vec<_> =
            two_layers().layers.iter().map(|layer| image_store::Digest::of(layer)).collect();
        let top = image_store::Digest::of(format!("{} {}", ids[0], ids[1]).as_bytes());
        vec![ids[0].hex(), top.hex()]
    };
    place.root().join("layers").join(&chain[at]).join(name)
}

fn replace(path: PathBuf, from: &str, to: &str) {
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Each with the sentence that names it.
const DAMAGES: &[Damage] = &[
    Damage {
        make: |place| replace(image_file(place, "config.json"), "linux", "Linux"),
        path: "config.json",
        words: "its digest is sha256:",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| fs::remove_file(image_file(place, "config.json")).unwrap(),
        path: "config.json",
        words: "is missing",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| fs::write(image_file(place, "image.json"), b"").unwrap(),
        path: "image.json",
        words: "is damaged: it is not what was loaded: the machine went down",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| {
            let (from, to) = (two_layers().layers[0].clone(), b"other".to_vec());
            let hex = |bytes: &[u8]| image_store::Digest::of(bytes).hex();
            replace(image_file(place, "image.json"), &hex(&from), &hex(&to));
        },
        path: "image.json",
        words: "is of other layers than the configuration",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| fs::remove_dir_all(layer_file(place, 0, "")).unwrap(),
        path: "layers/",
        words: "is missing, layer 1 of 2 of sha256:",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| fs::remove_dir_all(layer_file(place, 1, "diff")).unwrap(),
        path: "diff",
        words: "is missing",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| fs::write(layer_file(place, 1, "diff/b"), b"").unwrap(),
        path: "diff",
        words: "has not the files that were unpacked",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| fs::write(layer_file(place, 1, "layer.json"), b"{").unwrap(),
        path: "layer.json",
        words: "is damaged: EOF",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| {
            fs::copy(layer_file(place, 0, "layer.json"), layer_file(place, 1, "layer.json"))
                .unwrap();
        },
        path: "layer.json",
        words: "is another layer's, sha256:",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| {
            replace(layer_file(place, 1, "layer.json"), "whiteouts Device", "whiteouts unknown");
        },
        path: "layer.json",
        words: "has an unknown form",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| fs::remove_file(place.root().join(link(place))).unwrap(),
        path: "l/",
        words: "is missing",
        again: true,
        gone: false,
    },
    Damage {
        make: |place| {
            fs::remove_file(place.root().join(link(place))).unwrap();
            symlink("/etc", place.root().join(link(place))).unwrap();
        },
        path: "l/",
        words: "leads to /etc and not to ../layers/",
        again: false, // the link is to be removed, as is said
        gone: false,
    },
    Damage {
        make: |place| fs::write(place.root().join("tags.json"), b"[]").unwrap(),
        path: "tags.json",
        words: "is damaged: invalid type",
        again: false,
        gone: false,
    },
    Damage {
        make: |place| fs::remove_dir_all(image_file(place, "")).unwrap(),
        path: "tags.json",
        words: "gives the name two:1 to sha256:",
        again: false, // there is no image to remove; loading it is enough
        gone: true,
    },
];

/// The short link to the upper layer.
fn link(place: &Place) -> String {
    place.store.find("two:1").unwrap().layers[1].link.clone()
}

#[test]
fn each_damage_is_found_and_its_remedy_is_one() {
    for damage in DAMAGES {
        let place = Place::new();
        let path = place.archive("two.tar", &[two_layers()]);
        load(&place.store, &path);
        assert_eq!(check(&place).findings, []);
        (damage.make)(&place);
        let checked = check(&place);
        assert!(checked.is_damaged(), "not found: {} {}", damage.path, damage.words);
        let found = checked.findings.iter().find(|finding| {
            finding.grade == Grade::Damage
                && finding.path.display().to_string().contains(damage.path)
                && finding.what.contains(damage.words)
        });
        assert!(found.is_some(), "no {} {}: {checked:#?}", damage.path, damage.words);
        if damage.again {
            let id = two_layers().id().hex();
            place.store.remove(&id, true, &|_| false).unwrap();
            load(&place.store, &path);
            assert_eq!(check(&place).findings, [], "{} {}", damage.path, damage.words);
        }
    }
}

/// An image beside the damaged one, which shares its lower layer, stays where that layer is whole.
#[test]
fn a_repair_removes_what_is_damaged_and_no_more() {
    for damage in DAMAGES {
        let place = Place::new();
        let path = place.archive("two.tar", &[two_layers()]);
        load(&place.store, &path);
        let whole = place.load(&[Image::new("whole:1", &[layer(&[("w", b"whole")])])]).remove(0);
        let shares = Image::new("shares:1", &two_layers().layers[..1]);
        let shares = place.load(&[shares]).remove(0);
        (damage.make)(&place);
        let (checked, images) = repair(&place);
        let words = damage.words;
        assert_eq!(checked.findings, [], "{words}");
        assert!(!images.contains(&whole.id), "{words}");
        let is_lower = words.contains("layer 1 of 2");
        assert_eq!(images.contains(&shares.id), is_lower, "{words}");
        assert_eq!(
            place.store.ids().unwrap().len() + images.len(),
            if damage.gone { 2 } else { 3 }
        );
        load(&place.store, &path);
        let found = place.store.find("two:1").unwrap();
        assert_eq!(fs::read(found.layers[0].path().join("a")).unwrap(), b"lower");
        assert_eq!(fs::read(found.layers[1].path().join("b")).unwrap(), b"upper");
        assert_eq!(check(&place).findings, [], "{words}");
    }
}

#[test]
fn a_repair_of_what_is_whole_changes_nothing() {
    let place = Place::new();
    place.load(&[two_layers()]);
    let options = CheckOptions { content: true };
    let (found, done) = place.store.repair(&options, &|_| false).unwrap();
    assert_eq!((found.findings, done), (vec![], image_store::Repaired::default()));
    place.store.find("two:1").unwrap();
}

/// What a container is of stays, and what it needs with it; other images of a broken layer go.
#[test]
fn a_repair_removes_nothing_that_is_in_use() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    load(&place.store, &path);
    let used = place.load(&[Image::new("used:1", &two_layers().layers[..1])]).remove(0);
    fs::write(layer_file(&place, 0, "diff/a"), b"").unwrap();
    let options = CheckOptions::default();
    let (_, done) = place.store.repair(&options, &|id| *id == used.id).unwrap();
    assert_eq!((done.kept, done.images.len(), done.layers.len()), (vec![used.id], 1, 1));
    assert!(layer_file(&place, 0, "diff").exists());
    let (_, done) = place.store.repair(&options, &|_| false).unwrap();
    assert_eq!(done.images, [(used.id, vec!["used:1".to_owned()])]);
    assert!(!layer_file(&place, 0, "").exists());
    load(&place.store, &path);
    assert_eq!(check(&place).findings, []);
}

#[test]
fn what_is_left_over_is_told_apart_from_damage() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    load(&place.store, &path);
    // What a removal leaves that was killed when the image had gone.
    fs::remove_dir_all(image_file(&place, "")).unwrap();
    fs::remove_file(place.root().join("tags.json")).unwrap();
    symlink("../layers/none/diff", place.root().join("l/NONE")).unwrap();
    fs::create_dir(place.root().join("layers/notes")).unwrap();
    fs::create_dir(place.root().join("images/notes")).unwrap();
    let checked = check(&place);
    assert!(!checked.is_damaged(), "{checked:#?}");
    let mut found: Vec<String> = checked
        .findings
        .iter()
        .map(|finding| {
            let dir = finding.path.parent().unwrap().file_name().unwrap();
            format!("{}: {}", dir.display(), finding.what.split([',', ';']).next().unwrap())
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "images: is no image",
            "l: leads nowhere",
            "layers: is no layer",
            "layers: is of no image",
            "layers: is of no image",
            "sources: remembers an archive whose images are gone",
        ]
    );
    // The next load and removal leave nothing of it but what is not the store's.
    load(&place.store, &path);
    place.store.remove("two:1", false, &|_| false).unwrap();
    assert_eq!(check(&place).findings.len(), 2);
}

/// Looks while a load is under way.
struct Looks<'a>(&'a Store);

impl Progress for Looks<'_> {
    fn begin(&self, _layers: usize, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {
        assert_eq!(self.0.check(&CheckOptions::default()).unwrap().findings, []);
    }
    fn finish(&self) {
        assert_eq!(self.0.check(&CheckOptions::default()).unwrap().findings, []);
    }
}

#[test]
fn what_is_in_the_making_is_not_left_over() {
    let place = Place::new();
    place.load(&[two_layers()]);
    let image = Image::new("many:1", &[two_layers().layers[0].clone(), many_files(1, 50, 100)]);
    let path = place.archive("many.tar", &[image]);
    place.store.load(&Source::Path(path), &quick(), &Looks(&place.store)).unwrap();
    assert_eq!(names(&place.root().join("staging")), [""; 0]);
    assert_eq!(check(&place).findings, []);
}

#[test]
fn a_file_that_cannot_be_read_is_damage() {
    let place = Place::new();
    let image = place.load(&[two_layers()]).remove(0);
    // A name that no layer can have stands for a read that fails.
    fs::write(image.layers[0].path().join(".wh.x"), b"").unwrap();
    let checked = check(&place);
    let said = |checked: &Checked, words: &str| {
        checked.findings.iter().filter(|finding| finding.what.starts_with(words)).count()
    };
    assert_eq!(said(&checked, "cannot be read"), 1, "{checked:#?}");
    // It is one file too many, which shows without reading.
    let quick = place.store.check(&CheckOptions::default()).unwrap();
    assert_eq!((quick.findings.len(), said(&quick, "has not the files")), (1, 1), "{quick:#?}");
}
