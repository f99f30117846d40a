//! `cp` and `diff`, with containers that run and that do not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, setxattr,
    utimensat,
};

use crate::attack::{Swapper, race};
use crate::harness::{BIN, Root, Started, arg, busybox, wait_until};

/// All that a copy has to keep of a file: kind and mode, owner, time, size, device, link or content,
/// attributes, and which of the names are one file.
fn described(root: &Path) -> BTreeMap<String, String> {
    fn read(root: &Path, path: &Path, all: &mut BTreeMap<String, String>, inodes: &mut Vec<u64>) {
        let meta = fs::symlink_metadata(path).unwrap();
        let at = inodes.iter().position(|ino| *ino == meta.ino()).unwrap_or_else(|| {
            inodes.push(meta.ino());
            inodes.len() - 1
        });
        let content = if meta.is_symlink() {
            format!("-> {}", fs::read_link(path).unwrap().display())
        } else if meta.is_file() {
            format!("{} bytes, {:?}", meta.len(), fs::read(path).unwrap().iter().max())
        } else {
            String::new()
        };
        let mut value = [0_u8; 64];
        let xattrs = ["user.colour", "trusted.mark"].map(|name| {
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap_or(0);
            String::from_utf8_lossy(&value[..length]).into_owned()
        });
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let text = format!(
            "{:o} {}:{} {}.{:09} {} {content} {xattrs:?} inode {at}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.rdev(),
        );
        all.insert(name, text);
        if meta.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
            names.sort();
            names.iter().for_each(|path| read(root, path, all, inodes));
        }
    }
    let mut all = BTreeMap::new();
    read(root, root, &mut all, &mut Vec::new());
    all
}

