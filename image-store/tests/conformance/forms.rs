//! How images and their layers are stored: the tree is the same.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use image_store::{Digest, Platform, Source, StoredImage};
use serde_json::json;

use crate::common::{self, Image, Place, assert_whole, quick};
use crate::stack::{Mount, Way, load, skipped};
use crate::tar::Tar;

const EXPECTED: [&str; 5] = [". d @0", "b f \"low\"", "c f \"top\"", "d d @0", "d/new f \"top\""];

/// The second of them is empty, and the fourth is the first again, hidden by nothing.
fn layers() -> Vec<Vec<u8>> {
    let low = Tar::new().file("a", b"low").file("b", b"low").file("d/old", b"low").end();
    let top = Tar::new().file(".wh.a", b"").file("c", b"top").file("d/.wh..wh..opq", b"");
    let top = top.file("d/new", b"top").end();
    vec![low, Tar::new().end(), top, Tar::new().file("b", b"low").end(), Tar::new().end()]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Docker's old archive, with each layer as `store` writes it; equal layers are links to the first, as Docker has
/// them, and the manifest comes first or last.
fn docker(layers: &[Vec<u8>], store: impl Fn(&[u8]) -> Vec<u8>, manifest_last: bool) -> Vec<u8> {
    let config = common::config(layers, "");
    let name = format!("{}.json", Digest::of(&config).hex());
    let path = |at: usize| format!("{at:064x}/layer.tar");
    let names: Vec<String> = (0..layers.len()).map(path).collect();
    let manifest = json!([{"Config": name, "RepoTags": ["test:1"], "Layers": names}]).to_string();
    let documents = |tar: Tar| tar.file("manifest.json", manifest.as_bytes()).file(&name, &config);
    let mut tar = if manifest_last { Tar::new() } else { documents(Tar::new()) };
    for (at, layer) in layers.iter().enumerate() {
        tar = match layers[..at].iter().position(|other| other == layer) {
            Some(first) => tar.symlink(&path(at), &format!("../{}", path(first))),
            None => tar.file(&path(at), &store(layer)),
        };
    }
    if manifest_last { documents(tar) } else { tar }.end()
}

fn assert_expected(place: &Place, image: &StoredImage) {
    assert_eq!(Mount::new(place, image).lines(), EXPECTED);
    assert_eq!(image.layers.len(), 5);
    assert_whole(&place.root());
}

fn from_file(archive: &[u8]) {
    let place = Place::new();
    std::fs::write(place.path("x.tar"), archive).unwrap();
    assert_expected(&place, &common::load(&place.store, &place.path("x.tar"))[0]);
}

/// From a pipe; says how often the store's spool, an unnamed file, was made.
fn from_pipe(archive: &[u8]) {
    let place = Place::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(archive).unwrap());
        let stdin = Source::Stdin(File::from(OwnedFd::from(reader)));
        let image = place.store.load(&stdin, &quick(), &()).unwrap().remove(0);
        assert_expected(&place, &image);
    });
    assert_eq!(common::names(&place.root().join("staging")), [""; 0]);
}

#[test]
fn the_bytes_of_a_layer_decide_its_compression() {
    let halves = |pack: fn(&[u8]) -> Vec<u8>| {
        move |bytes: &[u8]| {
            let (one, two) = bytes.split_at(bytes.len() / 2);
            [pack(one), pack(two)].concat()
        }
    };
    let padded = |bytes: &[u8]| [gzip(bytes), vec![0; 700]].concat();
    from_file(&docker(&layers(), <[u8]>::to_vec, true));
    from_file(&docker(&layers(), gzip, true));
    from_file(&docker(&layers(), padded, true));
    from_file(&docker(&layers(), halves(gzip), true));
    from_file(&docker(&layers(), zstd, true));
    from_file(&docker(&layers(), halves(zstd), true));
}

