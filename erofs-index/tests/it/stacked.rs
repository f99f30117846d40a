//! Indexes of single layers below overlayfs: what it shows is what the layers mean.

use std::collections::BTreeMap;

use erofs_index::{Limits, Merged, Use};

use crate::files;
use crate::kernel::Place;
use crate::mounted::{meaning, merge, rich, with};
use crate::ops::{Op, What, add, file, layer, options};
use crate::tree::{Tree, assert_same, unlinked};

/// Mounts the layers' indexes one above the other, and gives what the overlay shows.
fn stack(place: &mut Place, layers: &[Vec<Op>]) -> Option<Tree> {
    let mut below = Merged::new(Limits::default());
    let (mut devices, mut lowers) = (Vec::new(), Vec::new());
    for (number, ops) in layers.iter().enumerate() {
        let (layer, blob) = layer(ops, number as u16 + 1).unwrap();
        devices.push(blob);
        let settled = layer.settle(&below).unwrap();
        let index = settled.index(&options(&devices)).unwrap().to_vec().unwrap();
        lowers.insert(0, place.mount(&format!("layer{number}"), &index, &devices)?);
        below.apply(settled.layer()).unwrap();
    }
    let overlay = place.overlay("overlay", &lowers);
    Some(files::tree(&overlay))
}

fn check(layers: &[Vec<Op>]) {
    let mut place = Place::new();
    let Some(found) = stack(&mut place, layers) else { return };
    assert_same(&unlinked(found), &unlinked(meaning(layers)));
}

#[test]
fn whiteouts_and_opaque_directories_hide() {
    let lower = vec![
        file("etc/passwd", "root"),
        file("etc/group", "wheel"),
        file("opt/app/a", "a"),
        file("opt/app/b/c", "c"),
        file("srv/x", "x"),
        file("var/cache/old", "old"),
    ];
    let upper = vec![
        Op::Whiteout(b"etc/group".to_vec()),
        Op::Whiteout(b"etc/there/is/no/such".to_vec()),
        Op::Opaque(b"opt/app".to_vec()),
        file("opt/app/b/d", "d"),
        Op::Whiteout(b"srv".to_vec()),
        Op::Whiteout(b"var/cache".to_vec()),
        file("var/cache/new", "new"),
    ];
    check(&[lower, upper]);
}

#[test]
fn an_opaque_root_hides_all() {
    let lower = vec![file("a/b", "b"), file("c", "c"), file("d/e", "e")];
    let upper = vec![Op::Opaque(vec![]), file("a/new", "new"), file("f", "f")];
    check(&[lower, upper, vec![file("d/back", "back")]]);
}

#[test]
fn directories_that_no_entry_lists_are_the_lower_ones() {
    let attributes = with(0o2750, &[("user.who", b"below")]);
    let lower = vec![
        Op::Add(b"home".to_vec(), attributes.clone(), What::Directory),
        Op::Add(b"home/user".to_vec(), attributes, What::Directory),
    ];
    check(&[
        lower,
        vec![file("home/user/new/file", "x")],
        vec![Op::Whiteout(b"home/user/gone".to_vec())],
    ]);
}

#[test]
fn below_an_opaque_directory_nothing_comes_from_below() {
    let private = with(0o700, &[("user.who", b"below")]);
    let lower = vec![
        Op::Add(b"opaque".to_vec(), private.clone(), What::Directory),
        Op::Add(b"opaque/dir".to_vec(), private.clone(), What::Directory),
        Op::Add(b"gone".to_vec(), private.clone(), What::Directory),
        Op::Add(b"gone/dir".to_vec(), private, What::Directory),
    ];
    let upper = vec![
        Op::Opaque(b"opaque".to_vec()),
        file("opaque/dir/new", "new"),
        Op::Whiteout(b"gone".to_vec()),
        file("gone/dir/new", "new"),
        Op::Whiteout(b"gone/dir/hidden".to_vec()),
    ];
    check(&[lower, upper]);
}

#[test]
fn hard_links_to_lower_layers_are_copies_that_are_links() {
    let lower = vec![file("bin/busybox", vec![1; 5_000]), file("lib/so", vec![2; 700])];
    let upper = vec![
        Op::Link(b"bin/ls".to_vec(), b"bin/busybox".to_vec()),
        Op::Link(b"bin/cat".to_vec(), b"bin/busybox".to_vec()),
    ];
    let mut place = Place::new();
    let layers = [lower, upper];
    let Some(found) = stack(&mut place, &layers) else { return };
    assert_same(&unlinked(found.clone()), &unlinked(meaning(&layers)));
    let of = |path: &str| (found[path.as_bytes()].inode, found[path.as_bytes()].links);
    assert_eq!((of("bin/ls"), of("bin/cat")), (of("bin/busybox"), of("bin/busybox")));
    assert_eq!(of("bin/ls").1, 3);
}

