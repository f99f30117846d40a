//! Documents of images that lie, layouts that lead outside, and bombs: in each form of layers.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::attack::{Canary, SECRET, forms, load};
use crate::harness::{Root, arg, busybox};
use crate::image::{Archive, Layer, busybox_layer, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An OCI layout in the making: busybox, until something is changed.
pub(crate) struct Layout {
    blobs: Vec<(String, Vec<u8>)>,
    config: Value,
    /// Its descriptor.
    pub(crate) layer: Value,
}

impl Layout {
    pub(crate) fn new() -> Layout {
        Layout::of(busybox_layer())
    }

    pub(crate) fn of(layer: Vec<u8>) -> Layout {
        let mut layout = Layout { blobs: Vec::new(), config: Value::Null, layer: Value::Null };
        let diff_id = format!("sha256:{}", sha256(&layer));
        layout.layer = layout.blob("application/vnd.oci.image.layer.v1.tar", layer);
        layout.set_config(&[&diff_id]);
        layout
    }

    fn set_config(&mut self, diff_ids: &[&str]) {
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["true"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        self.config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string());
    }

    /// Its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Value {
        let bytes = bytes.into();
        let (digest, size) = (sha256(&bytes), bytes.len());
        self.blobs.push((digest.clone(), bytes));
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
    }

    pub(crate) fn manifest(&mut self) -> Value {
        let (config, layer) = (self.config.clone(), self.layer.clone());
        let text = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
        self.blob(MANIFEST, text)
    }

    /// Writes a directory whose index names this manifest.
    pub(crate) fn write(&self, dir: &Path, mut manifest: Value) {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(dir.join("oci-layout"), "{\"imageLayoutVersion\": \"1.0.0\"}").unwrap();
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "localhost/x:1"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        fs::write(dir.join("index.json"), index).unwrap();
        for (name, bytes) in &self.blobs {
            fs::write(blobs.join(name), bytes).unwrap();
        }
    }
}

/// Runs a layout, as a directory and as a tar, in each form. Refused with these words, or, with none, run.
#[track_caller]
fn attack(make: impl Fn(&Path, &Canary), words: &[&str]) {
    for form in forms() {
        let root = Root::new();
        let canary = Canary::new(root.dir());
        let dir = root.host_dir("layout");
        make(&dir, &canary);
        let tar = root.dir().join("layout.tar");
        let packed = Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&dir).arg(".").status();
        assert!(packed.unwrap().success());
        for path in [&dir, &tar] {
            let out = root.call(["run", "--rm", form, arg(path), "true"]);
            canary.assert_untouched();
            assert!(!out.stderr.contains(SECRET), "{form}: {out:?}");
            assert!(!out.stderr.contains("panicked"), "{form}: {out:?}");
            if words.is_empty() {
                assert_eq!(out.code, 0, "{form}: {out:?}");
                continue;
            }
            assert_eq!(out.code, 125, "{form}: {out:?}");
            let named = words.iter().any(|word| out.stderr.contains(word));
            assert!(named, "none of {words:?} in {form}: {out:?}");
            assert_eq!(root.ok(["images", "-q"]), "", "{form}: a forged image is there");
            root.assert_nothing_left();
        }
    }
}

/// The layouts made here are none that would be refused anyway.
#[test]
fn an_honest_layout_is_run() {
    let make = |dir: &Path, _: &Canary| {
        let mut layout = Layout::new();
        let manifest = layout.manifest();
        layout.write(dir, manifest);
    };
    attack(make, &[]);
}

/// 2021-41190, 2026-50195: one document that two readers take for two.
#[test]
fn a_manifest_that_is_an_index_too() {
    let make = |dir: &Path, _: &Canary| {
        let mut layout = Layout::new();
        let inner = layout.manifest();
        let (config, layer) = (layout.config.clone(), layout.layer.clone());
        let both =
            json!({"schemaVersion": 2, "config": config, "layers": [layer], "manifests": [inner]});
        let manifest = layout.blob(MANIFEST, both.to_string());
        layout.write(dir, manifest);
    };
    attack(make, &["fields of an index and those of a manifest"]);
    let make = |dir: &Path, _: &Canary| {
        let mut layout = Layout::new();
        let (config, layer) = (layout.config.clone(), layout.layer.clone());
        let text =
            json!({"schemaVersion": 2, "mediaType": INDEX, "config": config, "layers": [layer]});
        let manifest = layout.blob(MANIFEST, text.to_string());
        layout.write(dir, manifest);
    };
    attack(make, &["its descriptor says"]);
}

