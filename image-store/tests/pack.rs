//! Trees become tars, and tars the same trees again. Needs root: devices, owners, `trusted.*` attributes.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use image_store::{Digest, Error, Options, Pack, WhiteoutForm};
use image_unpack::LayerTar;
use proptest::prelude::*;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

const LAYER: Pack<'static> = Pack { layer: Some(WhiteoutForm::Device), skip: &|_, _| false };

fn pack(tree: &Path, how: &Pack<'_>) -> Result<Vec<u8>, Error> {
    let mut tar = Vec::new();
    let count = how.write(File::open(tree).unwrap().as_fd(), &mut tar)?;
    assert_eq!(count, tar.len() as u64);
    Ok(tar)
}

/// Unpacks a tar into a new directory as a layer; its diff_id.
fn unpack(tar: &[u8], into: &Path) -> Digest {
    fs::create_dir(into).unwrap();
    let file = into.with_extension("tar");
    fs::write(&file, tar).unwrap();
    let layer =
        LayerTar::open(File::open(file).unwrap(), "test", into, &image_unpack::Limits::default())
            .unwrap();
    let options = Options { owners: true, ..Options::default() };
    let into = File::open(into).unwrap();
    layer.unpack(into.as_fd(), &options, &|_| ()).unwrap().0
}

/// What is to be told of a file: kind and mode, owner, time, device, content or target, attributes, and
/// the first of its names.
#[derive(Debug, PartialEq)]
struct Node {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    rdev: u64,
    content: Digest,
    xattrs: BTreeMap<String, Vec<u8>>,
    first: PathBuf,
}

type Nodes = BTreeMap<PathBuf, Node>;

/// The first difference, which is easier to read than two trees.
#[track_caller]
fn assert_equal(one: &Nodes, two: &Nodes) {
    for path in one.keys().chain(two.keys()) {
        assert_eq!(one.get(path), two.get(path), "{}", path.display());
    }
}

/// An independent reading of a tree, by paths.
fn nodes(root: &Path) -> Nodes {
    let mut nodes = Nodes::new();
    read(root, root, &mut nodes);
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for (path, node) in &mut nodes {
        let ino = fs::symlink_metadata(root.join(path)).unwrap().ino();
        node.first.clone_from(inodes.entry(ino).or_insert_with(|| path.clone()));
        let is_whiteout = node.mode & 0o170000 == 0o020000 && node.rdev == 0;
        if is_whiteout {
            // Its name is all that counts.
            (node.mode, node.owner, node.mtime) = (0o020000, (0, 0), (0, 0));
            node.first = PathBuf::new();
        }
    }
    nodes
}

fn read(root: &Path, path: &Path, nodes: &mut Nodes) {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let content = match () {
        () if kind.is_symlink() => fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec(),
        () if kind.is_file() => fs::read(path).unwrap(),
        () => Vec::new(),
    };
    let name = path.strip_prefix(root).unwrap().to_owned();
    let node = Node {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        rdev: meta.rdev(),
        content: Digest::of(&content),
        xattrs: xattrs(path),
        first: PathBuf::new(),
    };
    nodes.insert(name, node);
    if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            read(root, &entry.unwrap().path(), nodes);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0_u8; 65536];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0_u8; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value[..length].to_vec()
    };
    names.map(|name| (String::from_utf8(name.to_vec()).unwrap(), value(name))).collect()
}

/// What a file is made to be.
#[derive(Debug, Clone)]
enum Kind {
    Directory { opaque: bool },
    File(Vec<u8>),
    Symlink(String),
    Device(FileType, u32, u32),
    Fifo,
    Link(usize),
    Whiteout,
}

#[derive(Debug, Clone)]
struct Made {
    /// Which of the directories that there are it lies in.
    parent: usize,
    name: String,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    xattrs: Vec<(String, Vec<u8>)>,
}

fn kind() -> impl Strategy<Value = Kind> {
    let bytes = prop_oneof![Just(0), Just(1), Just(511), Just(512), Just(513), Just(300_000)];
    prop_oneof![
        4 => any::<bool>().prop_map(|opaque| Kind::Directory { opaque }),
        4 => (bytes, any::<u8>()).prop_map(|(size, byte)| Kind::File(vec![byte; size])),
        2 => "[a-z/.]{1,150}".prop_map(Kind::Symlink),
        1 => (any::<bool>(), 1_u32..0x1000, 0_u32..0x10_0000).prop_map(|(block, major, minor)| {
            let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
            Kind::Device(kind, major, minor)
        }),
        1 => Just(Kind::Fifo),
        2 => (0_usize..20).prop_map(Kind::Link),
        2 => Just(Kind::Whiteout),
    ]
}