/// The layers put together by `Merged::stack`, each first made with device 1, as the kernel shows it.
fn stacked(place: &mut Place, layers: &[Vec<Op>]) -> Option<Tree> {
    let mut merged = Merged::new(Limits::default());
    let mut devices = Vec::new();
    for (number, ops) in layers.iter().enumerate() {
        let (mut layer, blob) = layer(ops, 1).unwrap();
        layer.set_device(number as u16 + 1);
        devices.push(blob);
        merged.stack(&mut layer).unwrap();
    }
    let index = merged.index(Use::Alone, &options(&devices)).unwrap().to_vec().unwrap();
    Some(files::tree(&place.mount("stacked", &index, &devices)?))
}

#[test]
fn a_stack_shows_the_links_that_an_overlay_shows() {
    let large = |byte: u8| vec![byte; 2_000];
    let lower = vec![
        file("a", large(1)),
        Op::Link(b"b".to_vec(), b"a".to_vec()),
        Op::Link(b"c".to_vec(), b"a".to_vec()),
        file("d", large(2)),
        Op::Link(b"e".to_vec(), b"d".to_vec()),
        file("dir/single", large(3)),
        add("holes", What::Holes(8192, vec![(4096, large(4))])),
    ];
    let middle = vec![
        Op::Link(b"new/a".to_vec(), b"a".to_vec()),
        Op::Whiteout(b"d".to_vec()),
        Op::Link(b"new/single".to_vec(), b"dir/single".to_vec()),
        Op::Link(b"new/holes".to_vec(), b"holes".to_vec()),
    ];
    let upper = vec![file("b", large(5)), Op::Link(b"again".to_vec(), b"new/single".to_vec())];
    let layers = [lower, middle, upper];
    let mut place = Place::new();
    let Some(overlay) = stack(&mut place, &layers) else { return };
    let Some(found) = stacked(&mut place, &layers) else { return };
    assert_same(&unlinked(found.clone()), &unlinked(overlay.clone()));
    let links = |tree: &Tree| -> Vec<(Vec<u8>, u64)> {
        let files = tree.iter().filter(|(_, node)| !node.is_directory());
        files.map(|(path, node)| (path.clone(), node.links)).collect()
    };
    assert_eq!(links(&found), links(&overlay));
    // Three names in its layer, of which one is left; the copy has two.
    assert_eq!((found[&b"c"[..]].links, found[&b"a"[..]].links), (3, 2));
}

#[test]
fn one_of_everything_over_one_of_everything() {
    let upper = vec![
        Op::Whiteout(b"bytes".to_vec()),
        add("bytes", What::Symlink(b"no directory".to_vec())),
        add("short", What::Directory),
        Op::Opaque(b"length".to_vec()),
        Op::Add(b"bin".to_vec(), with(0o700, &[]), What::Directory),
        Op::Whiteout(b"xattrs/a".to_vec()),
    ];
    check(&[rich(), upper]);
}

#[test]
fn overlays_own_attributes_of_an_image_mean_nothing() {
    let xattrs: &[(&str, &[u8])] = &[
        ("trusted.overlay.opaque", b"y"),
        ("trusted.overlay.redirect", b"/etc"),
        ("trusted.overlay.overlay.opaque", b"y"),
        ("trusted.overlays", b"another"),
    ];
    let lower = vec![file("etc/passwd", "root"), file("dir/below", "seen")];
    let upper = vec![
        Op::Add(b"dir".to_vec(), with(0o755, xattrs), What::Directory),
        file("dir/above", "seen too"),
    ];
    let layers = [lower, upper];
    let mut place = Place::new();
    let Some(found) = stack(&mut place, &layers) else { return };
    assert!(found.contains_key(&b"dir/below"[..]) && found.contains_key(&b"dir/above"[..]));
    // Merged to be a lower directory, too; there the escape can be seen, from below.
    let (mut merged, mut devices) = (Merged::new(Limits::default()), Vec::new());
    for (number, ops) in layers.iter().enumerate() {
        let (layer, blob) = layer(ops, number as u16 + 1).unwrap();
        merged.apply(&layer).unwrap();
        devices.push(blob);
    }
    let options = options(&devices);
    let index = merged.index(erofs_index::Use::Lower, &options).unwrap().to_vec().unwrap();
    let Some(at) = place.mount("merged", &index, &devices) else { return };
    let names = |tree: &Tree, path: &[u8]| {
        let xattrs: &BTreeMap<_, _> = &tree[path].xattrs;
        xattrs.keys().map(|name| String::from_utf8(name.clone()).unwrap()).collect::<Vec<_>>()
    };
    let escaped = [
        "trusted.overlay.overlay.opaque",
        "trusted.overlay.overlay.overlay.opaque",
        "trusted.overlay.overlay.redirect",
        "trusted.overlays",
    ];
    assert_eq!(names(&files::tree(&at), b"dir"), escaped);
    let (alone, _) = merge(&layers);
    assert_eq!(names(&crate::reader::Reader::tree(&alone, &devices), b"dir").len(), 4);
    assert_ne!(alone, index);
}
