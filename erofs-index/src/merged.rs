//! Several layers as one tree, and what a layer takes from those below it.

use std::collections::HashMap;

use crate::Error;
use crate::error::show;
use crate::layer::Layer;
use crate::limits::Limits;
use crate::tree::{Children, Content, Inode, NONE, Number, ROOT, Sparse, Stored, Tree, split};

/// The layers of an image from the lowest up, merged: whiteouts, opaque directories and hard links to lower layers are
/// resolved.
pub struct Merged {
    pub(crate) tree: Tree,
}

impl Merged {
    /// No layer yet: an empty root, 0755 and root's.
    #[must_use]
    pub fn new(limits: Limits) -> Merged {
        Merged { tree: Tree::new(limits) }
    }

    /// Puts a layer on top.
    ///
    /// # Errors
    /// A hard link whose target no layer below has, and what is over a limit. The tree is garbage then.
    pub fn apply(&mut self, layer: &Layer) -> Result<(), Error> {
        let children = layer.tree.children();
        // Links mean what was there before this layer changed anything.
        let mut copies = HashMap::new();
        for (name, inode) in links(&layer.tree, &children) {
            let found = target(&layer.tree, inode, &self.tree, &name)?;
            copies.insert(inode, found);
        }
        let root = layer.tree.inode(ROOT);
        if root.opaque {
            for name in self.tree.children().of(ROOT) {
                self.tree.name_mut(*name).inode = NONE;
            }
        }
        if !root.implied {
            let new = self.import(&layer.tree, ROOT)?;
            *self.tree.inode_mut(ROOT) = new;
        }
        let mut open = vec![(ROOT, ROOT)];
        while let Some((from, to)) = open.pop() {
            for number in children.of(from) {
                let name = *layer.tree.name(*number);
                if name.inode == NONE {
                    if let Some(gone) =
                        self.tree.find(to, layer.tree.text(&name)).filter(|_| name.whiteout)
                    {
                        self.tree.name_mut(gone).inode = NONE;
                    }
                    continue;
                }
                let at = self.tree.make(to, layer.tree.text(&name))?;
                let old = self.tree.name(at).inode;
                let inode = layer.tree.inode(name.inode);
                let erased = inode.erased || name.whiteout;
                let new = if !inode.is_directory() {
                    match copies.get(&name.inode) {
                        Some(copy) => *copy,
                        None => {
                            let copy = self.copy(&layer.tree, name.inode)?;
                            copies.insert(name.inode, copy);
                            copy
                        }
                    }
                } else {
                    let over = if erased || !self.tree.is_directory(old) { NONE } else { old };
                    let directory = self.directory(&layer.tree, name.inode, over)?;
                    open.push((name.inode, directory));
                    directory
                };
                self.tree.name_mut(at).inode = new;
            }
        }
        Ok(())
    }

    /// Puts a layer on top as an overlay of directories would: hard links to a lower layer's file are links to a copy of
    /// it, apart from those that only the lower layer has ([`Layer::settle`]), and a file shows as many links as it
    /// has names in its own layer, also where a higher one hides some of them.
    ///
    /// # Errors
    /// As [`Merged::apply`].
    pub fn stack(&mut self, layer: &mut Layer) -> Result<(), Error> {
        if layer.tree.inodes.iter().any(|inode| matches!(inode.content, Content::Below(_))) {
            let mut settled = layer.clone().settle(self)?.layer;
            count_links(&mut settled.tree);
            return self.apply(&settled);
        }
        count_links(&mut layer.tree);
        self.apply(layer)
    }

    /// The directory that a layer's becomes over a lower one, or over `NONE`.
    fn directory(&mut self, from: &Tree, number: Number, over: Number) -> Result<Number, Error> {
        let inode = from.inode(number);
        let attributes = if inode.implied && over != NONE {
            *self.tree.inode(over)
        } else {
            self.import(from, number)?
        };
        if over == NONE || inode.opaque {
            return self.tree.push(attributes);
        }
        *self.tree.inode_mut(over) = attributes;
        Ok(over)
    }

    fn copy(&mut self, from: &Tree, number: Number) -> Result<Number, Error> {
        let inode = self.import(from, number)?;
        self.tree.push(inode)
    }

    fn import(&mut self, from: &Tree, number: Number) -> Result<Inode, Error> {
        import(&mut self.tree, from, number)
    }
}

