//! Each line of the image specification's layer document, and of overlayfs's, that concerns one layer.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use image_unpack::{Options, WhiteoutForm};

use crate::image::{Node, layer, layers, root, sentence, try_layer, unsettled};
use crate::tar::{GNU, Tar, checksum, header};

#[test]
fn plain_entries() {
    let tree = layer(
        Tar::new()
            .add(header(b'5', "./").mode(0o711).owner(5, 6), b"")
            .dir("./a/")
            .add(header(b'0', "a/f").mode(0o640).owner(1000, 1001).mtime(1_234_567_890), b"hello")
            .symlink("/a/s", "../../etc/passwd")
            .link("h", "./a/f")
            .add(header(b'3', "null").mode(0o666).device(1, 3), b"")
            .add(header(b'4', "disk").device(259, 70000), b"")
            .add(header(b'6', "fifo").mode(0o620), b""),
    );
    assert_eq!(
        tree.keys().collect::<Vec<_>>(),
        ["", "a", "a/f", "a/s", "disk", "fifo", "h", "null"]
    );
    assert_eq!((tree[""].mode, tree[""].uid, tree[""].gid), (0o711, 5, 6));
    let file = &tree["a/f"];
    assert_eq!((file.kind, file.mode, file.uid, file.gid), ('f', 0o640, 1000, 1001));
    assert_eq!((file.mtime, &file.content[..]), ((1_234_567_890, 0), &b"hello"[..]));
    assert_eq!(tree["a/s"].content, b"../../etc/passwd");
    assert_eq!(tree["a/s"].mtime, (1_700_000_000, 0));
    assert_eq!(tree["h"].ino, file.ino);
    assert_eq!((tree["null"].kind, tree["null"].mode, tree["null"].rdev), ('c', 0o666, 0x103));
    assert_eq!((tree["disk"].kind, tree["disk"].rdev), ('b', rustix::fs::makedev(259, 70000)));
    assert_eq!((tree["fifo"].kind, tree["fifo"].mode), ('p', 0o620));
    for (path, node) in &tree {
        assert!(node.mtime.0 == 1_700_000_000 || path == "a/f" || path == "h", "{path} {node:?}");
    }
}

#[test]
fn whiteouts_wherever_they_stand() {
    let before =
        Tar::new().file("d/.wh.gone", b"").file("d/.wh.again", b"").file("d/again", b"new");
    let after = Tar::new().file("d/again", b"new").file("d/.wh.again", b"").file("d/.wh.gone", b"");
    for tar in [before, after] {
        let tree = unsettled(tar, &root());
        assert!(tree["d/gone"].is_whiteout());
        assert_eq!(tree["d/again"].content, b"new");
        assert_eq!(tree.len(), 4);
    }
}

#[test]
fn whiteout_and_children_again_are_opaque() {
    for tar in [
        Tar::new().file(".wh.d", b"").dir("d").file("d/new", b""),
        Tar::new().dir("d").file("d/new", b"").file(".wh.d", b""),
        Tar::new().file("d/new", b"").file(".wh.d", b""),
    ] {
        let tree = unsettled(tar, &root());
        assert!(tree["d"].is_opaque());
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "d", "d/new"]);
    }
}

#[test]
fn no_whiteout_in_an_opaque_directory() {
    let tree = unsettled(
        Tar::new()
            .file("d/.wh.x", b"")
            .file("d/e/.wh.y", b"")
            .file("d/e/f", b"")
            .file("d/.wh..wh..opq", b""),
        &root(),
    );
    assert!(tree["d"].is_opaque());
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "d", "d/e", "d/e/f"]);
}

#[test]
fn opaque_applies_first() {
    let tree = unsettled(
        Tar::new().file("d/kept", b"1").file("d/.wh..wh..opq", b"").file("d/too", b"2"),
        &root(),
    );
    assert_eq!((&tree["d/kept"].content[..], &tree["d/too"].content[..]), (&b"1"[..], &b"2"[..]));
    assert!(tree["d"].is_opaque());
}

#[test]
fn whiteouts_as_attributes() {
    for (user, prefix) in [(false, "trusted"), (true, "user")] {
        let options = Options { form: WhiteoutForm::Xattr { user }, ..root() };
        let tree = unsettled(Tar::new().file("d/.wh.x", b"").file("o/.wh..wh..opq", b""), &options);
        let get =
            |node: &Node, name: &str| node.xattrs.get(&format!("{prefix}.overlay.{name}")).cloned();
        assert_eq!(
            (tree["d/x"].kind, get(&tree["d/x"], "whiteout").as_deref()),
            ('f', Some(&b"y"[..]))
        );
        assert_eq!(get(&tree["d"], "opaque").as_deref(), Some(&b"x"[..]));
        assert_eq!(get(&tree["o"], "opaque").as_deref(), Some(&b"y"[..]));
    }
}

