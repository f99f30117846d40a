//! Files: links, attributes in the order that keeps them, devices.

use image_store::{LoadOptions, Options};

use crate::common::{Place, quick};
use crate::stack::{Mount, Way, expect, load, refuse};
use crate::tar::{Tar, header};

#[test]
fn hard_links_of_one_layer_also_below_parents_that_are_not_listed() {
    expect(
        [Tar::new()
            .file("x/y/a", b"1")
            .link("z/w/b", "x/y/a")
            .link("c", "/z/w/b")
            .symlink("s", "nowhere")
            .link("t", "./s")],
        &[
            ". d @0",
            "c f \"1\" x3",
            "s l -> nowhere x2",
            "t = s",
            "x d @0",
            "x/y d @0",
            "x/y/a = c",
            "z d @0",
            "z/w d @0",
            "z/w/b = c",
        ],
    );
}

#[test]
fn hard_links_to_a_lower_layer_copy_the_inode_up() {
    let low = || {
        Tar::new()
            .add(header(b'5', "bin").mode(0o711).mtime(9), b"")
            .pax(&[("mtime", b"1.5"), ("SCHILY.xattr.user.x", b"1")])
            .add(header(b'0', "bin/a").mode(0o4755).owner(1, 2), b"tool")
            .pax(&[("SCHILY.xattr.trusted.t", b"2")])
            .add(header(b'3', "null").mode(0o666).device(1, 3), b"")
            .pax(&[("SCHILY.xattr.trusted.t", b"3")])
            .symlink("s", "bin/a")
    };
    expect(
        [
            low(),
            Tar::new(),
            Tar::new()
                .link("bin/b", "bin/a")
                .link("d", "bin/b")
                .link("n", "null")
                .link("t", "s")
                .link("x/c", "/bin/a"),
        ],
        &[
            ". d @0",
            "bin d 711 @9",
            "bin/a f 4755 1:2 @1.500000000 \"tool\" user.x=\"1\" x4",
            "bin/b = bin/a",
            "d = bin/a",
            "n c 666 1,3 trusted.t=\"2\" x2",
            "null = n",
            "s l -> bin/a trusted.t=\"3\" x2",
            "t = s",
            "x d @0",
            "x/c = bin/a",
        ],
    );
    // The name of the lower file may go or be another's in this layer.
    expect(
        [
            low(),
            Tar::new()
                .link("kept", "bin/a")
                .file("bin/a", b"new")
                .link("m", "s")
                .file(".wh.s", b""),
        ],
        &[
            ". d @0",
            "bin d 711 @9",
            "bin/a f \"new\"",
            "kept f 4755 1:2 @1.500000000 \"tool\" user.x=\"1\"",
            "m l -> bin/a trusted.t=\"3\"",
            "null c 666 1,3 trusted.t=\"2\"",
        ],
    );
    refuse([low(), Tar::new().link("l", "nothing")], "hard link l");
    refuse(
        [low(), Tar::new().file("bin/.wh.a", b""), Tar::new().link("l", "bin/a")],
        "hard link l",
    );
}

/// `cap_net_bind_service`, effective, as the kernel keeps it (VFS_CAP_REVISION_2).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Owner rw, user 1000 r, group r, mask r, others nothing (version 2 of POSIX ACLs as attributes).
const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255,
    255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];

/// chown clears set-id bits and `security.capability`, and a write the times: so each comes in its turn.
#[test]
fn set_ids_capabilities_acls_and_attributes_survive_owner_mode_and_time() {
    let tar = Tar::new()
        .add(header(b'0', "suid").mode(0o6755).owner(1, 2).mtime(3), b"x")
        .add(header(b'5', "sticky").mode(0o3777).owner(3, 4), b"")
        .pax(&[
            ("SCHILY.xattr.security.capability", &CAPABILITY),
            ("SCHILY.xattr.user.a", b"b\0c\n="),
        ])
        .add(header(b'0', "capable").mode(0o755).owner(1, 2).mtime(4), b"x")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", &ACL)])
        .add(header(b'0', "listed").mode(0o640).owner(1, 2), b"")
        .pax(&[("SCHILY.xattr.trusted.t", b"1")])
        .symlink("link", "suid")
        .pax(&[("SCHILY.xattr.user.rest", b"0")])
        .dir("attributes");
    let capability = CAPABILITY.escape_ascii();
    let expected = [
        ". d @0".to_owned(),
        "attributes d user.rest=\"0\"".to_owned(),
        format!(
            "capable f 755 1:2 @4 \"x\" security.capability=\"{capability}\" user.a=\"b\\x00c\\n=\""
        ),
        "link l -> suid trusted.t=\"1\"".to_owned(),
        format!("listed f 640 1:2 \"\" system.posix_acl_access=\"{}\"", ACL.escape_ascii()),
        "sticky d 3777 3:4".to_owned(),
        "suid f 6755 1:2 @3 \"x\"".to_owned(),
    ];
    let expected = expected.each_ref().map(String::as_str);
    expect([tar.clone()], &expected);
    // And a copy up of an empty layer's, for links.
    expect([tar, Tar::new()], &expected);
}

#[test]
fn nanoseconds_and_times_before_1970() {
    let at = |tar: Tar, time: &str| tar.pax(&[("mtime", time.as_bytes())]);
    let tar = at(Tar::new(), "1500000000.123456789").dir("d");
    let tar = at(tar, "-1.5").file("d/f", b"");
    let tar = at(tar, "1600000000.000000001").symlink("d/s", "f");
    let tar = at(tar, "1600000000.9999999999").add(header(b'6', "d/p"), b"");
    expect(
        [tar],
        &[
            ". d @0",
            "d d @1500000000.123456789",
            "d/f f @-2.500000000 \"\"",
            "d/p p @1600000000.999999999",
            "d/s l @1600000000.000000001 -> f",
        ],
    );
}

fn special() -> Tar {
    Tar::new()
        .add(header(b'4', "disk").mode(0o660).owner(0, 6).device(259, 70000), b"")
        .add(header(b'6', "fifo").mode(0o620), b"")
        .add(header(b'3', "null").mode(0o666).device(1, 3), b"")
}

#[test]
fn devices_and_fifos_are_made_as_root() {
    expect([special()], &[". d @0", "disk b 660 0:6 259,70000", "fifo p 620", "null c 666 1,3"]);
}

/// What a user gets who may neither make devices nor give files away.
#[test]
fn without_owners_devices_are_empty_files() {
    let place = Place::new();
    let options = Options { owners: false, ..quick().options };
    let options = LoadOptions { options, ..quick() };
    let image = load(&place, &[special().end()], &options, Way::AtOnce).unwrap();
    assert_eq!(
        Mount::new(&place, &image).lines(),
        [". d @0", "disk f 660 \"\"", "fifo p 620", "null f 666 \"\""]
    );
}
