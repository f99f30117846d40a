//! Images made in code: docker-archives of small layers.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};

use image_store::{Digest, LayerForm, LoadOptions, Source, Store, StoredImage};

#[path = "../../../erofs-index/tests/it/erofs_utils.rs"]
pub(crate) mod erofs_utils;

/// An image to be: its names, and the tar of each layer, the lowest first.
pub(crate) struct Image {
    pub(crate) tags: Vec<&'static str>,
    pub(crate) layers: Vec<Vec<u8>>,
    /// Makes images of the same layers differ.
    pub(crate) label: String,
}

impl Image {
    pub(crate) fn new(tag: &'static str, layers: &[Vec<u8>]) -> Image {
        Image { tags: vec![tag], layers: layers.to_vec(), label: String::new() }
    }

    pub(crate) fn label(mut self, label: &str) -> Image {
        self.label = label.to_owned();
        self
    }

    fn config(&self) -> Vec<u8> {
        config(&self.layers, &self.label)
    }

    pub(crate) fn id(&self) -> Digest {
        Digest::of(&self.config())
    }
}

/// The configuration of an image of these layers, with a label.
pub(crate) fn config(layers: &[Vec<u8>], label: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": image_store::Platform::host().architecture,
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": { "Cmd": ["/bin/true"], "Labels": { "label": label } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))
    .unwrap()
}

/// A layer of regular files: name and content.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        append(&mut tar, name, content);
    }
    tar.into_inner().unwrap()
}

/// A layer of `count` files of `size` bytes.
pub(crate) fn many_files(seed: u8, count: usize, size: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for index in 0..count {
        append(&mut tar, &format!("layer-{seed}/d{}/file-{index}", index % 7), &vec![seed; size]);
    }
    tar.into_inner().unwrap()
}

/// A docker-archive, as `docker save` makes it.
pub(crate) fn archive(images: &[Image]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut manifest = Vec::new();
    let mut written = std::collections::HashSet::new();
    for image in images {
        let config = image.config();
        let config_name = format!("{}.json", Digest::of(&config).hex());
        let mut names = Vec::new();
        for layer in &image.layers {
            let name = format!("{}/layer.tar", Digest::of(layer).hex());
            if written.insert(name.clone()) {
                append(&mut tar, &name, layer);
            }
            names.push(name);
        }
        if written.insert(config_name.clone()) {
            append(&mut tar, &config_name, &config);
        }
        manifest.push(
            serde_json::json!({ "Config": config_name, "RepoTags": image.tags, "Layers": names }),
        );
    }
    append(&mut tar, "manifest.json", &serde_json::to_vec(&manifest).unwrap());
    tar.into_inner().unwrap()
}

/// An OCI layout directory with one image, at `path`.
pub(crate) fn layout(path: &Path, image: &Image) {
    let blobs = path.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        serde_json::json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let layer = |bytes: &Vec<u8>| blob("application/vnd.oci.image.layer.v1.tar", bytes);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", &image.config()),
        "layers": image.layers.iter().map(layer).collect::<Vec<_>>(),
    });
    let mut entry =
        blob("application/vnd.oci.image.manifest.v1+json", &serde_json::to_vec(&manifest).unwrap());
    if let Some(tag) = image.tags.first() {
        entry["annotations"] = serde_json::json!({ "io.containerd.image.name": tag });
    }
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
    std::fs::write(path.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    std::fs::write(path.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, name, content).unwrap();
}

/// A directory with a store and archives, removed when dropped.
pub(crate) struct Place {
    temp: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Drop for Place {
    /// While a test beside this one forks, its child holds this process's locks too until it executes, and what they are of
    /// counts as used: the store leaves it mounted for the next command.
    fn drop(&mut self) {
        let root = self.root();
        let is_mounted = || {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            mounts.contains(&*root.to_string_lossy())
        };
        let begin = std::time::Instant::now();
        while is_mounted() && begin.elapsed() < std::time::Duration::from_secs(30) {
            let _ = self.store.unmount_all_unused();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

impl Place {
    pub(crate) fn new() -> Place {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("store")).unwrap();
        Place { temp, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// The store's root.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn archive(&self, name: &str, images: &[Image]) -> PathBuf {
        std::fs::write(self.path(name), archive(images)).unwrap();
        self.path(name)
    }

    /// Loads an archive that is made of these images.
    pub(crate) fn load(&self, images: &[Image]) -> Vec<StoredImage> {
        let bytes = archive(images);
        let path = self.path(&format!("{}.tar", Digest::of(&bytes).hex()));
        std::fs::write(&path, bytes).unwrap();
        load(&self.store, &path)
    }
}

/// Without a sync: the tests wait for no disk. As directories: which form they want else, tests say.
pub(crate) fn quick() -> LoadOptions {
    LoadOptions { durable: false, layer_form: LayerForm::Dir, ..LoadOptions::default() }
}

pub(crate) fn load(store: &Store, path: &Path) -> Vec<StoredImage> {
    store.load(&Source::Path(path.to_owned()), &quick(), &()).unwrap()
}

/// The names in a directory, sorted.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// That fsck.erofs accepts an image's index.
pub(crate) fn fsck(root: &Path, image: &StoredImage) {
    let mut devices: Vec<PathBuf> = Vec::new();
    for layer in &image.layers {
        if !devices.iter().any(|known| known == layer.path()) {
            devices.push(layer.path().to_owned());
        }
    }
    let index = root.join("images").join(image.id.hex()).join("index.erofs");
    erofs_utils::fsck(&index, &devices);
}

/// Asserts that all that a store shows is whole, that each link leads to a layer, and that nothing is left in staging.
pub(crate) fn assert_whole(root: &Path) {
    let store = Store::open(root).unwrap();
    assert_eq!(names(&root.join("staging")), Vec::<String>::new());
    let images = store.images().unwrap();
    assert!(images.damaged.is_empty(), "{:?}", images.damaged);
    for image in images.whole {
        if let Some(index) = &image.index {
            assert!(image.layers.iter().all(|layer| layer.path().is_file()));
            assert_eq!(std::fs::canonicalize(root.join(&index.link)).unwrap(), index.path);
            fsck(root, &image);
            continue;
        }
        for layer in &image.layers {
            assert!(layer.path().is_dir(), "{}", layer.path().display());
            let link = std::fs::canonicalize(root.join(&layer.link)).unwrap();
            assert_eq!(link, std::fs::canonicalize(layer.path()).unwrap());
            let text = std::fs::read_to_string(layer.path().with_file_name("link")).unwrap();
            assert_eq!(format!("l/{}", text.trim_end()), layer.link);
        }
    }
    for layer in names(&root.join("layers")) {
        assert_eq!(names(&root.join("layers").join(layer)), ["diff", "layer.json", "link"]);
    }
    for blob in names(&root.join("blobs")) {
        assert_eq!(names(&root.join("blobs").join(&blob)), ["blob", "layer.json"]);
        let bytes = std::fs::read(root.join("blobs").join(&blob).join("blob")).unwrap();
        assert_eq!(Digest::of(&bytes).hex(), blob);
    }
}
