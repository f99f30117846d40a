//! What is refused, in words, and what is not.

use erofs_index::{Data, Device, Error, Kind, Layer, Limits, Merged, Meta, Options, Time, Use};

fn said(result: Result<(), Error>) -> String {
    result.expect_err("it is refused").to_string()
}

fn add(path: &[u8], meta: &Meta<'_>, kind: Kind<'_>) -> Result<(), Error> {
    Layer::new(Limits::default()).add(path, meta, kind)
}

#[test]
fn entries_that_the_format_cannot_hold() {
    let meta = Meta::default();
    for path in [&b"/a"[..], b"a/", b"a//b", b"a/./b", b"../a", b"a\0b"] {
        let words = said(add(path, &meta, Kind::Fifo));
        assert!(words.ends_with("an empty component, `.`, `..` or a NUL byte"), "{words}");
    }
    let words = said(add(&[b'n'; 256], &meta, Kind::Fifo));
    assert!(words.ends_with("a component of its path is longer than 255 bytes"), "{words}");
    assert!(add(&[b'n'; 255], &meta, Kind::Fifo).is_ok());
    assert_eq!(
        said(add(b"", &meta, Kind::Fifo)),
        "cannot index /: the root can be nothing but a directory"
    );
    let words = said(add(b"a", &meta, Kind::Character { major: 0, minor: 0 }));
    assert!(words.contains("for a whiteout"), "{words}");
    let words = said(add(b"a", &meta, Kind::Block { major: 4096, minor: 0 }));
    assert!(words.contains("4096:0"), "{words}");
    for target in [&[][..], &[b'x'; 4096], b"a\0"] {
        assert!(said(add(b"a", &meta, Kind::Symlink(target))).contains("symlink"));
    }
    let late = Meta { mtime: Time { seconds: 0, nanos: 1_000_000_000 }, ..meta };
    assert!(said(add(b"a", &late, Kind::Fifo)).contains("1000000000 nanoseconds"));
    assert!(said(add(b"a", &Meta { mode: 0o10_0644, ..meta }, Kind::Fifo)).contains("100644"));
    let xattrs = [(b"system.nfs4_acl".to_vec(), vec![])];
    assert_eq!(
        said(add(b"caf\xc3\xa9", &Meta { xattrs: &xattrs, ..meta }, Kind::Fifo)),
        r#"cannot index caf\xc3\xa9: EROFS cannot hold an extended attribute of the name "system.nfs4_acl""#
    );
}

#[test]
fn data_that_cannot_be_mapped() {
    let file = |data| add(b"a", &Meta::default(), Kind::File(data));
    let words = said(file(Data::Extent { device: 1, offset: 100, size: 1 }));
    assert!(words.contains("byte 100") && words.contains("give its bytes"), "{words}");
    assert!(said(file(Data::Extent { device: 0, offset: 0, size: 1 })).contains("from 1"));
    let most = (u64::from(u32::MAX) - 1) * 512;
    assert!(file(Data::Extent { device: 1, offset: 0, size: most }).is_ok());
    for (offset, size) in [(0, most + 1), (512, most), (u64::MAX - 511, u64::MAX)] {
        assert!(said(file(Data::Extent { device: 1, offset, size })).contains("2 TiB"));
    }
    let sparse = |map, size| file(Data::Sparse { size, device: 1, offset: 0, map });
    assert!(said(sparse(&[(0, 100), (512, 1)], 9000)).contains("blocks of 512 bytes"));
    assert!(said(sparse(&[(512, 1), (0, 1)], 9000)).contains("not in order"));
    assert!(said(sparse(&[(0, 9001)], 9000)).contains("beyond its end"));
    assert!(said(file(Data::SparseBytes { size: 5, map: &[(0, 2)], bytes: b"x" })).contains("map"));
}

#[test]
fn links() {
    let mut layer = Layer::new(Limits::default());
    layer.add(b"dir/file", &Meta::default(), Kind::Fifo).unwrap();
    for target in [&b""[..], b"dir"] {
        assert!(said(layer.link(b"x", target)).contains("cannot lead to a directory"));
    }
    assert!(said(layer.link(b"dir/file/x", b"dir/file")).contains("below it"));
    assert!(said(layer.link(b"dir", b"dir/file")).contains("is in"));
    layer.link(b"same", b"dir/file").unwrap();
    layer.link(b"same", b"same").unwrap();
    layer.link(b"nowhere", b"not/there").unwrap();
    let mut merged = Merged::new(Limits::default());
    let words = "cannot index the hard link nowhere: no layer below has its target not/there";
    assert_eq!(said(merged.apply(&layer)), words);
    assert_eq!(said(layer.settle(&Merged::new(Limits::default())).map(drop)), words);
}

#[test]
fn a_link_that_was_replaced_needs_no_target() {
    let mut layer = Layer::new(Limits::default());
    layer.link(b"a", b"not/there").unwrap();
    layer.add(b"a", &Meta::default(), Kind::Fifo).unwrap();
    Merged::new(Limits::default()).apply(&layer).unwrap();
    layer.settle(&Merged::new(Limits::default())).unwrap();
}

#[test]
fn devices_are_checked() {
    let mut layer = Layer::new(Limits::default());
    let data = Data::Extent { device: 2, offset: 512, size: 1000 };
    layer.add(b"etc/file", &Meta::default(), Kind::File(data)).unwrap();
    let mut merged = Merged::new(Limits::default());
    merged.apply(&layer).unwrap();
    let index = |blocks: &[u32], tag: usize| {
        let device = |blocks: &u32| Device { blocks: *blocks, tag: vec![b't'; tag] };
        let options =
            Options { devices: blocks.iter().map(device).collect(), ..Options::default() };
        merged.index(Use::Alone, &options).and_then(|index| index.to_vec())
    };
    assert_eq!(
        said(index(&[9], 0).map(drop)),
        "etc/file has data up to block 3 of device 2, where there is no such device (counted from 1, blocks of 512 bytes)"
    );
    assert!(said(index(&[9, 2], 0).map(drop)).contains("where there are 2 blocks"));
    assert!(said(index(&[9, 3], 65).map(drop)).contains("the tag of device 1 has 65 bytes"));
    assert!(index(&[9, 3], 64).is_ok());
    assert!(said(index(&[9; 4097], 0).map(drop)).contains("4096 data devices"));
    assert!(index(&[9; 4096], 0).is_ok());
    assert_eq!(Device::of_size(1).map(|device| device.blocks), Some(1));
    assert_eq!(Device::of_size(512 * u64::from(u32::MAX)), None);
}

#[test]
fn a_writer_that_fails_is_named() {
    let mut merged = Merged::new(Limits::default());
    merged.apply(&Layer::new(Limits::default())).unwrap();
    let options = Options::default();
    let index = merged.index(Use::Alone, &options).unwrap();
    let words = said(index.write_to(&mut &mut [0_u8; 10][..]));
    assert!(words.starts_with("cannot write the index: "), "{words}");
}
