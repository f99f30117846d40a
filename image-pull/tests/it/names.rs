//! What a name leads to, and what the store makes of it.

use image_store::{Digest, Platform};

use crate::content::{Content, INDEX, Puller, layer};
use crate::server::Server;

/// An index of images for this machine and another one, tagged `1`.
fn two_platforms() -> (Content, Digest) {
    let mut content = Content::default();
    let other: Platform = "linux/s390x".parse().unwrap();
    let manifests = [&Platform::host(), &other].map(|platform| {
        let name = &platform.architecture;
        let bytes = content.add(&[layer("same", 10_000), layer(name, 10_000)], platform);
        serde_json::json!({
            "mediaType": crate::content::MANIFEST,
            "digest": Digest::of(&bytes),
            "size": bytes.len(),
            "platform": {"os": "linux", "architecture": name},
        })
    });
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let bytes = index.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    content.tag("1", INDEX, bytes);
    (content, digest)
}

#[test]
fn of_an_index_the_platforms_image_is_taken_and_nothing_twice() {
    let (content, digest) = two_platforms();
    let server = Server::start(content, |_| None);
    let mut puller = Puller::new();
    let name = server.name("a/b:1");
    let first = puller.pull(&name).unwrap();
    assert!(first.newer && first.digest == digest);
    assert_eq!(first.image.tags, std::slice::from_ref(&name));
    assert_eq!(first.image.digests, [server.name(&format!("a/b@{digest}"))]);
    assert_ne!(first.image.manifest, Some(digest), "that is the platform's own");
    assert_eq!(server.seen("/blobs/").len(), 3);
    assert_eq!(server.seen("/manifests/").len(), 2);

    let again = puller.pull(&name).unwrap();
    assert!(!again.newer && again.image.id == first.image.id);
    assert_eq!(server.seen("/blobs/").len(), 4, "the configuration alone");

    puller.options.load.platform = "linux/s390x".parse().unwrap();
    let other = puller.pull(&name).unwrap();
    assert!(other.newer && other.image.id != first.image.id);
    assert_eq!(other.image.layers[0], first.image.layers[0]);
    assert_eq!(server.seen("/blobs/").len(), 6, "the layer in common was there");
    assert_eq!(puller.store.find(&name).unwrap().id, other.image.id);

    puller.options.load.platform = "linux/riscv64".parse().unwrap();
    let error = puller.refuse(&name);
    assert!(error.contains("linux/riscv64") && error.contains("linux/s390x"), "{error}");
}

#[test]
fn a_digest_means_that_image_and_gives_no_tag() {
    let (content, digest) = two_platforms();
    let server = Server::start(content, |_| None);
    let puller = Puller::new();
    let name = server.name(&format!("a/b@{digest}"));
    let pulled = puller.pull(&name).unwrap();
    assert_eq!((&pulled.image.tags[..], &pulled.image.digests[..]), (&[][..], &[name.clone()][..]));
    // It is found by all its names: of the index, of the manifest, with a tag that says nothing.
    let manifest = pulled.image.manifest.unwrap();
    for found in [
        name.clone(),
        server.name(&format!("a/b:old@{digest}")),
        server.name(&format!("a/b@{manifest}")),
        pulled.image.id.to_string(),
    ] {
        assert_eq!(puller.store.find(&found).unwrap().id, pulled.image.id, "{found}");
    }
    let error = puller.store.find(&server.name(&format!("other@{digest}"))).unwrap_err();
    assert!(error.to_string().contains("has no image"), "{error}");
    assert!(!puller.pull(&name).unwrap().newer);
}

#[test]
fn the_name_with_a_digest_goes_with_the_last_tag() {
    let (content, digest) = two_platforms();
    let server = Server::start(content, |_| None);
    let puller = Puller::new();
    let (tagged, named) = (server.name("a:1"), server.name(&format!("a@{digest}")));
    let pulled = puller.pull(&tagged).unwrap();
    puller.store.tag(&tagged, "mine:2").unwrap();
    let remove = |name: &str| puller.store.remove(name, false, &|_| false).unwrap();
    let removed = remove("mine:2");
    assert_eq!((removed.untagged, removed.image), (vec!["mine:2".to_owned()], None));
    let removed = remove(&tagged);
    assert_eq!(removed.untagged, [tagged.clone(), named.clone()]);
    assert_eq!(removed.image, Some(pulled.image.id));
    assert_eq!(removed.layers.len(), 2);

    // By its digest only that name goes, and by its id the image that has one tag.
    puller.pull(&tagged).unwrap();
    assert_eq!(remove(&named).image, None);
    assert_eq!(puller.store.find(&tagged).unwrap().digests, Vec::<String>::new());
    puller.pull(&tagged).unwrap();
    assert_eq!(remove(&pulled.image.id.to_string()).image, Some(pulled.image.id));
}

#[test]
fn a_tag_that_moved_on_is_newer() {
    let server = |size| Server::start(Content::image(&[layer("file", size)]), |_| None);
    let (old, new) = (server(1000), server(2000));
    let puller = Puller::new();
    let before = puller.pull(&old.name("a:1")).unwrap();
    puller.store.tag(&old.name("a:1"), &new.name("a:1")).unwrap();
    let after = puller.pull(&new.name("a:1")).unwrap();
    assert!(after.newer && after.image.id != before.image.id);
    assert_eq!(puller.store.find(&old.name("a:1")).unwrap().id, before.image.id);
}

#[test]
fn what_is_not_there_is_named() {
    let (content, _) = two_platforms();
    let server = Server::start(content, |_| None);
    let error = Puller::new().refuse(&server.name("a/b:2"));
    assert!(error.contains("a/b:2") && error.contains("manifest unknown"), "{error}");
    assert!(error.contains(&server.host) && error.contains("misspelt"), "{error}");
}

#[test]
fn two_that_pull_the_same_fetch_it_once() {
    let content = Content::image(&[layer("file", 300 << 10)]);
    let largest = content.largest().remove(0);
    let server = Server::start(content, |request| {
        if request.path.contains("/blobs/") {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        None
    });
    let puller = Puller::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| puller.pull(&server.name("a:1")).unwrap());
        }
    });
    assert_eq!(server.seen(&largest).len(), 1);
}
