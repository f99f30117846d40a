//! The image specification as a slow, plain model, against layers that the crate unpacked and overlayfs merged.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::image::{Nodes, docker, open, root};
use crate::tar::{Tar, header};

#[derive(Debug, Clone)]
enum Op {
    Dir(String, u32),
    File(String, u32),
    Symlink(String, u32),
    Link(String, String),
    Whiteout(String),
    Opaque(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    kind: char,
    mode: u32,
    mtime: i64,
    content: Vec<u8>,
}

type Tree = BTreeMap<String, Item>;

fn below(path: &str, dir: &str) -> bool {
    dir.is_empty() && !path.is_empty()
        || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..slash])
}

fn remove(tree: &mut Tree, path: &str) {
    tree.retain(|other, _| other != path && !below(other, path));
}

/// Make the directory and its parents; what is no directory gives way.
fn mkdir(tree: &mut Tree, own: &mut BTreeSet<String>, path: &str) {
    if !path.is_empty() {
        mkdir(tree, own, parent(path));
    }
    own.insert(path.into());
    if tree.get(path).is_some_and(|item| item.kind == 'd') {
        return;
    }
    remove(tree, path);
    tree.insert(path.into(), Item { kind: 'd', mode: 0o755, mtime: 0, content: vec![] });
}

fn put(tree: &mut Tree, own: &mut BTreeSet<String>, path: &str, item: Item) {
    mkdir(tree, own, parent(path));
    own.insert(path.into());
    let stays = item.kind == 'd' && tree.get(path).is_some_and(|old| old.kind == 'd');
    if !stays {
        remove(tree, path);
        own.retain(|other| !below(other, path));
    }
    tree.insert(path.into(), item);
}

/// A layer upon what is below. None if it cannot be applied.
fn apply(lower: &Tree, ops: &[Op]) -> Option<Tree> {
    let mut tree = lower.clone();
    // Whiteouts look at lower layers only, wherever they stand.
    for op in ops {
        match op {
            Op::Whiteout(path) => remove(&mut tree, path),
            Op::Opaque(dir) => tree.retain(|path, _| !below(path, dir)),
            _ => {}
        }
    }
    // What this layer has made.
    let mut own = BTreeSet::new();
    let own = &mut own;
    for op in ops {
        match op {
            Op::Dir(path, n) => put(
                &mut tree,
                own,
                path,
                Item { kind: 'd', mode: 0o700 + n, mtime: i64::from(*n), content: vec![] },
            ),
            Op::File(path, n) => put(
                &mut tree,
                own,
                path,
                Item {
                    kind: 'f',
                    mode: 0o600 + n,
                    mtime: i64::from(*n),
                    content: n.to_string().into(),
                },
            ),
            Op::Symlink(path, n) => put(
                &mut tree,
                own,
                path,
                Item {
                    kind: 'l',
                    mode: 0o777,
                    mtime: i64::from(*n),
                    content: format!("../{n}").into(),
                },
            ),
            Op::Link(path, target) => {
                if below(path, target) || below(target, path) {
                    return None;
                }
                // The name of a lower file counts even if this layer takes it away.
                let missing = Item { kind: '?', mode: 0, mtime: 0, content: vec![] };
                let item = match (tree.get(target), lower.get(target)) {
                    (Some(item), _) if item.kind == 'd' && own.contains(target) => return None,
                    (Some(item), _) if item.kind != 'd' => item.clone(),
                    (_, Some(item)) if item.kind != 'd' => item.clone(),
                    _ => missing, // an error, unless a later entry takes its place
                };
                if path != target || !own.contains(target) {
                    put(&mut tree, own, path, item);
                }
            }
            Op::Whiteout(path) => mkdir(&mut tree, own, parent(path)),
            Op::Opaque(dir) => mkdir(&mut tree, own, dir),
        }
    }
    tree.values().all(|item| item.kind != '?').then_some(tree)
}

fn tar(ops: &[Op]) -> Tar {
    ops.iter().fold(Tar::new(), |tar, op| match op {
        Op::Dir(path, n) => tar.add(header(b'5', path).mode(0o700 + n).mtime(u64::from(*n)), b""),
        Op::File(path, n) => tar
            .add(header(b'0', path).mode(0o600 + n).mtime(u64::from(*n)), n.to_string().as_bytes()),
        Op::Symlink(path, n) => {
            tar.add(header(b'2', path).mtime(u64::from(*n)).link(&format!("../{n}")), b"")
        }
        Op::Link(path, target) => tar.link(path, target),
        Op::Whiteout(path) => {
            let dir = parent(path);
            let name = path.rsplit('/').next().unwrap();
            tar.file(
                &if dir.is_empty() { format!(".wh.{name}") } else { format!("{dir}/.wh.{name}") },
                b"",
            )
        }
        Op::Opaque(dir) => tar.file(&format!("{dir}/.wh..wh..opq"), b""),
    })
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (path(), 1_u32..50).prop_map(|(path, n)| Op::Dir(path, n)),
        4 => (path(), 1_u32..50).prop_map(|(path, n)| Op::File(path, n)),
        1 => (path(), 1_u32..50).prop_map(|(path, n)| Op::Symlink(path, n)),
        1 => (path(), path()).prop_map(|(path, target)| Op::Link(path, target)),
        3 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
        1 => Just(Op::Opaque(String::new())),
    ]
}

fn shown(nodes: &Nodes) -> Tree {
    let item = |node: &crate::image::Node| Item {
        kind: node.kind,
        mode: node.mode,
        mtime: node.mtime.0,
        content: node.content.clone(),
    };
    nodes.iter().map(|(path, node)| (path.clone(), item(node))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn overlayfs_shows_what_the_specification_says(
        layers in prop::collection::vec(prop::collection::vec(op(), 0..10), 1..5)
    ) {
        let mut expected = Some(Tree::from([(String::new(), Item { kind: 'd', mode: 0o755, mtime: 0, content: vec![] })]));
        for ops in &layers {
            expected = expected.and_then(|lower| apply(&lower, ops));
        }
        let opened = open(&docker(&layers.iter().map(|ops| tar(ops).end()).collect::<Vec<_>>()));
        match (opened.settle_all(layers.len(), &root()), expected) {
            (Ok(()), Some(expected)) => prop_assert_eq!(shown(&opened.mount(layers.len())), expected),
            (Err(_), None) => {}
            (Ok(()), None) => prop_assert!(false, "unpacked what the model refuses"),
            (Err(e), Some(_)) => prop_assert!(false, "{}", e),
        }
    }
}