#[test]
fn bookkeeping_of_aufs_is_passed_over() {
    let tree = layer(
        Tar::new()
            .file(".wh..wh..plnk", b"")
            .file(".wh..wh.plnk/1.2", b"x")
            .dir(".wh..wh.aufs")
            .file("a", b""),
    );
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "a"]);
}

#[test]
fn a_directory_over_a_directory_keeps_children() {
    let tree = layer(
        Tar::new()
            .pax(&[("SCHILY.xattr.user.old", b"1")])
            .dir("d")
            .file("d/f", b"x")
            .add(header(b'5', "d").mode(0o1777).owner(7, 8), b""),
    );
    assert_eq!((tree["d"].mode, tree["d"].uid, tree["d"].gid), (0o1777, 7, 8));
    assert!(tree["d"].xattrs.is_empty());
    assert_eq!(tree["d/f"].content, b"x");
}

#[test]
fn the_last_of_one_name_counts() {
    let tree = layer(
        Tar::new()
            .file("a", b"old")
            .file("a", b"new")
            .file("b", b"")
            .symlink("b", "a")
            .dir("c")
            .file("c/d/e", b"")
            .dir("c/d/f")
            .file("c", b"now a file")
            .symlink("s", "/etc")
            .dir("s")
            .symlink("p", "c")
            .file("p/q", b"below")
            .dir("z")
            .symlink("z", "a"),
    );
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "a", "b", "c", "p", "p/q", "s", "z"]);
    assert_eq!(
        (&tree["a"].content[..], tree["b"].kind, &tree["c"].content[..]),
        (&b"new"[..], 'l', &b"now a file"[..])
    );
    assert_eq!((tree["s"].kind, tree["p"].kind, tree["z"].kind), ('d', 'd', 'l'));
    // What the file had hidden of lower layers stays hidden.
    assert!(tree["s"].is_opaque() && tree["p"].is_opaque());
}

#[test]
fn replacing_does_not_write_through_links() {
    let tree = layer(Tar::new().file("a", b"first").link("b", "a").file("b", b"second"));
    assert_eq!((&tree["a"].content[..], &tree["b"].content[..]), (&b"first"[..], &b"second"[..]));
    let tree = layer(Tar::new().file("a", b"first").symlink("b", "a").file("b", b"second"));
    assert_eq!((&tree["a"].content[..], &tree["b"].content[..]), (&b"first"[..], &b"second"[..]));
}

#[test]
fn attributes_of_overlayfs_are_escaped() {
    let tar = || {
        Tar::new()
            .pax(&[
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.trusted.overlay.overlay.x", b"2"),
            ])
            .dir("d")
            .pax(&[("SCHILY.xattr.user.overlay.opaque", b"y")])
            .dir("e")
    };
    let tree = layer(tar());
    assert_eq!(
        tree["d"].xattrs.keys().collect::<Vec<_>>(),
        ["trusted.overlay.overlay.opaque", "trusted.overlay.overlay.overlay.x"]
    );
    assert_eq!(tree["e"].xattrs.keys().collect::<Vec<_>>(), ["user.overlay.opaque"]);
    let tree = unsettled(tar(), &Options { form: WhiteoutForm::Xattr { user: true }, ..root() });
    assert_eq!(tree["e"].xattrs.keys().collect::<Vec<_>>(), ["user.overlay.overlay.opaque"]);
}

#[test]
fn a_literal_whiteout_device_is_refused() {
    let said = sentence(try_layer(Tar::new().add(header(b'3', "dev/x").device(0, 0), b"")));
    assert!(said.contains("dev/x") && said.contains("0:0"), "{said}");
}

#[test]
fn set_id_bits_capabilities_and_acls_survive_the_chown() {
    // VFS_CAP_REVISION_2 with cap_net_bind_service, effective.
    let capability: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // Version 2: user_obj rw, user 1000 r, group_obj r, mask r, other none.
    let acl: [u8; 44] = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255,
        255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];
    let tree = layer(
        Tar::new()
            .add(header(b'0', "suid").mode(0o6755).owner(1, 2), b"x")
            .add(header(b'5', "tmp").mode(0o3777).owner(3, 4), b"")
            .pax(&[
                ("SCHILY.xattr.security.capability", &capability),
                ("SCHILY.xattr.user.a", b"b\0c\n="),
            ])
            .add(header(b'0', "cap").mode(0o755).owner(1, 2), b"x")
            .pax(&[("SCHILY.xattr.system.posix_acl_access", &acl)])
            .add(header(b'0', "acl").mode(0o640).owner(1, 2), b"")
            .pax(&[("SCHILY.xattr.trusted.t", b"1")])
            .symlink("link", "cap"),
    );
    assert_eq!((tree["suid"].mode, tree["suid"].uid), (0o6755, 1));
    assert_eq!((tree["tmp"].mode, tree["tmp"].gid), (0o3777, 4));
    assert_eq!(tree["cap"].xattrs["security.capability"], capability);
    assert_eq!(tree["cap"].xattrs["user.a"], b"b\0c\n=");
    assert_eq!(tree["acl"].xattrs["system.posix_acl_access"], acl);
    assert_eq!(tree["link"].xattrs["trusted.t"], b"1");
}

