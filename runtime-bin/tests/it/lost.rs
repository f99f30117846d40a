//! What a power cut took of an image itself: each entry that it has in the store, empty or missing, one after the other.
//! Every command says so in a sentence or goes on, and a load, or a repair and a load, makes it whole again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::attack::forms;
use crate::harness::{Out, Root, arg};
use crate::image::{Archive, Layer, busybox_program};

const IMAGE: &str = "localhost/tiny:latest";
const WHOLE: &str = "localhost/whole:latest";

/// What is done about a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Load,
    Run,
    Remove,
    Repair,
}

const REMEDIES: [Remedy; 4] = [Remedy::Load, Remedy::Run, Remedy::Remove, Remedy::Repair];

fn archive(root: &Root, name: &'static str) -> PathBuf {
    let lower = Layer::new()
        .file("bin/busybox", 0o755, busybox_program())
        .hard_link("bin/true", "bin/busybox");
    let mut archive = Archive::busybox([Layer::new().file("upper", 0o644, name)]);
    archive.layers[0] = lower.file("of", 0o644, name).finish();
    archive.name = name;
    archive.write(root.dir(), &format!("{}.tar", &name[10..name.len() - 7]))
}

/// All that there is in the store of images, but for the files in layers.
pub(crate) fn entries(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs =
        ["images", "layers", "blobs", "mounts", "l"].map(|name| store.join(name)).to_vec();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() && !path.ends_with("diff") {
                dirs.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

/// As if all that is there had been loaded before this boot; how many records say so.
pub(crate) fn reboot(store: &Path) -> usize {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let mut count = 0;
    for path in entries(store).iter().filter(|path| path.extension().is_some_and(|of| of == "json"))
    {
        let text = fs::read_to_string(path).unwrap();
        if text.contains(boot.trim()) {
            fs::write(path, text.replace(boot.trim(), "another")).unwrap();
            count += 1;
        }
    }
    count
}

/// A store with an image that is whole, and one of which entry number `at` is lost, with a container of that; what was
/// lost, or `None` where there is no such entry, or it cannot be lost so.
fn lose(form: &str, at: usize, removed: bool) -> (Root, Option<String>) {
    let root = Root::new();
    let tiny = archive(&root, IMAGE);
    root.ok(["load", "-q", form, "-i", arg(&tiny)]);
    let own = entries(&root.store());
    root.ok(["load", "-q", form, "-i", arg(&archive(&root, WHOLE))]);
    assert!(reboot(&root.store()) > 0, "nothing was left to the kernel");
    let Some(path) = own.get(at) else { return (root, None) };
    let kind = fs::symlink_metadata(path).unwrap();
    match removed {
        true if kind.is_dir() => fs::remove_dir_all(path).unwrap(),
        true => fs::remove_file(path).unwrap(),
        false if kind.is_file() => fs::write(path, b"").unwrap(),
        false => return (root, None),
    }
    let how = if removed { "without" } else { "empty" };
    let what = format!("{form}, {how} {}", path.strip_prefix(root.store()).unwrap().display());
    (root, Some(what))
}

/// That a command went on, or says what is wrong.
pub(crate) fn assert_sane(what: &str, out: &Out) {
    let words = ["is damaged: ", "has no image ", "Unable to find image"];
    let is_said = out.stderr.starts_with("runtime-bin: ") || out.stderr.starts_with("Unable");
    let is_said = is_said && words.iter().any(|word| out.stderr.contains(word));
    assert!(out.code == 0 || is_said, "{what}: {out:?}");
    assert!(!out.stderr.contains("panicked"), "{what}: {out:?}");
}

/// What all commands say of it, which changes nothing of what is lost.
fn look(root: &Root, what: &str) {
    let images = root.call(["images"]);
    assert_sane(what, &images);
    assert!(images.stdout.contains("localhost/whole"), "{what}: {images:?}");
    let is_listed = images.stdout.contains("localhost/tiny");
    assert!(
        is_listed || images.stderr.contains(IMAGE) || what.contains("without images/"),
        "{images:?}"
    );
    let commands: [&[&str]; 8] = [
        &["system", "df"],
        &["system", "df", "-v"],
        &["image", "prune", "-f"],
        &["system", "prune", "-f"],
        &["image", "inspect", IMAGE],
        &["history", IMAGE],
        &["tag", IMAGE, "localhost/other:1"],
        &["run", "--rm", "--pull", "never", IMAGE, "true"],
    ];
    for args in commands {
        assert_sane(what, &root.call(args));
    }
    root.call(["rmi", "localhost/other:1"]);
    root.ok(["info"]);
    root.ok(["ps", "-a"]);
    root.ok(["run", "--rm", "--pull", "never", WHOLE, "true"]);
}

/// What is done about it, and that it has helped.
fn mend(root: &Root, form: &str, remedy: Remedy, what: &str) {
    let tiny = root.dir().join("tiny.tar");
    let load = || root.ok(["load", "-q", form, "-i", arg(&tiny)]);
    match remedy {
        Remedy::Load => drop(load()),
        Remedy::Run => drop(root.ok(["run", "--rm", form, arg(&tiny), "true"])),
        Remedy::Remove => {
            root.ok(["rmi", IMAGE]);
            assert!(!root.ok(["images"]).contains("tiny"), "{what}");
            load();
        }
        Remedy::Repair => {
            let out = root.call(["check", "--repair"]);
            assert_eq!(out.code, 0, "{what}: {out:?}");
            load();
        }
    }
    let checked = root.call(["check", "-q", "--content"]);
    assert_eq!((checked.code, &*checked.stdout), (0, ""), "{what}, {remedy:?}");
    let listed = root.ok(["images"]);
    assert!(listed.contains("localhost/tiny") && listed.contains("localhost/whole"), "{what}");
    assert_eq!(root.ok(["run", "--rm", IMAGE, "busybox", "cat", "/upper"]), IMAGE, "{what}");
    root.ok(["rmi", IMAGE]);
    root.ok(["rmi", WHOLE]);
    assert_eq!(entries(&root.store()), Vec::<PathBuf>::new(), "{what}, {remedy:?}");
}

#[test]
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn each_entry_of_an_image() {
    let mut tries = 0;
    for form in forms() {
        let count = {
            let root = Root::new();
            root.ok(["load", "-q", form, "-i", arg(&archive(&root, IMAGE))]);
            entries(&root.store()).len()
        };
        assert!(count >= 7, "{count} entries of an image");
        for (at, removed) in (0..count).flat_map(|at| [(at, false), (at, true)]) {
            for (number, remedy) in REMEDIES.into_iter().enumerate() {
                let is_all = std::env::var_os("RACE_SECONDS").is_some();
                if !is_all && number != (at + usize::from(removed)) % REMEDIES.len() {
                    continue;
                }
                let (root, Some(what)) = lose(form, at, removed) else { continue };
                // A load that is the first to look finds it by itself.
                if remedy != Remedy::Load {
                    look(&root, &what);
                }
                mend(&root, form, remedy, &what);
                tries += 1;
            }
        }
    }
    println!("{tries} losses");
    assert!(tries > 10, "{tries} losses");
}

/// A container of an image whose record was lost stays with all that it needs, and starts again after a load.
#[test]
fn a_container_of_a_lost_image() {
    for form in forms() {
        let root = Root::new();
        let tiny = archive(&root, IMAGE);
        root.ok(["create", "--name", "box", form, arg(&tiny), "true"]);
        root.ok(["load", "-q", form, "-i", arg(&archive(&root, WHOLE))]);
        reboot(&root.store());
        let images = entries(&root.store());
        let id = root.inspect("box")["Image"].as_str().unwrap()["sha256:".len()..].to_owned();
        for record in images.iter().filter(|path| path.ends_with(format!("{id}/image.json"))) {
            fs::write(record, b"").unwrap();
        }
        assert_sane(form, &root.call(["start", "-a", "box"]));
        root.fails(1, &["is using it"], ["rmi", IMAGE]);
        root.ok(["rmi", WHOLE]);
        root.ok(["ps", "-a"]);
        let repaired = root.call(["check", "--repair"]);
        assert!(repaired.stdout.contains("kept: image sha256:"), "{repaired:?}");
        root.ok(["load", "-q", form, "-i", arg(&tiny)]);
        root.ok(["start", "-a", "box"]);
        root.ok(["rm", "box"]);
        root.ok(["rmi", IMAGE]);
        assert_eq!(entries(&root.store()), Vec::<PathBuf>::new(), "{form}");
    }
}

/// The records of both images are lost: each can be removed, in either order.
#[test]
fn two_lost_images() {
    for form in forms() {
        for names in [[IMAGE, WHOLE], [WHOLE, IMAGE]] {
            let root = Root::new();
            for name in names {
                root.ok(["load", "-q", form, "-i", arg(&archive(&root, name))]);
            }
            for path in entries(&root.store()).iter().filter(|path| path.ends_with("image.json")) {
                fs::write(path, b"").unwrap();
            }
            let images = root.call(["images"]);
            assert!(images.code == 1 && names.iter().all(|name| images.stderr.contains(name)));
            for name in names {
                assert!(root.ok(["rmi", name]).contains("Deleted: sha256:"));
            }
            assert_eq!(entries(&root.store()), Vec::<PathBuf>::new(), "{form}");
        }
    }
}
