//! A root file system in memory, filled from Debian packages without root, chroot or mounts.
//!
//! The files of a package come as a tar (`dpkg-deb --fsys-tarfile`) and are merged by name. No
//! maintainer script is run: what a program needs of them, a recipe adds.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::tarball::{EPOCH, Kind, Node, TarWriter};
use crate::sh;

/// Directories that are symbolic links into /usr on a Debian since version 12.
const MERGED: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// What an image of Debian's packages leaves out, as Debian's own "slim" image does.
const LEFT_OUT: &[&str] = &[
    "usr/share/bash-completion/",
    "usr/share/bug/",
    "usr/share/doc-base/",
    "usr/share/groff/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/menu/",
];

/// Objects by path: no slash at the start or the end, parents before what they hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
}

impl Tree {
    /// Puts an object at a path, and directories of mode 0755 above it where there are none.
    pub(crate) fn put(&mut self, path: impl AsRef<[u8]>, node: Node) {
        let path = path.as_ref();
        for (at, byte) in path.iter().enumerate() {
            if *byte == b'/' && !self.nodes.contains_key(&path[..at]) {
                self.nodes.insert(path[..at].to_vec(), Node::directory(0o755));
            }
        }
        self.nodes.insert(path.to_vec(), node);
    }

    /// A regular file of root's.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.put(path, Node::file(content, mode));
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.put(path, Node::symlink(target));
    }

    /// An empty directory of root's.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.put(path, Node::directory(mode));
    }

    /// The content of a regular file that a package brought.
    pub(crate) fn content(&self, path: &str) -> Result<&[u8]> {
        match self.nodes.get(path.as_bytes()).map(|node| &node.kind) {
            Some(Kind::File(content)) => Ok(content),
            Some(Kind::Hardlink(to)) => self.content(&String::from_utf8_lossy(to)),
            _ => bail!("none of the packages brings the file /{path}"),
        }
    }

    /// The object at a path, to be changed.
    pub(crate) fn node_mut(&mut self, path: &str) -> Result<&mut Node> {
        let node = self.nodes.get_mut(path.as_bytes());
        node.with_context(|| format!("none of the packages brings /{path}"))
    }

    /// Adds the files of packages, unpacked two at a time: decompression is most of the work.
    pub(crate) fn add_packages(&mut self, debs: &[PathBuf]) -> Result<()> {
        for pair in debs.chunks(2) {
            let tars: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
                let work: Vec<_> = pair.iter().map(|deb| scope.spawn(|| files_of(deb))).collect();
                work.into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
                    .collect()
            });
            for (deb, tar) in pair.iter().zip(tars) {
                self.add_tar(&tar?).with_context(|| format!("cannot read {}", deb.display()))?;
            }
        }
        Ok(())
    }

    fn add_tar(&mut self, tar: &[u8]) -> Result<()> {
        for entry in tar::Archive::new(tar).entries()? {
            let mut entry = entry?;
            let path = merged(&entry.path_bytes());
            if path.is_empty() || left_out(&path) {
                continue;
            }
            let header = entry.header().clone();
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            let kind = match header.entry_type() {
                tar::EntryType::Directory => Kind::Directory,
                tar::EntryType::Symlink => Kind::Symlink(target),
                tar::EntryType::Link => Kind::Hardlink(merged(&target)),
                tar::EntryType::Regular => {
                    let mut content = Vec::with_capacity(usize::try_from(entry.size())?);
                    entry.read_to_end(&mut content)?;
                    Kind::File(content)
                }
                other => bail!("{}: {other:?} has no place in a package", entry.path()?.display()),
            };
            let known = self.nodes.get(&path);
            if kind == Kind::Directory && known.is_some_and(|node| node.kind == kind) {
                continue; // the package that came first has it
            }
            let node = Node {
                kind,
                mode: header.mode()?,
                uid: header.uid()?,
                gid: header.gid()?,
                mtime: header.mtime()?.min(EPOCH),
                xattrs: Vec::new(),
            };
            self.put(path, node);
        }
        Ok(())
    }

    /// Adds the links of a merged /usr, for those of its directories that there are.
    pub(crate) fn merge_usr(&mut self) {
        for name in MERGED {
            let target = format!("usr/{name}");
            if self.nodes.contains_key(target.as_bytes()) {
                self.link(name, &target);
            }
        }
    }

    /// What is not the same in `below`: the layer that turns `below` into this tree, if nothing of
    /// it is gone.
    pub(crate) fn above(&self, below: &Tree) -> Tree {
        let mut tree = Tree::default();
        for (path, node) in &self.nodes {
            if below.nodes.get(path) != Some(node) {
                for (at, byte) in path.iter().enumerate() {
                    if *byte == b'/'
                        && let Some(parent) = self.nodes.get(&path[..at])
                    {
                        tree.nodes.insert(path[..at].to_vec(), parent.clone());
                    }
                }
                tree.nodes.insert(path.clone(), node.clone());
            }
        }
        tree
    }

    /// The tree as a tar, in order of name. The first name of a file holds its content, whatever
    /// name did so in the package.
    pub(crate) fn to_tar(&self) -> Result<Vec<u8>> {
        let mut first: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        for (path, node) in &self.nodes {
            if let Kind::Hardlink(to) = &node.kind {
                first.entry(to).or_insert((&path[..]).min(to));
            }
        }
        let mut tar = TarWriter::new(Vec::new());
        for (path, node) in &self.nodes {
            let holder = match &node.kind {
                Kind::Hardlink(to) => to,
                _ => path,
            };
            let Some(name) = first.get(&holder[..]) else {
                tar.add(path, node)?;
                continue;
            };
            let held = self.nodes.get(holder);
            let held = held.context("a hard link leads to a name that is not in its layer")?;
            if path == name {
                tar.add(path, held)?;
            } else {
                tar.add(path, &Node { kind: Kind::Hardlink(name.to_vec()), ..held.clone() })?;
            }
        }
        Ok(tar.finish()?)
    }
}

