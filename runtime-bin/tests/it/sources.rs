//! Where an image comes from: a file, a directory, standard input, the store.

use std::fs::{self, File};

use crate::harness::{Root, Started, arg, busybox, image};
use crate::image::Archive;

const NAME: &str = "localhost/busybox:latest";

#[test]
fn by_name_after_a_run_of_the_file() {
    let root = Root::new();
    root.fails(125, &["localhost/busybox"], ["run", "--rm", NAME, "true"]);
    let file = busybox();
    assert_eq!(root.ok(["run", "--rm", arg(&file), "echo", "file"]), "file");
    for name in [NAME, "localhost/busybox"] {
        assert_eq!(root.ok(["run", "--rm", name, "echo", "name"]), "name");
    }
    let id = root.ok(["images", "-q", "--no-trunc"]);
    let digits = id.strip_prefix("sha256:").unwrap();
    assert_eq!(digits.len(), 64);
    for id in [&id, digits, &digits[..12]] {
        assert_eq!(root.ok(["run", "--rm", id, "echo", "id"]), "id");
    }
    root.assert_nothing_left();
}

#[test]
fn load_from_a_file_and_from_standard_input() {
    for from in ["-i FILE", "-i -", "stdin"] {
        let root = Root::new();
        let file = busybox();
        let bytes = fs::read(&file).unwrap();
        let shown = match from {
            "-i FILE" => root.ok(["load", "-i", arg(&file)]),
            "-i -" => root.call_with_input(["load", "-i", "-"], &bytes).stdout,
            _ => root.call_with_input(["load"], &bytes).stdout,
        };
        assert_eq!(shown.trim_end(), format!("Loaded image: {NAME}"), "{from}");
        assert_eq!(root.ok(["run", "--rm", NAME, "echo", "loaded"]), "loaded");
        // Again: nothing new.
        root.ok(["load", "-q", "-i", arg(&file)]);
        assert_eq!(root.ok(["images", "-q"]).lines().count(), 1);
        root.assert_nothing_left();
    }
}

#[test]
fn run_from_standard_input() {
    let root = Root::new();
    for format in ["docker-legacy", "docker-oci", "oci-gzip", "oci-zstd"] {
        let bytes = fs::read(image("busybox", format)).unwrap();
        let out = root.call_with_input(["run", "--rm", "-", "echo", "piped"], &bytes);
        assert_eq!((out.code, &*out.stdout), (0, "piped\n"), "{format}: {out:?}");
    }
    // A file as standard input, which need not be copied.
    let file = File::open(busybox()).unwrap();
    let mut command = root.command(["run", "--rm", "-", "echo", "file"]);
    let out = command.stdin(file).output().unwrap();
    assert_eq!(out.stdout, b"file\n");
    root.assert_nothing_left();
}

#[test]
fn a_layout_directory() {
    let root = Root::new();
    for format in ["oci-gzip", "oci-multi", "docker-oci"] {
        let dir = root.host_dir(format);
        tar::Archive::new(File::open(image("busybox", format)).unwrap()).unpack(&dir).unwrap();
        assert_eq!(root.ok(["run", "--rm", arg(&dir), "echo", format]), format);
        // By a relative path, too.
        let path = format!("./{format}");
        assert_eq!(root.ok(["run", "--rm", &path, "echo", "relative"]), "relative");
    }
    root.assert_nothing_left();
}

#[test]
fn a_compressed_archive() {
    let root = Root::new();
    let path = root.dir().join("busybox.tar.gz");
    let (from, to) = (File::open(busybox()).unwrap(), File::create(&path).unwrap());
    let gzip = std::process::Command::new("gzip").arg("-c").stdin(from).stdout(to).status();
    assert!(gzip.unwrap().success());
    assert_eq!(root.ok(["run", "--rm", arg(&path), "echo", "gzip"]), "gzip");
    root.assert_nothing_left();
}

/// A file in the working directory whose name could be an image's.
#[test]
fn a_path_without_a_slash() {
    let root = Root::new();
    fs::copy(busybox(), root.dir().join("box.tar")).unwrap();
    fs::copy(busybox(), root.dir().join("plain-name")).unwrap();
    assert_eq!(root.ok(["run", "--rm", "box.tar", "echo", "a"]), "a");
    assert_eq!(root.ok(["run", "--rm", "plain-name", "echo", "b"]), "b");
}

/// The same file with other bytes is another image; the name goes with it.
#[test]
fn a_file_that_changes() {
    let root = Root::new();
    let path =
        Archive::busybox([]).with("Env", "A=1".split('.').collect()).write(root.dir(), "x.tar");
    let env = || root.ok(["run", "--rm", arg(&path), "/bin/env"]);
    assert!(env().lines().any(|line| line == "A=1"));
    Archive::busybox([]).with("Env", "A=2".split('.').collect()).write(root.dir(), "x.tar");
    assert!(env().lines().any(|line| line == "A=2"));
    let by_name = root.ok(["run", "--rm", "localhost/test", "/bin/env"]);
    assert!(by_name.lines().any(|line| line == "A=2"), "{by_name}");
    assert_eq!(root.ok(["images", "-q"]).lines().count(), 2);
}

#[test]
fn images_are_listed() {
    let root = Root::new();
    root.ok(["load", "-i", arg(&busybox())]);
    root.ok(["load", "-i", arg(&image("layers-5", "docker-containerd"))]);
    let shown = root.ok(["images"]);
    let mut lines = shown.lines();
    let head: Vec<&str> =
        lines.next().unwrap().split("  ").filter(|word| !word.is_empty()).collect();
    let head: Vec<&str> = head.into_iter().map(str::trim).collect();
    assert_eq!(head, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2, "{shown}");
    for name in ["localhost/busybox", "localhost/layers-5"] {
        let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{shown}"));
        assert_eq!((row[1], row[2].len()), ("latest", 12), "{shown}");
        assert!(row.last().unwrap().ends_with('B'), "{shown}");
    }
}

/// Two at once load the same archive, and both run.
#[test]
fn two_at_once() {
    let root = Root::new();
    let file = image("layers-5", "oci-gzip");
    let run = || root.command(["run", "--rm", arg(&file)]);
    let started: Vec<Started> = (0..4).map(|_| Started::new(run(), None)).collect();
    for started in started {
        let out = started.wait();
        assert_eq!(out.code, 0, "{out:?}");
    }
    assert_eq!(root.ok(["images", "-q"]).lines().count(), 1);
    root.assert_nothing_left();
}
