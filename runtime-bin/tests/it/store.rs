//! The store from outside: `check`, what is on the disk when, and what is not read again.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{BIN, Out, Root, Started, arg, busybox, copy_program};
use crate::indexed::{self, INDEX};

#[test]
fn a_whole_store_is_checked() {
    let root = Root::new();
    assert_eq!(root.ok(["check"]), "Images: 0, layers: 0, names: 0, damaged: 0");
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    root.ok(["create", "--name", "box", arg(&busybox()), "true"]);
    assert_eq!(root.ok(["check"]), "Images: 1, layers: 1, names: 1, damaged: 0");
    let content = root.ok(["check", "--content"]);
    assert!(content.contains("layers compared with their digests: "), "{content}");
    assert_eq!(root.ok(["check", "--quiet"]), "");
}

#[test]
fn damage_is_told_and_its_remedy_is_one() {
    damage("--layer-form=dir", "layers", "lacks layers of its image sha256:");
}

#[test]
fn damage_of_an_indexed_image_is_told_and_its_remedy_is_one() {
    if indexed::is_possible() {
        damage(INDEX, "blobs", "is missing, a layer of sha256:");
    }
}

/// The place of an image's mount is there, also where nothing can be mounted on it.
#[test]
fn a_container_whose_indexed_image_is_gone_is_told() {
    if !indexed::is_possible() {
        return;
    }
    let root = Root::new();
    root.ok(["create", "--name", "box", INDEX, arg(&busybox()), "true"]);
    let images = root.store().join("images");
    let image = std::fs::read_dir(&images).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(image).unwrap();
    let out = root.call(["check", "-q"]);
    assert_eq!(out.code, 1, "{out:?}");
    for words in ["lacks layers of its image sha256:", "remove the container box"] {
        assert!(out.stdout.contains(words), "no {words:?} in {out:?}");
    }
    root.ok(["rm", "box"]);
}

/// Damages the configuration of the only image, and takes its only layer away, which is in this directory.
fn damage(form: &str, layers: &str, lacks: &str) {
    let root = Root::new();
    root.ok(["load", "-q", form, "-i", arg(&busybox())]);
    root.ok(["create", "--name", "box", arg(&busybox()), "true"]);
    let images = root.store().join("images");
    let image = std::fs::read_dir(&images).unwrap().next().unwrap().unwrap().path();
    std::fs::write(image.join("config.json"), "{}").unwrap();
    let layers = root.store().join(layers);
    let layer = std::fs::read_dir(&layers).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(&layer, root.dir().join("lost")).unwrap();
    let out = root.call(["check", "-q"]);
    assert_eq!(out.code, 1, "{out:?}");
    for words in ["config.json is damaged: its digest is sha256:", lacks] {
        assert!(out.stdout.contains(words), "no {words:?} in {out:?}");
    }
    if form != INDEX {
        assert!(out.stdout.contains("remove the container box"), "{out:?}");
    }
    assert!(out.stdout.lines().all(|line| line.starts_with("damaged: /")), "{out:?}");
    root.ok(["rm", "box"]);
    let id = image.file_name().unwrap().to_str().unwrap();
    root.ok(["rmi", "-f", id]);
    root.ok(["load", "-q", form, "-i", arg(&busybox())]);
    assert_eq!(root.ok(["check"]), "Images: 1, layers: 1, names: 1, damaged: 0");
}

/// What is damaged goes with `--repair`, is said, and comes back by the next load; what a container is of stays.
#[test]
fn a_repair_removes_what_is_damaged_until_a_load_brings_it_back() {
    for form in crate::attack::forms() {
        let root = Root::new();
        let archive = busybox();
        let load = ["load", "-q", form, "-i", arg(&archive)];
        root.ok(load);
        assert_eq!(root.ok(["check", "--repair"]), "Images: 1, layers: 1, names: 1, damaged: 0");
        root.ok(["create", "--name", "box", arg(&busybox()), "true"]);
        let images = root.store().join("images");
        let image = std::fs::read_dir(&images).unwrap().next().unwrap().unwrap().path();
        std::fs::write(image.join("config.json"), "{}").unwrap();
        let out = root.call(["check", "--repair"]);
        assert_eq!(out.code, 1, "{out:?}");
        assert!(out.stdout.contains("kept: image sha256:"), "{out:?}");
        assert!(image.join("image.json").exists());
        root.ok(["rm", "box"]);
        let out = root.call(["check", "--repair"]);
        assert_eq!(out.code, 0, "{out:?}");
        for words in ["damaged: /", "removed: image sha256:", "busybox", "removed: layer sha256:"] {
            assert!(out.stdout.contains(words), "no {words:?} in {out:?}");
        }
        assert!(out.stdout.ends_with("Images: 0, layers: 0, names: 0, damaged: 0\n"), "{out:?}");
        root.ok(load);
        assert_eq!(root.ok(["check", "--repair", "-q"]), "");
        root.ok(["run", "--rm", "busybox", "true"]);
    }
}

