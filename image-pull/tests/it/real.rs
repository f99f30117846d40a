//! Debian's `docker-registry`, filled with the images that `cargo xtask images` makes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use image_pull::{Credentials, Pulled};
use image_store::{Digest, Source};
use tempfile::TempDir;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::content::{Content, INDEX, Puller, layer};

const CA: &str = include_str!("tls/ca.crt");
const CERTIFICATE: &str = include_str!("tls/server.crt");
const KEY: &str = include_str!("tls/server.key");

/// A virtual machine without help of the processor is 20 times slower.
const DEADLINE: Duration = Duration::from_secs(60);

const USER: &str = "user";
const PASSWORD: &str = "s3cret:with:colons";
/// bcrypt of the password.
const HASH: &str = "$2b$04$didfgHkpjmZfy/A0KI9MMeRoEGN8eqVcfqPmXTsq9Vy31aDnqkgli";

/// A registry with a storage of its own.
struct Registry {
    temp: TempDir,
    child: Child,
    host: String,
    scheme: &'static str,
    agent: Agent,
}

impl Registry {
    fn start() -> Registry {
        Registry::with("http", "")
    }

    /// `more` is put below `http:` of its configuration, or after it.
    fn with(scheme: &'static str, more: &str) -> Registry {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().display();
        let config = temp.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {dir}/data\nhttp:\n  addr: 127.0.0.1:0\n{}",
            more.replace("DIR", &dir.to_string())
        );
        std::fs::write(&config, text).unwrap();
        for (name, text) in
            [("crt", CERTIFICATE), ("key", KEY), ("htpasswd", &format!("{USER}:{HASH}\n"))]
        {
            std::fs::write(temp.path().join(name), text).unwrap();
        }
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program docker-registry is not there: run `cargo xtask test-host`");
        let (sender, receiver) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        // Reads to the end: a pipe that is full would stop the registry.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let host = rest.split(['"', ',']).next().unwrap_or_default();
                    // Told once; the receiver is gone after that.
                    let _ = sender.send(host.to_owned());
                }
            }
        });
        let host = receiver.recv_timeout(DEADLINE).expect("the registry does not listen");
        let roots = [Certificate::from_pem(CA.as_bytes()).unwrap()];
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(rustls::crypto::ring::default_provider().into())
            .build();
        let config = Agent::config_builder().tls_config(tls).proxy(None);
        Registry { temp, child, host, scheme, agent: config.build().into() }
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Pushes blobs and then manifests, the inner ones first.
    fn push(&self, name: &str, content: &Content) {
        let base = format!("{}://{}/v2/{name}", self.scheme, self.host);
        let login = ("authorization", format!("Basic {}", base64(&format!("{USER}:{PASSWORD}"))));
        for (digest, bytes) in &content.blobs {
            let start = self.agent.post(format!("{base}/blobs/uploads/")).header(login.0, &login.1);
            let response = start.send_empty().unwrap();
            let location = response.headers()["location"].to_str().unwrap().to_owned();
            let and = if location.contains('?') { '&' } else { '?' };
            let put = self.agent.put(format!("{location}{and}digest={digest}"));
            put.header(login.0, &login.1).send(&bytes[..]).unwrap();
        }
        let mut manifests: Vec<_> = content.manifests.iter().collect();
        manifests.sort_by_key(|(tag, (kind, _))| (kind == INDEX, !tag.contains(':')));
        for (tag, (kind, bytes)) in manifests {
            let put = self.agent.put(format!("{base}/manifests/{tag}"));
            let put = put.header(login.0, &login.1).header("content-type", kind);
            put.send(&bytes[..]).unwrap();
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Nothing can be done about a registry that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The archive of an image that `cargo xtask images` makes.
fn archive(name: &str) -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let own = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
    let mut paths = tmp.ancestors().chain([own]).map(|dir| dir.join("images").join(name));
    paths
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("the image {name} is not there: run `cargo xtask images` first"))
}

