//! The forms in which images are on disk: each is read, and of each the right image.

use std::fs;

use image_unpack::{Archive, Digest, Error, Platform};
use serde_json::json;

use crate::image::{Nodes, Opened, config, docker, docker_with, linux, open, root, sentence};
use crate::layout::{CONFIG, LAYER, Layout, on, with};
use crate::streams::{gzip, zstd};
use crate::tar::Tar;

/// Two layers, of which the second hides a file of the first.
fn two() -> [Vec<u8>; 2] {
    [
        Tar::new().file("a", b"1").file("b", b"2").end(),
        Tar::new().file(".wh.a", b"").file("c", b"3").end(),
    ]
}

fn plain(layers: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    layers.iter().map(|layer| (layer.clone(), layer.clone())).collect()
}

fn stored(layers: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
    layers.iter().map(|layer| (pack(layer), layer.clone())).collect()
}

fn unpacked(opened: &Opened, count: usize) -> Vec<Nodes> {
    opened.settle_all(count, &root()).unwrap();
    (0..count).map(|at| lasting(opened.layer(at))).collect()
}

/// Without what differs between two copies: inodes, and the time when a whiteout was made.
fn lasting(mut nodes: Nodes) -> Nodes {
    for node in nodes.values_mut() {
        node.ino = 0;
        if node.is_whiteout() {
            node.mtime = (0, 0);
        }
    }
    nodes
}

fn layout_of(layers: &[(Vec<u8>, Vec<u8>)]) -> Layout {
    let mut layout = Layout::new();
    let manifest = layout.image(layers, "amd64");
    layout.list(manifest)
}

/// What Docker saves since version 25: a layout, and a manifest.json that names the same blobs.
fn docker_25(layers: &[(Vec<u8>, Vec<u8>)], tags: &[&str]) -> Layout {
    let mut layout = layout_of(layers);
    let ids: Vec<Digest> = layers.iter().map(|(_, plain)| Digest::of(plain)).collect();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let paths: Vec<String> = layers.iter().map(|(stored, _)| blob(stored)).collect();
    let entry =
        json!([{"Config": blob(&config(&ids, "amd64")), "RepoTags": tags, "Layers": paths}]);
    layout.beside.push(("manifest.json".into(), entry.to_string().into_bytes()));
    layout
}

#[test]
fn one_image_is_the_same_in_each_form() {
    let layers = two();
    let first = open(&docker(&layers));
    let (id, nodes) = (first.image().id, unpacked(&first, 2));
    assert_eq!(nodes[1].keys().collect::<Vec<_>>(), ["", "a", "c"]);
    for form in [
        docker_25(&plain(&layers), &["test:1"]),
        docker_25(&stored(&layers, gzip), &["test:1"]),
        layout_of(&plain(&layers)),
        layout_of(&stored(&layers, gzip)),
        layout_of(&stored(&layers, zstd)),
    ] {
        let opened = open(&form.tar());
        assert_eq!(opened.image().id, id);
        assert_eq!(unpacked(&opened, 2), nodes);
        let dir = tempfile::tempdir().unwrap();
        form.directory(&dir.path().join("layout"));
        let archive = Archive::open(&dir.path().join("layout"), dir.path()).unwrap();
        let opened = Opened { archive, dir };
        assert_eq!(opened.image().id, id);
        assert!(opened.image().manifest.is_some());
        assert_eq!(unpacked(&opened, 2), nodes);
    }
}

#[test]
fn names_of_images() {
    let layers = plain(&two());
    let tags = |layout: &Layout| open(&layout.tar()).image().tags;
    assert_eq!(open(&docker(&two())).image().tags, ["test:1"]);
    assert_eq!(tags(&docker_25(&layers, &["docker.io/library/x:2", "y"])), ["x:2", "y:latest"]);
    let mut layout = Layout::new();
    let manifest = layout.image(&layers, "amd64");
    let annotated = |notes| tags(&layout.clone().list(with(&manifest, "annotations", notes)));
    let name = "org.opencontainers.image.ref.name";
    assert_eq!(annotated(json!({name: "a.example/b/c:d"})), ["a.example/b/c:d"]);
    assert_eq!(
        annotated(json!({name: "d", "io.containerd.image.name": "docker.io/library/c:d"})),
        ["c:d"]
    );
    // A tag alone names nothing.
    assert_eq!(annotated(json!({name: "latest"})), [""; 0]);
}

