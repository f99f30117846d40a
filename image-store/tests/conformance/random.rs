//! Random stacks of layers: unpacked at once and one by one, and by the model of [`crate::spec`], they are the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::common::Place;
use crate::spec::{self, Item};
use crate::spec_random;
use crate::stack::{Mount, Way, forms, load, with};
use crate::tree;

/// An item of the model as [`tree`] would write its file.
fn line(item: &Item) -> String {
    let mode = match item.kind {
        'd' => 0o755,
        'l' => 0o777,
        _ => 0o644,
    };
    let mut words = vec![item.kind.to_string()];
    if item.mode != mode {
        words.push(format!("{:o}", item.mode));
    }
    if item.owner != (0, 0) {
        words.push(format!("{}:{}", item.owner.0, item.owner.1));
    }
    words.push(match item.mtime {
        (seconds, 0) => format!("@{seconds}"),
        (seconds, nanos) => format!("@{seconds}.{nanos:09}"),
    });
    match item.kind {
        'f' => words.push(format!("\"{}\"", item.content)),
        'l' => words.push(format!("-> {}", item.content)),
        _ => {}
    }
    words.extend(item.xattr.iter().map(|value| format!("trusted.n=\"{value}\"")));
    words.join(" ")
}

proptest! {
    // The same cases every time: a failure is there again for who looks at it. A load waits 20 ms for its archive's
    // clock, so they are few; image-unpack's own test of the model has more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.min(40),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_231_114),
        ..ProptestConfig::default()
    })]

    #[test]
    fn at_once_one_by_one_and_by_the_model(layers in spec_random::layers()) {
        let tars: Vec<_> = layers.iter().map(|ops| spec::tar(ops).end()).collect();
        let mut trees = Vec::new();
        let ways = forms().into_iter().flat_map(|form| [(form, Way::AtOnce), (form, Way::OneByOne)]);
        for way in ways {
            let place = Place::new();
            match (load(&place, &tars, &with(way.0), way.1), spec::stack(&layers)) {
                (Ok(image), Some(expected)) => {
                    let mount = Mount::new(&place, &image);
                    let found: BTreeMap<String, String> =
                        tree::files(File::open(mount.path()).unwrap().as_fd())
                            .into_iter()
                            .map(|(path, file)| (String::from_utf8(path).unwrap(), file.line))
                            .collect();
                    let expected: BTreeMap<String, String> =
                        expected.iter().map(|(path, item)| (path.clone(), line(item))).collect();
                    prop_assert_eq!(found, expected, "{:?}", way);
                    // Which names are one inode, the model does not say.
                    trees.push(mount.lines());
                }
                (Err(_), None) => {}
                (Ok(_), None) => prop_assert!(false, "{way:?}: unpacked what the model refuses"),
                (Err(error), Some(_)) => prop_assert!(false, "{way:?}: {error}"),
            }
        }
        for tree in trees.iter().skip(1) {
            prop_assert_eq!(&trees[0], tree);
        }
    }
}
