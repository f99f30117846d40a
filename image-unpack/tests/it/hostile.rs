//! What has gone wrong in unpackers: each attack is run, and a canary beside the layer stays as it was.

use std::fs;

use image_unpack::{Error, Refusal, TarProblem};

use crate::image::{Nodes, docker, layer, layers, nodes, open, root, try_layer};
use crate::tar::{Tar, checksum, header, record};

/// Unpack beside a canary, which must not change.
fn attack(tar: Tar) -> Result<Nodes, Error> {
    let opened = open(&docker(&[tar.end()]));
    let canary = opened.dir.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("f"), b"alive").unwrap();
    let before = nodes(&canary);
    let result = opened.settle_all(1, &root());
    assert_eq!(nodes(&canary), before);
    let there: Vec<_> =
        fs::read_dir(opened.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there.len(), 3, "only the archive, the layer and the canary: {there:?}");
    result.map(|()| opened.layer(0))
}

fn refused(tar: Tar) -> Refusal {
    match attack(tar) {
        Err(Error::Refused { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

fn broken(tar: Tar) -> TarProblem {
    match try_layer(tar) {
        Err(Error::Tar { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_that_lead_outside() {
    for name in ["../canary/f", "a/../../canary/f", "/../canary/f", ".."] {
        assert_eq!(refused(Tar::new().file(name, b"dead")), Refusal::DotDot);
        assert_eq!(
            refused(Tar::new().pax(&[("path", name.as_bytes())]).file("x", b"dead")),
            Refusal::DotDot
        );
        assert_eq!(refused(Tar::new().dir(name)), Refusal::DotDot);
    }
    let tree = attack(Tar::new().file("/canary/f", b"inside")).unwrap();
    assert_eq!(tree["canary/f"].content, b"inside");
}

#[test]
fn symlinks_are_not_followed() {
    for to in ["../canary", "/proc/self/cwd", "/", ".", "..", "x"] {
        // A file through it; a directory of that name; a deeper parent; a replaced file.
        let tree = attack(
            Tar::new()
                .symlink("x", to)
                .file("x/f", b"dead")
                .symlink("y", to)
                .dir("y")
                .file("y/f", b"dead")
                .symlink("z", to)
                .file("z/a/b/f", b"dead")
                .symlink("w", "../canary/f")
                .file("w", b"dead")
                .symlink("v", "../canary/f")
                .add(header(b'6', "v"), b""),
        )
        .unwrap();
        for path in ["x", "y", "z", "z/a"] {
            assert_eq!(tree[path].kind, 'd');
        }
        assert_eq!((tree["x/f"].kind, tree["w"].kind, tree["v"].kind), ('f', 'f', 'p'));
    }
}

#[test]
fn the_root_is_a_directory() {
    assert_eq!(refused(Tar::new().symlink("./", "../canary").file("f", b"dead")), Refusal::Root);
    assert_eq!(refused(Tar::new().symlink(".", "../canary")), Refusal::Root);
    assert_eq!(broken(Tar::new().file("/", b"dead")), TarProblem::DataOfNothing);
    assert_eq!(refused(Tar::new().link("/", "f")), Refusal::Root);
}

#[test]
fn hard_links_that_lead_outside() {
    for to in ["../canary/f", "/../canary/f", "a/../../canary/f"] {
        assert_eq!(refused(Tar::new().link("l", to)), Refusal::LinkDotDot);
    }
    // Through a symlink: the path is not there, below no layer has it.
    let through = attack(Tar::new().symlink("s", "../canary").link("l", "s/f"));
    assert!(matches!(through, Err(Error::LinkTarget { .. })), "{through:?}");
    // To a symlink: the symlink itself; what then replaces it leaves the target alone.
    let tree =
        attack(Tar::new().symlink("s", "../canary/f").link("l", "s").file("l", b"dead")).unwrap();
    assert_eq!((tree["l"].kind, tree["s"].kind), ('f', 'l'));
    assert_eq!(refused(Tar::new().dir("d").link("l", "d")), Refusal::LinkToDirectory);
    assert_eq!(refused(Tar::new().dir("d").link("l", ".")), Refusal::LinkToDirectory);
    assert_eq!(refused(Tar::new().file("d/f", b"").link("d", "d/f")), Refusal::LinkAround);
    assert_eq!(refused(Tar::new().file("f", b"").link("f/l", "f")), Refusal::LinkAround);
    assert_eq!(refused(Tar::new().link("l", "")), Refusal::EmptyLink);
    assert_eq!(refused(Tar::new().symlink("l", "")), Refusal::EmptyLink);
}

#[test]
fn whiteouts_that_lead_outside() {
    assert_eq!(refused(Tar::new().file(".wh...", b"")), Refusal::DotWhiteout);
    assert_eq!(refused(Tar::new().file("a/.wh..", b"")), Refusal::DotWhiteout);
    assert_eq!(refused(Tar::new().file(".wh.", b"")), Refusal::BareWhiteout);
    assert_eq!(refused(Tar::new().file("../.wh.canary", b"")), Refusal::DotDot);
    assert_eq!(refused(Tar::new().file(".wh.x/f", b"")), Refusal::BelowWhiteout);
    let tree = attack(
        Tar::new()
            .symlink("s", "../canary")
            .file("s/.wh.f", b"")
            .symlink("o", "../canary")
            .file("o/.wh..wh..opq", b""),
    )
    .unwrap();
    assert_eq!((tree["s"].kind, tree["o"].kind), ('d', 'd'));
    assert!(tree["o"].is_opaque());
}

#[test]
fn links_in_a_lower_layer_are_not_followed() {
    let opened = open(&docker(&[
        Tar::new().symlink("s", "../canary").symlink("abs", "/etc").end(),
        Tar::new().file("s/f", b"own").file("abs/.wh.passwd", b"").end(),
        Tar::new().link("l", "s/passwd").end(),
    ]));
    fs::create_dir(opened.dir.path().join("canary")).unwrap();
    opened.settle_all(2, &root()).unwrap();
    assert_eq!(fs::read_dir(opened.dir.path().join("canary")).unwrap().count(), 0);
    assert_eq!(opened.layer(1).keys().collect::<Vec<_>>(), ["", "abs", "s", "s/f"]);
    let low = open(&docker(&[
        Tar::new().symlink("s", "/etc").end(),
        Tar::new().link("l", "s/passwd").end(),
    ]));
    assert!(matches!(low.settle_all(2, &root()), Err(Error::LinkTarget { .. })));
}

#[test]
fn devices_out_of_range() {
    assert_eq!(refused(Tar::new().add(header(b'3', "d").device(4096, 0), b"")), Refusal::Device);
    assert_eq!(refused(Tar::new().add(header(b'4', "d").device(1, 1 << 20), b"")), Refusal::Device);
    assert_eq!(refused(Tar::new().add(header(b'3', "d"), b"")), Refusal::WhiteoutDevice);
}

#[test]
fn the_pax_size_wins_for_the_next_entry_only() {
    // Headers that a reader finds who goes by the other size.
    let hidden = Tar::new().file("hidden", b"").0;
    let data = [&hidden[..], &[0; 512]].concat();
    let size = data.len().to_string();
    let tree = layer(
        Tar::new()
            .pax(&[("size", size.as_bytes())])
            .add(header(b'0', "a").size(0), &data)
            .file("b", b"after"),
    );
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "a", "b"]);
    assert_eq!((&tree["a"].content, &tree["b"].content[..]), (&data, &b"after"[..]));
    // A GNU long name between is no real entry: it has its own size.
    let mut long = header(b'L', "././@LongLink");
    long.magic = crate::tar::GNU;
    let tree = layer(
        Tar::new()
            .pax(&[("size", b"3")])
            .add(long, b"name\0")
            .add(header(b'0', "x").size(0), b"abc")
            .file("b", b""),
    );
    assert_eq!((tree.len(), &tree["name"].content[..]), (3, &b"abc"[..]));
}

#[test]
fn headers_that_readers_disagree_on() {
    let double = Tar::new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("x", b"");
    assert_eq!(broken(double), TarProblem::Twice);
    assert_eq!(broken(Tar::new().pax(&[("path", b"a")])), TarProblem::Dangling);
    let names = Tar::new().pax(&[("path", b"a")]).add(header(b'L', "l"), b"b\0").file("x", b"");
    assert_eq!(broken(names), TarProblem::TwoNames);
    for kind in *b"2346" {
        let tar = Tar::new().add(header(kind, "x").link("y").device(1, 3), b"data");
        assert_eq!(broken(tar), TarProblem::DataOfNothing);
    }
    assert_eq!(broken(Tar::new().add(header(b'5', "d").size(512), b"")), TarProblem::DataOfNothing);
    assert!(matches!(
        broken(Tar::new().add(header(b'g', "g"), &record("path", b"x")).file("f", b"")),
        TarProblem::Global(_)
    ));
    assert!(matches!(
        broken(Tar::new().add(header(b'g', "g"), &record("size", b"0")).file("f", b"x")),
        TarProblem::Global(_)
    ));
    assert_eq!(
        broken(Tar::new().pax(&[("path", b"a\0b")]).file("x", b"")),
        TarProblem::Nul("path")
    );
    assert_eq!(
        broken(Tar::new().pax(&[("linkpath", b"a\0b")]).symlink("x", "")),
        TarProblem::Nul("linkpath")
    );
    assert_eq!(
        broken(Tar::new().add(header(b'L', "l"), b"a\0b\0").file("x", b"")),
        TarProblem::Nul("GNU long name")
    );
    assert_eq!(broken(Tar::new().add(header(b'V', "label"), b"")), TarProblem::Type('V'));
    for (key, one, other) in [
        ("size", &b"0"[..], &b"512"[..]),
        ("path", b"a", b"b"),
        ("linkpath", b"a", b"b"),
        ("uid", b"0", b"1"),
    ] {
        let twice = |other| Tar::new().pax(&[(key, one), (key, other)]).symlink("x", "y");
        assert_eq!(broken(twice(other)), TarProblem::TwoValues(key.to_owned()));
        layer(twice(one));
    }
    for key in ["path", "linkpath"] {
        let empty = Tar::new().pax(&[(key, b"")]).symlink("x", "y");
        assert_eq!(broken(empty), TarProblem::Pax(key.to_owned()));
    }
    for kind in *b"xgLK" {
        let mut extended = header(kind, "x");
        extended.magic = [0; 8];
        assert_eq!(broken(Tar::new().add(extended, b"").file("f", b"")), TarProblem::Magic);
    }
    let mut prefixed = header(b'0', "f");
    (prefixed.magic, prefixed.prefix) = (*b"ustar\0\0\0", b"p".into());
    assert_eq!(broken(Tar::new().add(prefixed, b"")), TarProblem::Magic);
    assert_eq!(broken(Tar::new().file("", b"")), TarProblem::NoName);
    assert!(matches!(
        broken(Tar::new().pax(&[("size", b"-1")]).file("x", b"")),
        TarProblem::Pax(_)
    ));
    assert!(matches!(
        broken(Tar::new().add(header(b'x', "x"), b"not a record").file("x", b"")),
        TarProblem::Pax(_)
    ));
    assert_eq!(broken(Tar::new().file("ok", b"").data(&[9; 512])), TarProblem::Checksum);
    assert_eq!(broken(Tar::new().data(&[9; 512])), TarProblem::NotATar);
    let mut block = header(b'0', "f").block(0);
    block[124..135].copy_from_slice(b"0x000000010");
    checksum(&mut block);
    assert_eq!(broken(Tar::new().block(block)), TarProblem::Number("size"));
    assert_eq!(
        broken(Tar::new().add(header(b'0', "f").size(u64::MAX), b"")),
        TarProblem::Range("size")
    );
}

#[test]
fn a_hard_link_has_no_data() {
    let tree = layer(
        Tar::new().file("a", b"x").add(header(b'1', "b").link("a").size(1), b"").file("c", b""),
    );
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "a", "b", "c"]);
}

/// Work that grew with the square of the entries (10^10 steps here) would not end within a test runner's limit.
#[test]
fn many_markers_links_and_replacements_are_no_burden() {
    let mut tar = Tar::new().dir("d");
    for n in 0..100_000 {
        tar = tar.file("d/.wh..wh..opq", b"");
        if n % 100 == 0 {
            tar = tar.file(&format!("d/.wh.{n}"), b"").file(&format!("e{n}/.wh..wh..opq"), b"");
        }
    }
    let tree = layer(tar);
    assert!(tree["d"].is_opaque());
    assert_eq!(tree.len(), 1002);
    let mut tar = Tar::new();
    for _ in 0..2000 {
        tar = tar.file("x/y/z", b"").file("x", b"");
    }
    assert_eq!(layer(tar).len(), 2);
}

#[test]
fn a_deep_tree_needs_few_descriptors() {
    let deep = "d/".repeat(1000);
    let tree = layers(vec![
        Tar::new().pax(&[("path", format!("{deep}f").as_bytes())]).file("x", b""),
        Tar::new()
            .pax(&[("path", format!("{deep}g").as_bytes())])
            .file("x", b"")
            .file("d", b"")
            .file("d/e", b""),
    ]);
    assert_eq!((tree[0].len(), tree[1].len()), (1002, 3));
}
