//! Layers of any entries, unpacked and merged by overlayfs, against the model of [`crate::spec`].

use proptest::prelude::*;

use crate::image::{Nodes, docker, open, root};
use crate::spec::{self, Item, Tree};
use crate::spec_random;

fn shown(nodes: &Nodes) -> Tree {
    let item = |node: &crate::image::Node| Item {
        kind: node.kind,
        mode: node.mode,
        owner: (node.uid, node.gid),
        mtime: (node.mtime.0, u32::try_from(node.mtime.1).unwrap()),
        xattr: node.xattrs.get("trusted.n").map(|value| String::from_utf8(value.clone()).unwrap()),
        content: String::from_utf8(node.content.clone()).unwrap(),
    };
    nodes.iter().map(|(path, node)| (path.clone(), item(node))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn overlayfs_shows_what_the_specification_says(layers in spec_random::layers()) {
        let tars: Vec<_> = layers.iter().map(|ops| spec::tar(ops).end()).collect();
        let opened = open(&docker(&tars));
        match (opened.settle_all(layers.len(), &root()), spec::stack(&layers)) {
            (Ok(()), Some(expected)) => prop_assert_eq!(shown(&opened.mount(layers.len())), expected),
            (Err(_), None) => {}
            (Ok(()), None) => prop_assert!(false, "unpacked what the model refuses"),
            (Err(e), Some(_)) => prop_assert!(false, "{}", e),
        }
    }
}
