//! Plain archives, of GNU tar's own making and of others': the tree is the one that `tar -x` makes of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use tempfile::TempDir;

use crate::image::{Node, docker, nodes, open, root, try_layer};
use crate::tar::{GNU, POSIX, Tar, checksum, header};

/// What `tar` says; fails with its words if it does.
fn tar(args: &[&str]) {
    let out = Command::new("tar").env("LC_ALL", "C").args(args).output().unwrap();
    assert!(out.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A tree's files, an inode by its first name in place of its number.
fn tree(path: &Path) -> BTreeMap<String, (Node, String)> {
    let mut first: BTreeMap<u64, String> = BTreeMap::new();
    let named = nodes(path).into_iter().map(|(path, mut node)| {
        let inode = first.entry(node.ino).or_insert_with(|| path.clone()).clone();
        node.ino = 0;
        (path, (node, inode))
    });
    named.collect()
}

/// Extracts a tar with both, as root and with all that it has, and compares.
fn assert_same(bytes: Vec<u8>, what: &str) -> BTreeMap<String, (Node, String)> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("a.tar"), &bytes).unwrap();
    fs::create_dir(path("gnu")).unwrap();
    let privileges = ["-p", "--same-owner", "--numeric-owner", "--acls"];
    let rest = ["--xattrs", "--xattrs-include=*", "-C", &path("gnu"), "-xf", &path("a.tar")];
    tar(&[&privileges[..], &rest].concat());
    let opened = open(&docker(&[bytes]));
    opened.settle_all(1, &root()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (mut ours, mut theirs) =
        (tree(&opened.dir.path().join("layer0")), tree(dir.path().join("gnu").as_ref()));
    // What the archive does not list has the time of now from tar, and that of 1970 from us; 0755 it is from both.
    for (path, (node, _)) in &mut theirs {
        let ours = &mut ours.get_mut(path).unwrap_or_else(|| panic!("{what}: no {path}")).0;
        if ours.kind == 'd' && ours.mtime == (0, 0) {
            node.mtime = (0, 0);
        }
        // To the block that is the file system's affair, and changes when it writes: but holes are holes.
        let has_holes = |node: &Node| node.blocks * 512 < node.content.len() as u64 / 2;
        if ours.content.len() >= 1 << 20 {
            assert_eq!(has_holes(ours), has_holes(node), "{what}: {path}");
        }
        node.blocks = ours.blocks;
    }
    for (path, file) in &ours {
        assert_eq!(Some(file), theirs.get(path), "{what}: {path}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}");
    ours
}

/// Which parts of the tree a format can say.
#[derive(Clone, Copy, PartialEq)]
enum Can {
    /// 99 bytes of a name, small owners, no devices.
    V7,
    /// 255 bytes of a name, small owners.
    Ustar,
    /// Names of any length, owners of any size.
    Gnu,
    /// And nanoseconds and extended attributes.
    Posix,
}

fn make(dir: &Path, can: Can) {
    let at = |name: &str| dir.join(name);
    fs::create_dir_all(at("d/empty")).unwrap();
    fs::write(at("file"), b"text\n").unwrap();
    fs::write(at("d/none"), b"").unwrap();
    fs::write(at("d/exactly-one-block"), [7; 512]).unwrap();
    fs::write(at("d/big"), vec![b'x'; 300_001]).unwrap();
    fs::hard_link(at("file"), at("d/same")).unwrap();
    symlink("d/same", at("link")).unwrap();
    symlink("/nowhere", at("d/dangling")).unwrap();
    fs::hard_link(at("link"), at("z-link")).unwrap();
    fs::write(dir.join(std::ffi::OsStr::from_bytes(b"bytes-\xff\xfe\n\\ \"x\"")), b"1").unwrap();
    fs::write(at("p\u{e4}x"), b"2").unwrap();
    fs::set_permissions(at("d/none"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(at("d/empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    for at in [0_u64, 3, 5, 6, 9, 11] {
        sparse.write_all_at(b"data", at << 20).unwrap();
    }
    sparse.set_len(13 << 20).unwrap();
    File::create(at("hole")).unwrap().set_len(1 << 20).unwrap();
    if can != Can::V7 {
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0)
            .unwrap();
        let null = rustix::fs::makedev(1, 3);
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(CWD, at("null"), FileType::CharacterDevice, mode, null).unwrap();
        let disk = rustix::fs::makedev(259, 70000);
        rustix::fs::mknodat(CWD, at("disk"), FileType::BlockDevice, mode, disk).unwrap();
        // Over a hundred bytes: split at a slash by ustar.
        let deep = at(&format!("{}/{}", "a".repeat(90), "b".repeat(90)));
        fs::create_dir_all(deep.parent().unwrap()).unwrap();
        fs::write(deep, b"split").unwrap();
    }
    if matches!(can, Can::Gnu | Can::Posix) {
        let longest =
            at(&format!("{}/{}", ["c"; 40].map(|c| c.repeat(40)).join("/"), "d".repeat(255)));
        fs::create_dir_all(longest.parent().unwrap()).unwrap();
        fs::write(&longest, b"long").unwrap();
        fs::hard_link(&longest, at("z-long")).unwrap();
        symlink("e".repeat(2000), at("to-long")).unwrap();
        std::os::unix::fs::lchown(at("d/big"), Some(3_000_000_000), Some(2_999_999_999)).unwrap();
    }
    std::os::unix::fs::lchown(at("link"), Some(1000), Some(1001)).unwrap();
    if can == Can::Posix {
        let capability: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let set = |name: &str, key: &str, value: &[u8]| {
            rustix::fs::lsetxattr(at(name), key, value, XattrFlags::empty()).unwrap();
        };
        set("d/exactly-one-block", "security.capability", &capability);
        set("file", "user.text", b"a=b\nc");
        set("d", "user.on-a-directory", b"1");
        set("sparse", "user.with-holes", b"1");
    }
    // Times last; of the directories too, the deepest first.
    let mut all: Vec<String> = nodes(dir).into_keys().collect();
    all.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for (at_all, path) in all.iter().enumerate() {
        let nanos = if can == Can::Posix { 123_456_789 } else { 0 };
        let time = Timespec { tv_sec: 1_600_000_000 + at_all as i64, tv_nsec: nanos };
        let times = Timestamps { last_access: time, last_modification: time };
        // The name that is not UTF-8 is not among the paths as they are shown.
        let _ = rustix::fs::utimensat(CWD, dir.join(path), &times, AtFlags::SYMLINK_NOFOLLOW);
    }
}

/// The tree as GNU tar packs it with these options.
fn packed(can: Can, options: &[&str]) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("a.tar"));
    fs::create_dir(&tree).unwrap();
    make(&tree, can);
    let (tree, file) = (tree.display().to_string(), file.display().to_string());
    let sorted = ["--sort=name", "-C", &tree, "-cf", &file, "."];
    tar(&[options, &sorted].concat());
    fs::read(file).unwrap()
}

#[test]
fn every_format_of_gnu_tar() {
    for (can, format) in [
        (Can::V7, "--format=v7"),
        (Can::Ustar, "--format=ustar"),
        (Can::Gnu, "--format=oldgnu"),
        (Can::Gnu, "--format=gnu"),
        (Can::Posix, "--format=posix"),
    ] {
        let mut options = vec![format];
        if can == Can::Posix {
            options.extend(["--xattrs", "--xattrs-include=*"]);
        }
        let same = assert_same(packed(can, &options), format);
        assert_eq!(same["z-link"].1, "link");
        assert_eq!(same["file"].1, "d/same");
        assert!(same.len() > 12, "{format}: {}", same.len());
        if can == Can::Posix {
            assert_eq!(same["file"].0.mtime.1, 123_456_789);
            assert_eq!(same["d/exactly-one-block"].0.xattrs["security.capability"].len(), 20);
        }
        if matches!(can, Can::Gnu | Can::Posix) {
            assert_eq!(same["d/big"].0.uid, 3_000_000_000);
            assert_eq!(same["z-long"].0.content, b"long");
        }
    }
}

#[test]
fn every_way_of_gnu_tar_to_store_holes() {
    for (can, options) in [
        (Can::Gnu, &["--format=oldgnu", "--sparse"][..]),
        (Can::Gnu, &["--format=gnu", "--sparse"]),
        (Can::Gnu, &["--format=gnu", "--sparse", "--hole-detection=raw"]),
        (Can::Posix, &["--format=posix", "--sparse", "--sparse-version=0.0"]),
        (Can::Posix, &["--format=posix", "--sparse", "--sparse-version=0.1"]),
        (Can::Posix, &["--format=posix", "--sparse", "--sparse-version=1.0"]),
    ] {
        let bytes = packed(can, options);
        assert!(bytes.len() < 4 << 20, "{options:?} stored the holes: {} bytes", bytes.len());
        let same = assert_same(bytes, &options.join(" "));
        let sparse = &same["sparse"].0;
        assert_eq!(
            (sparse.content.len(), &sparse.content[11 << 20..][..5]),
            (13 << 20, &b"data\0"[..])
        );
        assert!(sparse.blocks * 512 < 1 << 20, "{options:?}: {} blocks", sparse.blocks);
        assert_eq!((same["hole"].0.content.len(), same["hole"].0.blocks), (1 << 20, 0));
    }
}

#[test]
fn names_with_a_slash_before_and_files_added_later() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir(path("tree")).unwrap();
    fs::write(path("tree/f"), b"old").unwrap();
    tar(&["-P", "--transform=s,^,/abs/,", "-C", &path("tree"), "-cf", &path("a.tar"), "f"]);
    fs::write(path("tree/f"), b"new").unwrap();
    tar(&["-P", "--transform=s,^,/abs/,", "-C", &path("tree"), "-rf", &path("a.tar"), "f"]);
    let same = assert_same(fs::read(path("a.tar")).unwrap(), "-P and -r");
    assert_eq!(same["abs/f"].0.content, b"new");
}

/// A header with something in it that [`header`] does not write.
fn altered(kind: u8, name: &str, data: usize, change: impl FnOnce(&mut [u8; 512])) -> Tar {
    let mut block = header(kind, name).block(data);
    change(&mut block);
    checksum(&mut block);
    Tar::new().block(block)
}

/// Of other programs, old and new.
#[test]
fn what_other_programs_write() {
    let mut long = header(b'L', "././@LongLink");
    long.magic = GNU;
    let mut v7 = header(0, "v7-directory/");
    v7.magic = [0; 8];
    let mut prefix = header(b'0', &"n".repeat(100));
    (prefix.prefix, prefix.magic) = (vec![b'p'; 155], POSIX);
    for (what, tar) in [
        ("a directory of before POSIX", Tar::new().add(v7, b"").file("v7-directory/f", b"")),
        ("a file with a slash behind its name", Tar::new().file("d/", b"").file("d/f", b"1")),
        ("a contiguous file", Tar::new().add(header(b'7', "f"), b"data")),
        (
            "blanks for zeros",
            altered(b'0', "f", 3, |block| block[124..136].copy_from_slice(b"         3  "))
                .data(b"abc"),
        ),
        (
            "the type in the mode",
            altered(b'0', "f", 0, |block| block[100..108].copy_from_slice(b"0100640\0")),
        ),
        (
            "a time before 1970",
            altered(b'0', "f", 0, |block| {
                block[136..148].fill(0xff);
                block[147] = 0xfe;
            }),
        ),
        (
            "a hard link with a size",
            Tar::new().file("a", b"x").add(header(b'1', "b").link("a").size(1), b"").file("c", b""),
        ),
        ("a GNU name without its NUL", Tar::new().add(long.clone(), b"name").file("x", b"1")),
        ("a name of 100 bytes and a prefix of 155", Tar::new().add(prefix, b"1")),
        (
            "both long names, equal",
            Tar::new().pax(&[("path", b"name")]).add(long, b"name\0").file("x", b"1"),
        ),
        (
            "a global time",
            Tar::new()
                .add(header(b'g', "g"), &crate::tar::record("mtime", b"1500000000.25"))
                .file("f", b""),
        ),
        ("a PAX time before 1970", Tar::new().pax(&[("mtime", b"-1.25")]).file("f", b"")),
        (
            "keys that nobody knows",
            Tar::new().pax(&[("VENDOR.key", b"1"), ("comment", b"x")]).file("f", b""),
        ),
        ("no end mark", Tar::new().file("f", b"1")),
    ] {
        let bytes = if what == "no end mark" { tar.0 } else { tar.end() };
        assert_same(bytes, what);
    }
}

/// What readers disagree on, or tar only warns of, is an error.
#[test]
fn what_is_ambiguous_is_an_error() {
    let mut long = header(b'L', "././@LongLink");
    long.magic = GNU;
    for tar in [
        Tar::new().file("../f", b""),
        Tar::new().file("d/../../f", b""),
        Tar::new().pax(&[("path", b"a")]).add(long, b"b\0").file("x", b""),
        Tar::new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("x", b""),
        Tar::new().pax(&[("path", b"a")]),
        // GNU tar passes over data of a directory, others read it as headers or make a file.
        Tar::new().add(header(b'5', "d").size(512), b""),
        Tar::new().file("d/", b"data"),
        Tar::new().add(header(b'2', "l").link("t"), b"data"),
        altered(b'0', "f", 0, |block| block[124..135].copy_from_slice(b"0x000000010")),
        // Incremental, multi-volume and labelled archives are no plain ones.
        Tar::new().add(header(b'D', "d"), b"Yf\0\0"),
        Tar::new().add(header(b'M', "f"), b"x"),
        Tar::new().add(header(b'V', "label"), b""),
    ] {
        try_layer(tar).unwrap_err();
    }
}
