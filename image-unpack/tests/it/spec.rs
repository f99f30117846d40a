//! The image specification as a slow, plain model: entries of layers onto a map of paths. It shares no code with
//! what unpacks, and not its way: that makes layers apart from each other and leaves the rest to overlayfs.

use std::collections::{BTreeMap, BTreeSet};

use crate::tar::{Tar, header};

/// An entry of a layer.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// A directory, file, symbolic link or FIFO (`d`, `f`, `l`, `p`), and the number that its attributes come of.
    Make(char, String, u32),
    Link(String, String),
    Whiteout(String),
    Opaque(String),
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) kind: char,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// seconds and nanoseconds
    pub(crate) mtime: (i64, u32),
    /// of `trusted.n`
    pub(crate) xattr: Option<String>,
    /// a file's bytes, a link's target
    pub(crate) content: String,
}

pub(crate) type Tree = BTreeMap<String, Item>;

/// What a directory is that no layer lists.
fn unlisted() -> Item {
    let content = String::new();
    Item { kind: 'd', mode: 0o755, owner: (0, 0), mtime: (0, 0), xattr: None, content }
}

/// What an entry makes: every attribute comes of its number.
fn made(kind: char, n: u32) -> Item {
    let (mode, content) = match kind {
        'd' => (0o700 + n, String::new()),
        'f' => (0o600 + n, n.to_string()),
        'l' => (0o777, format!("../{n}")),
        _ => (0o600 + n, String::new()),
    };
    Item {
        kind,
        mode,
        owner: (n % 3, n),
        mtime: (i64::from(n), if n.is_multiple_of(2) { 1_000_003 * n } else { 0 }),
        xattr: n.is_multiple_of(4).then(|| n.to_string()),
        content,
    }
}

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
    tree.insert(path.into(), unlisted());
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
            Op::Make(..) | Op::Link(..) => {}
        }
    }
    // What this layer has made.
    let mut own = BTreeSet::new();
    let own = &mut own;
    for op in ops {
        match op {
            Op::Make(kind, path, n) => put(&mut tree, own, path, made(*kind, *n)),
            Op::Link(path, target) => {
                if below(path, target) || below(target, path) {
                    return None;
                }
                // The name of a lower file counts even if this layer takes it away.
                let missing = Item { kind: '?', ..unlisted() };
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

/// What layers make, lowest first; the root is the empty path. None if one of them cannot be applied.
pub(crate) fn stack(layers: &[Vec<Op>]) -> Option<Tree> {
    let mut tree = Tree::from([(String::new(), unlisted())]);
    for ops in layers {
        tree = apply(&tree, ops)?;
    }
    Some(tree)
}

/// A layer's entries as a tar.
pub(crate) fn tar(ops: &[Op]) -> Tar {
    ops.iter().fold(Tar::new(), |tar, op| match op {
        Op::Make(kind, path, n) => make(tar, path, &made(*kind, *n)),
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

fn make(tar: Tar, path: &str, item: &Item) -> Tar {
    let (kind, link, data) = match item.kind {
        'd' => (b'5', "", ""),
        'f' => (b'0', "", &item.content[..]),
        'l' => (b'2', &item.content[..], ""),
        _ => (b'6', "", ""),
    };
    let (seconds, nanos) = item.mtime;
    let time = format!("{seconds}.{nanos:09}");
    let mut records = Vec::new();
    if nanos != 0 {
        records.push(("mtime", time.as_bytes()));
    }
    if let Some(value) = &item.xattr {
        records.push(("SCHILY.xattr.trusted.n", value.as_bytes()));
    }
    let tar = if records.is_empty() { tar } else { tar.pax(&records) };
    let head = header(kind, path).mode(item.mode).link(link).mtime(seconds.unsigned_abs());
    tar.add(head.owner(item.owner.0.into(), item.owner.1.into()), data.as_bytes())
}