#[test]
fn garbage_behind_a_layer_and_a_cut_layer_are_errors() {
    let garbage = |pack: fn(&[u8]) -> Vec<u8>| {
        move |bytes: &[u8]| [pack(bytes), b"garbage".to_vec()].concat()
    };
    let cut = |pack: fn(&[u8]) -> Vec<u8>| {
        move |bytes: &[u8]| {
            let mut packed = pack(bytes);
            packed.truncate(packed.len() - 3);
            packed
        }
    };
    for archive in [
        docker(&layers(), garbage(<[u8]>::to_vec), true),
        docker(&layers(), garbage(gzip), true),
        docker(&layers(), garbage(zstd), true),
        docker(&layers(), cut(<[u8]>::to_vec), true),
        docker(&layers(), cut(gzip), true),
        docker(&layers(), cut(zstd), true),
    ] {
        let place = Place::new();
        std::fs::write(place.path("x.tar"), archive).unwrap();
        place.store.load(&Source::Path(place.path("x.tar")), &quick(), &()).unwrap_err();
        // Neither the image, nor a layer that was not verified to its end.
        assert_eq!(common::names(&place.root().join("layers")), [""; 0]);
        assert_eq!(common::names(&place.root().join("images")), [""; 0]);
    }
}

/// Whatever comes first in the archive, and whether it can be read twice.
#[test]
fn the_order_of_an_archive_does_not_matter() {
    for manifest_last in [false, true] {
        let archive = docker(&layers(), gzip, manifest_last);
        from_file(&archive);
        from_pipe(&archive);
        // The whole archive compressed, too.
        from_file(&gzip(&archive));
        from_pipe(&zstd(&archive));
    }
}

#[test]
fn a_layout_is_the_same_as_a_directory_and_as_a_tar() {
    let place = Place::new();
    let image = Image::new("test:1", &layers());
    common::layout(&place.path("layout"), &image);
    assert_expected(&place, &common::load(&place.store, &place.path("layout"))[0]);
    let mut tar = tar_of(&place.path("layout"));
    tar = tar.file("index.json", &std::fs::read(place.path("layout/index.json")).unwrap());
    let tar = tar.end();
    from_file(&tar);
    from_pipe(&tar);
    // Docker's since version 25: a manifest.json beside the layout, which names the same blobs.
    let config = common::config(&layers(), "");
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let names: Vec<String> = layers().iter().map(|layer| blob(layer)).collect();
    let entry = json!([{"Config": blob(&config), "RepoTags": ["other:2"], "Layers": names}]);
    let index = std::fs::read(place.path("layout/index.json")).unwrap();
    let both = tar_of(&place.path("layout"))
        .file("index.json", &index)
        .file("manifest.json", entry.to_string().as_bytes());
    let place = Place::new();
    std::fs::write(place.path("x.tar"), both.end()).unwrap();
    let image = common::load(&place.store, &place.path("x.tar")).remove(0);
    assert_eq!(image.tags, ["other:2", "test:1"]);
    assert_expected(&place, &image);
}

/// A layout's blobs as a tar, without its index.
fn tar_of(layout: &Path) -> Tar {
    let blobs = layout.join("blobs/sha256");
    common::names(&blobs).iter().fold(Tar::new(), |tar, name| {
        tar.file(&format!("blobs/sha256/{name}"), &std::fs::read(blobs.join(name)).unwrap())
    })
}

/// The kernel stacks so many and no more.
#[test]
fn an_image_of_500_layers() {
    let place = Place::new();
    let tars: Vec<Vec<u8>> = (0..overlay::MAX_LOWERS)
        .map(|at| {
            Tar::new().file("top", at.to_string().as_bytes()).file(&format!("{at:03}"), b"").end()
        })
        .collect();
    let image = load(&place, &tars, &quick(), Way::AtOnce).unwrap();
    assert_eq!(image.platform(), Platform::host());
    if !has_lowerdir_append() {
        return skipped("overlay_lowerdir_append", "500 layers are more than a page of options");
    }
    let lines = Mount::new(&place, &image).lines();
    assert_eq!(lines.len(), 502);
    assert_eq!((&lines[1][..], &lines[501][..]), ("000 f \"\"", "top f \"499\""));
}

fn has_lowerdir_append() -> bool {
    let context =
        rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    rustix::mount::fsconfig_set_string(&context, "no-such-option", "/").is_err()
        && rustix::mount::fsconfig_set_string(&context, "lowerdir+", "/").is_ok()
}