/// A digest becomes the name of a file: none that leads elsewhere, and none that is cut in the middle of a letter.
#[test]
fn digests_that_are_paths() {
    let long = "é".repeat(32);
    let dots = format!("sha256:{}", "../".repeat(21) + "x");
    for digest in [
        "sha256:../../../canary/alive",
        "sha256:",
        "sha256",
        ":",
        "",
        &dots,
        &format!("sha256:{long}"),
    ] {
        for part in 0..3 {
            let make = |dir: &Path, _: &Canary| {
                let mut layout = Layout::new();
                match part {
                    0 => layout.layer["digest"] = digest.into(),
                    1 => layout.config["digest"] = digest.into(),
                    _ => {}
                }
                let mut manifest = layout.manifest();
                if part == 2 {
                    manifest["digest"] = digest.into();
                }
                layout.write(dir, manifest);
            };
            attack(make, &["64 lower-case", "sha256, the one algorithm"]);
        }
    }
    let make = |dir: &Path, _: &Canary| {
        let mut layout = Layout::new();
        layout.set_config(&["sha256:../../../canary/alive"]);
        let manifest = layout.manifest();
        layout.write(dir, manifest);
    };
    attack(make, &["the diff_id of layer 1"]);
}

/// What is unpacked is not what the configuration says: the digest of the blob is right, and that of the layer wrong.
#[test]
fn a_wrong_diff_id() {
    let make = |dir: &Path, _: &Canary| {
        let mut layout = Layout::new();
        layout.set_config(&[&format!("sha256:{}", sha256(b"another layer"))]);
        let manifest = layout.manifest();
        layout.write(dir, manifest);
    };
    attack(make, &["and should have sha256:"]);
}

/// Files of a layout that are links to the host's, or no files at all: nothing is read there, and nothing waits.
#[test]
fn links_in_a_layout() {
    for part in ["index.json", "layer", "config", "manifest", "blobs", "blobs/sha256"] {
        let make = |dir: &Path, canary: &Canary| {
            let mut layout = Layout::new();
            let manifest = layout.manifest();
            layout.write(dir, manifest);
            let name = |at: usize| format!("blobs/sha256/{}", layout.blobs[at].0);
            let part = match part {
                "layer" => name(0),
                "config" => name(1),
                "manifest" => name(2),
                part => part.to_owned(),
            };
            // What the link leads to is right, so that a reader who follows it does not notice.
            let outside = Path::new(canary.path()).parent().unwrap().join("outside");
            let _ = fs::remove_dir_all(&outside);
            let _ = fs::remove_file(&outside);
            fs::rename(dir.join(&part), &outside).unwrap();
            symlink(&outside, dir.join(&part)).unwrap();
        };
        attack(
            make,
            &[
                "missing",
                "symbolic link",
                "no such",
                "not there",
                "No such",
                "there is no file",
                "Too many",
                "index.json",
            ],
        );
    }
    for kind in ["p", "c"] {
        let make = |dir: &Path, _: &Canary| {
            let mut layout = Layout::new();
            let manifest = layout.manifest();
            layout.write(dir, manifest);
            let layer = dir.join("blobs/sha256").join(&layout.blobs[0].0);
            fs::remove_file(&layer).unwrap();
            let numbers: &[&str] = if kind == "c" { &["1", "5"] } else { &[] };
            let made = Command::new("mknod").arg(&layer).arg(kind).args(numbers).status();
            assert!(made.unwrap().success());
        };
        attack(make, &["layer"]);
    }
}

