//! What holds of all layers, for random ones and for a fuzzer's.

use erofs_index::{Limits, Merged, Use};

use crate::ops::{Model, Op, layer, options};
use crate::reader::Reader;
use crate::tree::{Node, Tree, assert_same, is_below, normal, unlinked};

/// Is told an image that must be right, and its devices.
pub(crate) type Accepted<'a> = &'a dyn Fn(&[u8], &[Vec<u8>]);

/// Layers, as the model has them, and as the crate has them one by one and merged.
pub(crate) fn layers_are_what_they_mean(layers: Vec<Vec<Op>>, accepted: Accepted<'_>) {
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
    assert_eq!(bytes.len() as u64, index.size());
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
    assert!(twin == make());
    assert_same(&normal_links(Reader::tree(&twin, &devices)), &normal(model.tree));
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
pub(crate) fn overlaid(layers: &[Tree]) -> Tree {
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

/// As `normal`, but links are those that the index says.
fn normal_links(tree: Tree) -> Tree {
    let links: Vec<_> = tree.values().map(|node| node.links).collect();
    let mut tree = normal(tree);
    tree.values_mut().zip(links).for_each(|(node, links)| node.links = links);
    tree
}
