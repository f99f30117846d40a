//! Loading, finding, naming and removing, from outside.

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Image, Place, assert_whole, layer, load, many_files, names, quick};
use image_store::{Digest, Error, LoadOptions, Platform, Progress, Source, Store};

/// Counts what is unpacked.
#[derive(Default)]
struct Count {
    layers: AtomicU64,
    bytes: AtomicU64,
    calls: Mutex<Vec<&'static str>>,
}

impl Progress for Count {
    fn begin(&self, layers: usize, _bytes: u64) {
        self.layers.fetch_add(layers as u64, Ordering::SeqCst);
        self.calls.lock().unwrap().push("begin");
    }
    fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }
    fn finish(&self) {
        self.calls.lock().unwrap().push("finish");
    }
}

fn two_layers() -> Image {
    Image::new("two:1", &[layer(&[("a", b"lower"), ("b", b"lower")]), layer(&[("b", b"upper")])])
}

#[test]
fn an_image_is_loaded_and_found() {
    let place = Place::new();
    let count = Count::default();
    let path = place.archive("two.tar", &[two_layers()]);
    let loaded = place.store.load(&Source::Path(path.clone()), &quick(), &count).unwrap();
    assert_eq!(count.layers.load(Ordering::SeqCst), 2);
    assert!(count.bytes.load(Ordering::SeqCst) > 0);
    assert_eq!(*count.calls.lock().unwrap(), ["begin", "finish"]);
    let image = place.store.find("two:1").unwrap();
    assert_eq!((image.id, &image.tags), (loaded[0].id, &vec!["two:1".to_owned()]));
    assert_eq!(image.id, two_layers().id());
    assert_eq!(image.created.as_deref(), Some("2024-01-02T03:04:05Z"));
    assert_eq!(image.size, 15);
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["/bin/true"]);
    let content: Vec<_> = image
        .layers
        .iter()
        .map(|layer| fs::read_to_string(layer.path().join("b")).unwrap())
        .collect();
    assert_eq!(content, ["lower", "upper"]);
    let link = &image.layers[1].link;
    assert_eq!(link.len(), 28);
    assert_eq!(fs::read_to_string(place.root().join(link).join("b")).unwrap(), "upper");
    assert!(image.layers[1].path().is_absolute());
    assert_whole(&place.root());
    assert_eq!(place.store.images().unwrap().whole.len(), 1);
}

#[test]
fn the_second_load_of_a_file_reads_nothing() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    let host = Platform::host();
    assert!(place.store.known(&path, &host).unwrap().is_none());
    load(&place.store, &path);
    assert_eq!(place.store.known(&path, &host).unwrap().unwrap()[0].id, two_layers().id());
    // Each load that opens the archive says that its unpacking begins, if only of no layers.
    let count = Count::default();
    let again = place.store.load(&Source::Path(path.clone()), &quick(), &count).unwrap();
    assert_eq!(again[0].id, two_layers().id());
    assert_eq!(*count.calls.lock().unwrap(), Vec::<&str>::new(), "the archive was opened");
    // Without what is remembered it is read again: so the memory is what made the difference.
    let sources = place.root().join("sources");
    fs::remove_file(sources.join(&names(&sources)[0])).unwrap();
    assert!(place.store.known(&path, &host).unwrap().is_none());
    place.store.load(&Source::Path(path), &quick(), &count).unwrap();
    assert_eq!(*count.calls.lock().unwrap(), ["begin", "finish"]);
    assert_eq!(count.layers.load(Ordering::SeqCst), 0, "a layer that is there was unpacked");
}

#[test]
fn a_changed_file_is_not_known() {
    let place = Place::new();
    let path = place.archive("x.tar", &[two_layers()]);
    load(&place.store, &path);
    let other = two_layers().label("other");
    let id = other.id();
    place.archive("x.tar", &[other]);
    assert!(place.store.known(&path, &Platform::host()).unwrap().is_none());
    assert_eq!(load(&place.store, &path)[0].id, id);
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    place.archive("x.tar", &[two_layers()]);
    File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    assert!(
        place.store.known(&path, &Platform::host()).unwrap().is_none(),
        "mtime alone was trusted"
    );
}

