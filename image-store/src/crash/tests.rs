//! `kill -9` at every point of a load and of a removal.
//!
//! The test starts itself again with the number of a point in the environment; the child dies there
//! (or, once there is no such point, comes to its end), and the parent looks at what is left.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::KILL_AT;
use crate::{Error, Store};

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{Image, assert_whole, layer, load, names, quick};

const ROOT: &str = "IMAGE_STORE_TEST_ROOT";
const TAR: &str = "IMAGE_STORE_TEST_TAR";

fn images() -> [Image; 2] {
    let (base, top) = (layer(&[("base", b"1")]), layer(&[("top", b"2")]));
    [Image::new("base:1", std::slice::from_ref(&base)), Image::new("app:1", &[base, top])]
}

/// Runs the test `name` again, to die at point `at`.
fn child(name: &str, at: u64, root: &Path, tar: &Path) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("crash::tests::{name}"), "--test-threads=1"])
        .envs([(ROOT, root), (TAR, tar)])
        .env(KILL_AT, at.to_string())
        .stdout(Stdio::null())
        .status()
        .unwrap()
}

/// In the child: the store and the archive.
fn in_child() -> Option<(Store, std::path::PathBuf)> {
    let root = std::env::var_os(ROOT)?;
    Some((Store::open(root.as_ref()).unwrap(), std::env::var_os(TAR)?.into()))
}

/// Calls `check` after a death at each point in turn; returns how many points there were.
fn at_each_point(name: &str, prepare: impl Fn(&Path, &Path), check: impl Fn(&Path, &Path)) -> u64 {
    for at in 1.. {
        let temp = tempfile::tempdir().unwrap();
        let (root, tar) = (temp.path().join("store"), temp.path().join("image.tar"));
        std::fs::write(&tar, common::archive(&images())).unwrap();
        prepare(&root, &tar);
        let status = child(name, at, &root, &tar);
        check(&root, &tar);
        if status.success() {
            return at - 1;
        }
        assert_eq!(status.signal(), Some(9), "point {at}: {status}");
    }
    unreachable!("there are fewer points than numbers")
}

