//! Random layers: what the crate makes of them, read back, is what the model makes of them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::erofs_utils::fsck;
use crate::kernel::Place;
use crate::meaning;
use crate::ops::{Attributes, Op, What};
use crate::tree::parent;

/// Few names, so that entries meet; some of the kind that sort around `.` and `..`.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::sample::select(vec!["!", "-x", ".a", "..b", "\u{7f}", "...", "a0"])
            .prop_map(|name| name.as_bytes().to_vec()),
        1 => vec(1_u8..=255, 1..=255).prop_map(|mut name| {
            name.iter_mut().filter(|byte| **byte == b'/').for_each(|slash| *slash = b'_');
            if matches!(&name[..], b"." | b"..") { b"dot".to_vec() } else { name }
        }),
    ]
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(name(), 1..=4).prop_map(|parts| parts.join(&b'/'))
}

fn what() -> impl Strategy<Value = What> {
    let piece = (0_u64..4, prop_oneof![Just(512_usize), Just(1024), 1_usize..700]);
    prop_oneof![
        4 => Just(What::Directory),
        4 => vec(any::<u8>(), 0..1600).prop_map(What::File),
        2 => (vec(piece, 0..4), prop_oneof![Just(512_u64), 1_u64..900], 0_u64..5000).prop_map(
            |(pieces, step, more)| {
                let mut at = 0;
                let place = |(gap, length): (u64, usize)| {
                    let start = at + gap * step;
                    at = start + length as u64;
                    (start, vec![7; length])
                };
                let pieces: Vec<_> = pieces.into_iter().map(place).collect();
                What::Holes(at + more, pieces)
            }
        ),
        2 => vec(1_u8..=255, 1..1200).prop_map(What::Symlink),
        1 => (1_u32..=0xfff, 0_u32..=0xf_ffff).prop_map(|(major, minor)| What::Character(major, minor)),
        1 => (0_u32..=0xfff, 0_u32..=0xf_ffff).prop_map(|(major, minor)| What::Block(major, minor)),
        1 => Just(What::Fifo),
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let owner = || prop_oneof![4 => Just(0_u32), 1 => any::<u32>()];
    let mtime = prop_oneof![3 => Just((1_700_000_000_i64, 0_u32)), 1 => (-9_i64..1 << 40, 0_u32..1_000_000_000)];
    let names =
        vec!["user.a", "user.b", "trusted.x", "trusted.overlay.opaque", "security.capability"];
    let value = prop_oneof![Just(b"y".to_vec()), vec(any::<u8>(), 0..600)];
    let xattrs = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::btree_map(prop::sample::select(names), value, 1..5).prop_map(|map| {
            map.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect()
        }),
    ];
    (0_u16..=0o7777, owner(), owner(), mtime, xattrs)
        .prop_map(|(mode, uid, gid, mtime, xattrs)| Attributes { mode, uid, gid, mtime, xattrs })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (path(), attributes(), what()).prop_map(|(path, meta, what)| Op::Add(path, meta, what)),
        2 => (path(), path()).prop_map(|(path, target)| Op::Link(path, target)),
        2 => path().prop_map(Op::Whiteout),
        1 => prop_oneof![1 => Just(Vec::new()), 6 => path()].prop_map(Op::Opaque),
        1 => attributes().prop_map(|meta| Op::Add(Vec::new(), meta, What::Directory)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn layers_are_what_they_mean(layers in vec(vec(op(), 0..25), 1..4)) {
        meaning::layers_are_what_they_mean(layers, &accepted);
    }
}

/// That fsck.erofs accepts an index.
fn accepted(index: &[u8], devices: &[Vec<u8>]) {
    let place = Place::new();
    let write = |(number, device): (usize, &Vec<u8>)| place.write(&number.to_string(), device);
    let devices: Vec<_> = devices.iter().enumerate().map(write).collect();
    fsck(&place.write("index", index), &devices);
}

#[test]
fn a_parent_is_found() {
    assert_eq!((parent(b"a/b"), parent(b"a")), (&b"a"[..], &b""[..]));
}