fn made() -> impl Strategy<Value = Made> {
    let name =
        prop_oneof![4 => "[a-z ]{1,3}", 1 => "[a-zé=\\\\\n]{80,120}", 1 => "\\.w[a-gi-z.]{1,4}"];
    let id =
        || prop_oneof![3 => Just(0_u32), 1 => 1_u32..100_000, 1 => 2_097_151_u32..4_000_000_000];
    let seconds = prop_oneof![3 => 0_i64..2_000_000_000, 1 => -2_000_000_000_i64..0];
    let nanos = prop_oneof![Just(0_u32), 0_u32..1_000_000_000];
    let prefix = prop_oneof![Just("trusted."), Just("trusted.overlay.overlay.")];
    let xattr = (prefix, "[a-z]{1,8}", proptest::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(prefix, name, value)| (format!("{prefix}{name}"), value));
    let meta =
        (0_u32..0o10000, (id(), id()), (seconds, nanos), proptest::collection::vec(xattr, 0..3));
    (0_usize..8, name, kind(), meta).prop_map(
        |(parent, name, kind, (mode, owner, mtime, xattrs))| Made {
            parent,
            name,
            kind,
            mode,
            owner,
            mtime,
            xattrs,
        },
    )
}

/// Makes the tree; what cannot be made (a name that is taken) is left out.
fn make(root: &Path, all: &[Made]) {
    fs::create_dir(root).unwrap();
    let mut dirs = vec![(root.to_owned(), false)];
    let mut links = Vec::new();
    let mut settings = Vec::new();
    for made in all {
        let (parent, opaque) = dirs[made.parent % dirs.len()].clone();
        let path = parent.join(&made.name);
        if fs::symlink_metadata(&path).is_ok() || path.as_os_str().len() > 1000 {
            continue;
        }
        let node = |kind, device| {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, device).unwrap();
        };
        match &made.kind {
            Kind::Directory { opaque: own } => {
                fs::create_dir(&path).unwrap();
                if *own {
                    let flags = XattrFlags::empty();
                    rustix::fs::lsetxattr(&path, c"trusted.overlay.opaque", b"y", flags).unwrap();
                }
                dirs.push((path.clone(), opaque || *own));
            }
            Kind::File(content) => fs::write(&path, content).unwrap(),
            Kind::Symlink(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            Kind::Device(kind, major, minor) => node(*kind, rustix::fs::makedev(*major, *minor)),
            Kind::Fifo => node(FileType::Fifo, 0),
            Kind::Link(to) => {
                if let Some(target) = links.get(to % links.len().max(1)) {
                    fs::hard_link(target, &path).unwrap();
                }
                continue;
            }
            // In an opaque directory it says nothing, and is not kept.
            Kind::Whiteout if opaque => continue,
            Kind::Whiteout => {
                node(FileType::CharacterDevice, 0);
                continue;
            }
        }
        if !matches!(made.kind, Kind::Directory { .. }) {
            links.push(path.clone());
        }
        settings.push((path, made));
    }
    for (path, made) in settings.iter().rev() {
        set(path, made);
    }
}

fn set(path: &Path, made: &Made) {
    let (uid, gid) = (Uid::from_raw(made.owner.0), Gid::from_raw(made.owner.1));
    let follow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(rustix::fs::CWD, path, Some(uid), Some(gid), follow).unwrap();
    if !matches!(made.kind, Kind::Symlink(_)) {
        rustix::fs::chmod(path, Mode::from_raw_mode(made.mode)).unwrap();
    }
    for (name, value) in &made.xattrs {
        let name = CString::new(name.as_str()).unwrap();
        rustix::fs::lsetxattr(path, &name, value, XattrFlags::empty()).unwrap();
    }
    let time = Timespec { tv_sec: made.mtime.0, tv_nsec: made.mtime.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, follow).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_layer_comes_back_as_it_was(all in proptest::collection::vec(made(), 0..30)) {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (temp.path().join("one"), temp.path().join("two"));
        make(&one, &all);
        let tar = pack(&one, &LAYER).unwrap();
        let diff_id = unpack(&tar, &two);
        prop_assert_eq!(diff_id, Digest::of(&tar));
        assert_equal(&nodes(&one), &nodes(&two));
        // To the byte: what was saved once does not change any more.
        prop_assert!(pack(&two, &LAYER).unwrap() == tar, "the second tar is another");
    }
}

