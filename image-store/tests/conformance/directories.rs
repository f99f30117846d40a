//! Directories, those that no entry lists among them, and what takes the place of what.

use crate::stack::expect;
use crate::tar::{Tar, header};

#[test]
fn a_directory_over_a_directory_replaces_attributes_and_keeps_children() {
    let again = || {
        Tar::new()
            .pax(&[("mtime", b"1600000000.5"), ("SCHILY.xattr.user.new", b"2")])
            .add(header(b'5', "d").mode(0o1750).owner(7, 8), b"")
    };
    let first = || {
        Tar::new()
            .pax(&[("SCHILY.xattr.user.old", b"1")])
            .add(header(b'5', "d").mode(0o700).owner(1, 2), b"")
            .file("d/f", b"x")
    };
    let expected = [". d @0", "d d 1750 7:8 @1600000000.500000000 user.new=\"2\"", "d/f f \"x\""];
    // In an upper layer, and in the same one.
    expect([first(), again()], &expected);
    expect([Tar([first().0, again().0].concat())], &expected);
}

#[test]
fn anything_else_is_removed_and_made_anew() {
    let low = || {
        Tar::new()
            .pax(&[("SCHILY.xattr.user.old", b"1")])
            .add(header(b'0', "file").mode(0o600).owner(1, 1), b"old")
            .link("other", "file")
            .symlink("to", "file")
            .dir("dir")
            .file("dir/child", b"")
            .add(header(b'6', "fifo"), b"")
    };
    let new = || {
        Tar::new()
            .file("file", b"new")
            .file("to", b"no link")
            .symlink("dir", "file")
            .dir("fifo")
            .file("fifo/child", b"")
    };
    let expected = [
        ". d @0",
        "dir l -> file",
        "fifo d",
        "fifo/child f \"\"",
        "file f \"new\"",
        "other f 600 1:1 \"old\" user.old=\"1\"",
        "to f \"no link\"",
    ];
    // In the same layer nothing is written through a name that another file has, or through a link.
    expect([Tar([low().0, new().0].concat())], &expected);
    // Of a lower layer both names stay one inode there, and it is counted.
    let counted = expected.map(|line| line.replace("user.old=\"1\"", "user.old=\"1\" x2"));
    expect([low(), new()], &counted.each_ref().map(String::as_str));
}

#[test]
fn a_parent_that_is_no_directory_becomes_one() {
    let low = || Tar::new().file("a", b"file").symlink("b", "/etc").add(header(b'6', "c"), b"");
    let new = || Tar::new().file("a/x", b"1").file("b/y", b"2").file("c/d/z", b"3");
    let expected = [
        ". d @0",
        "a d @0",
        "a/x f \"1\"",
        "b d @0",
        "b/y f \"2\"",
        "c d @0",
        "c/d d @0",
        "c/d/z f \"3\"",
    ];
    expect([low(), new()], &expected);
    expect([Tar([low().0, new().0].concat())], &expected);
}

/// The lower directory's attributes, whichever of several layers it is in, and through layers that do not list it.
#[test]
fn directories_that_are_not_listed_take_the_lower_ones_attributes() {
    let low = Tar::new()
        .add(header(b'5', "./").mode(0o711).owner(1, 2).mtime(5), b"")
        .pax(&[
            ("mtime", b"1500000000.000000001"),
            ("SCHILY.xattr.user.x", b"1"),
            ("SCHILY.xattr.trusted.t", b"2"),
        ])
        .add(header(b'5', "tmp").mode(0o1777).owner(3, 4), b"")
        .add(header(b'5', "tmp/in").mode(0o700).mtime(6), b"");
    expect(
        [
            low,
            Tar::new().file("tmp/a", b""),
            Tar::new().add(header(b'5', "tmp/in").mode(0o2750).owner(0, 9).mtime(7), b""),
            Tar::new().file("tmp/in/deep/f", b"").file("tmp/.wh.none", b""),
        ],
        &[
            ". d 711 1:2 @5",
            "tmp d 1777 3:4 @1500000000.000000001 trusted.t=\"2\" user.x=\"1\"",
            "tmp/a f \"\"",
            "tmp/in d 2750 0:9 @7",
            "tmp/in/deep d @0",
            "tmp/in/deep/f f \"\"",
        ],
    );
}

#[test]
fn with_nothing_below_they_are_roots_and_0755() {
    expect([Tar::new().file("a/b/f", b"")], &[". d @0", "a d @0", "a/b d @0", "a/b/f f \"\""]);
    // Nothing is below what a whiteout or a file has hidden.
    let low = || {
        Tar::new()
            .add(header(b'5', "gone").mode(0o700).owner(1, 1), b"")
            .add(header(b'5', "file").mode(0o700).owner(1, 1), b"")
    };
    expect(
        [
            low(),
            Tar::new().file(".wh.gone", b"").file("file", b""),
            Tar::new().file("gone/f", b"").file("file/f", b""),
        ],
        &[". d @0", "file d @0", "file/f f \"\"", "gone d @0", "gone/f f \"\""],
    );
}

/// A directory's time is set when all that is in it is there, also where links and whiteouts come last.
#[test]
fn times_of_directories_are_set_last() {
    let low = Tar::new()
        .add(header(b'5', "a").mtime(1), b"")
        .add(header(b'5', "a/b").mtime(2), b"")
        .file("a/b/f", b"")
        .file("a/b/gone", b"")
        .symlink("a/s", "b");
    let top = Tar::new()
        .add(header(b'5', "n").mtime(3), b"")
        .add(header(b'5', "n/m").mtime(4), b"")
        .link("n/m/l", "a/b/f")
        .file("n/x/late", b"")
        .file("a/b/.wh.gone", b"")
        .file("a/b/.wh.none", b"");
    expect(
        [low, top],
        &[
            ". d @0",
            "a d @1",
            "a/b d @2",
            "a/b/f f \"\" x2",
            "a/s l -> b",
            "n d @3",
            "n/m d @4",
            "n/m/l = a/b/f",
            "n/x d @0",
            "n/x/late f \"\"",
        ],
    );
}
