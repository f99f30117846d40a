//! The two forms of a stored image give the very same tree: real images, in every form of archive.

use std::path::{Path, PathBuf};

use image_store::{Error, LayerForm, LoadOptions, Source};

use crate::common::{Place, assert_whole, quick};
use crate::stack::{Mount, Way, forms, load, skipped, with};
use crate::tar::Tar;

#[test]
fn the_form_is_to_be_had_here() {
    let place = Place::new();
    match load(&place, &[Tar::new().end()], &with(LayerForm::Index), Way::AtOnce) {
        Ok(image) => assert!(image.index.is_some()),
        Err(Error::NoIndex { why }) => skipped("erofs_small_blocks", &why),
        Err(error) => panic!("{error}"),
    }
}

/// The archive of an image that `cargo xtask images` makes.
pub(crate) fn archive(name: &str, format: &str) -> PathBuf {
    let file = format!("{name}.{format}.tar");
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let own = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
    let found =
        tmp.ancestors().chain([own]).map(|dir| dir.join("images").join(&file)).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("the image {file} is not there: run `cargo xtask images` first"))
}

/// The tree of an image's root, of an archive that is loaded in this way.
fn tree(archive: &Path, options: &LoadOptions) -> Vec<String> {
    let place = Place::new();
    let source = Source::Path(archive.to_owned());
    let image = place.store.load(&source, options, &()).unwrap().remove(0);
    let indexed = options.in_place || options.layer_form == LayerForm::Index;
    assert_eq!(image.index.is_some(), indexed);
    let lines = Mount::new(&place, &image).lines();
    assert_whole(&place.root());
    lines
}

fn same(name: &str, formats: &[&str]) {
    let wanted = tree(&archive(name, formats[0]), &with(LayerForm::Dir));
    assert!(wanted.len() > 10);
    if !forms().contains(&LayerForm::Index) {
        return;
    }
    for format in formats {
        let archive = archive(name, format);
        let found = tree(&archive, &with(LayerForm::Index));
        let other = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
        assert_eq!((other, found.len()), (None, wanted.len()), "{name}.{format}");
        let found = tree(&archive, &LoadOptions { in_place: true, ..quick() });
        let other = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
        assert_eq!((other, found.len()), (None, wanted.len()), "{name}.{format} in place");
    }
}

const FORMATS: [&str; 4] = ["docker-legacy", "docker-oci", "oci-gzip", "oci-zstd"];

#[test]
fn a_server() {
    same("nginx", &FORMATS);
}

#[test]
fn another_server() {
    same("httpd", &["docker-legacy", "oci-gzip"]);
}

#[test]
fn a_toolbox() {
    same("netshoot", &["docker-legacy", "oci-zstd"]);
}

#[test]
fn a_hundred_and_twenty_seven_layers() {
    same("layers-127", &FORMATS);
}

#[test]
fn odd_files() {
    same("odd", &FORMATS);
}

#[test]
fn files_with_holes() {
    same("odd-sparse", &FORMATS);
}

#[test]
fn entries_that_stand_twice() {
    same("odd-twice", &FORMATS);
}
