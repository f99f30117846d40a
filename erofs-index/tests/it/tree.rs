//! A file system as plain data: what a reader, the kernel and the model of layers are compared by.

use std::collections::BTreeMap;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// with the type
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    /// of a device
    pub(crate) device: (u32, u32),
    /// of a file or a symlink
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// of anything but a directory: links are equal
    pub(crate) inode: u64,
    pub(crate) links: u64,
}

impl Node {
    pub(crate) fn kind(&self) -> u32 {
        self.mode & 0o17_0000
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == 0o4_0000
    }
}

/// All paths, without a slash in front; the root is empty.
pub(crate) type Tree = BTreeMap<Vec<u8>, Node>;

/// Inode numbers are counted anew by the first path of each, and links are those within the tree.
pub(crate) fn normal(mut tree: Tree) -> Tree {
    let mut numbers = BTreeMap::new();
    let mut links = BTreeMap::new();
    let mut children: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for (path, node) in &tree {
        if node.is_directory() {
            let parent = parent(path).to_vec();
            if !path.is_empty() {
                *children.entry(parent).or_default() += 1;
            }
        } else {
            let next = numbers.len() as u64;
            numbers.entry(node.inode).or_insert(next);
            *links.entry(node.inode).or_insert(0) += 1;
        }
    }
    for (path, node) in &mut tree {
        if node.is_directory() {
            node.inode = 0;
            node.links = 2 + children.get(path).copied().unwrap_or(0);
        } else {
            node.links = links[&node.inode];
            node.inode = numbers[&node.inode];
        }
    }
    tree
}

/// Without what tells hard links apart from copies.
pub(crate) fn unlinked(mut tree: Tree) -> Tree {
    for node in tree.values_mut() {
        (node.inode, node.links) = (0, 0);
    }
    tree
}

pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Whether `path` is below `directory`.
pub(crate) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    !path.is_empty()
        && (directory.is_empty()
            || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/")))
}

/// Fails with the first difference, which is shorter to read than two trees.
#[track_caller]
pub(crate) fn assert_same(found: &Tree, wanted: &Tree) {
    for (path, node) in wanted {
        let name = path.escape_ascii();
        match found.get(path) {
            None => panic!("{name} is missing"),
            Some(other) if other != node => panic!("{name} is {other:?}, not {node:?}"),
            Some(_) => {}
        }
    }
    if let Some(path) = found.keys().find(|path| !wanted.contains_key(*path)) {
        panic!("{} should not be there", path.escape_ascii());
    }
}
