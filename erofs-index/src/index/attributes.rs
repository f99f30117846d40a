//! Extended attributes in the index: what several inodes have is stored once and pointed to.

use std::collections::HashMap;

use super::walk::{Walk, inode};
use crate::format;
use crate::tree::Tree;
use crate::xattr::{OPAQUE, Set, TRUSTED};

/// Most shared attributes of one inode: their count has 8 bits.
const SHARED_MAX: usize = 255;

/// An attribute of the tree, or overlayfs's mark of an opaque directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Attribute {
    Given(u32),
    Opaque,
}

/// The encoded attributes of a tree's inodes.
pub(super) struct Attributes {
    /// By set, and whether it is an opaque directory's, the bytes that follow the inode.
    bodies: HashMap<(Set, bool), Vec<u8>>,
    /// The shared ones.
    pub(super) shared: Vec<u8>,
}

impl Attributes {
    pub(super) fn new(tree: &Tree, walk: &Walk) -> Attributes {
        // In the order in which inodes come, so that the same tree gives the same bytes.
        let mut order = Vec::new();
        let mut inodes: HashMap<(Set, bool), u32> = HashMap::new();
        for place in &walk.places {
            let key = (inode(tree, place.number).xattrs, place.opaque);
            if key == (0, false) {
                continue;
            }
            let count = inodes.entry(key).or_default();
            if *count == 0 {
                order.push(key);
            }
            *count += 1;
        }
        let mut uses: HashMap<Attribute, u32> = HashMap::new();
        for key in &order {
            for attribute in list(tree, *key) {
                *uses.entry(attribute).or_default() += inodes[key];
            }
        }
        let mut places: HashMap<Attribute, u32> = HashMap::new();
        let mut made = Attributes { bodies: HashMap::new(), shared: Vec::new() };
        for key in order {
            let (mut shared, mut own) = (Vec::new(), Vec::new());
            for attribute in list(tree, key) {
                if uses[&attribute] < 2 || shared.len() == SHARED_MAX {
                    put(&mut own, tree, walk, attribute);
                    continue;
                }
                let place = places.entry(attribute).or_insert_with(|| {
                    let place = made.shared.len() / 4;
                    put(&mut made.shared, tree, walk, attribute);
                    place as u32
                });
                shared.push(*place);
            }
            made.bodies.insert(key, format::xattr_body(&shared, &own));
        }
        made
    }

    /// What follows an inode.
    pub(super) fn body(&self, set: Set, opaque: bool) -> &[u8] {
        if (set, opaque) == (0, false) {
            return &[]; // most have none
        }
        self.bodies.get(&(set, opaque)).map_or(&[], |body| body)
    }
}

fn list(tree: &Tree, (set, opaque): (Set, bool)) -> impl Iterator<Item = Attribute> {
    let given = tree.xattrs.set(set).iter().map(|number| Attribute::Given(*number));
    given.chain(opaque.then_some(Attribute::Opaque))
}

fn put(out: &mut Vec<u8>, tree: &Tree, walk: &Walk, attribute: Attribute) {
    let Attribute::Given(number) = attribute else {
        return format::put_xattr(out, TRUSTED, OPAQUE.0, OPAQUE.1);
    };
    let xattr = tree.xattrs.get(number);
    let escaped = if walk.form.escape { xattr.escaped() } else { None };
    format::put_xattr(out, xattr.space, escaped.as_deref().unwrap_or(&xattr.name), &xattr.value);
}