/// What an OCI layout in a tar has; what its index leads to is tagged `1`.
fn layout(path: &Path) -> Content {
    let mut files: HashMap<String, Vec<u8>> = HashMap::new();
    let mut tar = tar::Archive::new(std::fs::File::open(path).unwrap());
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (name, mut bytes) = (entry.path().unwrap().display().to_string(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    let mut content = Content::default();
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let mut to_do = vec![(index["manifests"][0].clone(), Some("1"))];
    while let Some((descriptor, tag)) = to_do.pop() {
        let digest: Digest = serde_json::from_value(descriptor["digest"].clone()).unwrap();
        let Some(bytes) = files.get(&format!("blobs/sha256/{}", digest.hex())) else { continue };
        let kind = descriptor["mediaType"].as_str().unwrap();
        let document: serde_json::Value = match kind.ends_with("json") {
            true => serde_json::from_slice(bytes).unwrap(),
            false => serde_json::Value::Null,
        };
        let inner = document["manifests"].as_array().into_iter().flatten();
        let inner = inner.chain(document["layers"].as_array().into_iter().flatten());
        let inner = inner.chain(document.get("config").filter(|_| document["layers"].is_array()));
        to_do.extend(inner.map(|descriptor| (descriptor.clone(), None)));
        if document["layers"].is_array() || document["manifests"].is_array() {
            content.tag(tag.unwrap_or(&digest.to_string()), kind, bytes.clone());
        } else {
            content.blobs.insert(digest.to_string(), bytes.clone());
        }
    }
    content
}

/// The image that the archive has, loaded into another store, must be the one that was pulled.
fn same_as_loaded(pulled: &Pulled, path: PathBuf) {
    let other = Puller::new();
    let loaded = other.store.load(&Source::Path(path), &other.options.load, &()).unwrap();
    assert_eq!(loaded[0].id, pulled.image.id);
    assert_eq!(loaded[0].size, pulled.image.size);
    let chain = |image: &image_store::StoredImage| -> Vec<_> {
        image.layers.iter().map(|layer| (layer.chain_id, layer.diff_id)).collect()
    };
    assert_eq!(chain(&loaded[0]), chain(&pulled.image));
    for (one, two) in loaded[0].layers.iter().zip(&pulled.image.layers) {
        assert_eq!(tree(one.path()), tree(two.path()));
    }
}

/// Each name below a directory, with its type, mode and size.
fn tree(dir: &Path) -> Vec<(PathBuf, u32, u64)> {
    use std::os::unix::fs::MetadataExt;
    let (mut all, mut to_do) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = to_do.pop() {
        for entry in std::fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            let size = if meta.is_dir() { 0 } else { meta.size() };
            all.push((entry.path().strip_prefix(dir).unwrap().to_owned(), meta.mode(), size));
            if meta.is_dir() {
                to_do.push(entry.path());
            }
        }
    }
    all.sort();
    all
}

#[test]
fn images_come_as_they_are_in_their_archives() {
    let registry = Registry::start();
    let puller = Puller::new();
    for (name, file) in [
        ("library/busybox", "busybox.oci-gzip.tar"),
        ("odd", "odd.oci-zstd.tar"),
        ("deep/layers", "layers-127.oci-gzip.tar"),
    ] {
        registry.push(name, &layout(&archive(file)));
        let pulled = puller.pull(&registry.name(&format!("{name}:1"))).unwrap();
        assert_eq!(pulled.image.tags, [registry.name(&format!("{name}:1"))]);
        same_as_loaded(&pulled, archive(file));
    }
}

#[test]
fn a_whole_system_comes_compressed_in_both_ways() {
    let registry = Registry::start();
    for file in ["nginx.oci-gzip.tar", "nginx.oci-zstd.tar"] {
        registry.push("nginx", &layout(&archive(file)));
        let puller = Puller::new();
        let pulled = puller.pull(&registry.name("nginx:1")).unwrap();
        same_as_loaded(&pulled, archive(file));
    }
}

#[test]
fn of_several_platforms_one_is_taken() {
    let registry = Registry::start();
    let file = archive("busybox.oci-multi.tar");
    let content = layout(&file);
    assert_eq!(content.manifests["1"].0, INDEX);
    registry.push("multi", &content);
    let puller = Puller::new();
    let pulled = puller.pull(&registry.name("multi:1")).unwrap();
    assert_eq!(pulled.digest, Digest::of(&content.manifests["1"].1));
    same_as_loaded(&pulled, file);
    let by_digest = puller.pull(&registry.name(&format!("multi@{}", pulled.digest))).unwrap();
    assert!(!by_digest.newer && by_digest.image.id == pulled.image.id);
}

#[test]
fn what_the_registry_lacks_and_what_it_refuses() {
    let registry = Registry::start();
    registry.push("a", &Content::image(&[layer("file", 1000)]));
    let puller = Puller::new();
    for (name, why) in [("a:2", "manifest unknown"), ("b:1", "manifest unknown")] {
        let error = puller.refuse(&registry.name(name));
        assert!(error.contains(why) && error.contains(name), "{error}");
    }
}

#[test]
fn a_password_is_asked_for_and_taken() {
    let auth = "auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd\n";
    let registry = Registry::with("http", auth);
    registry.push("a", &Content::image(&[layer("file", 1000)]));
    let mut puller = Puller::new();
    let error = puller.refuse(&registry.name("a:1"));
    assert!(error.contains("authentication required") && error.contains("login"), "{error}");
    let config =
        serde_json::json!({"auths": {&registry.host: {"auth": base64(&format!("{USER}:no"))}}});
    std::fs::write(&puller.options.auth_files[0], config.to_string()).unwrap();
    let error = puller.refuse(&registry.name("a:1"));
    assert!(error.contains("log in anew") && error.contains("auth.json"), "{error}");
    puller.options.credentials =
        Some(Credentials::Password { user: USER.into(), password: PASSWORD.into() });
    puller.pull(&registry.name("a:1")).unwrap();
}

#[test]
fn tls_needs_a_certificate_that_is_known() {
    let tls = "  tls:\n    certificate: DIR/crt\n    key: DIR/key\n";
    let registry = Registry::with("https", tls);
    registry.push("a", &Content::image(&[layer("file", 1000)]));
    let puller = Puller::new();
    let error = puller.refuse(&registry.name("a:1"));
    assert!(error.contains("certificate") && error.contains(&registry.host), "{error}");
    let dir = puller.temp.path().join("certs.d").join(&registry.host);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("ca.crt"), CA).unwrap();
    puller.pull(&registry.name("a:1")).unwrap();
    assert!(registry.temp.path().join("data").exists());
}