#[test]
fn a_default_acl_of_a_directory_does_not_reach_its_children() {
    let acl: [u8; 28] = [
        2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 7, 0, 255, 255, 255, 255, 32, 0, 7, 0,
        255, 255, 255, 255,
    ];
    let tree = layer(
        Tar::new()
            .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)])
            .add(header(b'5', "d").mode(0o2775).owner(0, 9), b"")
            .file("d/f", b"")
            .dir("d/e"),
    );
    assert_eq!(
        (tree["d/f"].mode, tree["d/f"].gid, tree["d/e"].mode, tree["d/e"].gid),
        (0o644, 0, 0o755, 0)
    );
    assert!(tree["d/f"].xattrs.is_empty() && tree["d/e"].xattrs.is_empty());
    assert_eq!(tree["d"].mode, 0o2775);
}

#[test]
fn times_have_nanoseconds_and_directories_keep_theirs() {
    let tree = layer(
        Tar::new()
            .pax(&[("mtime", b"1500000000.123456789")])
            .dir("d")
            .pax(&[("mtime", b"-1.5")])
            .file("d/f", b"")
            .pax(&[("mtime", b"1600000000.5")])
            .symlink("d/s", "f")
            .file("d/e/late", b"")
            .file("d/.wh.w", b""),
    );
    assert_eq!(tree["d"].mtime, (1_500_000_000, 123_456_789));
    assert_eq!(tree["d/f"].mtime, (-2, 500_000_000));
    assert_eq!(tree["d/s"].mtime, (1_600_000_000, 500_000_000));
}

#[test]
fn unlisted_directories_have_a_plain_default() {
    let tree = layer(Tar::new().file("a/b/f", b""));
    for path in ["", "a", "a/b"] {
        let node = &tree[path];
        assert_eq!((node.mode, node.uid, node.gid, node.mtime), (0o755, 0, 0, (0, 0)), "{path}");
    }
}

#[test]
fn hard_links_also_below_unlisted_parents() {
    let tree = layer(
        Tar::new()
            .file("x/y/a", b"1")
            .link("z/w/b", "x/y/a")
            .link("c", "/z/w/b")
            .symlink("s", "nowhere")
            .link("t", "s"),
    );
    assert_eq!(tree["z/w/b"].ino, tree["x/y/a"].ino);
    assert_eq!(tree["c"].ino, tree["x/y/a"].ino);
    assert_eq!((tree["t"].kind, tree["t"].ino), ('l', tree["s"].ino));
}

#[test]
fn large_ids() {
    let tree = layer(
        Tar::new()
            .add(header(b'0', "base256").owner(3_000_000_000, 2_999_999_999), b"")
            .pax(&[("uid", b"4294967294"), ("gid", b"65536")])
            .file("pax", b""),
    );
    assert_eq!((tree["base256"].uid, tree["base256"].gid), (3_000_000_000, 2_999_999_999));
    assert_eq!((tree["pax"].uid, tree["pax"].gid), (4_294_967_294, 65536));
    for tar in [
        Tar::new().add(header(b'0', "f").owner(1 << 32, 0), b""),
        Tar::new().add(header(b'0', "f").owner(0, u64::from(u32::MAX)), b""),
        Tar::new().pax(&[("uid", b"4294967296")]).file("f", b""),
        Tar::new().pax(&[("gid", b"18446744073709551616")]).file("f", b""),
    ] {
        try_layer(tar).unwrap_err();
    }
}

#[test]
fn sizes_in_all_their_forms() {
    let base256 = |size: u8| {
        let mut block = header(b'0', "base256").block(0);
        block[124..136].fill(0);
        (block[124], block[135]) = (0x80, size);
        checksum(&mut block);
        Tar::new().block(block).data(b"12345")
    };
    assert_eq!(layer(base256(5).file("after", b""))["base256"].content, b"12345");
    let blanks = |field: &[u8; 12]| {
        let mut block = header(b'0', "blanks").block(0);
        block[124..136].copy_from_slice(field);
        checksum(&mut block);
        Tar::new().block(block).data(b"12345")
    };
    assert_eq!(layer(blanks(b"          5 ").file("after", b""))["blanks"].content, b"12345");
    let pax = Tar::new().pax(&[("size", b"5")]).add(header(b'0', "pax").size(0), b"12345");
    assert_eq!(layer(pax.file("after", b""))["pax"].content, b"12345");
}