impl std::fmt::Debug for Merged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merged").field("names", &self.tree.names().len()).finish_non_exhaustive()
    }
}

/// A layer that can be stacked on the layers below it; see [`Layer::settle`].
#[derive(Debug)]
pub struct Settled {
    layer: Layer,
}

impl Settled {
    /// The layer, for [`Merged::apply`], so that the next one can be settled on it. As in an overlay, a file of a lower
    /// layer that it links to is a copy, apart from links that only the lower layer has; a layer that was not settled
    /// joins them.
    #[must_use]
    pub fn layer(&self) -> &Layer {
        &self.layer
    }
}

impl Layer {
    /// Takes from the layers below what this one needs to be stacked on them by overlayfs; without layers below too.
    /// Not needed where [`Merged::apply`] puts layers together.
    ///
    /// - Directories that no entry lists take mode, owner, time and extended attributes of the lower directory of that
    ///   path; with nothing below they stay 0755, root's, 1970.
    /// - A hard link to a file of a lower layer: the file is copied up, then linked. A copy costs an inode, since its
    ///   data stays on the lower layer's device: so an index has the devices of all layers up to its own.
    /// - Whiteouts that hide nothing are dropped: overlayfs shows them in directories that it does not merge.
    /// - An opaque root becomes whiteouts and opaque directories: overlayfs does not look for a mark there.
    ///
    /// # Errors
    /// A hard link whose target no layer below has, and what is over a limit.
    pub fn settle(mut self, below: &Merged) -> Result<Settled, Error> {
        let opaque_root = self.tree.inode(ROOT).opaque;
        for (name, inode) in links(&self.tree, &self.tree.children()) {
            let Content::Below(path) = self.tree.inode(inode).content else { continue };
            let path = self.tree.data(path).to_vec();
            let found = target(&self.tree, inode, &below.tree, &name)?;
            *self.tree.inode_mut(inode) = import(&mut self.tree, &below.tree, found)?;
            if !opaque_root {
                self.copy_up(&path, inode)?;
            }
        }
        if opaque_root {
            self.hide_all(below)?;
        }
        let children = self.tree.children();
        self.inherit(&children, below)?;
        Ok(Settled { layer: self })
    }

    /// Puts a copied inode at its own path too, unless something stands there or the layer hides what is below.
    fn copy_up(&mut self, path: &[u8], inode: Number) -> Result<(), Error> {
        let (mut directory, mut parts) = (ROOT, path.split(|byte| *byte == b'/').peekable());
        let mut missing = false;
        while let Some(part) = parts.next() {
            let number = if missing { None } else { self.tree.find(directory, part) };
            let name = number.map(|number| *self.tree.name(number));
            let child = name.map_or(NONE, |name| name.inode);
            let last = parts.peek().is_none();
            let covered = name.is_some_and(|name| name.whiteout)
                || (child != NONE && {
                    let inode = self.tree.inode(child);
                    last || !inode.is_directory() || inode.opaque || inode.erased
                });
            if covered {
                return Ok(());
            }
            missing |= child == NONE;
            directory = child;
        }
        // There is room: the parents are made, then the name.
        let (parent, name) = split(path).unwrap_or((b"", path));
        let mut directory = ROOT;
        for part in parent.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let made = self.tree.make(directory, part)?;
            if self.tree.name(made).inode == NONE {
                self.tree.name_mut(made).inode = self.tree.push(Inode::IMPLIED)?;
            }
            directory = self.tree.name(made).inode;
        }
        let made = self.tree.make(directory, name)?;
        self.tree.name_mut(made).inode = inode;
        Ok(())
    }

    /// All that lower layers have in the root goes.
    fn hide_all(&mut self, below: &Merged) -> Result<(), Error> {
        for number in below.tree.children().of(ROOT) {
            let name = below.tree.name(*number);
            if name.inode != NONE {
                let hidden = self.tree.make(ROOT, below.tree.text(name))?;
                self.tree.name_mut(hidden).whiteout = true;
            }
        }
        self.tree.inode_mut(ROOT).opaque = false;
        Ok(())
    }

    /// Attributes of directories, and whiteouts, by what is below.
    fn inherit(&mut self, children: &Children, below: &Merged) -> Result<(), Error> {
        let mut open = vec![(ROOT, ROOT)];
        while let Some((directory, lower)) = open.pop() {
            let inode = *self.tree.inode(directory);
            if inode.implied && lower != NONE {
                let attributes = import(&mut self.tree, &below.tree, lower)?;
                let opaque = inode.opaque;
                *self.tree.inode_mut(directory) = Inode { opaque, ..attributes };
            }
            self.tree.inode_mut(directory).implied = false;
            let lower = if inode.opaque { NONE } else { lower };
            for number in children.of(directory) {
                let name = *self.tree.name(*number);
                let found = match lower {
                    NONE => NONE,
                    lower => below.tree.child(lower, self.tree.text(&name)),
                };
                if found == NONE {
                    self.tree.name_mut(*number).whiteout = false;
                }
                if self.tree.is_directory(name.inode) {
                    let erased = name.whiteout || self.tree.inode(name.inode).erased;
                    let lower =
                        if erased || !below.tree.is_directory(found) { NONE } else { found };
                    open.push((name.inode, lower));
                }
            }
        }
        Ok(())
    }
}