/// GNU tar reads it, and finds the same tree.
#[test]
fn another_reader_agrees() {
    let temp = tempfile::tempdir().unwrap();
    let (one, two) = (temp.path().join("one"), temp.path().join("two"));
    let made = |parent, name: &str, kind, mtime| Made {
        parent,
        name: name.to_owned(),
        kind,
        mode: 0o4751,
        owner: (3_000_000, 12),
        mtime,
        xattrs: vec![("user.colour".to_owned(), b"r\0e=d\n".to_vec())],
    };
    let mut link = made(0, &"s".repeat(120), Kind::Symlink("t".repeat(150)), (7, 1));
    link.xattrs.clear();
    let all = [
        made(0, "dir", Kind::Directory { opaque: false }, (-5, 250_000_000)),
        made(1, &"n".repeat(150), Kind::File(b"content".to_vec()), (1 << 33, 999_999_999)),
        made(1, "linked", Kind::Link(0), (0, 0)),
        made(1, "größe", Kind::File(vec![7; 70_000]), (1, 0)),
        link,
    ];
    make(&one, &all);
    fs::create_dir(&two).unwrap();
    let file = temp.path().join("tree.tar");
    fs::write(&file, pack(&one, &Pack::default()).unwrap()).unwrap();
    let tar = std::process::Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-xpf"])
        .arg(&file)
        .arg("-C")
        .arg(&two)
        .output()
        .unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    assert_equal(&nodes(&one), &nodes(&two));
}

#[test]
fn a_tree_of_any_depth_needs_few_descriptors() {
    let temp = tempfile::tempdir().unwrap();
    let mut path = temp.path().join("tree");
    for _ in 0..1000 {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    let tar = pack(&temp.path().join("tree"), &LAYER).unwrap();
    unpack(&tar, &temp.path().join("again"));
    assert_eq!(nodes(&temp.path().join("tree")).len(), nodes(&temp.path().join("again")).len());
}

#[test]
fn what_no_archive_can_hold_is_said() {
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    fs::create_dir_all(tree.join("a")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    let names = |tar: &[u8]| -> Vec<String> {
        let mut tar = tar::Archive::new(tar);
        let entries = tar.entries().unwrap();
        entries.map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
    };
    assert_eq!(names(&pack(&tree, &LAYER).unwrap()), ["./", "a/"]);
    fs::write(tree.join("a/.wh.x"), b"").unwrap();
    assert_eq!(names(&pack(&tree, &Pack::default()).unwrap()), ["./", "a/", "a/.wh.x"]);
    let error = pack(&tree, &LAYER).unwrap_err().to_string();
    assert!(error.contains("/a/.wh.x") && error.contains("rename"), "{error}");
    fs::remove_file(tree.join("a/.wh.x")).unwrap();
    rustix::fs::setxattr(tree.join("a"), c"user.a=b", b"x", XattrFlags::empty()).unwrap();
    let error = pack(&tree, &Pack::default()).unwrap_err().to_string();
    assert!(error.contains("/a ") && error.contains("setfattr"), "{error}");
}

#[test]
fn what_is_to_be_skipped_is_left_out() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("tree/etc")).unwrap();
    fs::write(temp.path().join("tree/etc/hosts"), b"").unwrap();
    fs::write(temp.path().join("tree/etc/group"), b"x").unwrap();
    let skip = |path: &[u8], stat: &rustix::fs::Stat| path == b"etc/hosts" && stat.st_size == 0;
    let tar = pack(&temp.path().join("tree"), &Pack { layer: None, skip: &skip }).unwrap();
    unpack(&tar, &temp.path().join("again"));
    assert!(!temp.path().join("again/etc/hosts").exists());
    assert!(temp.path().join("again/etc/group").exists());
}

#[test]
fn who_takes_no_more_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let error = LAYER
        .write(File::open(temp.path()).unwrap().as_fd(), File::create("/dev/full").unwrap())
        .unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
}