#[test]
fn several_images_and_several_names() {
    let (one, other) = (two(), [Tar::new().file("other", b"").end()]);
    let mut tar = Tar::new();
    let mut manifest = Vec::new();
    for (layers, tags) in [
        (&one[..], vec!["one:1"]),
        (&other[..], vec!["other:1", "other:2"]),
        (&one[..], vec!["one:2"]),
    ] {
        let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = config(&ids, "amd64");
        let name = format!("{}.json", Digest::of(&config).hex());
        tar = tar.file(&name, &config);
        let mut paths = Vec::new();
        for layer in layers {
            paths.push(format!("{}/layer.tar", Digest::of(layer).hex()));
            tar = tar.file(&paths[paths.len() - 1], layer);
        }
        manifest.push(json!({"Config": name, "RepoTags": tags, "Layers": paths}));
    }
    manifest.push(
        json!({"Config": manifest[1]["Config"], "RepoTags": null, "Layers": manifest[1]["Layers"]}),
    );
    let opened = open(&tar.file("manifest.json", json!(manifest).to_string().as_bytes()).end());
    let images = opened.archive.images(&linux()).unwrap();
    let tags: Vec<_> = images.iter().map(|image| image.tags.clone()).collect();
    assert_eq!(tags, [["one:1", "one:2"], ["other:1", "other:2"]]);
    assert_eq!(images.iter().map(|image| image.layers.len()).collect::<Vec<_>>(), [2, 1]);
    images
        .iter()
        .flat_map(|image| &image.layers)
        .for_each(|layer| opened.archive.verify(layer).unwrap());

    let mut layout = Layout::new();
    let (first, second) =
        (layout.image(&plain(&one), "amd64"), layout.image(&plain(&other), "amd64"));
    let opened = open(&layout.list(first.clone()).list(second).list(first).tar());
    assert_eq!(opened.archive.images(&linux()).unwrap().len(), 2);
}