#[test]
fn global_headers_hold_until_a_local_one() {
    let global = crate::tar::record("uid", b"77");
    let tree = layer(
        Tar::new()
            .add(header(b'g', "g"), &global)
            .file("a", b"")
            .pax(&[("uid", b"78")])
            .file("b", b"")
            .file("c", b"")
            .add(header(b'g', "g"), &crate::tar::record("uid", b""))
            .file("d", b""),
    );
    assert_eq!([tree["a"].uid, tree["b"].uid, tree["c"].uid, tree["d"].uid], [77, 78, 77, 0]);
}

#[test]
fn long_names_of_any_bytes() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let gnu = |kind, name: &str| {
        let mut head = header(kind, "././@LongLink");
        head.magic = GNU;
        (head, [name.as_bytes(), b"\0"].concat())
    };
    let (name, name_data) = gnu(b'L', &long);
    let (link, link_data) = gnu(b'K', &long);
    let mut prefixed = header(b'0', "name");
    prefixed.prefix = b"pre/fix".to_vec();
    let mut bytes = header(b'0', "x");
    bytes.name = b"b\xff\xfe\n".to_vec();
    let deep = format!("{}end", "x/".repeat(1000));
    let tree = layer(
        Tar::new()
            .add(name, &name_data)
            .file("short", b"gnu")
            .add(link, &link_data)
            .symlink("s", "t")
            .pax(&[("path", b"p\xc3\xa4x"), ("linkpath", long.as_bytes())])
            .symlink("old", "t")
            .add(prefixed, b"1")
            .add(bytes, b"2")
            .pax(&[("path", deep.as_bytes())])
            .file("short", b"deep"),
    );
    assert_eq!(tree[&long].content, b"gnu");
    assert_eq!(tree["s"].content, long.as_bytes());
    assert_eq!(tree["p\u{e4}x"].content, long.as_bytes());
    assert!(tree.contains_key("pre/fix/name") && tree.contains_key("b\u{fffd}\u{fffd}\n"));
    assert_eq!(tree[&deep].content, b"deep");
}

#[test]
fn without_root_devices_are_empty_files() {
    let opened = crate::image::open(&crate::image::docker(&[Tar::new()
        .add(header(b'3', "null").device(1, 3), b"")
        .add(header(b'6', "fifo"), b"")
        .pax(&[("SCHILY.xattr.trusted.x", b"1"), ("SCHILY.xattr.user.x", b"1")])
        .add(header(b'0', "f").owner(12, 13), b"")
        .end()]));
    let unpacked = opened.unpack(0, &Options::default()).unwrap();
    let tree = opened.layer(0);
    assert_eq!((tree["null"].kind, tree["null"].content.len(), tree["fifo"].kind), ('f', 0, 'p'));
    assert_eq!((tree["f"].uid, tree["f"].xattrs.len()), (0, 1));
    assert_eq!((unpacked.omitted.devices, unpacked.omitted.xattrs), (1, 1));
}

/// A directory's default access rights, which take the umask's place in it, do not get into what is unpacked.
#[test]
fn modes_below_a_directory_with_default_rights() {
    let rights: [(u16, u16); 3] = [(1, 7), (4, 5), (0x20, 0)]; // the owner, the group, others: none
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights) in rights {
        acl.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
        acl.extend(u32::MAX.to_le_bytes());
    }
    let tar =
        Tar::new().add(header(b'0', "a").mode(0o644), b"").add(header(b'0', "b").mode(0o4755), b"");
    let opened = crate::image::open(&crate::image::docker(&[tar.end()]));
    let into = opened.dir.path().join("into");
    std::fs::create_dir(&into).unwrap();
    let name = "system.posix_acl_default";
    rustix::fs::setxattr(&into, name, &acl, rustix::fs::XattrFlags::empty()).unwrap();
    let open = std::fs::File::open(&into).unwrap();
    let layer = &opened.image().layers[0];
    let unpacked = opened.archive.unpack(layer, open.as_fd(), &root(), &|_| ()).unwrap();
    assert_eq!(unpacked.entries, 2);
    let mode = |name| std::fs::metadata(into.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("a"), mode("b")), (0o644, 0o4755));
}

#[test]
fn empty_layers() {
    for bytes in [Vec::new(), vec![0; 512], vec![0; 1024], vec![0; 10240]] {
        let opened = crate::image::open(&crate::image::docker(&[bytes]));
        let unpacked = opened.unpack(0, &root()).unwrap();
        assert_eq!((unpacked.entries, opened.layer(0).len()), (0, 1));
    }
    assert_eq!(layers(vec![Tar::new(), Tar::new()]).len(), 2);
}
