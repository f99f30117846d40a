//! What a layer takes away.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use image_store::{LoadOptions, Options, WhiteoutForm};

use crate::common::{Place, quick};
use crate::stack::{Mount, Way, expect, lines, load, refuse, skipped};
use crate::tar::{Tar, header};

fn below() -> Tar {
    Tar::new()
        .dir("d")
        .file("d/a", b"low")
        .file("d/b", b"low")
        .dir("e")
        .file("e/a", b"low")
        .file("f", b"low")
}

#[test]
fn whiteouts_affect_lower_layers_only() {
    let expected = [". d @0", "d d", "d/a f \"new\"", "e d", "e/a f \"low\"", "e/new f \"\""];
    let (made, gone) = (
        |tar: Tar| tar.file("d/a", b"new").file("e/new", b""),
        |tar: Tar| {
            tar.file("d/.wh.a", b"").file("d/.wh.b", b"").file(".wh.f", b"").file("e/.wh.new", b"")
        },
    );
    // Before what it would hide in its own layer, behind it, and on both sides.
    for top in [
        made(gone(Tar::new())),
        gone(made(Tar::new())),
        Tar::new()
            .file("d/.wh.b", b"")
            .file("d/a", b"new")
            .file("e/.wh.new", b"")
            .file("d/.wh.a", b"")
            .file("e/new", b"")
            .file(".wh.f", b""),
    ] {
        expect([below(), top], &expected);
    }
}

#[test]
fn the_opaque_marker_applies_first() {
    for top in [
        Tar::new().file("d/.wh..wh..opq", b"").file("d/new", b"1").dir("d/x"),
        Tar::new().file("d/new", b"1").file("d/.wh..wh..opq", b"").dir("d/x"),
        Tar::new().file("d/new", b"1").dir("d/x").file("d/.wh..wh..opq", b""),
    ] {
        let expected =
            [". d @0", "d d", "d/new f \"1\"", "d/x d", "e d", "e/a f \"low\"", "f f \"low\""];
        expect([below(), top], &expected);
    }
    // Of the root: all that is below goes, and nothing of its own layer.
    expect(
        [below(), Tar::new().file("d/new", b"1").file(".wh..wh..opq", b"")],
        &[". d @0", "d d @0", "d/new f \"1\""],
    );
}

#[test]
fn a_bare_whiteout_is_refused() {
    refuse([below(), Tar::new().file("d/.wh.", b"")], "d/.wh.");
    refuse([below(), Tar::new().file(".wh...", b"")], ".wh...");
    refuse([below(), Tar::new().file(".wh.d/f", b"")], ".wh.d/f");
}

#[test]
fn bookkeeping_of_aufs_is_skipped() {
    let aufs =
        Tar::new().file(".wh..wh..plnk", b"").file(".wh..wh.plnk/1.2", b"x").dir(".wh..wh.orph");
    expect([Tar::new().file("f", b"low"), aufs], &[". d @0", "f f \"low\""]);
}

#[test]
fn whiteouts_are_devices_or_attributes_and_opaque_directories_are_marked() {
    let layers = [below().end(), Tar::new().file("d/.wh.a", b"").file("e/.wh..wh..opq", b"").end()];
    let expected = [". d @0", "d d", "d/b f \"low\"", "e d", "f f \"low\""];
    for form in [WhiteoutForm::Device, WhiteoutForm::Xattr { user: false }] {
        let place = Place::new();
        let options = Options { form, ..quick().options };
        let options = LoadOptions { options, ..quick() };
        let image = load(&place, &layers, &options, Way::AtOnce).unwrap();
        let layer = image.layers[1].path();
        let whiteout = fs::symlink_metadata(layer.join("d/a")).unwrap();
        let marks = lines(layer);
        let mark = |path: &str, text: &str| {
            let line = marks.iter().find(|line| line.starts_with(&format!("{path} "))).unwrap();
            assert!(line.ends_with(text), "{form:?}: {line}");
        };
        mark("e", "trusted.overlay.opaque=\"y\"");
        if form == WhiteoutForm::Device {
            assert!(whiteout.file_type().is_char_device());
            assert_eq!(std::os::unix::fs::MetadataExt::rdev(&whiteout), 0);
        } else {
            mark("d/a", "\"\" trusted.overlay.whiteout=\"y\"");
            mark("d", "trusted.overlay.opaque=\"x\"");
        }
        let shown = Mount::new(&place, &image).lines();
        if form != WhiteoutForm::Device && shown.iter().any(|line| line.starts_with("d/a f")) {
            skipped("overlay_xattr_whiteout", "this kernel shows such a whiteout as a file");
            continue;
        }
        assert_eq!(shown, expected, "{form:?}");
    }
}