/// A tree with one of each.
fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("deep/er")).unwrap();
    fs::write(dir.join("file"), "content").unwrap();
    fs::write(dir.join("deep/er/empty"), "").unwrap();
    fs::write(dir.join("größe mit\nUmbruch"), vec![7; 1 << 20]).unwrap();
    fs::write(dir.join(format!("deep/{}", "n".repeat(200))), "a long name").unwrap();
    fs::hard_link(dir.join("file"), dir.join("deep/hard")).unwrap();
    symlink("file", dir.join("soft")).unwrap();
    symlink("/nowhere/at/all", dir.join("dangling")).unwrap();
    let node = |name: &str, kind, device| {
        mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    node("null", FileType::CharacterDevice, makedev(1, 3));
    node("loop", FileType::BlockDevice, makedev(7, 200));
    node("fifo", FileType::Fifo, 0);
    setxattr(dir.join("file"), "user.colour", b"green", XattrFlags::empty()).unwrap();
    setxattr(dir.join("deep"), "user.colour", b"blue", XattrFlags::empty()).unwrap();
    lchown(dir.join("soft"), Some(12), Some(34)).unwrap();
    chown(dir.join("file"), Some(1000), Some(65_000)).unwrap();
    chown(dir.join("deep"), Some(2_000_000), Some(3_000_000)).unwrap();
    fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(dir.join("deep"), fs::Permissions::from_mode(0o1750)).unwrap();
    for (at, name) in
        ["file", "soft", "fifo", "deep/er/empty", "deep/er", "deep"].iter().enumerate()
    {
        let time = Timespec { tv_sec: 1_000_000_000 + at as i64, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, dir.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[test]
fn a_tree_there_and_back_is_equal() {
    let root = Root::new();
    let source = root.host_dir("source");
    tree(&source);
    let expected = described(&source);
    root.sleeper("box", &["-v", "data:/data"]);
    // Into the root, into a volume, and through a tar.
    for (number, place) in ["/tmp/copy", "/data/copy"].iter().enumerate() {
        root.ok(["cp", arg(&source), &format!("box:{place}")]);
        let back = root.dir().join(format!("back-{number}"));
        root.ok(["cp", "-a", &format!("box:{place}"), arg(&back)]);
        assert_eq!(described(&back), expected, "{place}");
    }
    let tar = Command::new(BIN)
        .args(["--root", arg(&root.store()), "cp", "box:/tmp/copy/.", "-"])
        .output()
        .unwrap();
    assert!(tar.status.success());
    root.ok(["exec", "box", "mkdir", "/tmp/again"]);
    let out = root.call_with_input(["cp", "-", "box:/tmp/again"], &tar.stdout);
    assert_eq!(out.code, 0, "{out:?}");
    root.ok(["stop", "-t", "0", "box"]);
    // The same of one that is stopped.
    let again = root.dir().join("again");
    root.ok(["cp", "-a", "box:/tmp/again", arg(&again)]);
    let mut found = described(&again);
    found.insert(String::new(), expected[""].clone()); // the directory itself was not in the tar
    assert_eq!(found, expected);
    root.ok(["cp", arg(&source), "box:/data/stopped"]);
    let back = root.dir().join("back-stopped");
    root.ok(["cp", "-a", "box:/data/stopped", arg(&back)]);
    assert_eq!(described(&back), expected);
    assert!(root.store().join("volumes/data/_data/stopped/file").exists(), "not in the volume");
    assert_eq!(root.traces(), [""; 0], "nothing stays mounted");
    // Without -a the copy is the caller's own, and no program of the container's with another's rights.
    let own = root.dir().join("own");
    root.ok(["cp", "box:/data/stopped/file", arg(&own)]);
    let meta = fs::metadata(&own).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 0, 0o755));
}

/// Docker's table of what becomes of SRC and DEST.
#[test]
fn names_and_slashes() {
    let root = Root::new();
    let host = root.host_dir("host");
    fs::create_dir_all(host.join("dir/sub")).unwrap();
    fs::write(host.join("dir/inner"), "inner").unwrap();
    fs::write(host.join("file"), "file").unwrap();
    symlink("file", host.join("link")).unwrap();
    let image = busybox();
    root.ok([
        "run",
        "--name",
        "box",
        arg(&image),
        "sh",
        "-c",
        "mkdir -p /d/there; echo old > /d/old",
    ]);
    let cp = |options: &[&str], from: &str, to: &str| {
        let mut args = vec!["cp"];
        args.extend(options);
        let from = format!("{}/{from}", arg(&host));
        args.extend([&*from, to]);
        root.call(args)
    };
    for (from, to) in [
        ("file", "box:/d/new"),
        ("file", "box:/d/old"),
        ("file", "box:d/there"),
        ("file", "box:/d/there/../there/."),
        ("dir", "box:/d/there"),
        ("dir", "box:/d/made"),
        ("dir/.", "box:/d/content"),
        ("dir/.", "box:/d/there"),
        ("link", "box:/d/"),
    ] {
        let out = cp(&[], from, to);
        assert_eq!(out.code, 0, "{from} {to}: {out:?}");
    }
    assert_eq!(cp(&["-L"], "link", "box:/d/followed").code, 0);
    for (from, to, words) in [
        ("file", "box:/d/no/", "no such directory"),
        ("file", "box:/no/such/place", "no such file or directory"),
        ("dir", "box:/d/old", "cannot copy directory"),
        ("file", "box:/d/old/", "not a directory"),
        ("nothing", "box:/d", "no such file or directory on the host"),
        ("file/", "box:/d", "not a directory"),
        ("file", "nobody:/d", "No such container"),
        ("file", "host", "at least one container"),
        ("dir", "box:/d/there/dir/inner", "cannot copy directory"),
    ] {
        let out = cp(&[], from, to);
        assert_eq!(out.code, 1, "{from} {to}: {out:?}");
        assert!(out.stderr.contains(words), "{from} {to}: {}", out.stderr);
    }
    root.fails(1, &["between containers"], ["cp", "box:/d", "box:/e"]);
    root.fails(1, &["could not find the file"], ["cp", "box:/nothing", "."]);
    root.fails(1, &["must be a directory"], ["cp", "-", "box:/d/old"]);
    let out = root.call_with_input(["cp", "-", "box:/d"], &[b'x'; 2000]);
    assert!(out.code == 1 && out.stderr.contains("no tar"), "{out:?}");
    let back = root.dir().join("back");
    root.ok(["cp", "box:/d", arg(&back)]);
    let mut names: Vec<String> = described(&back).into_keys().collect();
    names.retain(|name| !name.is_empty());
    assert_eq!(
        names,
        [
            "content",
            "content/inner",
            "content/sub",
            "followed",
            "link",
            "made",
            "made/inner",
            "made/sub",
            "new",
            "old",
            "there",
            "there/dir",
            "there/dir/inner",
            "there/dir/sub",
            "there/file",
            "there/inner",
            "there/sub"
        ]
    );
    assert_eq!(fs::read_to_string(back.join("old")).unwrap(), "file");
    assert!(back.join("link").is_symlink() && !back.join("followed").is_symlink());
}

#[test]
fn what_is_read_only_stays() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    let file = root.dir().join("file");
    fs::write(&file, "x").unwrap();
    let ro = format!("{}:/ro:ro", arg(&dir));
    root.sleeper("box", &["--read-only", "-v", &ro, "-v", "data:/rw", "--tmpfs", "/tmp"]);
    for stopped in [false, true] {
        for (to, words) in [
            ("box:/etc/x", "container rootfs is marked read-only"),
            ("box:/", "container rootfs is marked read-only"),
            ("box:/ro/x", "mounted volume is marked read-only"),
        ] {
            root.fails(1, &[words], ["cp", arg(&file), to]);
        }
        root.ok(["cp", arg(&file), &format!("box:/rw/{stopped}")]);
        if !stopped {
            root.ok(["cp", arg(&file), "box:/tmp/x"]);
            assert_eq!(root.ok(["exec", "box", "cat", "/tmp/x"]), "x");
            root.ok(["stop", "-t", "0", "box"]);
        }
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    assert_eq!(fs::read_dir(root.store().join("volumes/data/_data")).unwrap().count(), 2);
}

/// CVE-2018-15664: a process of the container swaps a directory for a link to one of the host's, while
/// files are copied there and from there.
#[test]
fn a_swapped_directory_leads_nowhere() {
    let root = Root::new();
    let canary = root.host_dir("canary");
    fs::write(canary.join("file"), "secret of the host").unwrap();
    let payload = root.host_dir("payload");
    fs::write(payload.join("file"), "of the payload").unwrap();
    root.sleeper("box", &[]);
    let script =
        format!("mkdir -p /w/real && echo mine > /w/real/file && ln -s {} /w/evil", arg(&canary));
    root.ok(["exec", "box", "sh", "-c", &script]);
    // As a process of the container would, and as fast as it can.
    let place = format!("/proc/{}/root/w", root.pid("box"));
    let swapper = Swapper::start(Path::new(&place), "real", "evil");
    // Who goes by paths falls for it.
    let naive = format!("/proc/{}/root/w/real/file", root.pid("box"));
    wait_until("a naive reader is led to the host's file", || {
        fs::read_to_string(&naive).is_ok_and(|text| text.contains("secret"))
    });
    let (out, back) = (root.dir().join("out"), root.dir().join("out/back"));
    fs::create_dir(&out).unwrap();
    let mut round = 0;
    race("cp beside a container that swaps directories", 20, || {
        // In: to the directory and to what is below it. Out: the file and all.
        root.call(["cp", arg(&payload.join("file")), "box:/w/real/file"]);
        root.call(["cp", &format!("{}/.", arg(&payload)), "box:/w/real/"]);
        let _ = fs::remove_dir_all(&back);
        let from = if round % 2 == 0 { "box:/w/real/file" } else { "box:/w/real/." };
        root.call(["cp", from, arg(&back)]);
        for (path, _) in described(&out) {
            let text = fs::read_to_string(out.join(&path)).unwrap_or_default();
            assert!(!text.contains("secret"), "the host's file was copied: {path}");
        }
        round += 1;
    });
    assert!(swapper.end() > 1000, "it was hardly ever swapped");
    assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "secret of the host");
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 1, "the host was written to");
}

