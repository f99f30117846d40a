//! Trees as the kernel shows them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::tree::{Node, Tree, join};

/// All that is below a directory, by the kernel: names by getdents, the rest by lstat, read and the like.
pub(crate) fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let at = root.join(std::ffi::OsStr::from_bytes(&path));
        let node = node(&at);
        if node.is_directory() {
            for entry in fs::read_dir(&at).unwrap() {
                open.push(join(&path, entry.unwrap().file_name().as_bytes()));
            }
        }
        assert!(tree.insert(path, node).is_none());
    }
    tree
}

fn node(path: &Path) -> Node {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let content = match meta.mode() & 0o17_0000 {
        0o10_0000 => fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        0o12_0000 => fs::read_link(path).unwrap().into_os_string().into_vec(),
        _ => Vec::new(),
    };
    if meta.is_file() {
        assert_eq!(meta.len(), content.len() as u64);
    }
    Node {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: (meta.mtime(), meta.mtime_nsec() as u32),
        device: (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())),
        content,
        xattrs: xattrs(path),
        inode: meta.ino(),
        links: meta.nlink(),
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0_u8; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0_u8; 1 << 16];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}