#[test]
fn a_layer_may_be_a_link_to_anothers() {
    let layer = Tar::new().file("f", b"x").end();
    let ids = [Digest::of(&layer), Digest::of(&layer)];
    let config = config(&ids, "amd64");
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest =
        json!([{"Config": name, "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let head =
        || Tar::new().file(&name, &config).file("manifest.json", manifest.to_string().as_bytes());
    for tar in [
        head().file("a/layer.tar", &layer).symlink("b/layer.tar", "../a/layer.tar"),
        head().symlink("b/layer.tar", "../a/layer.tar").file("a/layer.tar", &layer),
        head().file("./a/layer.tar", &layer).symlink("b/layer.tar", "/a/./layer.tar"),
        head().file("a/layer.tar", &layer).link("b/layer.tar", "a/layer.tar"),
        head()
            .file("a/layer.tar", &layer)
            .symlink("b/layer.tar", "../c")
            .symlink("c", "a/layer.tar"),
    ] {
        let opened = open(&tar.end());
        assert_eq!(opened.image().layers[1].size, layer.len() as u64);
        let trees = unpacked(&opened, 2);
        assert_eq!(trees[1]["f"].content, b"x");
    }
    for (tar, why) in [
        (head().file("a/layer.tar", &layer).symlink("b/layer.tar", "../../etc/passwd"), "outside"),
        (head().file("a/layer.tar", &layer).symlink("b/layer.tar", "/etc/passwd"), "absent"),
        (head().file("a/layer.tar", &layer).symlink("b/layer.tar", "../b/layer.tar"), "itself"),
        (head().file("a/layer.tar", &layer).dir("b/layer.tar"), "a directory"),
    ] {
        let said = sentence(open(&tar.end()).archive.images(&linux()));
        assert!(
            said.contains("layer 2 of 2 is not in") && said.contains("b/layer.tar"),
            "{why}: {said}"
        );
    }
}

#[test]
fn the_platform_decides_below_nested_indexes() {
    let layer = |name: &str| plain(&[Tar::new().file(name, b"").end()]);
    let mut layout = Layout::new();
    let arm = layout.image(&layer("arm64"), "arm64");
    let amd = layout.image(&layer("amd64"), "amd64");
    let statement = layout.blob("application/vnd.in-toto+json", b"{}");
    let config = layout.blob(CONFIG, &config(&[Digest::of(b"{}")], "unknown"));
    let attestation = layout.manifest(config, vec![statement]);
    let attestation = with(
        &on(&attestation, "unknown/unknown"),
        "annotations",
        json!({"vnd.docker.reference.type": "attestation-manifest"}),
    );
    let inner = layout.index(&[on(&arm, "linux/arm64/v8"), on(&amd, "linux/amd64"), attestation]);
    let middle = layout.index(&[inner]);
    let outer = with(
        &middle,
        "annotations",
        json!({"io.containerd.image.name": "docker.io/library/multi:1"}),
    );
    let opened = open(&layout.list(outer).tar());
    for platform in ["linux/amd64", "linux/arm64", "linux/arm64/v8"] {
        let images = opened.archive.images(&platform.parse().unwrap()).unwrap();
        let wanted: Platform = platform.parse().unwrap();
        assert_eq!((images.len(), &images[0].tags[..]), (1, &["multi:1".to_owned()][..]));
        assert_eq!(images[0].config.architecture().to_string(), wanted.architecture);
    }
    let said = sentence(opened.archive.images(&"linux/s390x".parse().unwrap()));
    assert!(
        said.contains("no image for linux/s390x; it has linux/amd64, linux/arm64/v8"),
        "{said}"
    );
}

#[test]
fn the_best_variant_is_taken() {
    let layer = |name: &str| plain(&[Tar::new().file(name, b"").end()]);
    let mut layout = Layout::new();
    let variants = ["linux/arm/v5", "linux/arm/v7", "linux/arm"];
    let manifests: Vec<_> =
        variants.iter().map(|name| on(&layout.image(&layer(name), "arm"), name)).collect();
    let index = layout.index(&manifests);
    let opened = open(&layout.list(index).tar());
    for (wanted, expected) in
        [("linux/arm/v7", 1), ("linux/arm/v5", 0), ("linux/arm/v6", 2), ("linux/arm", 2)]
    {
        let images = opened.archive.images(&wanted.parse().unwrap()).unwrap();
        assert_eq!(
            images[0].manifest.unwrap().to_string(),
            manifests[expected]["digest"],
            "{wanted}"
        );
    }
}

/// `skopeo` and `docker save` leave other platforms' manifests out, and the index that names them as it was.
#[test]
fn other_platforms_may_be_absent() {
    let mut layout = Layout::new();
    let arm = layout.image(&plain(&[Tar::new().file("arm", b"").end()]), "arm64");
    let amd = layout.image(&plain(&two()), "amd64");
    let absent = layout.index(std::slice::from_ref(&arm));
    layout.remove(&arm);
    layout.remove(&absent);
    let index = layout.index(&[absent, on(&arm, "linux/arm64"), on(&amd, "linux/amd64")]);
    let opened = open(&layout.list(index).tar());
    assert_eq!(opened.image().layers.len(), 2);
    let said = sentence(opened.archive.images(&"linux/arm64".parse().unwrap()));
    assert!(said.contains("is not in") && said.contains("blobs/sha256/"), "{said}");
}

#[test]
fn what_is_no_image_is_passed_over() {
    let mut layout = Layout::new();
    let image = layout.image(&plain(&two()), "amd64");
    let blob = layout.blob("application/octet-stream", b"chart");
    let config = layout.blob("application/vnd.cncf.helm.config.v1+json", b"{}");
    let artifact = layout.manifest(config, vec![blob]);
    let unknown = layout.blob("application/vnd.example.thing+json", b"{}");
    let statement = layout.blob("application/vnd.in-toto+json", b"{}");
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let attestation = layout.manifest(empty, vec![statement]);
    let all =
        layout.clone().list(artifact.clone()).list(unknown.clone()).list(attestation).list(image);
    assert_eq!(open(&all.tar()).archive.images(&linux()).unwrap().len(), 1);
    // With no image beside them, the message says what there is.
    let said = sentence(open(&layout.list(artifact).list(unknown).tar()).archive.images(&linux()));
    for words in ["no image for linux/amd64", "helm.config", "vnd.example.thing"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn foreign_layers() {
    for media_type in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        LAYER,
    ] {
        let mut layout = Layout::new();
        let layer = Tar::new().file("f", b"").end();
        let config = layout.blob(CONFIG, &config(&[Digest::of(&layer)], "amd64"));
        let blob = layout.blob(media_type, &layer);
        let foreign = with(&blob, "urls", json!(["https://a.example/layer"]));
        let manifest = layout.manifest(config, vec![foreign]);
        let mut layout = layout.list(manifest);
        // In the archive all the same: a layer like others.
        assert_eq!(open(&layout.tar()).image().layers.len(), 1);
        layout.remove(&blob);
        let result = open(&layout.tar()).archive.images(&linux());
        assert!(matches!(result, Err(Error::Foreign { .. })), "{result:?}");
        let said = sentence(result);
        assert!(
            said.contains("layer 1 of 1") && said.contains("https://a.example/layer"),
            "{said}"
        );
    }
}

#[test]
fn the_history_counts_no_layers_and_the_media_type_decides_nothing() {
    let layers = two();
    let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let mut value: serde_json::Value = serde_json::from_slice(&config(&ids, "amd64")).unwrap();
    value["history"] = json!([
        {"created_by": "ADD a"}, {"created_by": "ENV x", "empty_layer": true}, {"created_by": "COPY b"},
        {"created_by": "CMD", "empty_layer": true}
    ]);
    let opened = open(&docker_with(&layers, value.to_string().as_bytes()));
    assert_eq!(opened.image().layers.len(), 2);

    let mut layout = Layout::new();
    let config = layout.blob(CONFIG, &config(&ids, "amd64"));
    let first = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &layers[0]);
    let second = layout.blob("application/vnd.oci.image.layer.v1.tar", &zstd(&layers[1]));
    let manifest = layout.manifest(config, vec![first, second]);
    assert_eq!(unpacked(&open(&layout.list(manifest).tar()), 2)[1]["c"].content, b"3");
}

#[test]
fn a_layout_directory_is_not_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layout");
    let layers = plain(&[Tar::new().file("f", b"").end()]);
    layout_of(&layers).directory(&path);
    let blob = path.join("blobs/sha256").join(Digest::of(&layers[0].0).hex());
    fs::rename(&blob, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &blob).unwrap();
    let archive = Archive::open(&path, dir.path()).unwrap();
    let said = sentence(archive.images(&linux()));
    assert!(said.contains("of the layout"), "{said}");
    // A FIFO is no blob, and is not waited for.
    fs::remove_file(&blob).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &blob, rustix::fs::Mode::RUSR).unwrap();
    let said = sentence(archive.images(&linux()));
    assert!(said.contains("layer 1 of 1 is not in"), "{said}");
}