/// The system calls of a command, by strace with these options.
fn traced(root: &Root, options: &[&str], args: &[&str]) -> String {
    let file = root.dir().join("trace");
    let own = root.command(args);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&file).args(options);
    command.arg(own.get_program()).args(own.get_args()).current_dir(root.dir());
    let out: Out = Started::new(command, None).wait();
    assert_eq!(out.code, 0, "{out:?}");
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().filter(|line| line.contains('(')).map(|line| format!("{line}\n")).collect()
}

/// One syncfs for all layers of a load; none where nothing is promised.
#[test]
fn durable_is_one_syncfs() {
    for (option, syncs) in
        [(&[][..], 0), (&["--durable"], 1), (&["--durable=true"], 1), (&["--durable=false"], 0)]
    {
        let root = Root::new();
        let archive = busybox();
        let args = [&["load", "-q"][..], option, &["-i", arg(&archive)]].concat();
        let calls = traced(&root, &["-e", "trace=syncfs"], &args);
        assert_eq!(calls.lines().count(), syncs, "{option:?}: {calls}");
        // What is there without the promise gets it from a load that gives it.
        let args = ["load", "-q", "--durable", "-i", arg(&archive)];
        let again = traced(&root, &["-e", "trace=syncfs"], &args);
        assert_eq!(again.lines().count(), 1 - syncs, "{option:?}: {again}");
    }
    let root = Root::new();
    root.ok(["run", "--rm", "--durable", arg(&busybox()), "true"]);
    root.ok(["create", "--durable", arg(&busybox()), "true"]);
    let usage = root.call(["pull", "--durable=maybe", "x"]);
    assert_eq!(usage.code, 125, "{usage:?}");
}

/// The second command that is given an archive knows it by its device, inode, size and times.
#[test]
fn an_archive_that_did_not_change_is_not_read_again() {
    let root = Root::new();
    let archive = root.dir().join("own.tar");
    std::fs::copy(busybox(), &archive).unwrap();
    let reads = |args: &[&str]| {
        let read = "trace=read,pread64,readv,preadv,preadv2,mmap,copy_file_range,sendfile,splice";
        traced(&root, &["-e", read, "-P", arg(&archive)], args).lines().count()
    };
    let path: &Path = &archive;
    let load = ["load", "-q", "-i", arg(path)];
    let run = ["run", "--rm", arg(path), "true"];
    assert!(reads(&run) > 0, "strace sees no reads");
    assert_eq!((reads(&run), reads(&load)), (0, 0));
    // A time that is another makes it another file.
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(reads(&load) > 0);
    assert_eq!(reads(&run), 0);
}

/// What cannot be unpacked without root's rights is said once.
#[test]
fn what_another_user_cannot_unpack_is_said_once() {
    let root = Root::new();
    let archive = root.dir().join("own.tar");
    std::fs::copy(crate::harness::image("nginx", "docker-legacy"), &archive).unwrap();
    std::fs::set_permissions(root.dir(), Permissions::from_mode(0o777)).unwrap();
    let program = root.dir().join("program");
    copy_program(Path::new(BIN), &program);
    let store = root.dir().join("rootless");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=12345", "--regid=12345", "--clear-groups"]).arg(program);
    command.arg("--root").arg(store).args(["load", "-i"]).arg(archive);
    let out = Started::new(command, None).wait();
    assert_eq!(out.code, 0, "{out:?}");
    assert_eq!(out.stderr.lines().count(), 1, "{out:?}");
    assert!(out.stderr.contains("devices are empty files"), "{out:?}");
}