/// The files of a package, as an uncompressed tar.
fn files_of(deb: &Path) -> Result<Vec<u8>> {
    sh::output(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb))
}

/// A name of a package's tar without "./" and slashes around it, below /usr where /usr is merged.
fn merged(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    let name = parts.join(&b'/');
    let top = name.split(|byte| *byte == b'/').next().unwrap_or_default();
    if MERGED.iter().any(|folder| folder.as_bytes() == top) {
        [b"usr/", &name[..]].concat()
    } else {
        name
    }
}

fn left_out(path: &[u8]) -> bool {
    let inside = |folder: &&str| path.starts_with(folder.as_bytes());
    let licence = path.ends_with(b"/copyright");
    LEFT_OUT.iter().any(inside) || path.starts_with(b"usr/share/doc/") && !licence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tar: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            match entry.link_name_bytes() {
                Some(link) => format!("{name} -> {}", String::from_utf8_lossy(&link)),
                None => name,
            }
        });
        entries.collect()
    }

    #[test]
    fn names_go_below_usr() {
        assert_eq!(merged(b"./bin/x"), b"usr/bin/x");
        assert_eq!(merged(b"./lib64/"), b"usr/lib64");
        assert_eq!(merged(b"./binary/x"), b"binary/x");
        assert_eq!(merged(b".hidden"), b".hidden");
        assert_eq!(merged(b"./"), b"");
    }

    #[test]
    fn the_first_name_holds_the_content() {
        let mut tree = Tree::default();
        tree.file("z", 0o755, "content");
        tree.put("a", Node::hardlink("z"));
        tree.put("m", Node::hardlink("z"));
        let tar = tree.to_tar().unwrap();
        assert_eq!(names(&tar), ["a", "m -> a", "z -> a"]);
        assert_eq!(tar.len(), 3 * 512 + 512 + 1024);
        assert_eq!(tree.content("m").unwrap(), b"content");
    }

    #[test]
    fn a_link_out_of_its_layer_is_refused() {
        let mut tree = Tree::default();
        tree.put("a", Node::hardlink("nowhere"));
        assert!(tree.to_tar().is_err());
    }

    #[test]
    fn a_package_is_merged() {
        let mut package = TarWriter::new(Vec::new());
        package.add("./", &Node::directory(0o755)).unwrap();
        package.add("./bin", &Node::directory(0o755)).unwrap();
        package.add("./bin/tool", &Node::file("x", 0o4755)).unwrap();
        package.add("./bin/twin", &Node::hardlink("./bin/tool")).unwrap();
        package.add("./usr/share/man/man1/tool.1", &Node::file("x", 0o644)).unwrap();
        package.add("./usr/share/doc/tool/copyright", &Node::file("x", 0o644)).unwrap();
        package.add("./usr/share/doc/tool/README", &Node::file("x", 0o644)).unwrap();
        let mut tree = Tree::default();
        tree.add_tar(&package.finish().unwrap()).unwrap();
        let below = tree.clone();
        tree.merge_usr();
        tree.directory("usr/bin/more", 0o700);
        let added = names(&tree.above(&below).to_tar().unwrap());
        assert_eq!(added, ["bin -> usr/bin", "usr/", "usr/bin/", "usr/bin/more/"]);
        let all = names(&tree.to_tar().unwrap());
        assert!(all.contains(&"usr/bin/twin -> usr/bin/tool".to_owned()), "{all:?}");
        assert!(all.contains(&"usr/share/doc/tool/copyright".to_owned()), "{all:?}");
        assert!(!all.iter().any(|name| name.contains("README") || name.contains("man1")));
    }
}