/// Links of the container lead to what has that name inside, magic ones of its /proc nowhere.
#[test]
fn links_of_the_container_stay_inside() {
    let root = Root::new();
    let canary = root.host_dir("canary");
    fs::write(canary.join("file"), "secret of the host").unwrap();
    root.sleeper("box", &[]);
    let host = format!("/proc/{}/root{}", std::process::id(), arg(&canary));
    let script = format!(
        "ln -s {canary} /abs; ln -s ../../../../../../..{canary} /rel; ln -s /proc/1/root/etc /magic; \
         ln -s {host} /host; mkfifo /fifo",
        canary = arg(&canary)
    );
    root.ok(["exec", "box", "sh", "-c", &script]);
    for link in ["abs", "rel", "magic", "host"] {
        for path in [format!("box:/{link}/file"), format!("box:/{link}/"), format!("box:/{link}/.")]
        {
            let out = root.call(["cp", &path, arg(&root.dir().join("got"))]);
            assert_eq!(out.code, 1, "{path}: {out:?}");
        }
        let out = root.call(["cp", "-L", &format!("box:/{link}"), arg(&root.dir().join("got"))]);
        assert_eq!(out.code, 1, "{link}: {out:?}");
        root.call(["cp", arg(&canary.join("file")), &format!("box:/{link}/new")]);
    }
    assert!(!root.dir().join("got").exists());
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 1);
    // A FIFO is copied as one, and not waited for.
    root.ok(["cp", "box:/fifo", arg(&root.dir().join("fifo"))]);
    assert!(fs::symlink_metadata(root.dir().join("fifo")).unwrap().file_type().is_fifo());
}

