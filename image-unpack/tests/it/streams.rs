//! How a layer's bytes lie in the archive: compression, padding, holes.

use std::io::Write;

use image_unpack::{Archive, Digest, Limits, Options, TarProblem};

use crate::image::{
    config, docker, docker_with, layer, linux, open, root, sentence, try_layer, try_open,
};
use crate::tar::{GNU, Tar, checksum, header, number};

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An archive whose one layer is stored as `stored` and decodes to `plain`.
fn stored(stored: &[u8], plain: &[u8]) -> Vec<u8> {
    docker_with(&[stored.to_vec()], &config(&[Digest::of(plain)], "amd64"))
}

fn sample() -> Vec<u8> {
    let data: Vec<u8> =
        (0..1_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    Tar::new().file("big", &data).file("small", b"1").end()
}

#[test]
fn the_bytes_decide_the_compression() {
    let plain = sample();
    let (first, second) = plain.split_at(700_000);
    let skippable = [&b"\x50\x2a\x4d\x18\x04\0\0\0abcd"[..], &zstd(&plain)].concat();
    for bytes in [
        plain.clone(),
        gzip(&plain),
        [gzip(first), gzip(second), gzip(b"")].concat(),
        [gzip(&plain), vec![0; 1000]].concat(),
        zstd(&plain),
        [zstd(first), zstd(second)].concat(),
        skippable,
    ] {
        let opened = open(&stored(&bytes, &plain));
        let read = std::sync::atomic::AtomicU64::new(0);
        let into = tempfile::tempdir().unwrap();
        let count = |n| {
            read.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
        };
        let dir = std::fs::File::open(into.path()).unwrap();
        let layer = &opened.image().layers[0];
        let unpacked =
            opened.archive.unpack(layer, std::os::fd::AsFd::as_fd(&dir), &root(), &count).unwrap();
        assert_eq!((unpacked.entries, unpacked.bytes), (2, 4_000_001));
        assert_eq!(std::fs::read(into.path().join("big")).unwrap(), plain[512..4_000_512]);
        assert_eq!((read.into_inner(), layer.size), (bytes.len() as u64, bytes.len() as u64));
        opened.archive.verify(layer).unwrap();
    }
}

#[test]
fn cut_off_corrupt_and_trailing_bytes_are_errors() {
    let plain = sample();
    let (gz, zst) = (gzip(&plain), zstd(&plain));
    let mut corrupt = gz.clone();
    corrupt[1_000_000] ^= 1;
    let mut crc = gz.clone();
    let at = crc.len() - 6;
    crc[at] ^= 1;
    for (bytes, words) in [
        (gz[..gz.len() / 2].to_vec(), "gzip"),
        (gz[..gz.len() - 4].to_vec(), "gzip"),
        (gz[..5].to_vec(), "gzip"),
        (zst[..zst.len() / 2].to_vec(), "zstd"),
        (zst[..zst.len() - 1].to_vec(), "zstd"),
        (plain[..plain.len() / 2].to_vec(), "cut off"),
        (plain[..700].to_vec(), "cut off"),
        (corrupt, "gzip"),
        (crc, "gzip"),
        ([gz.clone(), b"garbage".to_vec()].concat(), "after the end of its gzip"),
        ([gz.clone(), vec![0; 9], vec![1]].concat(), "after the end of its gzip"),
        ([zst.clone(), b"garbage".to_vec()].concat(), "zstd"),
        ([plain.clone(), b"garbage".to_vec()].concat(), "after the end of its tar"),
    ] {
        let opened = open(&stored(&bytes, &plain));
        let layer = opened.image().layers.remove(0);
        let said = sentence(opened.unpack(0, &root()));
        assert!(said.contains(words) && said.contains("layer 1 of 1"), "{words}: {said}");
        opened.archive.verify(&layer).unwrap_err();
    }
}

#[test]
fn a_wrong_diff_id_is_an_error() {
    for bytes in [sample(), gzip(&sample())] {
        let said = sentence(open(&stored(&bytes, b"something else")).unpack(0, &root()));
        assert!(
            said.contains(&Digest::of(&sample()).to_string())
                && said.contains(&Digest::of(b"something else").to_string()),
            "{said}"
        );
    }
}

#[test]
fn unknown_compressions_are_named() {
    for (magic, name) in [
        (&b"\xfd7zXZ\0"[..], "xz"),
        (b"BZh9", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"LZIP", "lzip"),
        (b"PK\x03\x04", "zip"),
    ] {
        let bytes = [magic, &[7; 2000]].concat();
        let said = sentence(open(&stored(&bytes, b"x")).unpack(0, &root()));
        assert!(said.contains(&format!("compressed with {name}")), "{said}");
        let said = sentence(try_open(&bytes).map(|_| ()));
        assert!(
            said.contains(&format!("compressed with {name}")) && said.contains("image.tar"),
            "{said}"
        );
    }
    // A name that looks like a magic is none.
    layer(Tar::new().file("BZh9", b"x"));
}

#[test]
fn a_whole_archive_may_be_compressed_or_a_stream() {
    let bytes = docker(&[sample()]);
    for bytes in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
        assert_eq!(open(&bytes).unpack(0, &root()).unwrap().entries, 2);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let spool = tempfile::tempdir().unwrap();
        let archive = std::thread::scope(|scope| {
            scope.spawn(move || {
                // In pieces, as a slow program writes.
                for piece in [&bytes[..1], &bytes[1..3], &bytes[3..]] {
                    writer.write_all(piece).unwrap();
                }
            });
            let file = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
            Archive::from_file(file, "standard input", spool.path(), Limits::default()).unwrap()
        });
        let image = archive.images(&linux()).unwrap().remove(0);
        archive.verify(&image.layers[0]).unwrap();
        assert_eq!(archive.source(), "standard input");
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_file_is_used_from_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create_new(dir.path().join("x")).unwrap();
    file.write_all(b"before").unwrap();
    file.write_all(&docker(&[sample()])).unwrap();
    let mut file = std::fs::File::open(dir.path().join("x")).unwrap();
    std::io::Read::read_exact(&mut file, &mut [0; 6]).unwrap();
    let archive = Archive::from_file(file, "x", dir.path(), Limits::default()).unwrap();
    archive.verify(&archive.images(&linux()).unwrap()[0].layers[0]).unwrap();
}

/// 3 MiB, with "one" at the start and "two" at 2 MiB.
fn with_holes() -> Vec<u8> {
    let mut data = vec![0; 3 << 20];
    data[..3].copy_from_slice(b"one");
    data[2 << 20..(2 << 20) + 3].copy_from_slice(b"two");
    data
}

fn gnu_sparse(pieces: &[(u64, u64)], real: u64, stored: &[u8]) -> Tar {
    let mut head = header(b'S', "sparse");
    head.magic = GNU;
    let mut block = head.block(stored.len());
    for (at, (offset, length)) in pieces.iter().take(4).enumerate() {
        number(&mut block[386 + at * 24..][..12], *offset);
        number(&mut block[398 + at * 24..][..12], *length);
    }
    block[482] = u8::from(pieces.len() > 4);
    number(&mut block[483..495], real);
    checksum(&mut block);
    let mut tar = Tar::new().block(block);
    let rest = pieces.get(4..).unwrap_or_default();
    for (at, chunk) in rest.chunks(21).enumerate() {
        let mut block = [0; 512];
        for (at, (offset, length)) in chunk.iter().enumerate() {
            number(&mut block[at * 24..][..12], *offset);
            number(&mut block[at * 24 + 12..][..12], *length);
        }
        block[504] = u8::from((at + 1) * 21 < rest.len());
        tar = tar.block(block);
    }
    tar.data(stored)
}

#[test]
fn holes_in_all_four_forms() {
    let pieces = [(0, 3), (2 << 20, 3), (3 << 20, 0)];
    let map = "0,3,2097152,3,3145728,0";
    let lines = Tar::new().data(b"3\n0\n3\n2097152\n3\n3145728\n0\n").0;
    let size = (3_u64 << 20).to_string();
    let size = size.as_bytes();
    for tar in [
        gnu_sparse(&pieces, 3 << 20, b"onetwo"),
        Tar::new()
            .pax(&[
                ("GNU.sparse.size", size),
                ("GNU.sparse.numblocks", b"3"),
                ("GNU.sparse.offset", b"0"),
                ("GNU.sparse.numbytes", b"3"),
                ("GNU.sparse.offset", b"2097152"),
                ("GNU.sparse.numbytes", b"3"),
                ("GNU.sparse.offset", b"3145728"),
                ("GNU.sparse.numbytes", b"0"),
            ])
            .file("sparse", b"onetwo"),
        Tar::new()
            .pax(&[
                ("GNU.sparse.size", size),
                ("GNU.sparse.numblocks", b"3"),
                ("GNU.sparse.map", map.as_bytes()),
                ("GNU.sparse.name", b"sparse"),
            ])
            .file("GNUSparseFile.1/sparse", b"onetwo"),
        Tar::new()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", size),
                ("GNU.sparse.name", b"sparse"),
            ])
            .file("GNUSparseFile.1/sparse", &[&lines[..], b"onetwo"].concat()),
    ] {
        let tree = layer(tar.file("after", b"x"));
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "after", "sparse"]);
        assert!(tree["sparse"].content == with_holes());
        assert!(tree["sparse"].blocks < 2048, "the holes were filled: {}", tree["sparse"].blocks);
    }
}

