//! Images that are damaged, forged, or none: a sentence that names the thing, and never a panic.

use std::fs;

use image_unpack::{Archive, Digest, Error, Limits, Options};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::image::{Opened, config, docker, docker_with, linux, open, root, sentence, try_open};
use crate::layout::{CONFIG, INDEX, LAYER, Layout, MANIFEST, with};
use crate::tar::Tar;

fn sample() -> Vec<u8> {
    Tar::new().dir("d").file("d/f", b"data").symlink("s", "d/f").end()
}

/// Open, find the image, unpack its layers: the first error's sentence.
fn said(bytes: &[u8]) -> String {
    let result = try_open(bytes).and_then(|opened| {
        let images = opened.archive.images(&linux())?;
        (0..images[0].layers.len()).try_for_each(|at| opened.unpack(at, &root()).map(drop))
    });
    sentence(result)
}

/// A layout of one image of one layer, and the descriptors of its config, layer and manifest.
fn layout() -> (Layout, [Value; 3]) {
    let mut layout = Layout::new();
    let config = layout.blob(CONFIG, &config(&[Digest::of(&sample())], "amd64"));
    let layer = layout.blob(LAYER, &sample());
    let manifest = layout.manifest(config.clone(), vec![layer.clone()]);
    (layout.list(manifest.clone()), [config, layer, manifest])
}

