//! Which inodes an index has, and in which order.

use std::collections::HashMap;

use super::Form;
use crate::entry::Time;
use crate::tree::{Children, Inode, NONE, Number, ROOT, Tree};

/// The number of the one inode that all whiteouts of an index are links to.
pub(super) const WHITEOUT: Number = NONE;

/// An inode in the index's order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// In the tree, or `WHITEOUT`.
    pub(super) number: Number,
    /// The directory that a directory is in; of no meaning for others.
    pub(super) parent: Number,
    /// A directory that hides what is below it.
    pub(super) opaque: bool,
    /// A directory in which whiteouts have nothing to hide.
    pub(super) covered: bool,
}

/// What the walk found.
pub(super) struct Walk {
    pub(super) form: Form,
    pub(super) children: Children,
    pub(super) places: Vec<Place>,
    /// Links of each inode of the tree; 0 if the index has it not.
    links: Vec<u32>,
    whiteouts: u32,
}

impl Walk {
    /// Directories one after another, the children of each together: who lists a directory and looks at what is in it
    /// reads neighbours.
    pub(super) fn new(tree: &Tree, form: Form) -> Walk {
        let mut walk = Walk {
            form,
            children: tree.children(),
            places: Vec::new(),
            links: vec![0; tree.inodes.len()],
            whiteouts: 0,
        };
        let root =
            Place { number: ROOT, parent: ROOT, opaque: false, covered: tree.inode(ROOT).opaque };
        walk.links[ROOT as usize] = 2;
        walk.places.push(root);
        let mut open = vec![root];
        while let Some(directory) = open.pop() {
            let before = walk.places.len();
            walk.list(tree, directory);
            let directories = |place: &&Place| tree.is_directory(place.number);
            open.extend(walk.places[before..].iter().rev().filter(directories));
        }
        for (links, inode) in walk.links.iter_mut().zip(&tree.inodes) {
            *links = inode.links.max(*links);
        }
        walk
    }

    fn list(&mut self, tree: &Tree, directory: Place) {
        for at in 0..self.children.of(directory.number).len() {
            let number = self.children.of(directory.number)[at];
            let Some(inode) = self.shown(tree, directory.covered, number) else { continue };
            let links = match inode {
                WHITEOUT => &mut self.whiteouts,
                inode => &mut self.links[inode as usize],
            };
            *links += 1;
            let is_new = *links == 1;
            let mut opaque = false;
            if tree.is_directory(inode) {
                *links += 1; // its own `.`
                self.links[directory.number as usize] += 1; // its `..`
                let mark = tree.inode(inode);
                opaque = mark.opaque || mark.erased || tree.name(number).whiteout;
                opaque &= self.form.stacked;
            }
            if is_new {
                let covered = directory.covered || opaque;
                self.places.push(Place {
                    number: inode,
                    parent: directory.number,
                    opaque,
                    covered,
                });
            }
        }
    }

    /// The inode that the index has at a name.
    pub(super) fn shown(&self, tree: &Tree, covered: bool, name: Number) -> Option<Number> {
        let name = tree.name(name);
        if name.inode != NONE {
            Some(name.inode)
        } else if name.whiteout && self.form.stacked && !covered {
            Some(WHITEOUT)
        } else {
            None
        }
    }

    pub(super) fn links(&self, number: Number) -> u32 {
        if number == WHITEOUT { self.whiteouts } else { self.links[number as usize] }
    }

    /// The time that most inodes have, the earliest of several: they can be compact.
    pub(super) fn common_time(&self, tree: &Tree) -> Time {
        let mut counts: HashMap<Time, u32> = HashMap::new();
        for place in &self.places {
            *counts.entry(inode(tree, place.number).mtime).or_default() += 1;
        }
        let most =
            counts.into_iter().max_by_key(|(time, count)| (*count, std::cmp::Reverse(*time)));
        most.map_or(Time::default(), |(time, _)| time)
    }
}

/// An inode of the tree, or the one of whiteouts.
pub(super) fn inode(tree: &Tree, number: Number) -> &Inode {
    const NOTHING: &Inode = &Inode {
        mode: crate::format::S_IFCHR,
        content: crate::tree::Content::Device(0),
        ..Inode::IMPLIED
    };
    if number == WHITEOUT { NOTHING } else { tree.inode(number) }
}
