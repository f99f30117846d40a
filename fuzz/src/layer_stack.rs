//! `image-unpack` with `erofs-index`: layers upon layers, with whiteouts, opaque directories, links of both kinds.
//!
//! Random layers, as tars, become an index of all and a directory each; both show what a plain model of the image
//! specification makes of the same entries, or are refused where that refuses them. As root: files get owners.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use arbitrary::{Result, Unstructured};
use image_unpack::{Error, LayerTar, Limits, Merge, Options, index_tar};

use crate::files;
use crate::meaning::overlaid;
use crate::memory;
use crate::more::more;
use crate::reader::Reader;
use crate::spec::{self, Item, Op};
use crate::tree::{Node, Tree};

/// Bytes as layers.
///
/// # Panics
/// What unpacks or indexes them does, or shows something else than the model; or what is not to fail in a test fails.
pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let mut layers: Vec<Vec<Op>> = vec![Vec::new()];
    while let Ok(true) = more(&mut input, 60, 61) {
        let Ok(op) = op(&mut input) else { break };
        let layer = layers.last_mut().expect("one at least");
        layer.push(op);
        if layer.len() == 24 || input.ratio(1, 6).unwrap_or(false) {
            layers.push(Vec::new());
        }
        if layers.len() == 6 {
            break;
        }
    }
    check(&layers);
}

fn check(layers: &[Vec<Op>]) {
    let tars: Vec<Vec<u8>> = layers.iter().map(|ops| spec::tar(ops).end()).collect();
    let expected = spec::stack(layers);
    for (how, found) in [("an index", index(&tars)), ("directories", directories(&tars))] {
        match (found, &expected) {
            (Ok(found), Some(expected)) => {
                let found = shown(&found);
                for (path, item) in expected {
                    assert_eq!(found.get(path), Some(item), "{how}: {path:?} of {layers:?}");
                }
                let other = found.keys().find(|path| !expected.contains_key(*path));
                assert_eq!(other, None, "{how}: not of {layers:?}");
            }
            (Err(_), None) => {}
            (Ok(_), None) => panic!("{how}: the model refuses {layers:?}"),
            (Err(error), Some(_)) => panic!("{how}: {error}: {layers:?}"),
        }
    }
}

/// As the model has it.
fn shown(tree: &Tree) -> BTreeMap<String, Item> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("names of the model");
    let item = |node: &Node| Item {
        kind: match node.kind() {
            0o4_0000 => 'd',
            0o10_0000 => 'f',
            0o12_0000 => 'l',
            0o1_0000 => 'p',
            other => panic!("type {other:o}"),
        },
        mode: node.mode & 0o7777,
        owner: (node.uid, node.gid),
        mtime: node.mtime,
        xattr: node.xattrs.get(&b"trusted.n"[..]).map(|value| text(value)),
        content: text(&node.content),
    };
    tree.iter().map(|(path, node)| (text(path), item(node))).collect()
}

/// All of them as one index.
fn index(tars: &[Vec<u8>]) -> Result<Tree, Error> {
    let mut merge = Merge::new("the image", &Limits::default());
    for (number, tar) in tars.iter().enumerate() {
        let file = memory::file(tar);
        let mut indexed = index_tar(file, 0, tar.len() as u64, &Limits::default(), "the layer")?;
        merge.add(&mut indexed, number as u16 + 1)?;
    }
    let sizes: Vec<u64> = tars.iter().map(|tar| tar.len() as u64).collect();
    let mut bytes = Vec::new();
    merge.write(&sizes, [7; 16], &mut bytes)?;
    Ok(overlaid(&[Reader::tree(&bytes, tars)]))
}

/// Each of them as a directory, settled upon those before.
fn directories(tars: &[Vec<u8>]) -> Result<Tree, Error> {
    let place = tempfile::tempdir().expect("a temporary directory");
    let options = Options { owners: true, ..Options::default() };
    let mut lowers: Vec<File> = Vec::new();
    let mut trees = Vec::new();
    for (number, tar) in tars.iter().enumerate() {
        let path = place.path().join(number.to_string());
        std::fs::create_dir(&path).expect("a directory");
        let own = File::open(&path).expect("the directory");
        let tar = LayerTar::open(memory::file(tar), "the layer", place.path(), &Limits::default())?;
        let (_, unpacked) = tar.unpack(own.as_fd(), &options, &|_| ())?;
        let fds: Vec<_> = lowers.iter().rev().map(AsFd::as_fd).collect();
        unpacked.pending.settle(own.as_fd(), &fds)?;
        trees.push(files::tree(Path::new(&path)));
        lowers.push(own);
    }
    Ok(overlaid(&trees))
}

fn path(input: &mut Unstructured<'_>) -> Result<String> {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "-"];
    let mut path = (*input.choose(&NAMES)?).to_owned();
    for _ in 0..3 {
        if more(input, 2, 5)? {
            path.push('/');
            path.push_str(input.choose(&NAMES)?);
        }
    }
    Ok(path)
}

fn op(input: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match input.int_in_range(0..=27)? {
        0..=5 => Op::Make('d', path(input)?, input.int_in_range(1..=49)?),
        6..=13 => Op::Make('f', path(input)?, input.int_in_range(1..=49)?),
        14 | 15 => Op::Make('l', path(input)?, input.int_in_range(1..=49)?),
        16 => Op::Make('p', path(input)?, input.int_in_range(1..=49)?),
        17..=19 => Op::Link(path(input)?, path(input)?),
        20..=24 => Op::Whiteout(path(input)?),
        25 | 26 => Op::Opaque(path(input)?),
        _ => Op::Opaque(String::new()),
    })
}
