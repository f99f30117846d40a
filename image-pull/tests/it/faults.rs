//! Registries that cut, stall, refuse and lie.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image_store::Digest;

use crate::content::{Content, Puller, layer};
use crate::server::{Reply, Request, Server};

const SIZE: usize = 600 << 10;

fn one_layer() -> Content {
    Content::image(&[layer("file", SIZE)])
}

/// The bytes of the one file of [`one_layer`].
fn file() -> Vec<u8> {
    layer("file", SIZE)[512..512 + SIZE].to_vec()
}

fn is_layer(request: &Request, content: &Content) -> bool {
    request.path.ends_with(&content.largest()[0])
}

#[test]
fn a_cut_connection_goes_on_where_it_was() {
    let content = Arc::new(one_layer());
    let script = Arc::clone(&content);
    let server = Server::start(one_layer(), move |request| {
        let whole = script.serve(request);
        (is_layer(request, &script) && request.before < 3).then(|| whole.cut(100_000))
    });
    let puller = Puller::new();
    let pulled = puller.pull(&server.name("a:1")).unwrap();
    assert!(puller.file(&pulled, 0, "file") == file());
    let seen = server.seen(&content.largest()[0]);
    let ranges: Vec<_> = seen.iter().map(|request| request.range.as_deref()).collect();
    let expected = [None, Some("bytes=100000-"), Some("bytes=200000-"), Some("bytes=300000-")];
    assert_eq!(ranges, expected);
}

#[test]
fn a_server_without_ranges_starts_over() {
    let content = one_layer();
    let server = Server::start(one_layer(), move |request| {
        if !is_layer(request, &content) {
            return None;
        }
        let plain = Request { range: None, ..request.clone() };
        let whole = content.serve(&plain);
        Some(if request.before == 0 { whole.cut(300_000) } else { whole })
    });
    let puller = Puller::new();
    let pulled = puller.pull(&server.name("a:1")).unwrap();
    assert!(puller.file(&pulled, 0, "file") == file());
}

#[test]
fn cuts_without_progress_end_and_say_how_far_it_came() {
    let content = one_layer();
    let server = Server::start(one_layer(), move |request| {
        let whole = content.serve(request);
        let after = if request.before == 0 { 70_000 } else { 10 };
        is_layer(request, &content).then(|| whole.cut(after))
    });
    let error = Puller::new().refuse(&server.name("a:1"));
    assert!(error.contains("layer 1 of 1") && error.contains("without progress"), "{error}");
    assert!(error.contains(&server.host), "{error}");
    // The first brought something, so that the three retries counted from the second.
    assert_eq!(server.seen("blobs/").len(), 1 + 1 + 3 + 1 - 1);
}

