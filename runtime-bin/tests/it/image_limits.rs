//! What an image may cost at most: each limit is hit, says which and where it is, and is raised by `--image-limit`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::attack::{forms, load};
use crate::attack_manifest::{INDEX, Layout, gzip};
use crate::harness::{Root, arg, busybox};
use crate::image::{Archive, Layer};
use crate::pull::Registry;

/// An image over one limit.
struct Case {
    limit: &'static str,
    /// Options with which it is; none where it is over the default.
    lowered: &'static [&'static str],
    /// Said of it: what, where, and the limit's value.
    words: &'static [&'static str],
    /// With these it is taken.
    raised: &'static str,
    make: fn(&Path) -> PathBuf,
}

const CASES: [Case; 13] = [
    Case {
        limit: "bytes",
        lowered: &["bytes=3m"],
        words: &["layer 1 of 1", "at the entry zeros,", "3145728 bytes"],
        raised: "bytes=20m",
        make: compressed,
    },
    Case {
        limit: "entries",
        lowered: &["entries=2000"],
        words: &["layer 2 of 2", "2000 entries"],
        raised: "entries=3000",
        make: |dir| {
            let files = (0..2500).map(|number| format!("f{number}"));
            layer(dir, files.fold(Layer::new(), |layer, name| layer.file(&name, 0o644, "")))
        },
    },
    Case {
        limit: "ratio",
        lowered: &["ratio-after=1m"],
        words: &["layer 1 of 1", "200 decoded bytes for each compressed byte"],
        raised: "ratio=5000",
        make: compressed,
    },
    Case {
        limit: "ratio-after",
        lowered: &["ratio=5", "ratio-after=9m"],
        words: &["layer 1 of 1", "5 decoded bytes for each compressed byte"],
        raised: "ratio-after=64m",
        make: compressed,
    },
    Case {
        limit: "path",
        lowered: &["path=2000"],
        words: &["layer 2 of 2", "at the entry nnnn", "2000 bytes in a name"],
        raised: "path=4095",
        make: |dir| layer(dir, Layer::new().file(&vec!["n".repeat(250); 10].join("/"), 0o644, "")),
    },
    Case {
        limit: "depth",
        lowered: &[],
        words: &["layer 2 of 2", "at the entry d/d/", "1024 components in a name"],
        raised: "depth=2k",
        make: |dir| layer(dir, Layer::new().file(&["d"; 1100].join("/"), 0o644, "")),
    },
    Case {
        limit: "header",
        lowered: &[],
        words: &["layer 2 of 2", "1048576 bytes in an extended header"],
        raised: "header=3m",
        make: |dir| {
            let value = "c".repeat(2 << 20);
            let length = " comment=\n".len() + value.len();
            let record = format!("{} comment={value}\n", length + 7);
            assert_eq!(record.len(), length + 7);
            let pax = Layer::new().raw(b'x', "pax", "", record.as_bytes());
            layer(dir, pax.file("file", 0o644, ""))
        },
    },
    Case {
        limit: "memory",
        lowered: &["memory=256k"],
        words: &["262144 bytes of names and of files with holes kept in memory"],
        raised: "memory=1m",
        // In any form they are kept: an archive's own names are.
        make: |dir| {
            let path = Archive::busybox([]).write(dir, "x.tar");
            let more = dir.join("more");
            std::fs::create_dir(&more).unwrap();
            for number in 0..3000 {
                std::fs::write(more.join(format!("{:064}", number)), "").unwrap();
            }
            let mut tar = Command::new("tar");
            tar.arg("-rf").arg(&path).arg("-C").arg(dir).arg("more");
            assert!(tar.status().unwrap().success());
            path
        },
    },
    Case {
        limit: "layers",
        lowered: &["layers=5"],
        words: &["an image of", "5 layers"],
        raised: "layers=6",
        make: |dir| {
            let layers = (0..5).map(|number| Layer::new().file(&format!("f{number}"), 0o644, ""));
            Archive::busybox(layers).write(dir, "x.tar")
        },
    },
    Case {
        limit: "json",
        lowered: &[],
        words: &["the configuration of", "8388608 bytes of JSON"],
        raised: "json=10m",
        make: |dir| {
            let labels = json!({"long": "x".repeat(9 << 20)});
            Archive::busybox([]).with("Labels", labels).write(dir, "x.tar")
        },
    },
    Case {
        limit: "json-depth",
        lowered: &[],
        words: &["the configuration of", "100 arrays and objects within each other"],
        raised: "json-depth=127",
        make: |dir| {
            let nested = (0..105).fold(Value::Null, |inner, _| json!([inner]));
            Archive::busybox([]).with("x.unknown", nested).write(dir, "x.tar")
        },
    },
    Case {
        limit: "manifests",
        lowered: &["manifests=20"],
        words: &["20 manifests"],
        raised: "manifests=40",
        make: |dir| {
            let mut layout = Layout::new();
            let manifest = layout.manifest();
            let index = json!({"schemaVersion": 2, "manifests": vec![manifest; 30]});
            let index = layout.blob(INDEX, index.to_string());
            layout.write(&dir.join("layout"), index);
            dir.join("layout")
        },
    },
    Case {
        limit: "indexes",
        lowered: &[],
        words: &["the index sha256:", "8 indexes within indexes"],
        raised: "indexes=12",
        make: |dir| {
            let mut layout = Layout::new();
            let mut inner = layout.manifest();
            for _ in 0..10 {
                let index = json!({"schemaVersion": 2, "manifests": [inner]});
                inner = layout.blob(INDEX, index.to_string());
            }
            layout.write(&dir.join("layout"), inner);
            dir.join("layout")
        },
    },
];

