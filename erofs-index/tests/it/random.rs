//! Random layers: what the crate makes of them, read back, is what the model makes of them.

use erofs_index::{Limits, Merged, Use};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::erofs_utils::fsck;
use crate::kernel::Place;
use crate::ops::{Attributes, Model, Op, What, layer, options};
use crate::reader::Reader;
use crate::tree::{Node, Tree, assert_same, is_below, normal, parent, unlinked};

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

/// Layers that are right by the model: what it refuses is left out, after it was seen that the crate refuses it too.
fn right(layers: Vec<Vec<Op>>) -> Vec<Vec<Op>> {
    let (mut model, mut merged) = (Model::new(), Merged::new(Limits::default()));
    let mut kept: Vec<Vec<Op>> = Vec::new();
    for ops in layers {
        let mut now = Vec::new();
        for op in ops {
            now.push(op);
            let mut trial = model.clone();
            if trial.apply(&now).is_none() {
                let mut copy = Merged::new(Limits::default());
                for (number, ops) in kept.iter().enumerate() {
                    copy.apply(&layer(ops, number as u16 + 1).expect("a right layer").0)
                        .expect("right");
                }
                let refused = layer(&now, 1).and_then(|(layer, _)| copy.apply(&layer));
                assert!(refused.is_err(), "{now:?} is wrong after {kept:?}");
                now.pop();
            }
        }
        model.apply(&now).expect("tried already");
        let (layer, _) = layer(&now, kept.len() as u16 + 1).expect("a right layer");
        merged.apply(&layer).expect("a right layer");
        kept.push(now);
    }
    kept
}

/// What overlayfs makes of layers, lowest first: whiteouts and opaque directories hide, names of attributes are unescaped.
fn overlaid(layers: &[Tree]) -> Tree {
    let mut seen = Tree::new();
    for layer in layers {
        let hides = |node: &Node| {
            !node.is_directory()
                || node.xattrs.get(&b"trusted.overlay.opaque"[..]).is_some_and(|mark| mark == b"y")
        };
        for (path, node) in layer {
            if hides(node) && !path.is_empty() {
                seen.retain(|other, _| !(other == path || is_below(other, path)));
            }
            let whiteout = node.kind() == 0o2_0000 && node.device == (0, 0);
            if !node.is_directory() || !whiteout {
                seen.insert(path.clone(), node.clone());
            }
            if whiteout {
                seen.remove(path);
            }
        }
    }
    for node in seen.values_mut() {
        let own = std::mem::take(&mut node.xattrs);
        node.xattrs = own
            .into_iter()
            .filter_map(|(name, value)| match name.strip_prefix(b"trusted.overlay.") {
                None => Some((name, value)),
                Some(rest) => {
                    let given = rest.strip_prefix(b"overlay.")?;
                    Some(([b"trusted.overlay.", given].concat(), value))
                }
            })
            .collect();
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn layers_are_what_they_mean(layers in vec(vec(op(), 0..25), 1..4)) {
        let layers = right(layers);
        let (mut model, mut merged) = (Model::new(), Merged::new(Limits::default()));
        let mut devices = Vec::new();
        let mut stack = Vec::new();
        for (number, ops) in layers.iter().enumerate() {
            model.apply(ops).expect("right");
            let (made, blob) = layer(ops, number as u16 + 1).expect("right");
            let (again, _) = layer(ops, number as u16 + 1).expect("right");
            devices.push(blob);
            let settled = again.settle(&merged).expect("right");
            let options = options(&devices);
            let bytes = settled.index(&options).and_then(|index| index.to_vec()).expect("right");
            accepted(&bytes, &devices);
            let read = Reader::tree(&bytes, &devices);
            assert_same(&normal(read.clone()), &normal_links(read.clone()));
            stack.push(read);
            // But for links across layers, a layer means the same on others whether it was settled or not.
            merged.apply(if number % 2 == 0 { &made } else { settled.layer() }).expect("right");
        }
        let options = options(&devices);
        let index = merged.index(Use::Alone, &options).expect("right");
        let bytes = index.to_vec().expect("right");
        prop_assert_eq!(bytes.len() as u64, index.size());
        accepted(&bytes, &devices);
        let read = Reader::tree(&bytes, &devices);
        assert_same(&normal_links(read.clone()), &normal(read.clone()));
        assert_same(&unlinked(read), &unlinked(model.tree.clone()));
        assert_same(&unlinked(overlaid(&stack)), &unlinked(model.tree.clone()));
        // Layers that were not settled, with their links; and the same once more gives the same bytes.
        let make = || {
            let mut merged = Merged::new(Limits::default());
            for (number, ops) in layers.iter().enumerate() {
                merged.apply(&layer(ops, number as u16 + 1).expect("right").0).expect("right");
            }
            merged.index(Use::Alone, &options).and_then(|index| index.to_vec()).expect("right")
        };
        let twin = make();
        prop_assert!(twin == make());
        assert_same(&normal_links(Reader::tree(&twin, &devices)), &normal(model.tree));
    }
}

/// That fsck.erofs accepts an index.
fn accepted(index: &[u8], devices: &[Vec<u8>]) {
    let place = Place::new();
    let write = |(number, device): (usize, &Vec<u8>)| place.write(&number.to_string(), device);
    let devices: Vec<_> = devices.iter().enumerate().map(write).collect();
    fsck(&place.write("index", index), &devices);
}

/// As `normal`, but links are those that the index says.
fn normal_links(tree: Tree) -> Tree {
    let links: Vec<_> = tree.values().map(|node| node.links).collect();
    let mut tree = normal(tree);
    tree.values_mut().zip(links).for_each(|(node, links)| node.links = links);
    tree
}

#[test]
fn a_parent_is_found() {
    assert_eq!((parent(b"a/b"), parent(b"a")), (&b"a"[..], &b""[..]));
}