/// Names that an archive gives its image: no path, and none of an image that is there, if it fails.
#[test]
fn names_that_an_archive_claims() {
    for form in forms() {
        let root = Root::new();
        load(&root, form, &busybox());
        let good = root.ok(["images", "-q", "--no-trunc", "localhost/busybox:latest"]);
        let mut bad = Archive::busybox([Layer::new().raw(b'0', "../x", "", b"")]);
        bad.name = "localhost/busybox:latest";
        root.fails(1, &[".."], ["load", form, "-i", arg(&bad.write(root.dir(), "bad.tar"))]);
        assert_eq!(root.ok(["images", "-q", "--no-trunc", "localhost/busybox:latest"]), good);
        for name in ["../../canary", "a\nb", "/etc/passwd", "localhost/x:../../y", "x@sha256:../.."]
        {
            let mut bad = Archive::busybox([]);
            bad.name = name;
            let bad = bad.write(root.dir(), "bad.tar");
            root.fails(1, &["is no image name"], ["load", form, "-i", arg(&bad)]);
        }
        assert_eq!(root.ok(["images", "-q"]).lines().count(), 1);
        root.assert_nothing_left();
    }
}

/// Documents that are deep, long, or have numbers that nothing can hold.
#[test]
fn documents_that_are_bombs() {
    let root = Root::new();
    let deep = "[".repeat(200_000);
    let big = format!("[{}]", "0,".repeat(5 << 20) + "0");
    let number = "[{\"Config\": 1e400, \"Layers\": [], \"RepoTags\": null}]".to_owned();
    let digits = format!("[{{\"Config\": {}}}]", "9".repeat(100_000));
    for document in [deep, big, number, digits] {
        let change = |name: &str, bytes: Vec<u8>| {
            Some(if name == "manifest.json" { document.clone().into_bytes() } else { bytes })
        };
        let archive = Archive::busybox([]).write_with(root.dir(), "x.tar", change);
        for form in forms() {
            root.fails(125, &["manifest"], ["run", "--rm", form, arg(&archive), "true"]);
            root.assert_nothing_left();
        }
    }
}

/// What gzip makes of it.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .args(["-9", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(out.status.success());
    out.stdout
}

/// 10 GB of zeros in 10 MB (2026-95838 and others).
#[test]
fn a_file_of_zeros() {
    const PIECE: usize = 64 << 20;
    let mut header = Layer::new().file("zeros", 0o644, "").finish();
    header.truncate(512);
    let mut fields = tar::Header::from_byte_slice(&header).clone();
    fields.set_size(160 * PIECE as u64);
    fields.set_cksum();
    let zeros = gzip(&vec![0; PIECE]);
    let mut layer = gzip(fields.as_bytes());
    for _ in 0..160 {
        layer.extend_from_slice(&zeros);
    }
    assert!(layer.len() < 12 << 20, "{}", layer.len());
    for form in forms() {
        let root = Root::new();
        let mut archive = Archive::busybox([]);
        archive.layers.push(layer.clone());
        let archive = archive.write(root.dir(), "x.tar");
        root.fails(125, &["is over the limit"], ["run", "--rm", form, arg(&archive), "true"]);
        assert_eq!(root.ok(["images", "-q"]), "");
        root.assert_nothing_left();
    }
}

/// 10^5 markers of one directory, and as many whiteouts of nothing (2026-95838).
#[test]
fn a_hundred_thousand_markers() {
    let mut layer = Layer::new().directory("d");
    for number in 0..100_000 {
        layer = layer.raw(b'0', "d/.wh..wh..opq", "", b"");
        if number % 10 == 0 {
            layer = layer.raw(b'0', &format!("d/.wh.{number}"), "", b"");
        }
    }
    let root = Root::new();
    let archive = Archive::busybox([layer]).write(root.dir(), "x.tar");
    for form in forms() {
        let root = Root::new();
        assert_eq!(root.ok(["run", "--rm", form, arg(&archive), "ls", "-A", "/d"]), "", "{form}");
        root.assert_nothing_left();
    }
}