/// Whoever reads the tar goes away; a copy is killed: nothing stays of either for long.
#[test]
fn a_copy_that_is_cut_off_leaves_nothing() {
    let root = Root::new();
    let image = busybox();
    let script = "dd if=/dev/zero of=/big bs=1M count=32 2>/dev/null";
    root.ok(["run", "--name", "box", arg(&image), "sh", "-c", script]);
    let mut tar = root.command(["cp", "box:/big", "-"]);
    let mut child = tar.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let started =
        Started::new(root.command(["cp", "box:/big", arg(&root.dir().join("big"))]), None);
    started.signal(rustix::process::Signal::KILL);
    started.wait();
    // Between the root's mount and its clone it is on the host, and its image's index below it; the next one does not
    // mount them twice.
    let left = root.traces();
    let of_root = |trace: &String| trace.ends_with("/merged") || trace.contains("/root/mounts/");
    assert!(left.iter().all(of_root), "{left:#?}");
    root.ok(["cp", "box:/etc/passwd", "."]);
    assert_eq!(root.traces(), [""; 0]);
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}

#[test]
fn diff_shows_what_changed() {
    let root = Root::new();
    let image = busybox();
    let script = "echo x > /new; mkdir -p /a/b; rm /etc/group; echo y >> /etc/passwd; rm -rf /home; \
                  touch /tmp/t; chmod 700 /var; ln -s x /zlink";
    root.ok(["run", "--name", "box", arg(&image), "sh", "-c", script]);
    let stopped = root.ok(["diff", "box"]);
    for line in ["A /new", "A /a", "A /a/b", "C /etc", "D /etc/group", "C /etc/passwd", "C /tmp"] {
        assert!(stopped.lines().any(|found| found == line), "no {line:?} in {stopped}");
    }
    let lines: Vec<&str> = stopped.lines().collect();
    let paths: Vec<Vec<&str>> = lines.iter().map(|line| line[2..].split('/').collect()).collect();
    assert!(paths.is_sorted(), "{stopped}");
    for own in ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
        assert!(!lines.iter().any(|line| line[2..] == *own), "{own} is no change: {stopped}");
    }
    // One that has changed nothing.
    root.sleeper("clean", &["-v", "data:/etc"]);
    assert_eq!(root.ok(["diff", "clean"]), "");
    root.ok(["exec", "clean", "touch", "/x"]);
    assert_eq!(root.ok(["diff", "clean"]), "A /x");
    root.fails(1, &["No such container"], ["diff", "nobody"]);
}
