//! Images with an index, from outside: what is on disk, what is mounted, what is checked, saved and removed.
//!
//! Needs root and, as `conformance indexed::the_form_is_to_be_had_here` says, Linux 6.4.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use common::{Image, Place, assert_whole, layer, names, quick};
use image_store::{
    CheckOptions, Digest, Error, LayerForm, LoadOptions, NewImage, SaveOptions, Source, Store,
    StoredImage,
};

/// A store, where this kernel can mount an index.
fn place() -> Option<Place> {
    let place = Place::new();
    let probe = place.archive("probe.tar", &[Image::new("probe:1", &[layer(&[])])]);
    match place.store.load(&Source::Path(probe), &indexed(), &()) {
        Ok(_) => Some(Place::new()),
        Err(Error::NoIndex { why }) => {
            skipped(&why);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn skipped(why: &str) {
    println!("SKIPPED: feature erofs_small_blocks: {why}");
}

fn indexed() -> LoadOptions {
    LoadOptions { layer_form: LayerForm::Index, ..quick() }
}

fn in_place() -> LoadOptions {
    LoadOptions { in_place: true, ..quick() }
}

const LARGE: [u8; 3000] = [b'x'; 3000];

fn two_layers() -> Image {
    let base = layer(&[("dir/base", &LARGE), ("small", b"s")]);
    Image::new("two:1", &[base, layer(&[("dir/top", b"top"), (".wh.small", b"")])])
}

/// What `auto` does not unpack.
fn many_layers() -> Image {
    let name = |at: usize| format!("dir/{at}");
    Image::new("many:1", &[0, 1, 2, 3, 4, 5, 6, 7, 8].map(|at| layer(&[(&name(at)[..], &LARGE)])))
}

fn load(place: &Place, path: &Path, options: &LoadOptions) -> StoredImage {
    place.store.load(&Source::Path(path.to_owned()), options, &()).unwrap().remove(0)
}

fn path_of(image: &StoredImage) -> PathBuf {
    image.index.as_ref().unwrap().path.clone()
}

/// The file systems that are mounted below a directory.
fn mounted(below: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let own =
        |line: &&str| line.split(' ').nth(1).is_some_and(|at| Path::new(at).starts_with(below));
    table.lines().filter(own).map(str::to_owned).collect()
}

fn assert_two_layers(place: &Place, image: &StoredImage) {
    let _mounted = place.store.mount(&image.id).unwrap().unwrap();
    let at = path_of(image);
    assert_eq!(fs::read(at.join("dir/base")).unwrap(), LARGE);
    assert_eq!(fs::read(at.join("dir/top")).unwrap(), b"top");
    assert!(!at.join("small").exists() && !at.join(".wh.small").exists());
}

#[test]
fn the_layers_are_kept_as_their_tars() {
    let Some(place) = place() else { return };
    let (path, image) = (place.path("two.tar"), two_layers());
    fs::write(&path, common::archive(std::slice::from_ref(&image))).unwrap();
    let stored = load(&place, &path, &indexed());
    assert_two_layers(&place, &stored);
    assert_eq!(names(&place.root().join("layers")), [""; 0]);
    let mut blobs: Vec<String> = image.layers.iter().map(|layer| Digest::of(layer).hex()).collect();
    blobs.sort();
    assert_eq!(names(&place.root().join("blobs")), blobs);
    assert_whole(&place.root());
    assert_eq!((stored.size, place.store.layer_size(&stored.layers[1]).unwrap()), (3004, Some(3)));
    // Again, and by its name: nothing is read.
    fs::write(path.with_extension("gone"), b"").unwrap();
    assert_eq!(load(&place, &path, &indexed()).id, stored.id);
    assert_two_layers(&place, &place.store.find("two:1").unwrap());
}

#[test]
fn compressed_layers_are_decoded_into_blobs_of_their_diff_ids() {
    let Some(place) = place() else { return };
    let plain = two_layers();
    let config = common::config(&plain.layers, "");
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain.layers[0]).unwrap();
    append("0.tar", &gzip.finish().unwrap());
    append("1.tar", &zstd::encode_all(&plain.layers[1][..], 1).unwrap());
    append("config.json", &config);
    let manifest = r#"[{"Config":"config.json","RepoTags":["two:1"],"Layers":["0.tar","1.tar"]}]"#;
    append("manifest.json", manifest.as_bytes());
    let path = place.path("compressed.tar");
    fs::write(&path, tar.into_inner().unwrap()).unwrap();
    for options in [indexed(), in_place()] {
        let image = load(&place, &path, &options);
        assert_two_layers(&place, &image);
        assert_eq!(names(&place.root().join("blobs")).len(), 2);
        assert_whole(&place.root());
        place.store.remove("two:1", false, &|_| false).unwrap();
    }
}

#[test]
fn a_layer_that_is_not_what_its_digest_says_is_no_image() {
    let Some(place) = place() else { return };
    let bytes = common::archive(&[two_layers()]);
    let at = bytes.windows(LARGE.len()).position(|window| window == LARGE).unwrap();
    let mut changed = bytes.clone();
    changed[at + 7] = b'y';
    let path = place.path("changed.tar");
    fs::write(&path, changed).unwrap();
    for options in [indexed(), in_place()] {
        let error = place.store.load(&Source::Path(path.clone()), &options, &()).unwrap_err();
        assert!(error.to_string().contains("has the digest"), "{error}");
        assert_eq!(names(&place.root().join("images")), [""; 0]);
        assert_eq!(names(&place.root().join("blobs")), [""; 0]);
        assert_eq!(names(&place.root().join("staging")), [""; 0]);
    }
}

#[test]
fn one_mount_is_shared_and_goes_with_its_last_user() {
    let Some(place) = place() else { return };
    let path = place.archive("two.tar", &[two_layers()]);
    let image = load(&place, &path, &indexed());
    assert_eq!(mounted(&place.root()), [""; 0]);
    let first = place.store.mount(&image.id).unwrap();
    // As another process has it: a store of its own.
    let other = Store::open(&place.root()).unwrap();
    let second = other.mount(&image.id).unwrap();
    let mounts = mounted(&place.root());
    assert!(matches!(&mounts[..], [only] if only.contains(" erofs ro,")), "{mounts:?}");
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = info.lines().find(|line| line.contains(path_of(&image).to_str().unwrap())).unwrap();
    assert!(!own.contains(" shared:") && !own.contains(" master:"), "{own}");
    drop(first);
    other.unmount_all_unused().unwrap();
    assert_eq!(mounted(&place.root()), mounts);
    drop(second);
    assert_eq!(mounted(&place.root()), [""; 0]);
}

#[test]
fn the_mounts_of_the_dead_are_taken_away() {
    let Some(place) = place() else { return };
    let path = place.archive("two.tar", &[two_layers()]);
    let image = load(&place, &path, &indexed());
    // A mount that is never dropped, as by a kill, but for its lock, which the kernel lets go of: mounted by hand.
    let first = place.store.mount(&image.id).unwrap().unwrap();
    let tree =
        sys::mount::clone_tree(fs::File::open(path_of(&image)).unwrap(), c"", false).unwrap();
    drop(first);
    sys::mount::attach(&tree, fs::File::open(path_of(&image)).unwrap()).unwrap();
    assert_eq!(mounted(&place.root()).len(), 1);
    let used = place.store.mount(&image.id).unwrap();
    assert_eq!(mounted(&place.root()).len(), 1, "what is there is used");
    place.store.unmount_all_unused().unwrap();
    assert_eq!(mounted(&place.root()).len(), 1);
    drop(used);
    assert_eq!(mounted(&place.root()), [""; 0]);
}

#[test]
fn in_place_nothing_is_copied_and_a_changed_archive_is_told() {
    let Some(place) = place() else { return };
    let path = place.archive("two.tar", &[two_layers()]);
    let image = load(&place, &path, &in_place());
    assert_two_layers(&place, &image);
    assert_eq!(names(&place.root().join("blobs")), [""; 0]);
    assert_eq!(image.layers[0].path(), fs::canonicalize(&path).unwrap());

    let used = place.store.mount(&image.id).unwrap();
    let moved = path.with_extension("moved");
    fs::rename(&path, &moved).unwrap();
    // Who uses it has it open.
    assert_eq!(fs::read(path_of(&image).join("dir/base")).unwrap(), LARGE);
    drop(used);
    let said = place.store.mount(&image.id).unwrap_err().to_string();
    assert!(said.contains("is gone") && said.contains(path.to_str().unwrap()), "{said}");
    fs::copy(&moved, &path).unwrap();
    let said = place.store.mount(&image.id).unwrap_err().to_string();
    assert!(said.contains("has changed") && said.contains("load the image again"), "{said}");
    assert_eq!(mounted(&place.root()), [""; 0]);
    // Which makes it whole again, from that very archive.
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_two_layers(&place, &load(&place, &path, &in_place()));
}

/// A directory on a file system in memory, whose files EROFS does not read itself on any kernel so far.
struct InMemory(tempfile::TempDir);

impl InMemory {
    fn new() -> InMemory {
        let temp = tempfile::tempdir().unwrap();
        let tmpfs = sys::fscontext::FsContext::open(c"tmpfs").unwrap();
        let tmpfs = tmpfs.mount(rustix::mount::MountAttrFlags::empty()).unwrap();
        sys::mount::attach(&tmpfs, fs::File::open(temp.path()).unwrap()).unwrap();
        InMemory(temp)
    }

    /// A store, and an archive of the two layers.
    fn store(&self) -> (Store, PathBuf) {
        let path = self.0.path().join("two.tar");
        fs::write(&path, common::archive(&[two_layers()])).unwrap();
        (Store::open(&self.0.path().join("store")).unwrap(), path)
    }

    /// The loop devices whose files are in it.
    fn loops(&self) -> usize {
        let devices = fs::read_dir("/sys/block").unwrap();
        let file = |device: fs::DirEntry| device.path().join("loop/backing_file");
        let files = devices.filter_map(|device| fs::read_to_string(file(device.unwrap())).ok());
        files.filter(|path| Path::new(path.trim_end()).starts_with(self.0.path())).count()
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn what_is_small_is_unpacked_unless_an_index_is_asked_for() {
    let Some(place) = place() else { return };
    let auto = LoadOptions { layer_form: LayerForm::Auto, ..quick() };
    let large = [b'y'; 8 << 20].to_vec();
    for (image, options, has_index) in [
        (two_layers(), auto.clone(), false),
        (many_layers(), auto.clone(), true),
        (Image::new("large:1", &[layer(&[("large", &large)])]), auto, true),
        (Image::new("small:1", &[layer(&[("small", b"s")])]), indexed(), true),
    ] {
        let name = image.tags[0];
        let path = place.path("image.tar");
        fs::write(&path, common::archive(&[image])).unwrap();
        assert_eq!(load(&place, &path, &options).index.is_some(), has_index, "{name}");
    }
}

/// As all indexes are mounted before Linux 6.12.
#[test]
fn where_files_cannot_be_mounted_loop_devices_are_and_go_with_the_mount() {
    let Some(_) = place() else { return };
    let memory = InMemory::new();
    let (store, path) = memory.store();
    for (options, devices) in [(indexed(), 3), (in_place(), 2)] {
        let image = store.load(&Source::Path(path.clone()), &options, &()).unwrap().remove(0);
        assert_eq!(memory.loops(), 0, "the probe left some");
        let mounts = [store.mount(&image.id).unwrap(), store.mount(&image.id).unwrap()];
        // The index, and each tar or the archive.
        assert_eq!(memory.loops(), devices);
        let table = mounted(memory.0.path());
        assert!(table.iter().any(|line| line.starts_with("/dev/loop")), "{table:?}");
        let at = path_of(&image);
        assert_eq!(fs::read(at.join("dir/base")).unwrap(), LARGE);
        assert_eq!(fs::read(at.join("dir/top")).unwrap(), b"top");
        assert!(!at.join("small").exists());
        drop(mounts);
        assert_eq!(memory.loops(), 0);
        store.remove("two:1", false, &|_| false).unwrap();
    }
}

const NO_LOOPS: &str = "IMAGE_STORE_TEST_NO_LOOPS";

#[test]
fn where_it_cannot_be_mounted_images_are_unpacked() {
    if std::env::var_os(NO_LOOPS).is_none() {
        // In a mount namespace without loop devices.
        let status = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-ec"])
            .arg("mount --bind /dev/null /dev/loop-control; exec \"$0\" --exact \"$1\"")
            .arg(std::env::current_exe().unwrap())
            .arg("where_it_cannot_be_mounted_images_are_unpacked")
            .env(NO_LOOPS, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let memory = InMemory::new();
    let (store, path) = memory.store();
    fs::write(&path, common::archive(&[many_layers()])).unwrap();
    let mut auto = LoadOptions { layer_form: LayerForm::Auto, ..quick() };
    let said = store.load(&Source::Path(path.clone()), &indexed(), &()).unwrap_err().to_string();
    assert!(said.contains("cannot be kept as an index here"), "{said}");
    assert!(said.contains("--layer-form dir"), "{said}");
    let image = store.load(&Source::Path(path.clone()), &auto, &()).unwrap().remove(0);
    assert!(image.index.is_none());
    auto.in_place = true;
    store.remove("many:1", false, &|_| false).unwrap();
    let in_place = store.load(&Source::Path(path), &auto, &()).map(drop);
    assert!(matches!(in_place, Err(Error::NoIndex { .. })), "{in_place:?}");
}

#[test]
fn what_is_no_tar_file_cannot_be_left_in_place() {
    let Some(place) = place() else { return };
    let layout = place.path("layout");
    common::layout(&layout, &two_layers());
    let gzip = place.path("two.tar.gz");
    let file = fs::File::create(&gzip).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    encoder.write_all(&common::archive(&[two_layers()])).unwrap();
    encoder.finish().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    for (path, why) in [(layout, "it is no tar file"), (gzip, "it is compressed")] {
        let error = place.store.load(&Source::Path(path), &in_place(), &()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(why) && said.contains("leave --in-place out"), "{said}");
    }
}

#[test]
fn layers_are_shared_and_go_with_their_last_image() {
    let Some(place) = place() else { return };
    let two = two_layers();
    let one = Image::new("one:1", &two.layers[..1]);
    let path = place.archive("both.tar", &[two, one]);
    let images = place.store.load(&Source::Path(path), &indexed(), &()).unwrap();
    assert_eq!(names(&place.root().join("blobs")).len(), 2);
    // A mount that was left over does not keep it.
    std::mem::forget(place.store.mount(&images[0].id).unwrap());
    let removed = place.store.remove("two:1", false, &|_| false).unwrap();
    assert_eq!(removed.layers, [images[0].layers[1].chain_id]);
    assert_eq!(mounted(&place.root()), [""; 0]);
    assert_eq!(names(&place.root().join("blobs")), [images[1].layers[0].diff_id.hex()]);
    place.store.remove("one:1", false, &|_| false).unwrap();
    for name in ["blobs", "images", "l", "mounts", "sources", "staging"] {
        assert_eq!(names(&place.root().join(name)), [""; 0], "{name}");
    }
}

#[test]
fn an_image_stays_in_the_form_that_it_has() {
    let Some(place) = place() else { return };
    let path = place.archive("two.tar", &[two_layers()]);
    assert!(load(&place, &path, &indexed()).index.is_some());
    let other = place.archive("other.tar", &[two_layers(), Image::new("x:1", &[layer(&[])])]);
    let images = place.store.load(&Source::Path(other), &quick(), &()).unwrap();
    assert_eq!(images.iter().map(|image| image.index.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_whole(&place.root());
    assert_eq!(place.store.check(&CheckOptions { content: true }).unwrap().findings, []);
}

#[test]
fn a_check_is_exact() {
    let Some(place) = place() else { return };
    let path = place.archive("two.tar", &[two_layers()]);
    let content = CheckOptions { content: true };
    let change = |path: &Path, at: u64| {
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };
    let image = load(&place, &path, &indexed());
    let found = place.store.check(&content).unwrap();
    assert_eq!((found.findings, found.layers, found.verified), (vec![], 2, 2));

    let blob = image.layers[0].path().to_owned();
    let index = place.root().join("images").join(image.id.hex()).join("index.erofs");
    for (file, at, words) in [(&blob, 600, "its digest is"), (&index, 1100, "is not the index")] {
        change(file, at);
        assert_eq!(place.store.check(&CheckOptions::default()).unwrap().findings, []);
        let found = place.store.check(&content).unwrap();
        assert!(found.is_damaged());
        let told = &found.findings[0];
        assert!(told.path == *file && told.what.contains(words), "{told:?}");
        change(file, at);
    }
    for file in [&blob, &index] {
        let length = fs::metadata(file).unwrap().size();
        let handle = fs::File::options().write(true).open(file).unwrap();
        handle.set_len(length - 512).unwrap();
        assert!(place.store.check(&CheckOptions::default()).unwrap().is_damaged());
        handle.set_len(length).unwrap();
    }
    fs::remove_dir_all(blob.parent().unwrap()).unwrap();
    assert!(place.store.check(&CheckOptions::default()).unwrap().is_damaged());
    place.store.remove("two:1", false, &|_| false).unwrap();

    load(&place, &path, &in_place());
    let found = place.store.check(&content).unwrap();
    assert_eq!((found.findings, found.verified), (vec![], 2));
    fs::remove_file(&path).unwrap();
    let found = place.store.check(&CheckOptions::default()).unwrap();
    assert!(found.findings[0].what.contains("is gone"), "{found:?}");
}

#[test]
fn what_is_saved_is_what_was_loaded() {
    let Some(place) = place() else { return };
    let path = place.archive("two.tar", &[two_layers()]);
    for options in [indexed(), in_place()] {
        let image = load(&place, &path, &options);
        let mut saved = Vec::new();
        place.store.save(&["two:1"], &SaveOptions::default(), &mut saved).unwrap();
        let again = Place::new();
        fs::write(again.path("saved.tar"), saved).unwrap();
        let found = load(&again, &again.path("saved.tar"), &indexed());
        assert_eq!((found.id, found.layers.len()), (image.id, 2));
        assert_two_layers(&again, &found);
        place.store.remove("two:1", false, &|_| false).unwrap();
    }
}

#[test]
fn a_new_image_has_its_bases_form() {
    let Some(place) = place() else { return };
    let path = place.archive("two.tar", &[two_layers()]);
    for options in [indexed(), in_place()] {
        let base = load(&place, &path, &options);
        let mut file = place.store.spool().unwrap();
        file.write_all(&layer(&[("new", b"3"), ("dir/.wh.top", b"")])).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let top = place.store.layer_tar(file, "a test", &image_unpack::Limits::default()).unwrap();
        let config = |diff_ids: &[Digest]| {
            let rootfs = serde_json::json!({ "type": "layers", "diff_ids": diff_ids });
            let config =
                serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs });
            serde_json::to_vec(&config).unwrap()
        };
        let new = NewImage { base: Some(&base), layer: &top, config: &config, name: Some("new:1") };
        let image = place.store.create(&new, &quick(), &()).unwrap();
        assert_eq!(image.layers.len(), 3);
        let mounted = place.store.mount(&image.id).unwrap().unwrap();
        let at = path_of(&image);
        assert_eq!(fs::read(at.join("new")).unwrap(), b"3");
        assert_eq!(fs::read(at.join("dir/base")).unwrap(), LARGE);
        assert!(!at.join("dir/top").exists());
        drop(mounted);
        assert_eq!(place.store.check(&CheckOptions { content: true }).unwrap().findings, []);
        for name in ["new:1", "two:1"] {
            place.store.remove(name, false, &|_| false).unwrap();
        }
        assert_eq!(names(&place.root().join("blobs")), [""; 0]);
    }
}

#[test]
fn what_a_power_cut_took_is_found_and_loaded_again() {
    let Some(place) = place() else { return };
    let path = place.archive("two.tar", &[two_layers()]);
    let image = load(&place, &path, &indexed());
    let dir = place.root().join("images").join(image.id.hex());
    let blob = image.layers[0].path().to_owned();
    for file in [&blob, &dir.join("index.erofs")] {
        let record = fs::read_to_string(dir.join("image.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&record).unwrap();
        let boot = value["boot"].as_str().unwrap();
        fs::write(dir.join("image.json"), record.replace(boot, "another")).unwrap();
        fs::File::options().write(true).open(file).unwrap().set_len(512).unwrap();
        let said = place.store.mount(&image.id).unwrap_err().to_string();
        assert!(said.contains("the machine went down"), "{said}");
        assert_two_layers(&place, &load(&place, &path, &indexed()));
        assert_whole(&place.root());
    }
}