#[test]
fn a_layer_of_another_digest_is_thrown_away() {
    let content = one_layer();
    let server = Server::start(one_layer(), move |request| {
        is_layer(request, &content).then(|| {
            let mut reply = content.serve(request);
            // In stored data of the gzip stream, or its checksum: whatever is found first.
            *reply.body.last_mut().unwrap() ^= 1;
            reply
        })
    });
    let puller = Puller::new();
    let error = puller.refuse(&server.name("a:1"));
    assert!(error.contains("layer 1 of 1"), "{error}");
    assert!(puller.store.images().unwrap().whole.is_empty());
    assert_eq!(std::fs::read_dir(puller.store.root().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_layer_that_is_whole_and_another_one_is_found_by_its_digest() {
    let content = one_layer();
    let size = content.blobs[&content.largest()[0]].len();
    // Zeros after the end of gzip are no garbage, so that it decodes well.
    let lie = (0..).find_map(|n| {
        let other = Content::image(&[layer(&format!("elif-{n}"), SIZE)]);
        let mut blob = other.blobs[&other.largest()[0]].clone();
        let fits = blob.len() <= size;
        blob.resize(size, 0);
        fits.then_some(blob)
    });
    let lie = lie.unwrap();
    let server = Server::start(one_layer(), move |request| {
        is_layer(request, &content).then(|| Reply::new(200, &lie))
    });
    let error = Puller::new().refuse(&server.name("a:1"));
    assert!(error.contains("has the digest") && error.contains("should have"), "{error}");
}

#[test]
fn a_blob_of_another_size_is_refused_at_once() {
    let content = one_layer();
    let server = Server::start(one_layer(), move |request| {
        is_layer(request, &content).then(|| {
            let mut reply = content.serve(request);
            reply.body.extend([0; 100]);
            reply
        })
    });
    let error = Puller::new().refuse(&server.name("a:1"));
    assert!(error.contains("and the manifest says"), "{error}");
    assert_eq!(server.seen("blobs/").len(), 2);
}

#[test]
fn a_configuration_or_manifest_of_another_digest_is_refused() {
    let script = |path: &'static str| {
        let content = one_layer();
        let config = content.largest().pop().unwrap();
        move |request: &Request| {
            let found = request.path.ends_with(&config) && path == "config"
                || request.path.contains("/manifests/sha256:") && path == "manifest";
            found.then(|| {
                let mut reply = content.serve(request);
                let at = reply.body.iter().position(|byte| *byte == b'"').unwrap();
                reply.body[at + 1] ^= 1;
                reply
            })
        }
    };
    let server = Server::start(one_layer(), script("config"));
    let error = Puller::new().refuse(&server.name("a:1"));
    assert!(error.contains("the configuration") && error.contains("has the digest"), "{error}");

    let content = one_layer();
    let digest = Digest::of(&content.manifests["1"].1);
    let server = Server::start(content, script("manifest"));
    let error = Puller::new().refuse(&server.name(&format!("a@{digest}")));
    assert!(error.contains("gives a manifest with the digest"), "{error}");
    let content = one_layer();
    let server = Server::start(one_layer(), move |request| {
        let reply =
            content.serve(request).header("Docker-Content-Digest", &Digest::of(b"").to_string());
        request.path.contains("/manifests/").then_some(reply)
    });
    let error = Puller::new().refuse(&server.name("a:1"));
    assert!(error.contains("gives a manifest with the digest"), "{error}");
}

#[test]
fn too_many_requests_wait_as_long_as_is_asked() {
    let content = one_layer();
    let server = Server::start(one_layer(), move |request| {
        let first = request.before == 0;
        let reply = Reply::error(429, "TOOMANYREQUESTS", "slow down").header("Retry-After", "1");
        (first && (is_layer(request, &content) || request.path.contains("/manifests/")))
            .then_some(reply)
    });
    let mut puller = Puller::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&told);
    puller.options.notify =
        Some(Arc::new(move |text: &str| list.lock().unwrap().push(text.to_owned())));
    let begin = Instant::now();
    puller.pull(&server.name("a:1")).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    let told = told.lock().unwrap();
    assert!(told.len() == 2 && told[0].contains("429") && told[0].contains("in 1 s"), "{told:?}");
}

#[test]
fn a_wait_that_is_too_long_is_an_answer() {
    let server = Server::start(one_layer(), |request| {
        let reply = Reply::error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit");
        request.path.contains("/manifests/").then(|| reply.header("Retry-After", "3600"))
    });
    let error = Puller::new().refuse(&server.name("a:1"));
    assert!(error.contains("reached your pull rate limit") && error.contains("3600 s"), "{error}");
    assert_eq!(server.seen("/manifests/").len(), 1);
}

#[test]
fn a_servers_passing_trouble_passes() {
    for status in [500, 502, 503, 504, 408] {
        let server = Server::start(one_layer(), move |request| {
            (request.before < 2 && request.path != "/v2/").then(|| Reply::new(status, b"<html>"))
        });
        let puller = Puller::new();
        puller.pull(&server.name("a:1")).unwrap();
    }
    let server = Server::start(one_layer(), move |request| {
        (request.path != "/v2/").then(|| Reply::new(503, b"<html>"))
    });
    let error = Puller::new().refuse(&server.name("a:1"));
    assert!(error.contains("503") && error.contains("/v2/a/manifests/1"), "{error}");
    assert_eq!(server.seen("/manifests/").len(), 4, "once, and three times again");
}

#[test]
fn a_cut_manifest_and_an_empty_answer_are_asked_for_again() {
    let content = one_layer();
    let server = Server::start(one_layer(), move |request| {
        let cut = content.serve(request).cut(20);
        (request.before == 0 && request.path.contains("/manifests/")).then_some(cut)
    });
    Puller::new().pull(&server.name("a:1")).unwrap();
    assert_eq!(server.seen("/manifests/").len(), 2);
}

#[test]
fn when_one_layer_fails_the_others_are_given_up() {
    let layers = [layer("bad", 400 << 10), layer("slow", 300 << 10), layer("slower", 200 << 10)];
    let content = Content::image(&layers);
    let largest = content.largest();
    let server = Server::start(Content::image(&layers), move |request| {
        if request.path.ends_with(&largest[0]) {
            // After the others have begun.
            std::thread::sleep(Duration::from_millis(200));
            return Some(Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"));
        }
        (request.path.ends_with(&largest[1]) || request.path.ends_with(&largest[2]))
            .then(|| content.serve(request).cut(10))
    });
    let mut puller = Puller::new();
    puller.options.retries.first = Duration::from_secs(5);
    let begin = Instant::now();
    let error = puller.refuse(&server.name("a:1"));
    assert!(error.contains("layer 1 of 3") && error.contains("blob unknown"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[test]
fn layers_come_three_at_a_time() {
    let layers: Vec<_> = (0..6).map(|n| layer(&format!("file-{n}"), 50_000)).collect();
    let now = Arc::new(Mutex::new((0, 0)));
    let count = Arc::clone(&now);
    let content = Content::image(&layers);
    let server = Server::start(Content::image(&layers), move |request| {
        let is_layer = content.largest()[..6].iter().any(|digest| request.path.ends_with(digest));
        is_layer.then(|| {
            {
                let mut count = count.lock().unwrap();
                count.0 += 1;
                count.1 = count.0.max(count.1);
            }
            std::thread::sleep(Duration::from_millis(300));
            count.lock().unwrap().0 -= 1;
            content.serve(request)
        })
    });
    Puller::new().pull(&server.name("a:1")).unwrap();
    assert_eq!(now.lock().unwrap().1, 3);
}

#[test]
fn nobody_there_is_said_at_once() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut puller = Puller::new();
    puller.options.retries.first = Duration::from_secs(5);
    let begin = Instant::now();
    let error = puller.refuse(&format!("{port}/a"));
    assert!(error.contains(&port.to_string()) && error.contains("nothing listens"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn what_is_no_registry_is_said() {
    let server = Server::start(Content::default(), |_| Some(Reply::new(200, b"<html>hello")));
    let error = Puller::new().refuse(&server.name("a:1"));
    assert!(error.contains("is no registry"), "{error}");
    let old = br#"{"schemaVersion":1,"name":"a"}"#;
    let server = Server::start(Content::default(), |_| Some(Reply::new(200, old)));
    let error = Puller::new().refuse(&server.name("a:1"));
    assert!(error.contains("schema 1") && error.contains("/a:1"), "{error}");
}
