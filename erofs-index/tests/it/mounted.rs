//! The kernel reads what was written: single layers and merged ones, without overlayfs.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use erofs_index::{Limits, Merged, Use};

use crate::files;
use crate::kernel::{self, Place};
use crate::ops::{Attributes, Model, Op, What, add, file, layer, options};
use crate::reader::Reader;
use crate::tree::{Tree, assert_same, normal, unlinked};

/// Merges layers, each with its device.
pub(crate) fn merge(layers: &[Vec<Op>]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut merged = Merged::new(Limits::default());
    let mut devices = Vec::new();
    for (number, ops) in layers.iter().enumerate() {
        let (layer, blob) = layer(ops, number as u16 + 1).unwrap();
        merged.apply(&layer).unwrap();
        devices.push(blob);
    }
    let index = merged.index(Use::Alone, &options(&devices)).unwrap().to_vec().unwrap();
    (index, devices)
}

/// What the layers mean.
pub(crate) fn meaning(layers: &[Vec<Op>]) -> Tree {
    let mut model = Model::new();
    layers.iter().for_each(|ops| model.apply(ops).unwrap());
    model.tree
}

/// Merges, mounts, and compares with what the layers mean.
fn check(layers: &[Vec<Op>]) {
    let (index, devices) = merge(layers);
    let wanted = normal(meaning(layers));
    assert_same(&normal(Reader::tree(&index, &devices)), &wanted);
    let mut place = Place::new();
    let Some(at) = place.mount("merged", &index, &devices) else { return };
    let found = files::tree(&at);
    assert_same(&unlinked(found.clone()), &unlinked(wanted.clone()));
    let links = |tree: &Tree| {
        tree.iter().map(|(path, node)| (path.clone(), node.links)).collect::<Vec<_>>()
    };
    assert_eq!(links(&found), links(&wanted));
    assert_same(&normal(found), &wanted);
    kernel::look_up(&at, &wanted);
}

pub(crate) fn with(mode: u16, xattrs: &[(&str, &[u8])]) -> Attributes {
    let xattrs = xattrs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
    Attributes { mode, xattrs: xattrs.collect(), ..Attributes::default() }
}

/// An ACL as setxattr(2) takes it: owner rwx, user 1000 r, group r, mask rwx, others none.
pub(crate) const ACL: &[u8] = &[
    2, 0, 0, 0, // version
    1, 0, 7, 0, 255, 255, 255, 255, //
    2, 0, 4, 0, 0xe8, 3, 0, 0, //
    4, 0, 4, 0, 255, 255, 255, 255, //
    16, 0, 7, 0, 255, 255, 255, 255, //
    32, 0, 0, 0, 255, 255, 255, 255,
];
/// cap_net_raw=ep, of revision 2.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// One of everything.
pub(crate) fn rich() -> Vec<Op> {
    let big: Vec<u8> = (0..300_001_u32).map(|at| (at / 7) as u8).collect();
    let path = |path: &str| path.as_bytes().to_vec();
    let mut ops = vec![
        Op::Add(Vec::new(), with(0o755, &[("user.root", b"is a directory too")]), What::Directory),
        Op::Add(
            path("bin"),
            Attributes { mtime: (1_600_000_000, 123_456_789), ..with(0o755, &[]) },
            What::Directory,
        ),
        Op::Add(
            path("bin/ping"),
            with(0o755, &[("security.capability", CAPABILITY)]),
            What::File(big.clone()),
        ),
        Op::Add(path("bin/su"), with(0o4755, &[]), What::File(big[..70_000].to_vec())),
        Op::Add(
            path("tmp"),
            with(0o1777, &[("system.posix_acl_default", ACL), ("system.posix_acl_access", ACL)]),
            What::Directory,
        ),
        Op::Add(
            path("tmp/acl"),
            with(0o674, &[("system.posix_acl_access", ACL)]),
            What::File(b"for some".to_vec()),
        ),
        Op::Add(
            path("old"),
            Attributes {
                uid: u32::MAX - 1,
                gid: 65_536,
                mtime: (-1, 999_999_999),
                ..with(0o600, &[])
            },
            What::Fifo,
        ),
        add("dev/null", What::Character(1, 3)),
        add("dev/far", What::Character(0xfff, 0xf_ffff)),
        add("dev/sda", What::Block(8, 0)),
        add("short", What::Symlink(b"bin/su".to_vec())),
        add("longest", What::Symlink(vec![b'l'; 4095])),
        file("empty", ""),
        file("implied/by/what/is/below", "here"),
        Op::Link(path("linked"), path("bin/ping")),
        Op::Link(path("bin/third"), path("linked")),
        Op::Link(path("link-to-link"), path("short")),
        add(
            "sparse",
            What::Holes(
                1 << 20,
                vec![(0, vec![1; 4096]), (65_536, vec![2; 8192]), (1_048_000, vec![3; 576])],
            ),
        ),
        add("all-hole", What::Holes(100_000, vec![])),
        add(
            "odd-sparse",
            What::Holes(
                300_000,
                vec![(3, vec![4; 5]), (4_000, vec![5; 1000]), (250_001, vec![6; 700])],
            ),
        ),
        add("hole-behind", What::Holes(9000, vec![(0, vec![7; 700])])),
    ];
    // Names of all bytes, and data of all lengths around the borders of blocks, inline and not.
    for byte in (1..=255_u8).filter(|byte| !b"/.".contains(byte)) {
        ops.push(file([b"bytes/", &[byte][..]].concat(), [byte]));
    }
    for length in [
        1, 31, 32, 33, 448, 449, 479, 480, 481, 510, 511, 512, 513, 1023, 1024, 1025, 4095, 4096,
        4097,
    ] {
        ops.push(file(format!("length/{length}"), &big[..length]));
        ops.push(add(
            format!("link-length/{}", length.min(4095)),
            What::Symlink(vec![b'x'; length.min(4095)]),
        ));
    }
    let many: Vec<_> = (0..300).map(|n| (format!("user.{n}"), vec![n as u8; n % 40])).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    for name in ["xattrs/a", "xattrs/b"] {
        // More shared ones than an inode can point to.
        ops.push(Op::Add(path(name), with(0o644, &many), What::File(b"x".to_vec())));
    }
    ops.push(Op::Add(
        path("xattrs/large"),
        with(0o644, &[("user.large", &[9; 65_535])]),
        What::File(vec![1; 900]),
    ));
    ops.push(Op::Add(
        path("xattrs/dir"),
        with(0o755, &[("user.large", &[9; 3_000])]),
        What::Directory,
    ));
    ops
}

