//! Layers upon layers, as overlayfs shows them: the merged trees are read from real, detached overlay mounts.

use crate::image::{docker, layers, merged, open, root, sentence};
use crate::tar::{Tar, header};

#[test]
fn unlisted_directories_do_not_hide_the_lower_ones() {
    let lower = Tar::new()
        .add(header(b'5', "./").mode(0o750).owner(1, 2), b"")
        .pax(&[
            ("mtime", b"1500000000.25"),
            ("SCHILY.xattr.user.x", b"1"),
            ("SCHILY.xattr.trusted.overlay.y", b"2"),
        ])
        .add(header(b'5', "tmp").mode(0o1777).owner(3, 4), b"")
        .add(header(b'5', "tmp/in").mode(0o700), b"");
    let trees = layers(vec![
        lower,
        Tar::new().file("other", b""),
        Tar::new().file("tmp/in/new/f", b"").file("tmp/.wh.none", b""),
    ]);
    let top = &trees[2];
    assert_eq!(
        (top[""].mode, top[""].uid, top[""].gid, top[""].mtime.0),
        (0o750, 1, 2, 1_700_000_000)
    );
    assert_eq!(
        (top["tmp"].mode, top["tmp"].uid, top["tmp"].mtime),
        (0o1777, 3, (1_500_000_000, 250_000_000))
    );
    assert_eq!(top["tmp"].xattrs, trees[0]["tmp"].xattrs);
    assert_eq!(top["tmp"].xattrs.len(), 2);
    assert_eq!((top["tmp/in"].mode, top["tmp/in/new"].mode), (0o700, 0o755));
    assert_eq!(trees[1][""].mode, 0o750);
}

#[test]
fn attributes_come_from_what_shows() {
    let trees = layers(vec![
        Tar::new()
            .add(header(b'5', "gone").mode(0o700), b"")
            .add(header(b'5', "file").mode(0o700), b"")
            .add(header(b'5', "again").mode(0o700), b"")
            .add(header(b'5', "marked").mode(0o711), b""),
        Tar::new()
            .file(".wh.gone", b"")
            .file("file", b"")
            .file(".wh.again", b"")
            .file("marked/.wh..wh..opq", b"")
            .file("again/x", b""),
        Tar::new()
            .file("gone/f", b"")
            .file("file/f", b"")
            .file("again/f", b"")
            .file("marked/f", b""),
    ]);
    let modes = ["gone", "file", "again", "marked"].map(|path| trees[2][path].mode);
    assert_eq!(modes, [0o755, 0o755, 0o755, 0o711]);
}

#[test]
fn whiteouts_that_hide_nothing_do_not_show() {
    let trees = layers(vec![
        Tar::new().file("d/real", b"").file("o/below", b""),
        Tar::new()
            .file("d/.wh.real", b"")
            .file("d/.wh.nothing", b"")
            .file("new/.wh.nothing", b"")
            .file("o/.wh..wh..opq", b""),
        Tar::new().file("d/.wh.real", b"").file("o/.wh.below", b""),
    ]);
    assert_eq!(trees[1].keys().collect::<Vec<_>>(), ["", "d", "d/real", "new", "o"]);
    assert!(trees[1]["d/real"].is_whiteout());
    assert_eq!(trees[1]["d"].mtime, trees[0]["d"].mtime);
    // Gone already.
    assert_eq!(trees[2].keys().collect::<Vec<_>>(), ["", "d", "o"]);
}