#[test]
fn many_pieces_go_on_in_more_blocks() {
    let pieces: Vec<(u64, u64)> = (0..50).map(|n| (n * 8192, 4)).collect();
    let tree = layer(gnu_sparse(&pieces, 50 * 8192, &b"data".repeat(50)).file("after", b""));
    let content = &tree["sparse"].content;
    assert_eq!((content.len(), &content[49 * 8192..][..5]), (50 * 8192, &b"data\0"[..]));
}

#[test]
fn only_holes() {
    let tree = layer(gnu_sparse(&[(1 << 20, 0)], 1 << 20, b"").file("after", b"x"));
    assert_eq!((tree["sparse"].content.len(), tree["after"].content.len()), (1 << 20, 1));
    let map = Tar::new().data(b"1\n1048576\n0\n").0;
    let tar = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"1048576"),
            ("GNU.sparse.name", b"s"),
        ])
        .file("x", &map);
    assert_eq!(layer(tar.file("after", b"x"))["s"].content.len(), 1 << 20);
}

#[test]
fn broken_maps_are_errors() {
    let lines = |text: &[u8]| Tar::new().data(text).0;
    let one = |text: &[u8]| {
        Tar::new()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"100"),
            ])
            .file("s", &lines(text))
    };
    for tar in [
        gnu_sparse(&[(0, 3), (2, 3)], 100, b"onetwo"), // overlap
        gnu_sparse(&[(50, 3), (0, 3)], 100, b"onetwo"), // order
        gnu_sparse(&[(0, 3), (98, 3)], 100, b"onetwo"), // beyond the end
        gnu_sparse(&[(0, 3)], 100, b"onetwo"),         // less than is stored
        gnu_sparse(&[(0, 3), (10, 4)], 100, b"onetwo"), // more
        one(b"1\n0\n"),                                // cut off
        one(b"x\n0\n0\n"),
        one(b"111111111111111111111111\n"),
        Tar::new()
            .pax(&[
                ("GNU.sparse.major", b"2"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"1"),
            ])
            .file("s", b"x"),
        Tar::new().pax(&[("GNU.sparse.size", b"1")]).file("s", b"x"),
        Tar::new().pax(&[("GNU.sparse.map", b"0,1,2")]).file("s", b"x"),
        Tar::new()
            .pax(&[
                ("GNU.sparse.map", b"0,1"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.size", b"1"),
            ])
            .file("s", b"x"),
        Tar::new().pax(&[("GNU.sparse.offset", b"0")]).file("s", b"x"),
        Tar::new().pax(&[("GNU.sparse.surprise", b"0")]).file("s", b"x"),
    ] {
        match try_layer(tar) {
            Err(image_unpack::Error::Tar { problem: TarProblem::Sparse, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bombs_hit_a_limit() {
    let zeros = vec![0; 64 << 20];
    let plain = Tar::new().file("zeros", &zeros).end();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&plain).unwrap();
    let limits = Limits { ratio_after: 1 << 20, ..Limits::default() };
    for bytes in [bomb.finish().unwrap(), zstd(&plain)] {
        let said = sentence(
            open(&stored(&bytes, &plain)).unpack(0, &Options { limits: limits.clone(), ..root() }),
        );
        assert!(said.contains("limit of 200 decoded bytes"), "{said}");
        open(&stored(&bytes, &plain)).unpack(0, &root()).unwrap();
    }
    let small = Tar::new().dir("d").file("d/f", &[1; 4096]).symlink("s", "t").end();
    for (limits, unit) in [
        (Limits { bytes: 4096, ..Limits::default() }, "bytes"),
        (Limits { entries: 2, ..Limits::default() }, "entries"),
        (Limits { path: 2, ..Limits::default() }, "bytes in a name"),
        (Limits { depth: 1, ..Limits::default() }, "components"),
        (Limits { memory: 10, ..Limits::default() }, "in memory"),
    ] {
        let said = sentence(
            open(&docker(std::slice::from_ref(&small))).unpack(0, &Options { limits, ..root() }),
        );
        assert!(said.contains("over the limit") && said.contains(unit), "{said}");
    }
    // A hole costs no disk, and still counts.
    let said = sentence(try_layer(gnu_sparse(&[(0, 3)], 1 << 39, b"one")));
    assert!(said.contains("over the limit"), "{said}");
}

#[test]
fn a_window_of_zstd_that_is_too_large_is_an_error() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(29).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&sample()).unwrap();
    let said = sentence(open(&stored(&encoder.finish().unwrap(), &sample())).unpack(0, &root()));
    assert!(said.contains("zstd"), "{said}");
}
