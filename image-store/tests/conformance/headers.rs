//! What a tar's headers say: numbers, names and holes in all the ways there are.

use crate::stack::{expect, refuse};
use crate::tar::{GNU, Header, Tar, checksum, header, number, record};

#[test]
fn ids_and_sizes_in_octal_base_256_and_pax() {
    let mut block = header(b'0', "base256").owner(3_000_000_000, 2_999_999_999).block(0);
    block[124..136].fill(0);
    (block[124], block[135]) = (0x80, 5);
    checksum(&mut block);
    expect(
        [Tar::new()
            .block(block)
            .data(b"12345")
            .add(header(b'0', "octal").owner(0o7_777_777, 1), b"123")
            .pax(&[("uid", b"4294967294"), ("gid", b"65536"), ("size", b"4")])
            .add(header(b'0', "pax").size(0), b"1234")],
        &[
            ". d @0",
            "base256 f 3000000000:2999999999 \"12345\"",
            "octal f 2097151:1 \"123\"",
            "pax f 4294967294:65536 \"1234\"",
        ],
    );
    for tar in [
        Tar::new().add(header(b'0', "f").owner(1 << 32, 0), b""),
        Tar::new().add(header(b'0', "f").owner(0, u64::from(u32::MAX)), b""),
        Tar::new().pax(&[("uid", b"4294967296")]).file("f", b""),
        Tar::new().pax(&[("gid", b"18446744073709551616")]).file("f", b""),
    ] {
        refuse([tar], "id");
    }
}

#[test]
fn global_headers_hold_until_a_local_one_says_otherwise() {
    let global = |key: &str, value: &[u8]| (header(b'g', "g"), record(key, value));
    let (set, uid) = global("uid", b"77");
    let (clear, none) = global("uid", b"");
    let (time, at) = global("mtime", b"5.25");
    expect(
        [Tar::new()
            .add(set, &uid)
            .add(time, &at)
            .file("a", b"")
            .pax(&[("uid", b"78")])
            .file("b", b"")
            .file("c", b"")
            .add(clear, &none)
            .file("d", b"")],
        &[
            ". d @0",
            "a f 77:0 @5.250000000 \"\"",
            "b f 78:0 @5.250000000 \"\"",
            "c f 77:0 @5.250000000 \"\"",
            "d f @5.250000000 \"\"",
        ],
    );
    refuse([Tar::new().add(header(b'g', "g"), &record("path", b"x")).file("f", b"")], "path");
}

/// A header of GNU's for a name or link that is too long for the next one.
fn long(kind: u8, name: &[u8]) -> (Header, Vec<u8>) {
    let mut head = header(kind, "././@LongLink");
    head.magic = GNU;
    (head, [name, b"\0"].concat())
}

#[test]
fn names_of_any_bytes_in_each_way_to_write_them() {
    let long_name = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let (name, name_data) = long(b'L', long_name.as_bytes());
    let (link, link_data) = long(b'K', long_name.as_bytes());
    let mut prefixed = header(b'0', "name");
    prefixed.prefix = b"pre/fix".to_vec();
    let mut bytes = header(b'0', "x");
    bytes.name = b"\xff\xfe\n".to_vec();
    expect(
        [Tar::new()
            .add(name, &name_data)
            .file("short", b"gnu")
            .add(link, &link_data)
            .symlink("s", "t")
            .pax(&[("path", b"p\xc3\xa4x"), ("linkpath", b"\x01\xff")])
            .symlink("old", "t")
            .add(prefixed, b"1")
            .add(bytes, b"2")],
        &[
            ". d @0",
            &format!("{} d @0", "d".repeat(200)),
            &format!("{long_name} f \"gnu\""),
            "pre d @0",
            "pre/fix d @0",
            "pre/fix/name f \"1\"",
            "p\\xc3\\xa4x l -> \\x01\\xff",
            &format!("s l -> {long_name}"),
            "\\xff\\xfe\\n f \"2\"",
        ],
    );
}

