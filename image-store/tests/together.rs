//! Several processes and threads in one store.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Image, Place, assert_whole, layer, load, many_files, names, quick};
use image_store::{Error, Progress, Source, Store};

#[derive(Default)]
struct Layers(AtomicU64);

impl Progress for Layers {
    fn begin(&self, layers: usize, _bytes: u64) {
        self.0.fetch_add(layers as u64, Ordering::SeqCst);
    }
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
}

fn images() -> [Image; 1] {
    [Image::new("many:1", &(0..6).map(|n| many_files(n, 100, 2000)).collect::<Vec<_>>())]
}

#[test]
fn threads_that_load_the_same_image_unpack_it_once() {
    let place = Place::new();
    let path = place.archive("many.tar", &images());
    let unpacked = Layers::default();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                // A store of its own, as another process has.
                let store = Store::open(&place.root()).unwrap();
                let loaded = store.load(&Source::Path(path.clone()), &quick(), &unpacked).unwrap();
                assert_eq!(loaded[0].tags, ["many:1"]);
            });
        }
    });
    assert_eq!(unpacked.0.load(Ordering::SeqCst), 6);
    assert_whole(&place.root());
}

/// The same test in its children: it finds this in the environment, loads, and is done.
const CHILD: &str = "IMAGE_STORE_TEST_CHILD";

#[test]
fn processes_that_load_images_with_common_layers_leave_one_copy() {
    if let Some(root) = std::env::var_os(CHILD) {
        let tar = std::env::var_os("IMAGE_STORE_TEST_TAR").unwrap();
        load(&Store::open(root.as_ref()).unwrap(), tar.as_ref());
        return;
    }
    let place = Place::new();
    // Of different ids, so none waits for another.
    let tars: Vec<_> = (0..4)
        .map(|n| {
            let [image] = images();
            place.archive(&format!("{n}.tar"), &[image.label(&n.to_string())])
        })
        .collect();
    let children: Vec<_> = tars
        .iter()
        .map(|tar| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "processes_that_load_images_with_common_layers_leave_one_copy"])
                .env(CHILD, place.root())
                .env("IMAGE_STORE_TEST_TAR", tar)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(names(&place.root().join("layers")).len(), 6);
    assert_eq!(place.store.images().unwrap().whole.len(), 4);
    assert_whole(&place.root());
}

#[test]
fn loads_removals_and_lookups_at_once() {
    let place = Place::new();
    let base = layer(&[("base", b"1")]);
    let tars: Vec<_> = ["x:1", "y:1", "z:1"]
        .into_iter()
        .enumerate()
        .map(|(n, tag)| {
            let top = many_files(n as u8, 20, 100);
            place.archive(&format!("{n}.tar"), &[Image::new(tag, &[base.clone(), top])])
        })
        .collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loaders: Vec<_> = tars
            .iter()
            .map(|tar| {
                scope.spawn(|| {
                    let store = Store::open(&place.root()).unwrap();
                    for _ in 0..40 {
                        let id = load(&store, tar)[0].id;
                        // Removed meanwhile, or there and whole for as long as the hold lasts.
                        let _hold = store.hold().unwrap();
                        match store.find(&id.to_string()) {
                            Ok(image) => {
                                for layer in &image.layers {
                                    assert!(!names(&place.root().join(&layer.link)).is_empty());
                                }
                            }
                            Err(Error::NotFound { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        for tag in ["x:1", "y:1", "z:1"] {
            let (over, place) = (&over, &place);
            scope.spawn(move || {
                let store = Store::open(&place.root()).unwrap();
                while !over.load(Ordering::SeqCst) {
                    match store.remove(tag, false, &|_| false) {
                        Ok(_) | Err(Error::NotFound { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    match store.find("y") {
                        Ok(_) | Err(Error::NotFound { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    store.images().unwrap();
                    std::thread::sleep(std::time::Duration::from_micros(300));
                }
            });
        }
        // All must be joined, whether or not one of them panicked, or the others run for ever.
        let results: Vec<_> = loaders.into_iter().map(|loader| loader.join()).collect();
        over.store(true, Ordering::SeqCst);
        assert!(results.iter().all(Result::is_ok));
    });
    for tar in &tars {
        load(&place.store, tar);
    }
    assert_eq!(place.store.images().unwrap().whole.len(), 3);
    assert_whole(&place.root());
}

#[test]
fn while_a_hold_lasts_nothing_is_removed() {
    let place = Place::new();
    place.load(&[Image::new("x:1", &[layer(&[("a", b"1")])])]);
    let hold = place.store.hold().unwrap();
    std::thread::scope(|scope| {
        let removal = scope.spawn(|| place.store.remove("x:1", false, &|_| false).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!removal.is_finished());
        assert!(place.store.find("x:1").unwrap().layers[0].path().join("a").exists());
        // A load does not wait for it.
        place.load(&[Image::new("y:1", &[layer(&[("b", b"1")])])]);
        drop(hold);
        assert!(removal.join().unwrap().image.is_some());
    });
}

/// Removes an image when the load has just seen that the store has its layer.
struct Remover<'a>(&'a Store, AtomicU64);

impl Progress for Remover<'_> {
    fn begin(&self, _layers: usize, _bytes: u64) {
        if self.1.fetch_add(1, Ordering::SeqCst) == 0 {
            self.0.remove("base:1", false, &|_| false).unwrap();
        }
    }
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
}

#[test]
fn a_layer_that_is_removed_during_a_load_is_loaded_after_all() {
    let place = Place::new();
    let base = layer(&[("d/base", b"1")]);
    place.load(&[Image::new("base:1", std::slice::from_ref(&base))]);
    let tar = place.archive("app.tar", &[Image::new("app:1", &[base, layer(&[("d/top", b"2")])])]);
    let remover = Remover(&place.store, AtomicU64::new(0));
    let loaded = place.store.load(&Source::Path(tar), &quick(), &remover).unwrap();
    assert_eq!(remover.1.load(Ordering::SeqCst), 2);
    assert_eq!(std::fs::read(loaded[0].layers[0].path().join("d/base")).unwrap(), b"1");
    assert_whole(&place.root());
}