#[test]
fn layers_are_shared_and_the_same_layer_may_come_twice() {
    let place = Place::new();
    let (base, top) = (layer(&[("base", b"1")]), layer(&[("top", b"2")]));
    let count = Count::default();
    let twice =
        Image::new("twice", &[base.clone(), top.clone(), base.clone(), base.clone(), layer(&[])]);
    let images = place.load(&[Image::new("base", std::slice::from_ref(&base)), twice]);
    let chains: std::collections::HashSet<_> =
        images[1].layers.iter().map(|l| l.path().to_owned()).collect();
    assert_eq!(chains.len(), 5, "one directory cannot be lower twice");
    assert_eq!(images[0].layers[0], images[1].layers[0]);
    assert_eq!(names(&place.root().join("layers")).len(), 5);
    let path = place.archive("third.tar", &[Image::new("third", &[base, top])]);
    place.store.load(&Source::Path(path), &quick(), &count).unwrap();
    assert_eq!(count.layers.load(Ordering::SeqCst), 0);
    assert_whole(&place.root());
}

#[test]
fn an_image_without_layers_and_one_of_several_by_name() {
    let place = Place::new();
    assert_eq!(place.load(&[Image::new("empty", &[])])[0].layers, []);
    let images =
        [Image::new("a:1", &[layer(&[("a", b"")])]), Image::new("b:1", &[layer(&[("b", b"")])])];
    let path = place.archive("ab.tar", &images);
    let only = |name: &str| LoadOptions { reference: Some(name.to_owned()), ..quick() };
    for _ in 0..2 {
        let loaded = place.store.load(&Source::Path(path.clone()), &only("b:1"), &()).unwrap();
        assert_eq!(loaded.iter().map(|image| image.id).collect::<Vec<_>>(), [images[1].id()]);
    }
    assert!(place.store.find("a:1").is_err());
    let error =
        place.store.load(&Source::Path(path.clone()), &only("c"), &()).unwrap_err().to_string();
    assert!(
        error.contains("has no image c") && error.contains("a:1") && error.contains("b:1"),
        "{error}"
    );
    let loaded = place.store.load(&Source::Path(path), &quick(), &()).unwrap();
    assert_eq!(loaded.len(), 2);
}

#[test]
fn names_move_and_a_reload_takes_them_back() {
    let place = Place::new();
    let (one, two) = (two_layers(), two_layers().label("newer"));
    let (first, second) = (one.id(), two.id());
    let (a, b) = (place.archive("a.tar", &[one]), place.archive("b.tar", &[two]));
    load(&place.store, &a);
    load(&place.store, &b);
    assert_eq!(place.store.find("two:1").unwrap().id, second);
    assert_eq!(place.store.find(&first.hex()).unwrap().tags, Vec::<String>::new());
    assert_eq!(load(&place.store, &a)[0].tags, ["two:1"]);
    assert_eq!(place.store.find("two:1").unwrap().id, first);
    assert_eq!(place.store.tag("two:1", "mine").unwrap(), "mine:latest");
    assert_eq!(place.store.find("mine").unwrap().tags, ["mine:latest", "two:1"]);
    assert_eq!(place.store.untag("mine").unwrap(), first);
    assert!(place.store.find("mine").is_err());
    assert!(matches!(place.store.tag("two:1", "no good"), Err(Error::BadReference { .. })));
    assert!(matches!(place.store.untag("mine"), Err(Error::NotFound { .. })));
}

#[test]
fn an_image_is_found_by_all_that_names_it() {
    let place = Place::new();
    let mut images = [two_layers(), Image::new("docker.io/library/nginx:latest", &[]).label("n")];
    images[0].tags.push("localhost/mine:latest");
    let id = images[0].id();
    place.load(&images);
    let hex = id.hex();
    for reference in [
        "two:1",
        "docker.io/library/two:1",
        "localhost/mine",
        "mine",
        "mine:latest",
        &hex,
        &id.to_string(),
        &hex[..12],
    ] {
        assert_eq!(place.store.find(reference).unwrap().id, id, "{reference}");
    }
    assert_eq!(place.store.find(&format!("two@{id}")).unwrap().id, id);
    assert_eq!(place.store.find("nginx").unwrap().id, images[1].id());
    let error = place.store.find("ngnix").unwrap_err().to_string();
    assert!(error.contains("no image ngnix") && error.contains("nginx:latest"), "{error}");
    for reference in ["two", "two:2", &"0".repeat(64), &hex[..1]] {
        assert!(matches!(place.store.find(reference), Err(Error::NotFound { .. })), "{reference}");
    }
    for reference in ["", "../../etc", "x y", "two@sha256:../../x", "two@", "\u{0}"] {
        assert!(
            matches!(place.store.find(reference), Err(Error::BadReference { .. })),
            "{reference:?}"
        );
    }
}