#[test]
fn names_as_long_as_path_max_and_no_longer() {
    // 4,095 bytes: fifteen components of 255 bytes, and one of 255.
    let parents: Vec<String> = (0..15).map(|_| "x".repeat(255)).collect();
    let longest = format!("{}/{}", parents.join("/"), "y".repeat(255));
    assert_eq!(longest.len(), 4095);
    let mut expected = vec![". d @0".to_owned()];
    expected.extend((1..=15).map(|count| format!("{} d @0", parents[..count].join("/"))));
    expected.push(format!("{longest} f \"deep\""));
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let named = |name: &str| Tar::new().pax(&[("path", name.as_bytes())]).file("x", b"deep");
    expect([named(&longest)], &expected);
    let (head, data) = long(b'L', longest.as_bytes());
    expect([Tar::new().add(head, &data).file("x", b"deep")], &expected);
    refuse([named(&format!("{longest}/z"))], "over the limit");
    refuse([named(&"x".repeat(256))], "255");
}

/// GNU's old form: four pieces in the header, more in blocks behind it.
fn old_sparse(pieces: &[(u64, u64)], size: u64, stored: &[u8]) -> Tar {
    let mut head = header(b'S', "sparse");
    head.magic = GNU;
    let mut block = head.block(stored.len());
    let write = |field: &mut [u8], value: u64| number(field, value);
    for (at, (offset, length)) in pieces.iter().take(4).enumerate() {
        write(&mut block[386 + at * 24..][..12], *offset);
        write(&mut block[398 + at * 24..][..12], *length);
    }
    block[482] = u8::from(pieces.len() > 4);
    write(&mut block[483..495], size);
    checksum(&mut block);
    let mut tar = Tar::new().block(block);
    if let Some(rest) = pieces.get(4..).filter(|rest| !rest.is_empty()) {
        let mut block = [0; 512];
        for (at, (offset, length)) in rest.iter().enumerate() {
            write(&mut block[at * 24..][..12], *offset);
            write(&mut block[at * 24 + 12..][..12], *length);
        }
        tar = tar.block(block);
    }
    tar.data(stored)
}

#[test]
fn sparse_files_keep_their_holes_in_each_of_four_forms() {
    const M: u64 = 1 << 20;
    let pieces = [(0, 3), (M, 5), (2 * M, 5), (3 * M, 4), (4 * M, 4), (5 * M, 0)];
    let stored = b"onetwo..threefourfive";
    let size = (5 * M).to_string();
    let map: Vec<String> = pieces.iter().map(|(at, length)| format!("{at},{length}")).collect();
    let lines: String = pieces.iter().map(|(at, length)| format!("{at}\n{length}\n")).collect();
    let texts: Vec<[String; 2]> =
        pieces.iter().map(|(at, length)| [at.to_string(), length.to_string()]).collect();
    let mut records: Vec<(&str, &[u8])> =
        vec![("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.numblocks", b"6")];
    for [at, length] in &texts {
        records.push(("GNU.sparse.offset", at.as_bytes()));
        records.push(("GNU.sparse.numbytes", length.as_bytes()));
    }
    let in_data = Tar::new().data(format!("6\n{lines}").as_bytes()).0;
    for tar in [
        old_sparse(&pieces, 5 * M, stored),
        Tar::new().pax(&records).file("sparse", stored),
        Tar::new()
            .pax(&[
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.numblocks", b"6"),
                ("GNU.sparse.map", map.join(",").as_bytes()),
                ("GNU.sparse.name", b"sparse"),
            ])
            .file("GNUSparseFile.1/sparse", stored),
        Tar::new()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", size.as_bytes()),
                ("GNU.sparse.name", b"sparse"),
            ])
            .file("GNUSparseFile.1/sparse", &[&in_data[..], stored].concat()),
    ] {
        expect(
            [tar.file("whole", b"after")],
            &[
                ". d @0",
                "sparse f 5242880 bytes with holes 0\"one\" 1048576\"two..\" 2097152\"three\" \
                 3145728\"four\" 4194304\"five\"",
                "whole f \"after\"",
            ],
        );
    }
    refuse([old_sparse(&[(0, 3), (2, 3)], 100, b"onetwo")], "sparse");
}
