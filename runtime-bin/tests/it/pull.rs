//! Images by name from a registry: `pull`, and `run` and `create` with `--pull`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::{Root, arg, busybox, image, wait_until};

/// A registry on this machine that has the image busybox as `busybox:1`, and `latest` in each other repository
/// but `none`. What image-pull's tests ask of registries is not asked here again.
pub(crate) struct Registry {
    host: String,
    /// The paths that were asked for.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    pub(crate) fn start() -> Registry {
        let mut tar = tar::Archive::new(std::fs::File::open(image("busybox", "oci-gzip")).unwrap());
        let mut files = HashMap::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (name, mut bytes) = (entry.path().unwrap().display().to_string(), Vec::new());
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(name, bytes);
        }
        let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, files) = (Arc::clone(&seen), Arc::new(files));
        // Its threads end with the tests' process; a client that is gone is no concern of theirs.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, files, digest) = (Arc::clone(&log), Arc::clone(&files), digest.clone());
                std::thread::spawn(move || serve(stream, &files, &digest, &log));
            }
        });
        Registry { host, seen }
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    fn asked(&self, part: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }
}

fn serve(
    mut stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    root: &str,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    while reader.read_line(&mut String::new())? > 2 {}
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap().push(path.clone());
    if path.contains("/stall/") {
        // Until the client goes.
        return reader.read_line(&mut line).map(drop);
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    let digest = if last.starts_with("sha256:") { last } else { root };
    let found = files.get(&format!("blobs/sha256/{}", digest.trim_start_matches("sha256:")));
    let (status, body) = match found.filter(|_| !path.contains("/none/")) {
        Some(bytes) => ("200 OK", &bytes[..]),
        None => ("404 Not Found", &b"{\"errors\":[{\"code\":\"NAME_UNKNOWN\"}]}"[..]),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")?;
    stream.write_all(body)
}

#[test]
fn pull_says_what_docker_says() {
    let (root, registry) = (Root::new(), Registry::start());
    let name = registry.name("team/busybox");
    let shown = root.ok(["pull", &name]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..2], ["Using default tag: latest", "latest: Pulling from team/busybox"]);
    let digest = lines[2].strip_prefix("Digest: ").unwrap();
    let full = format!("{name}:latest");
    assert_eq!(lines[3..], [&format!("Status: Downloaded newer image for {full}"), &full]);

    let shown = root.ok(["image", "pull", &full]);
    assert!(shown.contains(&format!("Status: Image is up to date for {full}\n")), "{shown}");
    assert!(!shown.contains("default tag"), "{shown}");
    let by_digest = format!("{name}@{digest}");
    let (one, two) = (registry.name("a:1"), registry.name("b:1"));
    assert_eq!(root.ok(["pull", "-q", &by_digest]), by_digest);
    assert_eq!(root.ok(["pull", "--quiet", &one, &two]), format!("{one}\n{two}"));
    let digests = root.ok(["inspect", "-f", "{{json .RepoDigests}}", &full]);
    assert!(digests.contains(&by_digest), "{digests}");
    let listed = root.ok(["images", "--digests", &full]);
    assert!(listed.contains(digest), "{listed}");
    assert_eq!(root.ok(["run", "--rm", &by_digest, "echo", "ran"]), "ran");
    assert_eq!(registry.asked("team/busybox/blobs/"), 4, "a layer is fetched once");
    let told = ["--since", "0", "--until", "0s", "-f", "event=pull", "--format"];
    let told = root.ok(["events"].iter().chain(&told).chain(&["{{.Actor.Attributes.name}}"]));
    assert_eq!(told, [&full, &full, &by_digest, &one, &two].map(String::as_str).join("\n"));
    root.assert_nothing_left();
}

#[test]
fn run_pulls_what_is_missing_and_only_that() {
    let (root, registry) = (Root::new(), Registry::start());
    let name = registry.name("busybox:1");
    let out = root.call(["run", "--rm", &name, "echo", "ran"]);
    assert_eq!((out.code, &out.stdout[..]), (0, "ran\n"), "{out:?}");
    let expected = [
        format!("Unable to find image '{name}' locally"),
        "1: Pulling from busybox".to_owned(),
        "Digest: sha256:".to_owned(),
        format!("Status: Downloaded newer image for {name}"),
    ];
    for (line, start) in out.stderr.lines().zip(&expected) {
        assert!(line.starts_with(start), "{out:?}");
    }
    assert_eq!(out.stderr.lines().count(), expected.len(), "{out:?}");
    let asked = registry.asked("");
    let out = root.call(["run", "--rm", &name, "true"]);
    assert_eq!((out.code, &out.stderr[..]), (0, ""), "{out:?}");
    assert_eq!(registry.asked(""), asked);

    let out = root.call(["run", "--rm", "--pull", "always", &name, "true"]);
    assert!(out.stderr.contains("Image is up to date") && out.code == 0, "{out:?}");
    assert!(registry.asked("") > asked);
    let other = registry.name("other");
    let out = root.call(["create", "-q", "--name", "made", &other]);
    assert_eq!((out.code, &out.stderr[..]), (0, ""), "{out:?}");
    root.ok(["rm", "made"]);
    root.assert_nothing_left();
}

#[test]
fn what_is_not_pulled() {
    let (root, registry) = (Root::new(), Registry::start());
    let name = registry.name("busybox:1");
    root.fails(125, &["has no image", &name], ["run", "--rm", "--pull", "never", &name, "true"]);
    assert_eq!(registry.asked(""), 0);
    let file = busybox();
    let always = ["run", "--rm", "--pull=always", arg(&file), "true"];
    root.fails(125, &["--pull always", "archive"], always);
    root.fails(125, &["sometimes", "missing"], ["run", "--pull", "sometimes", &name, "true"]);
    root.fails(1, &["Busybox", "lower case"], ["pull", &registry.name("a"), "Busybox"]);
    assert_eq!(registry.asked(""), 0, "all names are read before one is pulled");

    // Both halves are told: what there is here, and what the registry says.
    root.ok(["load", "-q", "-i", arg(&file)]);
    let none = registry.name("none/busybox:2");
    let words = ["has no image", "near to it: localhost/busybox", "name unknown", "misspelt"];
    root.fails(125, &words, ["run", "--rm", &none, "true"]);
    root.fails(1, &["name unknown", &registry.host], ["pull", &none]);
    // An id is no name: no registry is asked, and the sentence is the store's.
    let sentence = root.fails(125, &["has no image"], ["run", "--rm", &"ab".repeat(32), "true"]);
    assert!(!sentence.contains("pulled"), "{sentence}");
    root.assert_nothing_left();
}

#[test]
fn an_image_of_another_platform_is_not_run_in_its_place() {
    let (root, registry) = (Root::new(), Registry::start());
    let name = registry.name("busybox:1");
    root.ok(["pull", "-q", &name]);
    let options = ["run", "--rm", "--platform", "linux/s390x"];
    let never = [&options[..], &["--pull", "never", &name, "true"]].concat();
    root.fails(125, &["is for linux/", "linux/s390x is asked for"], never);
    // The registry has no other one.
    let missing = [&options[..], &[&name[..], "true"]].concat();
    root.fails(125, &["cannot be pulled", "has no image for linux/s390x"], missing);
    let own = std::env::consts::ARCH;
    root.ok(["run", "--rm", "--platform", &format!("linux/{own}"), &name, "true"]);
    root.assert_nothing_left();
}

#[test]
fn an_interrupt_ends_a_pull() {
    let (root, registry) = (Root::new(), Registry::start());
    for verb in [&["pull"][..], &["run", "--rm"]] {
        let before = registry.asked("/stall/");
        let mut started = root.start([verb, &[&registry.name("stall/a")[..]]].concat());
        wait_until("the registry is asked", || registry.asked("/stall/") > before);
        started.signal(rustix::process::Signal::INT);
        wait_until("the pull has ended", || started.has_ended());
        assert_ne!(started.wait().code, 0);
    }
    root.assert_nothing_left();
}
