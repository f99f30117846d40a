//! Archives that are no image, or a broken one: each has its sentence, and nothing is left.

use std::fs;
use std::path::Path;

use crate::harness::{Root, arg, busybox, image};
use crate::image::{Archive, Layer, member, sha256};

/// Runs an archive that cannot be run: status 125, a sentence with all of `words` and the archive's
/// name, no image, nothing else.
#[track_caller]
fn refused(root: &Root, archive: &Path, words: &[&str]) {
    let name = archive.file_name().unwrap().to_str().unwrap();
    let error = root.fails(125, words, ["run", "--rm", arg(archive), "true"]);
    assert!(error.contains(name), "no {name:?} in: {error}");
    assert_eq!(error.trim_end().lines().count(), 1, "one sentence: {error}");
    assert_eq!(root.ok(["images", "-q"]), "", "a broken image is there");
    root.assert_nothing_left();
    // `load` says the same, with a status of its own.
    root.fails(1, words, ["load", "-i", arg(archive)]);
    root.assert_nothing_left();
}

#[track_caller]
fn refused_bytes(bytes: &[u8], words: &[&str]) {
    let root = Root::new();
    let path = root.dir().join("the-archive.tar");
    fs::write(&path, bytes).unwrap();
    refused(&root, &path, words);
}

#[test]
fn no_such_file() {
    let root = Root::new();
    refused(&root, &root.dir().join("missing.tar"), &["No such file"]);
}

#[test]
fn an_unknown_name() {
    let root = Root::new();
    root.fails(125, &["no-such-image"], ["run", "--rm", "no-such-image:1.0", "true"]);
    root.assert_nothing_left();
}

#[test]
fn no_tar() {
    refused_bytes("This is a text and no archive.\n".repeat(100).as_bytes(), &["tar"]);
}

#[test]
fn an_empty_file() {
    refused_bytes(b"", &[]);
}

#[test]
fn a_directory_that_is_no_layout() {
    let root = Root::new();
    refused(&root, &root.host_dir("no-layout"), &["index.json"]);
}

#[test]
fn a_truncated_tar() {
    let bytes = fs::read(busybox()).unwrap();
    for part in [bytes.len() / 2, bytes.len() - 20_000, 700] {
        refused_bytes(&bytes[..part], &["cut off"]);
    }
}

#[test]
fn a_truncated_gzip_layer() {
    let archive = fs::read(image("busybox", "oci-gzip")).unwrap();
    refused_bytes(&archive[..archive.len() / 2], &["cut off"]);
}

#[test]
fn a_tar_without_a_manifest() {
    let root = Root::new();
    let without = |name: &str, bytes| (name != "manifest.json").then_some(bytes);
    let path = Archive::busybox([]).write_with(root.dir(), "x.tar", without);
    refused(&root, &path, &["manifest.json"]);
}

#[test]
fn a_root_file_system_is_no_image() {
    let layer = Layer::new().directory("etc").directory("usr").file("bin/sh", 0o755, "x");
    refused_bytes(&layer.finish(), &["manifest.json"]);
}

#[test]
fn a_wrong_digest_of_a_layer() {
    let root = Root::new();
    let archive = Archive::busybox([Layer::new().file("x", 0o644, "good")]);
    let own = sha256(&archive.layers[1]);
    let changed = |name: &str, mut bytes: Vec<u8>| {
        if name.starts_with(&own) {
            let at = bytes.windows(4).position(|word| word == b"good").unwrap();
            bytes[at..at + 4].copy_from_slice(b"evil");
        }
        Some(bytes)
    };
    let path = archive.write_with(root.dir(), "x.tar", changed);
    refused(&root, &path, &["digest", &own]);
}

#[test]
fn a_wrong_digest_of_a_blob_in_a_layout() {
    for format in ["oci-gzip", "oci-zstd", "docker-oci"] {
        // A byte in the middle of the largest blob: of the layer.
        let mut bytes = fs::read(image("busybox", format)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        refused_bytes(&bytes, &["layer"]);
    }
}

#[test]
fn a_wrong_digest_of_the_configuration() {
    let root = Root::new();
    let changed = |name: &str, bytes: Vec<u8>| {
        let text = || String::from_utf8(bytes.clone()).unwrap();
        let is_config = name.len() == 69 && name.ends_with(".json");
        Some(if is_config { text().replace("a test", "a lie!").into_bytes() } else { bytes })
    };
    let path = Archive::busybox([]).write_with(root.dir(), "x.tar", changed);
    refused(&root, &path, &["digest"]);
}

#[test]
fn an_unknown_compression_of_the_archive() {
    let mut bytes = b"\xfd7zXZ\0".to_vec();
    bytes.resize(4096, 7);
    refused_bytes(&bytes, &["xz"]);
}

#[test]
fn an_unknown_compression_of_a_layer() {
    let root = Root::new();
    let mut bzip2 = b"BZh91AY&SY".to_vec();
    bzip2.resize(4096, 7);
    let mut archive = Archive::busybox([]);
    archive.layers.push(bzip2);
    refused(&root, &archive.write(root.dir(), "x.tar"), &["bzip2"]);
}

#[test]
fn a_missing_layer() {
    let root = Root::new();
    let archive = Archive::busybox([Layer::new().file("x", 0o644, "here")]);
    let own = sha256(&archive.layers[1]);
    let without = |name: &str, bytes| (!name.starts_with(&own)).then_some(bytes);
    let path = archive.write_with(root.dir(), "x.tar", without);
    refused(&root, &path, &["layer", &own]);
}

#[test]
fn an_image_for_another_architecture() {
    let root = Root::new();
    let mut archive = Archive::busybox([]);
    archive.architecture = "arm64";
    let path = archive.write(root.dir(), "x.tar");
    refused(&root, &path, &["linux/arm64", "linux/amd64"]);
}

#[test]
fn a_name_that_leads_out_of_a_layer() {
    let root = Root::new();
    let canary = root.dir().join("canary");
    fs::write(&canary, "unharmed").unwrap();
    let layer = Layer::new().symlink("out", arg(root.dir())).file("out/canary", 0o644, "harmed");
    let path = Archive::busybox([layer]).write(root.dir(), "x.tar");
    // The link is replaced by a directory, as the last entry wins: or it is refused.
    let out = root.call(["run", "--rm", arg(&path), "cat", "/out/canary"]);
    assert!(out.code == 125 || out.stdout == "harmed", "{out:?}");
    assert_eq!(fs::read_to_string(&canary).unwrap(), "unharmed");
    root.assert_nothing_left();
}

#[test]
fn a_bad_archive_on_standard_input() {
    let root = Root::new();
    let good = member(&busybox(), |name| name == "index.json");
    for bytes in [&good[..], b"", b"no tar at all, but some words that go on"] {
        let out = root.call_with_input(["run", "--rm", "-", "true"], bytes);
        assert_eq!(out.code, 125, "{out:?}");
        assert!(out.stderr.contains("standard input"), "{out:?}");
    }
    root.assert_nothing_left();
}
