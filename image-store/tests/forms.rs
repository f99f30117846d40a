//! Where images come from, and that layers are joined to what lies below them.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::{Image, Place, assert_whole, layer, load, many_files, names, quick};
use image_store::{Platform, Source, Store};

fn two_layers() -> Image {
    Image::new("two:1", &[layer(&[("a", b"lower")]), layer(&[("b", b"upper")])])
}

#[test]
fn standard_input_is_loaded_from_a_file_and_from_a_pipe() {
    use std::io::Write;
    let place = Place::new();
    let path = place.archive("x.tar", &[two_layers()]);
    for _ in 0..2 {
        let file = File::open(&path).unwrap();
        assert_eq!(
            place.store.load(&Source::Stdin(file), &quick(), &()).unwrap()[0].id,
            two_layers().id()
        );
    }
    let (reader, mut writer) = std::io::pipe().unwrap();
    let other = Image::new("piped", &[many_files(1, 100, 5000)]);
    let id = other.id();
    let bytes = common::archive(&[other]);
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&bytes).unwrap());
        let stdin = Source::Stdin(File::from(std::os::fd::OwnedFd::from(reader)));
        assert_eq!(place.store.load(&stdin, &quick(), &()).unwrap()[0].id, id);
    });
    assert_whole(&place.root());
}

#[test]
fn a_layout_directory_is_known_by_its_index() {
    let place = Place::new();
    let path = place.path("layout");
    common::layout(&path, &two_layers());
    let host = Platform::host();
    assert!(place.store.known(&path, &host).unwrap().is_none());
    let loaded = load(&place.store, &path);
    assert_eq!((loaded[0].id, &loaded[0].tags[..]), (two_layers().id(), &["two:1".to_owned()][..]));
    let manifest = loaded[0].manifest.unwrap();
    assert_eq!(place.store.find(&format!("two@{manifest}")).unwrap().id, loaded[0].id);
    assert_eq!(place.store.known(&path, &host).unwrap().unwrap()[0].id, loaded[0].id);
    // Its blobs are not needed any more.
    fs::remove_dir_all(path.join("blobs")).unwrap();
    assert_eq!(load(&place.store, &path)[0].id, loaded[0].id);
    let other = two_layers().label("other");
    common::layout(&path, &other);
    assert!(place.store.known(&path, &host).unwrap().is_none());
    assert_eq!(load(&place.store, &path)[0].id, other.id());
    assert!(place.store.known(&place.path("none"), &host).is_err());
    assert_whole(&place.root());
}

/// A layer of one directory with attributes of its own.
fn directory(name: &str, mode: u32) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(mode);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_600_000_000);
    header.set_size(0);
    tar.append_data(&mut header, name, &[][..]).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn a_layer_takes_what_it_does_not_list_from_the_layers_below() {
    // Two layers have the directory: the upper one of them counts.
    let below = [directory("d/", 0o700), directory("d/", 0o2750), layer(&[("other", b"")])];
    let top = layer(&[("d/file", b"x")]);
    let all: Vec<_> = below.iter().cloned().chain([top]).collect();
    // All at once, and with those below in the store already.
    for before in [0, 1, 3] {
        let place = Place::new();
        if before > 0 {
            place.load(&[Image::new("below:1", &below[..before])]);
        }
        let image = &place.load(&[Image::new("all:1", &all)])[0];
        let found = fs::metadata(image.layers[3].path().join("d")).unwrap();
        let found = (found.mode() & 0o7777, found.uid(), found.gid(), found.mtime());
        assert_eq!(found, (0o2750, 7, 8, 1_600_000_000), "with {before} layers there before");
    }
}

const CHILD: &str = "IMAGE_STORE_TEST_UMASK";

#[test]
fn the_umask_does_not_matter() {
    if let Some(root) = std::env::var_os(CHILD) {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
        let root = std::path::Path::new(&root);
        let store = Store::open(&root.join("store")).unwrap();
        let tar = Source::Path(root.join("two.tar"));
        store.load(&tar, &quick(), &()).unwrap();
        store.tag("two:1", "other").unwrap();
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("two.tar"), common::archive(&[two_layers()])).unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_umask_does_not_matter"])
        .env(CHILD, temp.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let root = temp.path().join("store");
    let mode =
        |path: &str| fs::metadata(root.join(path)).expect(path).permissions().mode() & 0o7777;
    for directory in [".", "images", "layers", "l", "sources", "staging"] {
        assert_eq!(mode(directory), 0o700, "{directory}");
        for entry in names(&root.join(directory)) {
            let is_dir = root.join(directory).join(&entry).is_dir();
            let expected = if directory == "l" {
                0o755
            } else if is_dir {
                0o700
            } else {
                0o600
            };
            assert_eq!(mode(&format!("{directory}/{entry}")), expected, "{directory}/{entry}");
        }
    }
    let image = Store::open(&root).unwrap().find("two:1").unwrap();
    assert_eq!(mode(&format!("{}/a", image.layers[0].link)), 0o644);
    assert_eq!(mode(&format!("layers/{}/layer.json", image.layers[0].chain_id.hex())), 0o600);
}
