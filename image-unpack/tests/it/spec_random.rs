//! Random layers for the model of [`crate::spec`].

use proptest::prelude::*;

use crate::spec::Op;

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    let make = |kind| (path(), 1_u32..50).prop_map(move |(path, n)| Op::Make(kind, path, n));
    prop_oneof![
        12 => make('d'),
        16 => make('f'),
        4 => make('l'),
        2 => make('p'),
        2 => (path(), path()).prop_map(|(path, target)| Op::Link(path, target)), // most lead nowhere
        12 => path().prop_map(Op::Whiteout),
        4 => path().prop_map(Op::Opaque),
        4 => Just(Op::Opaque(String::new())),
    ]
}

/// Layers of any entries, lowest first.
pub(crate) fn layers() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(op(), 0..10), 1..5)
}