#[test]
fn a_load_killed_anywhere() {
    if let Some((store, tar)) = in_child() {
        store.load(&crate::Source::Path(tar), &quick(), &()).unwrap();
        return;
    }
    let points = at_each_point(
        "a_load_killed_anywhere",
        |_, _| {},
        |root, tar| {
            let store = Store::open(root).unwrap();
            assert_eq!(names(&root.join("staging")), Vec::<String>::new());
            for tag in ["base:1", "app:1"] {
                match store.find(tag) {
                    Ok(image) => assert_eq!(image.tags, [tag]),
                    Err(Error::NotFound { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            if let Some(known) = store.known(tar, &crate::Platform::host()).unwrap() {
                assert_eq!(known.len(), 2);
            }
            assert_whole(root);
            let loaded = load(&store, tar);
            assert_eq!(std::fs::read(loaded[1].layers[1].path().join("top")).unwrap(), b"2");
            assert_eq!(store.find("app:1").unwrap().size, 2);
            assert_eq!(names(&root.join("layers")).len(), 2);
            assert_whole(root);
        },
    );
    // Two layers unpacked, linked and moved, two images, the tags, the source: fewer points are a bug here.
    assert!(points >= 14, "{points}");
}

/// A load into an index; `None`, and said, where this kernel cannot mount one.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn load_indexed(store: &Store, tar: &Path) -> Option<Vec<crate::StoredImage>> {
    let options = crate::LoadOptions { layer_form: crate::LayerForm::Index, ..quick() };
    match store.load(&crate::Source::Path(tar.to_owned()), &options, &()) {
        Ok(images) => Some(images),
        Err(Error::NoIndex { why }) => {
            println!("SKIPPED: feature erofs_small_blocks: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn can_index() -> bool {
    let temp = tempfile::tempdir().unwrap();
    let tar = temp.path().join("image.tar");
    std::fs::write(&tar, common::archive(&images())).unwrap();
    load_indexed(&Store::open(&temp.path().join("store")).unwrap(), &tar).is_some()
}

/// That an image with an index has what it should have, as its mount shows it.
fn assert_mounts(store: &Store, image: &crate::StoredImage, file: &str, content: &[u8]) {
    let mounted = store.mount(&image.id).unwrap();
    assert!(mounted.is_some());
    let at = &image.index.as_ref().unwrap().path;
    assert_eq!(std::fs::read(at.join(file)).unwrap(), content);
    drop(mounted);
    unmounted(store);
}

/// Until nothing is mounted. Another test that starts a process at this moment has a copy of the mount's lock in it, up
/// to its exec, so that the last user is not seen to be the last: as after a kill, the next command's look finds it.
fn unmounted(store: &Store) {
    let mounts = &store.dirs().mounts;
    let is_mounted = |name: &String| crate::mount::is_mounted(mounts, name).unwrap();
    while mounts.names().unwrap().iter().any(is_mounted) {
        store.unmount_all_unused().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_load_with_an_index_killed_anywhere() {
    if let Some((store, tar)) = in_child() {
        load_indexed(&store, &tar).unwrap();
        return;
    }
    if !can_index() {
        return;
    }
    let points = at_each_point(
        "a_load_with_an_index_killed_anywhere",
        |_, _| {},
        |root, tar| {
            let store = Store::open(root).unwrap();
            assert_eq!(names(&root.join("staging")), Vec::<String>::new());
            for (tag, file, content) in [("base:1", "base", b"1"), ("app:1", "top", b"2")] {
                match store.find(tag) {
                    Ok(image) => assert_mounts(&store, &image, file, content),
                    Err(Error::NotFound { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_whole(root);
            let loaded = load_indexed(&store, tar).unwrap();
            assert_mounts(&store, &loaded[1], "top", b"2");
            assert_whole(root);
            let checked = store.check(&crate::CheckOptions { content: true }).unwrap();
            assert_eq!((checked.findings, checked.verified), (vec![], 2));
        },
    );
    // Two blobs staged, recorded and moved, two images staged, with a place, a link and a name, the tags, the source.
    assert!(points >= 16, "{points}");
}

#[test]
fn an_image_with_an_index_that_is_made_whole_again_killed_anywhere() {
    let in_place = |store: &Store, tar: &Path| {
        let options = crate::LoadOptions { in_place: true, ..quick() };
        store.load(&crate::Source::Path(tar.to_owned()), &options, &()).unwrap()
    };
    if let Some((store, tar)) = in_child() {
        in_place(&store, &tar);
        return;
    }
    if !can_index() {
        return;
    }
    let points = at_each_point(
        "an_image_with_an_index_that_is_made_whole_again_killed_anywhere",
        |root, tar| {
            let store = Store::open(root).unwrap();
            in_place(&store, tar);
            // The same bytes in another file: the record does not fit any more.
            let moved = tar.with_extension("moved");
            std::fs::rename(tar, &moved).unwrap();
            std::fs::copy(&moved, tar).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(30));
        },
        |root, tar| {
            let store = Store::open(root).unwrap();
            let image = store.find("app:1").unwrap();
            match store.mount(&image.id) {
                Ok(mounted) => {
                    drop(mounted);
                    unmounted(&store);
                }
                Err(Error::Archive { .. } | Error::Damaged { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            assert_mounts(&store, &in_place(&store, tar)[1], "top", b"2");
            let checked = store.check(&crate::CheckOptions { content: true }).unwrap();
            assert_eq!(checked.findings, vec![]);
        },
    );
    assert!(points >= 8, "{points}");
}

/// That each layer that is there is an image's.
fn assert_nothing_unused(store: &Store, root: &Path) {
    let checked = store.check(&crate::CheckOptions::default()).unwrap();
    for finding in checked.findings {
        // What is remembered of archives is no burden.
        assert!(finding.path.starts_with(root.join("sources")), "{finding:?}");
    }
}

#[test]
fn a_removal_of_an_index_killed_anywhere() {
    if let Some((store, _)) = in_child() {
        // With a mount that a dead process left.
        std::mem::forget(store.mount(&store.find("app:1").unwrap().id).unwrap());
        store.remove("app:1", false, &|_| false).unwrap();
        return;
    }
    if !can_index() {
        return;
    }
    let points = at_each_point(
        "a_removal_of_an_index_killed_anywhere",
        |root, tar| drop(load_indexed(&Store::open(root).unwrap(), tar)),
        |root, tar| {
            let store = Store::open(root).unwrap();
            unmounted(&store);
            assert_whole(root);
            assert_nothing_unused(&store, root);
            assert_mounts(&store, &store.find("base:1").unwrap(), "base", b"1");
            let id = images()[1].id().hex();
            match store.remove(&id, false, &|_| false) {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            store.remove("base:1", false, &|_| false).unwrap();
            for name in ["images", "blobs", "mounts", "l", "sources", "staging"] {
                assert_eq!(names(&root.join(name)), Vec::<String>::new(), "{name}");
            }
            assert_eq!(load_indexed(&store, tar).unwrap().len(), 2);
            assert_whole(root);
        },
    );
    assert!(points >= 6, "{points}");
}

#[test]
fn a_removal_killed_anywhere() {
    if let Some((store, _)) = in_child() {
        store.remove("app:1", false, &|_| false).unwrap();
        return;
    }
    let points = at_each_point(
        "a_removal_killed_anywhere",
        |root, tar| {
            let store = Store::open(root).unwrap();
            store.load(&crate::Source::Path(tar.to_owned()), &quick(), &()).unwrap();
        },
        |root, tar| {
            let store = Store::open(root).unwrap();
            assert_whole(root);
            assert_nothing_unused(&store, root);
            assert!(store.find("base:1").unwrap().layers[0].path().join("base").exists());
            // Killed before anything was moved, it is an image without a name.
            let id = images()[1].id().hex();
            match store.remove(&id, false, &|_| false) {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            store.remove("base:1", false, &|_| false).unwrap();
            for name in ["images", "layers", "l", "sources", "staging"] {
                assert_eq!(names(&root.join(name)), Vec::<String>::new(), "{name}");
            }
            assert_eq!(load(&store, tar).len(), 2);
            assert_whole(root);
        },
    );
    assert!(points >= 6, "{points}");
}

#[test]
fn a_new_image_killed_anywhere() {
    let create = |store: &Store| {
        let mut file = store.spool().unwrap();
        std::io::Write::write_all(&mut file, &layer(&[("new", b"3")])).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let layer = store.layer_tar(file, "a test", &image_unpack::Limits::default()).unwrap();
        let base = store.find("base:1").unwrap();
        let config = |diff_ids: &[crate::Digest]| {
            let rootfs = serde_json::json!({ "type": "layers", "diff_ids": diff_ids });
            let config =
                serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs });
            serde_json::to_vec(&config).unwrap()
        };
        let name = Some("new:1");
        let new = crate::NewImage { base: Some(&base), layer: &layer, config: &config, name };
        store.create(&new, &quick(), &()).unwrap()
    };
    if let Some((store, _)) = in_child() {
        create(&store);
        return;
    }
    let points = at_each_point(
        "a_new_image_killed_anywhere",
        |root, tar| drop(load(&Store::open(root).unwrap(), tar)),
        |root, _| {
            let store = Store::open(root).unwrap();
            assert_whole(root);
            match store.find("new:1") {
                Ok(image) => assert_eq!(image.layers.len(), 2),
                Err(Error::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            let image = create(&store);
            assert_eq!(std::fs::read(image.layers[1].path().join("new")).unwrap(), b"3");
            assert_whole(root);
        },
    );
    // The layer, its link and its place, the image, the name.
    assert!(points >= 6, "{points}");
}
