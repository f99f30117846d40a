//! Limits against bombs are errors, not memory.

use erofs_index::{Data, Kind, Layer, Limits, Merged, Meta};

fn fifo(layer: &mut Layer, path: &str) -> Result<(), String> {
    layer.add(path.as_bytes(), &Meta::default(), Kind::Fifo).map_err(|error| error.to_string())
}

#[test]
fn names() {
    let mut layer = Layer::new(Limits { entries: 3, ..Limits::default() });
    fifo(&mut layer, "a/b").unwrap();
    layer.whiteout(b"c").unwrap();
    let words = "the index is over the limit of 3 names; unpack the layer instead";
    assert_eq!(fifo(&mut layer, "d"), Err(words.to_owned()));
    // What is there already may come again, for some time.
    let again = (0..100).map(|_| fifo(&mut layer, "a/b")).collect::<Result<Vec<()>, _>>();
    assert!(again.unwrap_err().contains("6 inodes"));
}

#[test]
fn paths() {
    let mut layer = Layer::new(Limits { path: 10, depth: 3, ..Limits::default() });
    assert!(fifo(&mut layer, "a/b/c").is_ok());
    assert!(fifo(&mut layer, "a/b/c/d").unwrap_err().contains("3 components in a path"));
    assert!(fifo(&mut layer, "12345678901").unwrap_err().contains("10 bytes in a path"));
}

#[test]
fn memory() {
    let limits = Limits { memory: 100_000, ..Limits::default() };
    let full = |step: &dyn Fn(&mut Layer, usize) -> Result<(), erofs_index::Error>| {
        let mut layer = Layer::new(limits.clone());
        let error = (0..100_000).find_map(|n| step(&mut layer, n).err()).expect("it ends");
        assert!(error.to_string().contains("100000 bytes of names"), "{error}");
    };
    let path = |n: usize| n.to_string().into_bytes();
    full(&|layer, n| layer.add(&path(n), &Meta::default(), Kind::Fifo));
    full(&|layer, _| layer.add(b"a", &Meta::default(), Kind::Symlink(&[b'x'; 1000])));
    full(&|layer, _| layer.add(b"a", &Meta::default(), Kind::File(Data::Bytes(&[1; 1000]))));
    full(&|layer, n| layer.link(b"a", &path(n)));
    full(&|layer, n| {
        let xattrs = [(b"user.a".to_vec(), path(n))];
        layer.add(b"a", &Meta { xattrs: &xattrs, ..Meta::default() }, Kind::Fifo)
    });
    full(&|layer, _| {
        let map: Vec<_> = (0..100).map(|n| (1024 * n, 512)).collect();
        let data = Data::Sparse { size: 1 << 20, device: 1, offset: 0, map: &map };
        layer.add(b"a", &Meta::default(), Kind::File(data))
    });
}

#[test]
fn pointers() {
    let mut layer = Layer::new(Limits { chunks: 1000, ..Limits::default() });
    // A byte at the end of every second block would take a pointer for each block of the file.
    let data = Data::Sparse { size: 1 << 50, device: 1, offset: 0, map: &[(512, 1)] };
    let error = layer.add(b"bomb", &Meta::default(), Kind::File(data)).unwrap_err();
    assert!(error.to_string().contains("1000 pointers to data"), "{error}");
}

#[test]
fn merging_has_them_too() {
    let mut layer = Layer::new(Limits::default());
    (0..10).for_each(|n| fifo(&mut layer, &n.to_string()).unwrap());
    let mut merged = Merged::new(Limits { entries: 9, ..Limits::default() });
    assert!(merged.apply(&layer).unwrap_err().to_string().contains("9 names"));
}