/// Writes into each inode within reach how many names it has.
fn count_links(tree: &mut Tree) {
    let children = tree.children();
    let mut counts = vec![0_u32; tree.inodes.len()];
    let mut open = vec![ROOT];
    while let Some(directory) = open.pop() {
        for number in children.of(directory) {
            let child = tree.name(*number).inode;
            if child == NONE {
                continue;
            }
            counts[child as usize] += 1; // as many names as there are entries, which have 32 bits
            if tree.is_directory(child) {
                open.push(child);
            }
        }
    }
    for (inode, count) in tree.inodes.iter_mut().zip(counts) {
        inode.links = if inode.is_directory() { 0 } else { count };
    }
}

/// The inodes of hard links to lower layers that are within reach, each once, and the path of one of its names.
fn links(tree: &Tree, children: &Children) -> Vec<(Vec<u8>, Number)> {
    if !tree.inodes.iter().any(|inode| matches!(inode.content, Content::Below(_))) {
        return Vec::new();
    }
    let mut found: Vec<(Vec<u8>, Number)> = Vec::new();
    let mut seen = vec![false; tree.inodes.len()];
    let mut open = vec![(ROOT, Vec::new())];
    while let Some((directory, path)) = open.pop() {
        for number in children.of(directory) {
            let name = tree.name(*number);
            let child = name.inode;
            if child == NONE {
                continue;
            }
            let is_link = matches!(tree.inode(child).content, Content::Below(_));
            if tree.is_directory(child) || (is_link && !seen[child as usize]) {
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let path = [&path, slash, tree.text(name)].concat();
                if is_link {
                    found.push((path, child))
                } else {
                    open.push((child, path))
                }
                seen[child as usize] = true;
            }
        }
    }
    found
}

/// What a hard link to a lower layer leads to.
fn target(from: &Tree, link: Number, below: &Tree, path: &[u8]) -> Result<Number, Error> {
    let Content::Below(target) = from.inode(link).content else { return Ok(NONE) };
    let target = from.data(target);
    match below.lookup(target) {
        found if found != NONE && !below.is_directory(found) => Ok(found),
        _ => Err(Error::LinkTarget { path: show(path), target: show(target) }),
    }
}

/// An inode of one tree for another, without what it says of lower layers.
fn import(to: &mut Tree, from: &Tree, number: Number) -> Result<Inode, Error> {
    let inode = from.inode(number);
    let content = match inode.content {
        Content::Bytes(span) => Content::Bytes(to.put_data(from.data(span))?),
        Content::Sparse(sparse) => {
            let sparse = from.sparse[sparse as usize];
            let map = to.put_map(from.map(sparse.map))?;
            let stored = match sparse.stored {
                Stored::Here(span) => Stored::Here(to.put_data(from.data(span))?),
                on => on,
            };
            to.count_chunks(sparse.cut(from).count)?;
            to.sparse.push(Sparse { map, stored, ..sparse });
            Content::Sparse((to.sparse.len() - 1) as u32)
        }
        Content::Extent { size, .. } => {
            to.count_chunks(crate::sparse::whole(size).count)?;
            inode.content
        }
        content => content,
    };
    let xattrs = to.xattrs.import(&from.xattrs, inode.xattrs);
    to.keep(0)?;
    Ok(Inode { implied: false, opaque: false, erased: false, xattrs, content, ..*inode })
}