/// An archive of busybox and one more layer.
fn layer(dir: &Path, layer: Layer) -> PathBuf {
    Archive::busybox([layer]).write(dir, "x.tar")
}

/// A layout of one layer: 16 MiB of zeros, by gzip.
fn compressed(dir: &Path) -> PathBuf {
    let zeros = Layer::new().file("zeros", 0o644, vec![0; 16 << 20]).finish();
    let mut layout = Layout::of(zeros.clone());
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    layout.layer = layout.blob(kind, gzip(&zeros));
    let manifest = layout.manifest();
    layout.write(&dir.join("layout"), manifest);
    dir.join("layout")
}

fn options<'a>(limits: &[&'a str]) -> Vec<&'a str> {
    limits.iter().flat_map(|limit| ["--image-limit", *limit]).collect()
}

#[test]
fn each_is_hit_and_raised() {
    for case in &CASES {
        let files = Root::new();
        let archive = (case.make)(files.dir());
        // From where on it counts is no limit of its own.
        let advised = case.limit.strip_suffix("-after").unwrap_or(case.limit);
        let advice = format!("raise it by --image-limit {advised}=NUMBER");
        for form in forms() {
            let root = Root::new();
            let lowered = options(case.lowered);
            let mut load = vec!["load", form, "-i", arg(&archive)];
            load.extend(&lowered);
            let told = root.call(&load);
            let limit = case.limit;
            assert_eq!((told.code, &*root.ok(["images", "-q"])), (1, ""), "{limit}: {told:?}");
            assert!(told.stderr.contains(&advice), "{limit}: {told:?}");
            for word in case.words {
                assert!(told.stderr.contains(word), "{limit}: no {word:?} in {told:?}");
            }
            load.extend(["--image-limit", case.raised]);
            root.ok(&load);
            root.ok(["check"]);
            root.assert_nothing_left();
        }
    }
}

/// Those that are counted while a whole archive is read, too: what comes by a pipe is kept first.
#[test]
fn a_stream_has_them_too() {
    let root = Root::new();
    let archive = layer(root.dir(), Layer::new().file("big", 0o644, vec![7; 4 << 20]));
    let load = |limit: &str| {
        let mut command = root.command(["load", "--image-limit", limit]);
        let mut cat = Command::new("cat").arg(&archive).stdout(Stdio::piped()).spawn().unwrap();
        let out = command.stdin(cat.stdout.take().unwrap()).output().unwrap();
        drop(command); // and with it the end of the pipe at which nobody reads any more
        cat.wait().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, said) = load("bytes=3m");
    assert_eq!(code, Some(1), "{said}");
    let words = ["standard input is over the limit of 3145728 bytes", "--image-limit bytes="];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    assert_eq!(load("bytes=9m"), (Some(0), String::new()));
}