#[test]
fn one_of_everything() {
    check(&[rich()]);
}

#[test]
fn an_empty_layer_is_a_root() {
    check(&[vec![]]);
}

#[test]
fn layers_are_merged() {
    let second = vec![
        Op::Whiteout(b"bin/su".to_vec()),
        Op::Opaque(b"bytes".to_vec()),
        file("bytes/new", "new"),
        Op::Link(b"from-below".to_vec(), b"bin/ping".to_vec()),
        file("implied/by/other", "beside"),
        file("short", "no link any more"),
        Op::Whiteout(b"xattrs".to_vec()),
        file("xattrs/again", "made anew"),
    ];
    let third = vec![
        Op::Link(b"again".to_vec(), b"from-below".to_vec()),
        file("bin/ping", "its other names keep the data"),
        Op::Whiteout(b"length".to_vec()),
    ];
    check(&[rich(), second, third]);
}

#[test]
fn a_large_directory() {
    let mut ops: Vec<_> = (0..10_000)
        .map(|n| file(format!("large/{}-{n}", "n".repeat(n % 200)), n.to_string()))
        .collect();
    ops.push(add("large/\u{7f}", What::Directory));
    check(&[ops]);
}

#[test]
fn more_links_and_directories_than_16_bits_count() {
    let mut ops = vec![file("first", "x")];
    ops.extend((0..66_000).map(|n| Op::Link(format!("links/{n}").into_bytes(), b"first".to_vec())));
    ops.extend((0..66_000).map(|n| add(format!("dirs/{n}"), What::Directory)));
    let (index, devices) = merge(&[ops]);
    let read = Reader::tree(&index, &devices);
    let links = |path: &[u8]| read[path].links;
    assert_eq!((links(b"first"), links(b"dirs"), read.len()), (66_001, 66_002, 132_004));
    let mut place = Place::new();
    let Some(at) = place.mount("merged", &index, &devices) else { return };
    for path in ["first", "links/0", "links/65999", "dirs", "dirs/0", "dirs/65999"] {
        let meta = std::fs::metadata(at.join(path)).unwrap();
        assert_eq!(meta.nlink(), links(path.as_bytes()), "{path}");
    }
    assert_eq!(std::fs::read_dir(at.join("links")).unwrap().count(), 66_000);
}

#[test]
fn a_depth_of_hundreds() {
    let path = vec!["d"; 900].join("/");
    check(&[vec![file(&path, "deep")]]);
}

#[test]
fn times_that_most_have_make_small_inodes() {
    let ops = |mtime: fn(i64) -> i64| -> Vec<Op> {
        let attributes = |n| Attributes { mtime: (mtime(n), 5), ..Attributes::default() };
        (0..1000)
            .map(|n| Op::Add(format!("{n}").into_bytes(), attributes(n), What::File(vec![1; 1000])))
            .collect()
    };
    let (same, different) = (ops(|_| 7), ops(|n| n));
    let (same, different) = ([same], [different]);
    check(&same);
    check(&different);
    let (small, large) = (merge(&same).0.len(), merge(&different).0.len());
    assert!((large - small).abs_diff(32 * 999) < 512, "{small} and {large}");
}

#[test]
fn a_file_of_a_tebibyte_and_more() {
    let size = (1_u64 << 40) + 1000;
    let mut place = Place::new();
    let blob = place.path("blob");
    let device = std::fs::File::create(&blob).unwrap();
    // As much of it as this file system can hold.
    if device.set_len(512 + size.next_multiple_of(512)).is_err() {
        device.set_len(1 << 30).unwrap();
    }
    std::os::unix::fs::FileExt::write_all_at(&device, b"start", 512).unwrap();
    let end = std::os::unix::fs::FileExt::write_all_at(&device, b"end", 512 + size - 3);
    let mut layer = erofs_index::Layer::new(Limits::default());
    let data = erofs_index::Data::Extent { device: 1, offset: 512, size };
    layer.add(b"huge", &Default::default(), erofs_index::Kind::File(data)).unwrap();
    let mut merged = Merged::new(Limits::default());
    merged.apply(&layer).unwrap();
    let devices = erofs_index::Device::of_size(size + 1024).into_iter().collect();
    let options = erofs_index::Options { devices, ..Default::default() };
    let index = merged.index(Use::Alone, &options).unwrap().to_vec().unwrap();
    // The device is too large to be copied: it takes the place of the one that is written.
    let Some(at) = place.mount_with("huge", &index, &[blob]) else { return };
    let mut file = std::fs::File::open(at.join("huge")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), size);
    let mut bytes = [0; 5];
    file.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"start");
    if end.is_ok() {
        file.seek(SeekFrom::End(-3)).unwrap();
        file.read_exact(&mut bytes[..3]).unwrap();
        assert_eq!(&bytes[..3], b"end");
    }
}