#[test]
fn an_ambiguous_prefix_names_the_candidates() {
    let place = Place::new();
    // Of 257 images two ids begin with the same two digits.
    let images: Vec<_> =
        (0..257).map(|n| Image { tags: vec![], ..two_layers() }.label(&n.to_string())).collect();
    let mut prefixes = std::collections::HashSet::new();
    let twice = images
        .iter()
        .map(|i| i.id().hex()[..2].to_owned())
        .find(|p| !prefixes.insert(p.clone()))
        .unwrap();
    place.load(&images);
    let error = place.store.find(&twice).unwrap_err();
    assert!(
        matches!(&error, Error::Ambiguous { candidates, .. } if candidates.len() >= 2),
        "{error}"
    );
}

#[test]
fn bad_archives_leave_nothing() {
    let place = Place::new();
    let mut bytes = common::archive(&[Image::new(
        "bad",
        &[many_files(7, 20, 100), layer(&[("x", b"honest")])],
    )]);
    let at = bytes.windows(6).position(|window| window == b"honest").unwrap();
    bytes[at] = b'H';
    fs::write(place.path("bad.tar"), &bytes).unwrap();
    let error = place.store.load(&Source::Path(place.path("bad.tar")), &quick(), &()).unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    fs::write(place.path("cut.tar"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(place.path("text"), b"no tar at all").unwrap();
    for name in ["cut.tar", "text", "missing"] {
        let error = place.store.load(&Source::Path(place.path(name)), &quick(), &()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let tag = place.archive("tag.tar", &[Image::new("no good", &[])]);
    assert!(place.store.load(&Source::Path(tag), &quick(), &()).is_err());
    for name in ["images", "layers", "l", "sources", "staging"] {
        assert_eq!(names(&place.root().join(name)), Vec::<String>::new(), "{name}");
    }
    assert!(!place.root().join("tags.json").exists());
}

/// What somebody uses or has just named stays as it is, whatever was seen of it before.
#[test]
fn prune_asks_again_under_the_lock() {
    let place = Place::new();
    let image = Image::new("app:1", &[layer(&[("file", b"1")])]);
    let id = image.id();
    load(&place.store, &place.archive("app.tar", &[image]));
    let (free, used) = (|_: &Digest| false, |of: &Digest| *of == id);
    let nameless = |image: &image_store::StoredImage| image.tags.is_empty();
    let all = |_: &image_store::StoredImage| true;
    let stays = |removed: image_store::Removed| {
        assert_eq!(removed, image_store::Removed::default());
        assert_eq!(place.store.find("app:1").unwrap().tags, ["app:1"]);
    };
    stays(place.store.prune(&id, &all, &used).unwrap());
    place.store.untag("app:1").unwrap();
    assert!(nameless(&place.store.find(&id.hex()).unwrap()));
    place.store.tag(&id.hex(), "app:1").unwrap();
    stays(place.store.prune(&id, &nameless, &free).unwrap());
    let removed = place.store.prune(&id, &all, &free).unwrap();
    assert_eq!(
        (removed.image, removed.untagged, removed.layers.len()),
        (Some(id), vec!["app:1".to_owned()], 1)
    );
    assert_eq!(place.store.prune(&id, &all, &free).unwrap().image, None, "gone already");
    assert_eq!(names(&place.root().join("layers")).len(), 0);
}

#[test]
fn removal_takes_what_nobody_else_uses() {
    let place = Place::new();
    let (base, top) = (layer(&[("base", b"1")]), many_files(3, 50, 10));
    let mut app = Image::new("app:1", &[base.clone(), top]);
    app.tags.push("app:2");
    let id = app.id();
    let path = place.archive("app.tar", &[Image::new("base:1", &[base]), app]);
    load(&place.store, &path);
    let free = |_: &Digest| false;
    assert_eq!(place.store.remove("app:1", false, &free).unwrap().untagged, ["app:1"]);
    assert!(place.store.find("app:2").is_ok());
    place.store.tag("app:2", "app:3").unwrap();
    assert!(matches!(place.store.remove(&id.hex(), false, &free), Err(Error::SeveralTags { .. })));
    place.store.untag("app:3").unwrap();
    let used = |of: &Digest| *of == id;
    let error = place.store.remove("app:2", false, &used).unwrap_err().to_string();
    assert!(error.contains("app:2") && error.contains("used by a container"), "{error}");
    let removed = place.store.remove("app:2", true, &used).unwrap();
    assert_eq!((removed.untagged, removed.image), (vec!["app:2".to_owned()], None));
    assert!(
        place.store.find(&id.hex()).unwrap().layers[1].path().is_dir(),
        "pulled from under a container"
    );
    let removed = place.store.remove(&id.hex()[..12], false, &free).unwrap();
    assert_eq!((removed.image, removed.layers.len()), (Some(id), 1));
    assert!(matches!(place.store.find(&id.hex()), Err(Error::NotFound { .. })));
    assert!(place.store.find("base:1").unwrap().layers[0].path().join("base").exists());
    assert_eq!(
        (names(&place.root().join("layers")).len(), names(&place.root().join("l")).len()),
        (1, 1)
    );
    assert!(place.store.known(&path, &Platform::host()).unwrap().is_none());
    assert_eq!(names(&place.root().join("sources")), Vec::<String>::new());
    assert_eq!(load(&place.store, &path).len(), 2);
    assert_whole(&place.root());
}

#[test]
fn a_layer_that_was_lost_is_loaded_again() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    let lost = load(&place.store, &path)[0].layers[0].path().parent().unwrap().to_owned();
    fs::remove_dir_all(lost).unwrap();
    assert!(place.store.known(&path, &Platform::host()).unwrap().is_none());
    assert_eq!(
        fs::read(load(&place.store, &path)[0].layers[0].path().join("a")).unwrap(),
        b"lower"
    );
}

#[test]
fn damage_is_said_and_can_be_removed() {
    let place = Place::new();
    let id = place.load(&[two_layers()])[0].id;
    let config = place.root().join("images").join(id.hex()).join("config.json");
    fs::write(&config, b"{}").unwrap();
    let error = place.store.find("two:1").unwrap_err().to_string();
    assert!(error.contains(config.to_str().unwrap()) && error.contains("damaged"), "{error}");
    let images = place.store.images().unwrap();
    assert_eq!((images.whole.len(), &images.damaged[0].tags[..]), (0, &["two:1".to_owned()][..]));
    assert_eq!(place.store.remove("two:1", false, &|_| false).unwrap().image, Some(id));
    assert!(place.store.images().unwrap().whole.is_empty());
}

#[test]
fn a_durable_load_after_a_quick_one_is_recorded() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    let record =
        place.root().join("images").join(load(&place.store, &path)[0].id.hex()).join("image.json");
    assert!(fs::read_to_string(&record).unwrap().contains("\"durable\":false"));
    let durable = LoadOptions { durable: true, ..quick() };
    place.store.load(&Source::Path(path), &durable, &()).unwrap();
    assert!(fs::read_to_string(&record).unwrap().contains("\"durable\":true"));
}

#[test]
fn layers_of_another_form_are_not_mixed() {
    let place = Place::new();
    let path = place.archive("two.tar", &[two_layers()]);
    load(&place.store, &path);
    let mut other = quick();
    other.options.owners = !other.options.owners;
    other.reference = Some("two:1".to_owned());
    let error = place.store.load(&Source::Path(path), &other, &()).unwrap_err();
    assert!(matches!(error, Error::Form { .. }), "{error}");
}

#[test]
fn the_root_is_closed_to_others_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("new/store");
    let store = Store::open(&root).unwrap();
    assert_eq!(store.root(), root);
    let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(""), mode("layers"), mode("image-store.lock")), (0o700, 0o700, 0o600));
    fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
    Store::open(&root).unwrap();
    assert_eq!(mode(""), 0o700);

    let home = temp.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter"), b"dear").unwrap();
    let before = fs::metadata(&home).unwrap().permissions();
    assert!(matches!(Store::open(&home), Err(Error::NotAStore { .. })));
    assert_eq!(
        (names(&home), fs::metadata(&home).unwrap().permissions()),
        (vec!["letter".to_owned()], before)
    );
    assert!(Store::open(&home.join("letter")).is_err());

    let other = temp.path().join("other");
    fs::create_dir(&other).unwrap();
    std::os::unix::fs::chown(&other, Some(12345), None).unwrap();
    let error = Store::open(&other).unwrap_err().to_string();
    assert!(error.contains("user 12345"), "{error}");
    assert_eq!(names(&other), Vec::<String>::new());

    let link = temp.path().join("link");
    symlink(&root, &link).unwrap();
    Store::open(&link).unwrap();
    fs::remove_dir(root.join("staging")).unwrap();
    symlink(temp.path(), root.join("staging")).unwrap();
    assert!(Store::open(&root).is_err(), "staging through a symbolic link");
}

proptest::proptest! {
    #[test]
    fn find_never_panics(reference in "(sha256:|[a-f0-9]{0,66}|[a-z/:.@]{0,20}|\\PC{0,20}|.{0,300})") {
        thread_local!(static PLACE: Place = {
            let place = Place::new();
            place.load(&[two_layers()]);
            place
        });
        PLACE.with(|place| {
            if let Err(error) = place.store.find(&reference) {
                assert!(!error.to_string().is_empty());
            }
        });
    }
}