/// Each verb by which an image comes into the store.
#[test]
fn each_verb_takes_them() {
    let root = Root::new();
    let archive = layer(root.dir(), Layer::new().file("big", 0o644, vec![7; 4 << 20]));
    // The archive's own entries are counted too: an honest one's layers are none that a layer could not have.
    let (low, high) = ("--image-limit=bytes=3m", "--image-limit=bytes=9m");
    let words = ["3145728 bytes", "--image-limit bytes=NUMBER"];
    for (verb, code) in [(&["run", "--rm"][..], 125), (&["create", "--name", "made"], 1)] {
        root.fails(code, &words, [verb, &[low, arg(&archive), "true"]].concat());
        root.ok([verb, &[high, arg(&archive), "true"]].concat());
        root.ok(["rm", "-f", "made"]);
        root.ok(["rmi", "-f", "localhost/test:latest"]);
    }
    let tar = root.dir().join("root.tar");
    std::fs::write(&tar, Layer::new().file("big", 0o644, vec![7; 4 << 20]).finish()).unwrap();
    root.fails(1, &words, ["import", low, arg(&tar)]);
    root.ok(["import", high, arg(&tar), "localhost/imported:1"]);

    load(&root, "--layer-form=auto", &busybox());
    let name = "localhost/busybox:latest";
    root.ok(["run", "--name", "box", name, "sh", "-c", "head -c 4194304 /dev/zero > /big"]);
    root.fails(1, &words, ["commit", low, "box"]);
    root.ok(["commit", high, "box", "localhost/committed:1"]);
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}

/// A registry's documents and layers.
#[test]
fn a_registry_has_them_too() {
    let root = Root::new();
    let registry = Registry::start();
    let name = registry.name("busybox:1");
    let pull = |limit: &str| root.call(["pull", "-q", "--image-limit", limit, &name]);
    for (limit, words) in [
        ("json=100", "the limit of 100 bytes of JSON"),
        ("json-depth=1", "the limit of 1 arrays and objects"),
        ("layers=0", "the limit of 0 layers"),
        ("entries=5", "the limit of 5 entries"),
        ("bytes=10k", "the limit of 10240 bytes"),
    ] {
        let told = pull(limit);
        let (name, _) = limit.split_once('=').unwrap();
        let advice = format!("raise it by --image-limit {name}=NUMBER");
        assert!(told.stderr.contains(words) && told.stderr.contains(&advice), "{limit}: {told:?}");
        assert_eq!((told.code, &*root.ok(["images", "-q"])), (1, ""), "{limit}: {told:?}");
    }
    assert_eq!(pull("json=1m").code, 0);
    root.assert_nothing_left();
}

/// An image that came in with raised limits is used without them: run, verified, saved, committed on.
#[test]
fn what_came_in_stays_of_use() {
    for form in forms() {
        let root = Root::new();
        let archive = layer(root.dir(), Layer::new().file(&["d"; 1100].join("/"), 0o644, ""));
        root.ok(["load", form, "-i", arg(&archive), "--image-limit=depth=2k"]);
        let name = "localhost/test:latest";
        root.ok(["run", "--name", "box", name, "sh", "-c", "echo x > /new"]);
        root.ok(["commit", "box", "localhost/more:1"]);
        assert_eq!(root.ok(["run", "--rm", "localhost/more:1", "cat", "/new"]), "x", "{form}");
        root.ok(["check", "--content"]);
        root.ok(["rm", "box"]);
        root.assert_nothing_left();
    }
}

#[test]
fn what_sets_no_limit_is_told() {
    let root = Root::new();
    let archive = busybox();
    for (text, words) in [
        ("size=1", "the names are bytes, entries, ratio, ratio-after, path"),
        ("bytes", "is no limit of images: it is NAME=NUMBER"),
        ("bytes=many", "\"many\" is no number that fits"),
        ("path=4096", "4095 are the most"),
        ("json-depth=128", "127 are the most"),
        ("indexes=65", "64 are the most"),
    ] {
        root.fails(1, &[words], ["load", "--image-limit", text, "-i", arg(&archive)]);
        root.fails(125, &[words], ["run", "--rm", "--image-limit", text, arg(&archive), "true"]);
    }
    root.assert_nothing_left();
}
