//! Real images in every format in which users have them.

use serde_json::Value;

use crate::harness::{Root, arg, image, wait_until};
use crate::host::{self, ASK, mount_table};
use crate::image::member;
use crate::indexed::{self, INDEX};

const FORMATS: [&str; 5] =
    ["docker-legacy", "docker-oci", "docker-containerd", "oci-gzip", "oci-zstd"];

/// The image's id, as `docker save` writes it: the digest of the configuration, in all formats.
fn id(name: &str) -> String {
    let manifest = member(&image(name, "docker-legacy"), |file| file == "manifest.json");
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let config = manifest[0]["Config"].as_str().unwrap();
    format!("sha256:{}", config.strip_suffix(".json").unwrap())
}

/// nginx: start, page, mount table, stop; kept in each form.
fn serves(name: &str, page: &str, layers: usize, format: &str) {
    serves_in(name, page, layers, format, "--layer-form=dir");
    if indexed::is_possible() {
        serves_in(name, page, 1, format, INDEX);
    }
}

fn serves_in(name: &str, page: &str, lowers: usize, format: &str, form: &str) {
    let root = Root::new();
    let archive = image(name, format);
    let options = ["run", "-d", "--rm", "--name", "web", "-v", "/srv/volume"];
    root.ok([&options[..], &[form, arg(&archive)]].concat());
    let mut answer = String::new();
    wait_until("the page", || {
        answer = root.call(["exec", "web", "bash", "-c", ASK]).stdout;
        answer.contains("200 OK")
    });
    assert!(answer.contains(page), "{answer}");
    assert_eq!(root.inspect("web")["Image"], id(name));
    let table = mount_table(&root.ok(["exec", "web", "mount"]));
    assert_eq!(table[0].value("lowerdir").unwrap().split(':').count(), lowers, "{form}");
    for target in ["/proc", "/dev", "/dev/pts", "/sys", "/dev/mqueue", "/dev/shm", "/srv/volume"] {
        assert!(table.iter().any(|mount| mount.target == target), "{target}: {table:#?}");
    }
    if name == "nginx" {
        rare_files(&root);
    }
    root.ok(["stop", "web"]);
    root.assert_nothing_left();
}

/// What the nginx image has so that unpacking gets it right.
fn rare_files(root: &Root) {
    let script = "cd /srv/data; ls /etc/nginx/sites-enabled; ls /var/www/html; \
        stat -c '%h %a %u:%g' a/original setuid-id private; cat 'b/other name' absolute/other*; \
        stat -c '%s' sparse; getcap /usr/bin/ping 2>/dev/null; readlink dangling; \
        find . -type f | awk '{ if (length > 255) print \"long\" }' 2>/dev/null | sort -u; \
        cat na*ve*";
    let shown = root.ok(["exec", "web", "bash", "-c", script]);
    let lines: Vec<&str> = shown.lines().collect();
    for line in ["index.html", "2 644 0:0", "1 6755 0:0", "1 0 1234:2345", "16777216", "not ASCII"]
    {
        assert!(lines.contains(&line), "no {line:?} in {shown}");
    }
    assert!(!lines.contains(&"default"), "the whiteout did not hide: {shown}");
    assert!(!lines.contains(&"index.nginx-debian.html"), "the opaque directory: {shown}");
    assert_eq!(lines.iter().filter(|line| **line == "two names").count(), 2, "{shown}");
}

#[test]
fn nginx_docker_legacy() {
    serves("nginx", "It is nginx", 5, "docker-legacy");
}

#[test]
fn nginx_docker_oci() {
    serves("nginx", "It is nginx", 5, "docker-oci");
}

#[test]
fn nginx_docker_containerd() {
    serves("nginx", "It is nginx", 5, "docker-containerd");
}

#[test]
fn nginx_oci_gzip() {
    serves("nginx", "It is nginx", 5, "oci-gzip");
}

#[test]
fn nginx_oci_zstd() {
    serves("nginx", "It is nginx", 5, "oci-zstd");
}

#[test]
fn httpd_oci_gzip() {
    serves("httpd", "It works!", 3, "oci-gzip");
}