#[test]
fn a_whiteout_and_children_made_again_are_an_opaque_directory() {
    for top in [
        Tar::new().file(".wh.d", b"").dir("d").file("d/new", b""),
        Tar::new().dir("d").file("d/new", b"").file(".wh.d", b""),
    ] {
        expect(
            [below(), top],
            &[". d @0", "d d", "d/new f \"\"", "e d", "e/a f \"low\"", "f f \"low\""],
        );
    }
    // Not listed by the layer that makes it again: it is a new directory, and takes nothing from the old one.
    expect(
        [
            Tar::new().add(header(b'5', "d").mode(0o700).owner(1, 2), b"").file("d/a", b""),
            Tar::new().file(".wh.d", b"").file("d/new", b""),
        ],
        &[". d @0", "d d @0", "d/new f \"\""],
    );
}

#[test]
fn no_whiteout_is_left_in_an_opaque_directory() {
    let top = Tar::new().file("d/.wh.a", b"").file("d/.wh..wh..opq", b"").file("d/x/.wh.y", b"");
    let place = Place::new();
    let image = load(&place, &[below().end(), top.end()], &quick(), Way::AtOnce).unwrap();
    let own = lines(image.layers[1].path());
    assert_eq!(own, [". d @0", "d d trusted.overlay.opaque=\"y\"", "d/x d @0"]);
    assert_eq!(
        Mount::new(&place, &image).lines(),
        [". d @0", "d d", "d/x d @0", "e d", "e/a f \"low\"", "f f \"low\""]
    );
}

#[test]
fn a_whiteouts_parent_is_made_and_a_whiteout_of_nothing_does_not_show() {
    expect(
        [below(), Tar::new().file("new/deep/.wh.x", b"").file("e/.wh.none", b"")],
        &[
            ". d @0",
            "d d",
            "d/a f \"low\"",
            "d/b f \"low\"",
            "e d",
            "e/a f \"low\"",
            "f f \"low\"",
            "new d @0",
            "new/deep d @0",
        ],
    );
}

#[test]
fn what_an_image_says_to_overlayfs_is_not_heard() {
    // Attributes of overlayfs's own would hide what is below, or send a lookup elsewhere.
    let top = Tar::new()
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("d")
        .pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/e")])
        .dir("x")
        .pax(&[("SCHILY.xattr.trusted.overlay.metacopy", b""), ("SCHILY.xattr.user.own", b"1")])
        .file("f", b"new");
    let place = Place::new();
    let image = load(&place, &[below().end(), top.end()], &quick(), Way::AtOnce).unwrap();
    assert_eq!(
        lines(image.layers[1].path()),
        [
            ". d @0",
            "d d trusted.overlay.overlay.opaque=\"y\"",
            "f f \"new\" trusted.overlay.overlay.metacopy=\"\" user.own=\"1\"",
            "x d trusted.overlay.overlay.redirect=\"/e\"",
        ]
    );
    // What overlayfs does with its escapes differs by kernel: the rest of the line does not.
    let shown: Vec<String> = Mount::new(&place, &image)
        .lines()
        .iter()
        .map(|line| {
            let words = line.split(' ').filter(|word| !word.starts_with("trusted."));
            words.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        shown,
        [
            ". d @0",
            "d d",
            "d/a f \"low\"",
            "d/b f \"low\"",
            "e d",
            "e/a f \"low\"",
            "f f \"new\" user.own=\"1\"",
            "x d",
        ]
    );
    refuse([below(), Tar::new().add(header(b'3', "f").device(0, 0), b"")], "whiteout");
}