#[test]
fn hard_links_to_lower_layers_are_copied_up() {
    let trees = layers(vec![
        Tar::new()
            .add(header(b'5', "bin").mode(0o711), b"")
            .pax(&[("SCHILY.xattr.user.x", b"1"), ("mtime", b"1.5")])
            .add(header(b'0', "bin/a").mode(0o4755).owner(1, 2), b"tool")
            .symlink("s", "bin/a")
            .add(header(b'3', "null").device(1, 3).mode(0o666), b""),
        Tar::new(),
        Tar::new()
            .link("bin/b", "bin/a")
            .link("x/c", "/bin/a")
            .link("d", "x/c")
            .link("t", "s")
            .link("n", "null"),
    ]);
    let top = &trees[2];
    for path in ["bin/a", "bin/b", "x/c", "d"] {
        let (node, lower) = (&top[path], &trees[0]["bin/a"]);
        assert_eq!(
            (&node.content, node.mode, node.uid, node.gid, node.mtime, &node.xattrs),
            (&lower.content, 0o4755, 1, 2, (1, 500_000_000), &lower.xattrs),
            "{path}"
        );
        assert_eq!(node.ino, top["bin/a"].ino);
    }
    assert_eq!((top["bin"].mode, top["bin"].mtime), (0o711, trees[0]["bin"].mtime));
    assert_eq!(
        (top["t"].kind, top["t"].ino, &top["t"].content[..]),
        ('l', top["s"].ino, &b"bin/a"[..])
    );
    assert_eq!((top["n"].kind, top["n"].rdev, top["n"].mode), ('c', 0x103, 0o666));
}

#[test]
fn a_lower_file_that_this_layer_replaces_is_still_linked() {
    let lower = || Tar::new().file("a", b"old").file("d/b", b"low");
    let tree = merged(vec![
        lower(),
        Tar::new().link("keep", "a").file("a", b"new").link("moved", "d/b").file("d/.wh.b", b""),
    ]);
    assert_eq!(
        (&tree["keep"].content[..], &tree["a"].content[..], &tree["moved"].content[..]),
        (&b"old"[..], &b"new"[..], &b"low"[..])
    );
    assert!(!tree.contains_key("d/b"));
    // A later entry of the link's name counts, and one below it.
    let replaced = merged(vec![
        lower(),
        Tar::new().link("l", "a").file("l", b"own").link("m", "a").file("m/f", b""),
    ]);
    assert_eq!((&replaced["l"].content[..], replaced["m"].kind), (&b"own"[..], 'd'));
}

#[test]
fn a_link_to_nothing_is_an_error() {
    for tar in
        [Tar::new().link("l", "nothing"), Tar::new().link("l", "dir"), Tar::new().link("l", "gone")]
    {
        let opened = open(&docker(&[
            Tar::new().dir("dir").file("gone", b"").end(),
            Tar::new().file(".wh.gone", b"").end(),
            tar.end(),
        ]));
        let said = sentence(opened.settle_all(3, &root()));
        assert!(said.contains("hard link l") && said.contains("layer 3 of 3"), "{said}");
    }
}

#[test]
fn an_opaque_root_hides_all() {
    let tree = merged(vec![
        Tar::new().file("a", b"1").file("d/x", b"2").file("e/y", b"3"),
        Tar::new().file("b", b"").file(".wh.a", b""),
        Tar::new().file(".wh..wh..opq", b"").file("d/z", b"4").file("c", b"5"),
    ]);
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "c", "d", "d/z"]);
}

#[test]
fn overlayfs_reads_the_marks() {
    let tree = merged(vec![
        Tar::new()
            .file("d/a", b"1")
            .file("d/b", b"2")
            .file("o/a", b"3")
            .file("w/a", b"4")
            .file("f/a", b"5"),
        Tar::new()
            .file("d/.wh.a", b"")
            .file("o/.wh..wh..opq", b"")
            .file("o/n", b"6")
            .file(".wh.w", b"")
            .file("w/n", b"7")
            .file("f", b"8"),
        Tar::new().file("f/n", b"9"),
    ]);
    assert_eq!(
        tree.keys().collect::<Vec<_>>(),
        ["", "d", "d/b", "f", "f/n", "o", "o/n", "w", "w/n"]
    );
}

#[test]
fn many_layers_need_few_descriptors() {
    let tars = (0..300).map(|at| Tar::new().file(&format!("d/{at}"), b"")).collect::<Vec<_>>();
    assert_eq!(layers(tars).len(), 300);
}
