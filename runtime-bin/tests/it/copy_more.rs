//! `cp` with a container that was never started, and through the links of its root; `diff`, `export` and `commit`
//! of what containers leave.

use std::fs;

use crate::harness::{Root, arg, busybox};
use crate::host;

/// Docker's most common use of it: what an image has is fetched from a container that never runs.
#[test]
fn a_container_that_was_never_started() {
    let root = Root::new();
    let image = busybox();
    root.ok(["create", "--name", "box", "-v", "data:/data", arg(&image), "cat", "/tmp/file"]);
    root.ok(["cp", "box:/etc/passwd", "."]);
    assert!(fs::read_to_string(root.dir().join("passwd")).unwrap().starts_with("root:"));
    root.ok(["cp", "box:/etc/hosts", "."]);
    assert!(fs::read_to_string(root.dir().join("hosts")).unwrap().contains("localhost"));
    let file = root.dir().join("file");
    fs::write(&file, "for later").unwrap();
    root.ok(["cp", arg(&file), "box:/tmp/"]);
    root.ok(["cp", arg(&file), "box:/data/"]);
    assert!(host::mounts_below(root.dir()).is_empty());
    assert_eq!(root.call(["start", "-a", "box"]).stdout, "for later");
    assert!(root.store().join("volumes/data/_data/file").exists());
}

/// A tar whose entries are files with these contents, or hard links to others.
fn archive(files: &[(&str, &str)], links: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |size: usize, kind| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(size as u64);
        header.set_entry_type(kind);
        header
    };
    for (name, text) in files {
        let kind =
            if name.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular };
        tar.append_data(&mut header(text.len(), kind), name, text.as_bytes()).unwrap();
    }
    for (name, target) in links {
        tar.append_link(&mut header(0, tar::EntryType::Link), name, target).unwrap();
    }
    tar.into_inner().unwrap()
}

/// On images with a merged /usr, `lib/x` is a file in /usr/lib: Docker unpacks in a chroot, so that links
/// of the container lead where they lead inside.
#[test]
fn a_tar_goes_through_the_links_of_the_root() {
    let root = Root::new();
    let canary = root.host_dir("canary");
    let script = format!(
        "mkdir -p /usr/deep/kept /at/in && ln -s usr/deep /deep && ln -s /usr/deep /absolute && \
         ln -s ../../../../../../../usr/deep /at/in/up && ln -s {} /outside && echo >/plain && exec sleep 1000",
        canary.display()
    );
    let image = busybox();
    root.ok(["run", "-d", "--name", "box", arg(&image), "sh", "-c", &script]);
    crate::harness::wait_until("the links", || {
        root.call(["exec", "box", "test", "-e", "/plain"]).code == 0
    });
    for (number, stopped) in [false, true].into_iter().enumerate() {
        if stopped {
            root.ok(["stop", "-t", "0", "box"]);
        }
        let name = |name: &str| format!("{name}{number}");
        let files = [
            (name("deep/a"), "1"),
            (name("absolute/b"), "2"),
            (name("absolute/new/er/c"), "3"),
            ("deep/kept/".to_owned(), ""),
        ];
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let hard = [(name("deep/hard"), name("absolute/b"))];
        let links: Vec<_> = hard.iter().map(|(name, of)| (name.as_str(), of.as_str())).collect();
        let out = root.call_with_input(["cp", "-", "box:/"], &archive(&files, &links));
        assert_eq!(out.code, 0, "{out:?}");
        // From another directory, a link that goes up ends at the container's root.
        let up = name("up/d");
        let out = root.call_with_input(["cp", "-", "box:/at/in"], &archive(&[(&up, "4")], &[]));
        assert_eq!(out.code, 0, "{out:?}");
        let there = root.dir().join(name("there"));
        root.ok(["cp", "box:/usr/deep/.", arg(&there)]);
        for (file, text) in [("a", "1"), ("b", "2"), ("new/er/c", "3"), ("d", "4"), ("hard", "2")] {
            let path = there.join(name(file));
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "{}", path.display());
        }
        // A link to a directory of the host's only, and what is no directory.
        for name in ["outside/x", "outside/x/y", "plain/x"] {
            let out = root.call_with_input(["cp", "-", "box:/"], &archive(&[(name, "5")], &[]));
            assert!(
                out.code == 1 && out.stderr.contains(name.split_once('/').unwrap().0),
                "{out:?}"
            );
        }
        // As in Docker, a directory takes the place of nothing else, and of no link.
        let out = root.call_with_input(["cp", "-", "box:/"], &archive(&[("deep/", "")], &[]));
        assert_eq!(out.code, 1, "{out:?}");
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
}

/// The program that `--init` binds is no change, and in no image, wherever /sbin leads.
#[test]
fn the_place_of_init_is_no_change() {
    let root = Root::new();
    if crate::init::is_dynamic() {
        return;
    }
    let image = busybox();
    let script = "mkdir -p /usr/sbin && ln -s usr/sbin /sbin";
    root.ok(["run", "--name", "base", arg(&image), "/bin/sh", "-c", script]);
    root.ok(["commit", "base", "merged"]);
    root.ok(["run", "--init", "--name", "box", "merged", "true"]);
    assert_eq!(root.ok(["diff", "box"]), "");
    root.ok(["commit", "box", "after"]);
    let left = root.ok([
        "run",
        "--rm",
        "after",
        "sh",
        "-c",
        "ls /sbin/docker-init 2>/dev/null || echo none",
    ]);
    assert_eq!(left, "none");
}

/// Deeper than descriptors last, and than the kernel's longest path.
#[test]
fn a_tree_of_any_depth_is_compared_and_exported() {
    let root = Root::new();
    let image = busybox();
    // Six times 500, each put at the end of the next.
    let script = "p=d; i=1; while [ $i -lt 500 ]; do p=$p/d; i=$((i+1)); done; mkdir -p $p; echo x >$p/end; \
         for n in 2 3 4 5 6; do mkdir -p t/$p && mv d t/$p/d && mv t/d d && rmdir t || exit 1; done";
    root.ok(["run", "--name", "deep", arg(&image), "sh", "-c", script]);
    let diff = root.ok(["diff", "deep"]);
    let lines: Vec<&str> = diff.lines().collect();
    assert_eq!(lines.len(), 3001);
    assert_eq!(lines[..2], ["A /d", "A /d/d"]);
    assert_eq!(lines[3000], format!("A {}/end", "/d".repeat(3000)));
    let out = root.dir().join("out.tar");
    root.ok(["export", "-o", arg(&out), "deep"]);
    let end = format!("{}end", "d/".repeat(3000));
    let mut tar = tar::Archive::new(fs::File::open(&out).unwrap());
    let mut entries = tar.entries().unwrap();
    assert!(entries.any(|entry| *entry.unwrap().path_bytes() == *end.as_bytes()));
    root.ok(["rm", "deep"]);
}
