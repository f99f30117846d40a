//! Images whose layers are kept as tars, and mounted: `--layer-form index` and `--in-place`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{BIN, Root, Started, arg, busybox, image, wait_until};
use crate::host;

const NAME: &str = "localhost/busybox:latest";
pub(crate) const INDEX: &str = "--layer-form=index";

/// Whether images can be kept as an index here; said, where they cannot.
pub(crate) fn is_possible() -> bool {
    root().is_some()
}

/// A store with the small image, indexed; `None`, and said, where this kernel cannot mount one.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn root() -> Option<Root> {
    let root = Root::new();
    let out = root.call(["load", INDEX, "-i", arg(&busybox())]);
    if out.stderr.contains("cannot be kept as an index here") {
        println!("SKIPPED: feature erofs_small_blocks: {}", out.stderr);
        return None;
    }
    assert_eq!(out.code, 0, "{out:?}");
    Some(root)
}

/// The mounts of images.
fn mounts(root: &Root) -> Vec<String> {
    let all = host::mounts_below(&root.store().join("mounts")).into_iter();
    all.map(|mount| mount.target).collect()
}

fn blobs(root: &Root) -> usize {
    fs::read_dir(root.store().join("blobs")).unwrap().count()
}

#[test]
fn an_archive_is_run_in_each_form_with_the_same_files() {
    let Some(_) = root() else { return };
    let script = "cd / && find . -xdev ! -path './proc*' ! -path './dev*' ! -path './sys*' \
                  '(' -type d -exec stat -c '%n %f %u %g %Y %h' {} ';' -o \
                  -exec stat -c '%n %f %u %g %Y %s %h' {} ';' ')' | sort";
    let mut found = Vec::new();
    for options in [&["--layer-form=dir"][..], &[INDEX], &["--in-place"], &["--layer-form=auto"]] {
        for name in ["docker-legacy", "oci-gzip"] {
            let root = Root::new();
            let file = image("busybox", name);
            let mut args = vec!["run", "--rm"];
            args.extend(options);
            args.extend([arg(&file), "sh", "-c", script]);
            let first = root.ok(&args);
            assert!(first.lines().count() > 20, "{first}");
            // Their times are of now.
            let own = |line: &&str| {
                !["./etc", "./."].iter().any(|name| line.starts_with(name))
                    && !line.starts_with(". ")
            };
            found.push(first.lines().filter(own).map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(root.ok(["run", "--rm", arg(&file), "echo", "again"]), "again");
            let kept = blobs(&root);
            match (options, name) {
                // "auto" unpacks what is small.
                (["--layer-form=dir" | "--layer-form=auto"], _)
                | (["--in-place"], "docker-legacy") => assert_eq!(kept, 0),
                _ => assert_eq!(kept, 1),
            }
            root.assert_nothing_left();
        }
    }
    for other in &found[1..] {
        assert_eq!(*other, found[0]);
    }
}

#[test]
fn containers_share_one_mount_which_goes_with_the_last() {
    let Some(root) = root() else { return };
    let run = |name: &str| root.ok(["run", "-d", "--name", name, NAME, "sleep", "1000"]);
    run("first");
    let shared = mounts(&root);
    assert_eq!(shared.len(), 1, "{shared:?}");
    run("second");
    assert_eq!(mounts(&root), shared);
    let lower =
        root.inspect("first")["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap().to_owned();
    assert_eq!(fs::canonicalize(&lower).unwrap(), PathBuf::from(&shared[0]));
    let image: serde_json::Value =
        serde_json::from_str(&root.ok(["inspect", "--type", "image", NAME])).unwrap();
    assert_eq!(image[0]["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap(), shared[0]);
    // Where the layer comes from, and that all of it is there.
    let table = root.ok(["mounts", "first"]);
    assert!(table.contains(&lower), "{table}");
    root.ok(["rm", "-f", "first"]);
    assert_eq!(mounts(&root), shared);
    root.ok(["stop", "-t", "0", "second"]);
    assert_eq!(mounts(&root), [""; 0]);
    root.ok(["start", "second"]);
    assert_eq!(mounts(&root), shared);
    assert_eq!(root.ok(["exec", "second", "echo", "there"]), "there");
    root.ok(["rm", "-f", "second"]);
    root.assert_nothing_left();
}

#[test]
fn the_next_command_takes_the_mount_of_a_killed_supervisor_away() {
    let Some(root) = root() else { return };
    root.ok(["run", "-d", "--name", "box", NAME, "sleep", "1000"]);
    let pid = root.pid("box");
    assert_eq!(mounts(&root).len(), 1);
    kill_process(Pid::from_raw(host::parent(pid)).unwrap(), Signal::KILL).unwrap();
    wait_until("the container is seen to have ended", || {
        root.ok(["ps", "-a", "--format", "{{.State}}"]) == "exited"
    });
    wait_until("the mount is gone", || {
        root.ok(["ps", "-q"]);
        mounts(&root).is_empty()
    });
    root.ok(["start", "box"]);
    assert_eq!(mounts(&root).len(), 1);
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

/// What the mounts of images are of.
fn sources(root: &Root) -> Vec<String> {
    let all = host::mounts_below(&root.store().join("mounts")).into_iter();
    all.map(|mount| mount.source).collect()
}

/// As before Linux 6.12: EROFS does not read files in memory itself. Each container's root is an overlay over it.
#[test]
fn a_store_in_memory_is_mounted_by_loop_devices() {
    let Some(_) = root() else { return };
    let root = Root::new();
    fs::create_dir(root.store()).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("memory", root.store(), "tmpfs", flags, None).unwrap();
    let file = image("busybox", "docker-legacy");
    root.ok(["run", "-d", "--name", "box", INDEX, arg(&file), "sleep", "1000"]);
    let source = sources(&root);
    assert!(matches!(&source[..], [one] if one.starts_with("/dev/loop")), "{source:?}");
    root.ok(["run", "--rm", arg(&file), "sh", "-c", "rm /bin/true && echo x > /new"]);
    assert_eq!(root.ok(["exec", "box", "sh", "-c", "true && echo there"]), "there");
    let backing = source[0].replace("/dev/", "/sys/block/") + "/loop/backing_file";
    let of_store = || {
        let file = fs::read_to_string(&backing).unwrap_or_default();
        PathBuf::from(file.trim_end()).starts_with(root.store())
    };
    assert!(of_store());
    // The device goes with the mount, which the next command takes away.
    kill_process(Pid::from_raw(host::parent(root.pid("box"))).unwrap(), Signal::KILL).unwrap();
    wait_until("the mount is gone", || {
        root.ok(["ps", "-q"]);
        mounts(&root).is_empty()
    });
    wait_until("the device is gone", || !of_store());
    root.ok(["rm", "box"]);
    rustix::mount::unmount(root.store(), rustix::mount::UnmountFlags::DETACH).unwrap();
    root.assert_nothing_left();
}

#[test]
fn a_store_that_was_moved_is_used_where_it_is() {
    let Some(root) = root() else { return };
    root.ok(["create", "--name", "box", NAME, "echo", "from the container"]);
    let moved = root.dir().join("moved");
    fs::rename(root.store(), &moved).unwrap();
    let call = |args: &[&str]| {
        let mut command = Command::new(BIN);
        command.arg("--root").arg(&moved).args(args);
        Started::new(command, None).wait()
    };
    let out = call(&["run", "--rm", NAME, "echo", "there"]);
    assert_eq!((out.code, out.stdout.trim_end()), (0, "there"), "{out:?}");
    let out = call(&["start", "-a", "box"]);
    assert_eq!((out.code, out.stdout.trim_end()), (0, "from the container"), "{out:?}");
    fs::rename(&moved, root.store()).unwrap();
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}

#[test]
fn files_of_a_stopped_container_are_seen_changed_and_committed() {
    let Some(root) = root() else { return };
    root.ok(["create", "--name", "box", NAME, "sh", "-c", "rm /bin/true; echo new > /new"]);
    assert_eq!(mounts(&root), [""; 0]);
    assert_eq!(root.ok(["diff", "box"]), "");
    root.ok(["start", "-a", "box"]);
    let changes = root.ok(["diff", "box"]);
    for line in ["D /bin/true", "A /new"] {
        assert!(changes.lines().any(|found| found == line), "{changes}");
    }
    let to = root.dir().join("copied");
    root.ok(["cp", "box:/etc/passwd", arg(&to)]);
    assert!(fs::read_to_string(&to).unwrap().contains("root"));
    let tar = root.dir().join("export.tar");
    root.ok(["export", "-o", arg(&tar), "box"]);
    assert!(fs::metadata(&tar).unwrap().len() > 1 << 20);
    assert_eq!(mounts(&root), [""; 0]);
    root.ok(["commit", "box", "made:1"]);
    root.ok(["rm", "box"]);
    assert_eq!(root.ok(["run", "--rm", "made:1", "cat", "/new"]), "new");
    root.fails(127, &["true"], ["run", "--rm", "made:1", "/bin/true"]);
    // As it came in, it goes out: by its id.
    let saved = root.dir().join("saved.tar");
    root.ok(["save", "-o", arg(&saved), "made:1"]);
    let other = Root::new();
    other.ok(["load", "-i", arg(&saved)]);
    let id = |root: &Root| root.ok(["images", "-q", "--no-trunc", "made"]);
    assert_eq!(id(&other), id(&root));
    assert_eq!(other.ok(["run", "--rm", "made:1", "cat", "/new"]), "new");
    let checked = root.ok(["check", "--content"]);
    assert!(checked.contains("damaged: 0"), "{checked}");
    root.assert_nothing_left();
}

#[test]
fn a_changed_archive_of_an_image_in_place_is_told() {
    let Some(root) = root() else { return };
    root.ok(["rmi", NAME]);
    assert_eq!(blobs(&root), 0);
    let file = root.dir().join("image.tar");
    fs::copy(image("busybox", "docker-legacy"), &file).unwrap();
    assert_eq!(root.ok(["run", "--in-place", "--rm", arg(&file), "echo", "one"]), "one");
    assert_eq!(root.ok(["run", "--rm", NAME, "echo", "two"]), "two");
    assert_eq!(blobs(&root), 0);
    fs::File::options().append(true).open(&file).unwrap().set_len(1 << 20).unwrap();
    root.fails(125, &["has changed", "--in-place", arg(&file)], ["run", "--rm", NAME, "true"]);
    fs::remove_file(&file).unwrap();
    root.fails(125, &["is gone", "load the image again"], ["run", "--rm", NAME, "true"]);
    root.ok(["rmi", NAME]);
    root.assert_nothing_left();
}

#[test]
fn a_form_that_there_is_not_is_refused() {
    let root = Root::new();
    let file = busybox();
    let words = ["auto, dir or index"];
    root.fails(125, &words, ["run", "--layer-form=tar", "--rm", arg(&file), "true"]);
}