#[test]
fn what_is_no_archive() {
    for (bytes, words) in [
        (&b""[..], "it is empty"),
        (&b"hello, world\n"[..], "neither a tar"),
        (&[7; 5000][..], "neither a tar"),
        (&[0; 1024][..], "a tar without entries"),
        (&Tar::new().file("readme", b"x").end()[..], "no manifest.json (Docker) and no index.json"),
        (&Tar::new().dir("etc").dir("usr").file("bin/sh", b"").end()[..], "root file system"),
        (
            &Tar::new().file("repositories", b"{}").file("a/layer.tar", b"").end()[..],
            "older than 1.10",
        ),
        (&Tar::new().file("a/layer.tar", b"x").0[..], "probably cut off"),
        (&docker(&[sample()])[..1000], "middle of an entry"),
        (&docker(&[sample()])[..100], "neither a tar"),
    ] {
        let said = said(bytes);
        assert!(said.contains(words) && said.contains("image.tar"), "{words}: {said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let said = sentence(Archive::open(&dir.path().join("none"), dir.path()));
    assert!(said.contains("cannot open the image archive") && said.contains("/none"), "{said}");
    let said = sentence(Archive::open(dir.path(), dir.path()));
    assert!(said.contains("no index.json, so it is no OCI layout"), "{said}");
    let said =
        sentence(Archive::open("/dev/null".as_ref(), dir.path()).and_then(|a| a.images(&linux())));
    assert!(said.contains("/dev/null is not an image"), "{said}");
}

#[test]
fn an_archive_cut_off_between_entries_says_so() {
    let whole = docker(&[sample()]);
    let manifest = whole.windows(13).rposition(|window| window == b"manifest.json").unwrap();
    assert!(said(&whole[..manifest]).contains("probably cut off"));
    let (layout, _) = layout();
    let cut = Tar::new().file(
        "index.json",
        json!({"schemaVersion": 2, "manifests": layout.manifests}).to_string().as_bytes(),
    );
    assert!(said(&cut.0).contains("probably cut off"));
}

#[test]
fn the_wrong_architecture_names_both() {
    let arm = config(&[Digest::of(&sample())], "arm64");
    let said_of_docker = said(&docker_with(&[sample()], &arm));
    let mut layout = Layout::new();
    let manifest = layout.image(&[(sample(), sample())], "arm64");
    for said in [said_of_docker, said(&layout.list(manifest).tar())] {
        assert!(said.contains("no image for linux/amd64; it has linux/arm64"), "{said}");
    }
}

#[test]
fn each_digest_is_checked_before_use() {
    let (whole, parts) = layout();
    open(&whole.tar()).unpack(0, &root()).unwrap();
    for (part, name) in
        parts.iter().zip(["the configuration", "the blob of layer 1 of 1", "the manifest"])
    {
        // Other bytes of the same size, and still a tar or JSON: only the digest can tell.
        let mut forged = whole.clone();
        let digest = part["digest"].as_str().unwrap();
        let mut bytes = whole.blobs[&digest.replace("sha256:", "")].clone();
        let data = bytes.windows(4).position(|window| window == b"data");
        let at = data.or(bytes.iter().position(|byte| *byte == b'd')).unwrap();
        bytes[at] = b'D';
        forged.replace(part, &bytes);
        let message = said(&forged.tar());
        for words in [name, digest, "damaged or forged"] {
            assert!(message.contains(words), "{name}: {message}");
        }
        // Another size is seen before anything is read.
        bytes.push(b' ');
        forged.replace(part, &bytes);
        let message = said(&forged.tar());
        assert!(message.contains("bytes, and its descriptor says"), "{name}: {message}");
        let mut absent = whole.clone();
        absent.remove(part);
        let message = said(&absent.tar());
        assert!(
            message.contains("is not in") && message.contains(&digest.replace(':', "/")),
            "{name}: {message}"
        );
    }
}

#[test]
fn a_blob_with_the_right_tar_and_the_wrong_digest_is_an_error() {
    let (mut layout, [config, _, _]) = layout();
    // The same tar, compressed: the diff_id is right, the descriptor's digest is of other bytes.
    let other = crate::streams::gzip(&sample());
    let mut layer = layout.blob(LAYER, b"something else");
    layout.replace(&layer, &other);
    layer["size"] = json!(other.len());
    let manifest = layout.manifest(config, vec![layer]);
    layout.manifests = vec![manifest];
    let said = said(&layout.tar());
    assert!(
        said.contains("the blob of layer 1 of 1") && said.contains("damaged or forged"),
        "{said}"
    );
}

#[test]
fn names_of_digests_lead_nowhere() {
    for (digest, words) in [
        ("sha256:../../../../etc/passwd", "64 lower-case"),
        ("sha256:ABCD", "64 lower-case"),
        ("../../etc/passwd", "64 lower-case"),
        ("", "64 lower-case"),
        ("sha512:00", "sha256, the one algorithm"),
    ] {
        let (whole, [config, layer, manifest]) = layout();
        let forged = with(&manifest, "digest", json!(digest));
        let message = said(&Layout { manifests: vec![forged], ..whole.clone() }.tar());
        assert!(message.contains(words), "{digest}: {message}");
        for (config, layer) in [
            (with(&config, "digest", json!(digest)), layer.clone()),
            (config.clone(), with(&layer, "digest", json!(digest))),
        ] {
            let mut layout = whole.clone();
            let manifest = layout.manifest(config, vec![layer]);
            let message = said(&Layout { manifests: vec![manifest], ..layout }.tar());
            assert!(message.contains(words), "{digest}: {message}");
        }
    }
    // A diff_id too.
    let config = String::from_utf8(config(&[Digest::of(&sample())], "amd64")).unwrap();
    let forged = config.replace(&Digest::of(&sample()).to_string(), "sha256:1");
    assert!(said(&docker_with(&[sample()], forged.as_bytes())).contains("the diff_id of layer 1"));
}

#[test]
fn a_configuration_is_what_its_name_says() {
    let config = config(&[Digest::of(&sample())], "amd64");
    let name = format!("{}.json", Digest::of(b"other").hex());
    let manifest = json!([{"Config": name, "RepoTags": null, "Layers": ["l"]}]).to_string();
    let tar = Tar::new()
        .file(&name, &config)
        .file("l", &sample())
        .file("manifest.json", manifest.as_bytes());
    let message = said(&tar.end());
    assert!(
        message.contains("the configuration") && message.contains("damaged or forged"),
        "{message}"
    );
}

#[test]
fn something_that_the_manifest_names_is_missing() {
    let whole = config(&[Digest::of(&sample())], "amd64");
    let manifest = |config: &str, layer: &str| {
        json!([{"Config": config, "RepoTags": null, "Layers": [layer]}]).to_string()
    };
    for (config, layer, words) in [
        ("config.json", "gone/layer.tar", "layer 1 of 1 is not in"),
        ("gone.json", "l/layer.tar", "the configuration of"),
        ("../../etc/passwd", "l/layer.tar", "the configuration of"),
        ("config.json", "../../etc/passwd", "layer 1 of 1 is not in"),
    ] {
        let manifest = manifest(config, layer);
        let tar = Tar::new()
            .file("config.json", &whole)
            .file("l/layer.tar", &sample())
            .file("manifest.json", manifest.as_bytes());
        let message = said(&tar.end());
        assert!(
            message.contains(words) && message.contains("there is no file"),
            "{words}: {message}"
        );
    }
}

#[test]
fn documents_that_contradict_themselves() {
    let (whole, [config, layer, manifest]) = layout();
    // An index and a manifest in one (CVE-2021-41190).
    let mut layout = whole.clone();
    let both = layout.json(MANIFEST, &json!({"mediaType": MANIFEST, "config": config, "layers": [layer], "manifests": [manifest]}));
    assert!(
        said(&Layout { manifests: vec![both], ..layout }.tar())
            .contains("fields of an index and those of a manifest")
    );
    // One that calls itself something else than its descriptor does.
    let mut layout = whole.clone();
    let other =
        layout.json(MANIFEST, &json!({"mediaType": INDEX, "config": config, "layers": [layer]}));
    assert!(
        said(&Layout { manifests: vec![other], ..layout }.tar()).contains("its descriptor says")
    );
    let mut layout = whole.clone();
    let empty = layout.json(MANIFEST, &json!({}));
    assert!(
        said(&Layout { manifests: vec![empty], ..layout }.tar()).contains("names no configuration")
    );
    // Two layers, one diff_id.
    let mut layout = whole;
    let two = layout.manifest(config, vec![layer.clone(), layer]);
    assert!(
        said(&Layout { manifests: vec![two], ..layout }.tar())
            .contains("1 diff_ids, and its manifest has 2 layers")
    );
    let tag = json!([{"Config": "c", "RepoTags": ["../evil"], "Layers": []}]).to_string();
    let tar = Tar::new()
        .file("c", &crate::image::config(&[], "amd64"))
        .file("manifest.json", tag.as_bytes());
    assert!(said(&tar.end()).contains("is no image name"));
}

#[test]
fn documents_that_are_no_json_name_the_field() {
    for (text, words) in [
        (&b""[..], "manifest.json of"),
        (b"[", "manifest.json of"),
        (b"{}", "manifest.json of"),
        (b"[]trailing", "the end"),
        (br#"[{"Config": 5}]"#, "[0].Config"),
        (br#"[{"Config": "c", "Layers": [1]}]"#, "[0].Layers[0]"),
        (b"[]", "no image at all"),
    ] {
        let message = said(&Tar::new().file("manifest.json", text).end());
        assert!(message.contains(words), "{words}: {message}");
    }
    let deep = "[".repeat(100_000);
    said(&Tar::new().file("manifest.json", deep.as_bytes()).end());
    let config =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":5}}"#;
    let message = said(&docker_with(&[sample()], config));
    assert!(message.contains("rootfs.diff_ids"), "{message}");
    let (mut layout, _) = layout();
    layout.beside.push(("index.json".into(), b"not json".to_vec()));
    assert!(said(&layout.tar()).contains("index.json of"));
}

#[test]
fn documents_have_limits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    fs::write(&path, docker(&[sample()])).unwrap();
    let within = |limits| {
        Archive::open_within(&path, dir.path(), limits).and_then(|archive| archive.images(&linux()))
    };
    for (limits, words) in [
        (Limits { json: 20, ..Limits::default() }, "over the limit of 20 bytes of JSON"),
        (Limits { json_depth: 1, ..Limits::default() }, "over the limit of 1 arrays and objects"),
        (Limits { layers: 0, ..Limits::default() }, "over the limit of 0 layers"),
        (Limits { entries: 1, ..Limits::default() }, "over the limit of 1 entries"),
    ] {
        let message = sentence(within(limits));
        assert!(message.contains(words), "{message}");
    }
    within(Limits::default()).unwrap();

    let (mut layout, [_, _, manifest]) = layout();
    let mut inner = manifest;
    for _ in 0..20 {
        inner = layout.index(&[inner]);
    }
    let message = said(&Layout { manifests: vec![inner], ..layout }.tar());
    assert!(message.contains("indexes within indexes"), "{message}");

    // An index that lists itself would need a digest of itself; many entries are limited all the same.
    let (mut layout, [_, _, manifest]) = self::layout();
    let wide = layout.index(&vec![manifest; 10_001]);
    let message = said(&Layout { manifests: vec![wide], ..layout }.tar());
    assert!(message.contains("over the limit of 10000 manifests"), "{message}");
}

/// The image, unpacked without root's privileges, or the error.
fn read(bytes: &[u8]) -> Result<crate::image::Nodes, Error> {
    let opened: Opened = try_open(bytes)?;
    let images = opened.archive.images(&linux())?;
    if images[0].layers.is_empty() {
        return Ok(Default::default());
    }
    opened.unpack(0, &Options::default())?;
    let mut nodes = opened.layer(0);
    nodes.values_mut().for_each(|node| node.ino = 0);
    Ok(nodes)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed, cut out or put in: an error, or the very same layer. Never a panic.
    #[test]
    fn damage_is_seen_or_does_not_matter(
        form in 0..3,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let whole = match form {
            0 => docker(&[sample()]),
            1 => layout().0.tar(),
            _ => crate::streams::gzip(&docker(&[sample()])),
        };
        let mut bytes = whole.clone();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match read(&bytes) {
            Ok(nodes) => prop_assert_eq!(nodes, read(&whole).unwrap()),
            Err(error) => prop_assert!(error.to_string().len() > 10),
        }
    }
}