#[test]
fn httpd_oci_zstd() {
    serves("httpd", "It works!", 3, "oci-zstd");
}

/// An image whose own command says whether it arrived; in all formats, in one store for each form.
fn checks_itself(name: &str) {
    checks_itself_in(name, "--layer-form=dir");
    if indexed::is_possible() {
        checks_itself_in(name, INDEX);
    }
}

fn checks_itself_in(name: &str, form: &str) {
    let root = Root::new();
    for format in FORMATS {
        let out = root.call(["run", "--rm", form, arg(&image(name, format))]);
        assert_eq!(out.code, 0, "{form} {format}: {out:?}");
        assert!(out.stdout.lines().any(|line| line.starts_with("ok")), "{form} {format}: {out:?}");
        assert!(!out.stdout.contains("note:"), "{form} {format}: {out:?}");
    }
    // It is one image.
    assert_eq!(root.ok(["images", "-q"]).lines().count(), 1);
    root.assert_nothing_left();
}

#[test]
fn layers_5() {
    checks_itself("layers-5");
}

#[test]
fn layers_127() {
    checks_itself("layers-127");
}

/// As many as `make` makes, and more than a page of options can name: without `lowerdir+` that is said.
#[test]
fn layers_400() {
    let root = Root::new();
    let archive = image("layers-400", "oci-gzip");
    let out = root.call(["run", "--rm", "--layer-form=dir", arg(&archive)]);
    if out.code != 0 && out.stderr.contains("older ones need shorter paths") {
        return skipped("overlay_lowerdir_append", "400 layers are more than a page of options");
    }
    checks_itself("layers-400");
}

/// Says that this kernel lacks a feature of docs/kernel-features.md; who runs the tests decides whether it may.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn skipped(feature: &str, why: &str) {
    println!("SKIPPED: feature {feature}: {why}");
}

/// More layers than one page of options can name: `mount` still tells all, and the host's the same.
#[test]
fn the_options_of_127_layers() {
    let root = Root::new();
    let archive = image("layers-127", "oci-gzip");
    let words = ["run", "-d", "--name", "box", "--layer-form=dir", arg(&archive)];
    root.ok([&words[..], &["sleep", "1000"]].concat());
    let inside = host::mounts_of(&root.pid("box").to_string()).remove(0);
    let outside = host::mounts_below(root.dir());
    assert_eq!(outside.len(), 1, "{outside:#?}");
    assert_eq!(inside.options, outside[0].options);
    assert_eq!((&*inside.source, &*inside.target, &*inside.kind), ("overlay", "/", "overlay"));
    assert_eq!(inside.options[..2], ["rw", "relatime"]);
    let lowers = inside.options.iter().filter(|option| option.starts_with("lowerdir"));
    let count: usize = lowers.map(|option| option.split(':').count()).sum();
    // Layers that are equal at the same place are one; a few are empty.
    assert!((100..=127).contains(&count), "{count} layers: {inside:?}");
    let dir = root.inspect("box")["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap().to_owned();
    assert_eq!(dir.split(':').count(), count);
    root.ok(["kill", "box"]);
}

#[test]
fn odd() {
    checks_itself("odd");
}

#[test]
fn odd_sparse() {
    checks_itself("odd-sparse");
}

#[test]
fn odd_twice() {
    checks_itself("odd-twice");
}

/// An index of an index: the platform's own image is found, and no other without asking.
#[test]
fn busybox_oci_multi() {
    let root = Root::new();
    let archive = image("busybox", "oci-multi");
    assert_eq!(root.ok(["run", "--rm", arg(&archive), "uname", "-m"]), "x86_64");
    let args = ["run", "--rm", "--platform", "linux/arm64", arg(&archive), "sh"];
    root.fails(126, &["/bin/sh", "aarch64"], args);
    let args = ["run", "--rm", "--platform", "linux/s390x", arg(&archive), "sh"];
    root.fails(125, &["linux/s390x", "linux/arm64", "linux/amd64"], args);
    root.assert_nothing_left();
}
