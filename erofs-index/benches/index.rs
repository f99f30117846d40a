//! What an index of 100,000 entries costs: taking the entries, merging them, laying them out and writing them.
#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use erofs_index::{Data, Device, Error, Kind, Layer, Limits, Merged, Meta, Options, Time, Use};

const FILES: u64 = 97_500;

/// The shape of a Debian with Python and a desktop's libraries: 2,500 directories of 39 files, of 60 KB on average.
fn layer(paths: &[Vec<u8>]) -> Result<Layer, Error> {
    let mut layer = Layer::new(Limits::default());
    let mut offset = 512;
    for (number, path) in paths.iter().enumerate() {
        let number = number as u64;
        let mtime = Time { seconds: 1_700_000_000 + (number % 977) as i64, nanos: 0 };
        let meta = Meta { mode: 0o644, mtime, ..Meta::default() };
        let size = 1 + number * 7919 % 120_000;
        layer.add(path, &meta, Kind::File(Data::Extent { device: 1, offset, size }))?;
        offset += size.next_multiple_of(512) + 512;
    }
    Ok(layer)
}

fn index(criterion: &mut Criterion) {
    measure(criterion).unwrap_or_else(|error| panic!("{error}"));
}

fn measure(criterion: &mut Criterion) -> Result<(), Error> {
    let path = |number: u64| {
        let dir = number / 39;
        format!(
            "usr/lib/python3/dist-packages/package{}/module{}/file-{number}.py",
            dir / 25,
            dir % 25
        )
    };
    let paths: Vec<_> = (0..FILES).map(|number| path(number).into_bytes()).collect();
    let devices = Device::of_size(8 << 30).into_iter().collect();
    let options = Options { devices, ..Options::default() };
    let mut group = criterion.benchmark_group("100,000 entries");
    group.throughput(Throughput::Elements(FILES + 2_600)).sample_size(10);
    group.bench_function("take", |bencher| bencher.iter(|| layer(&paths)));
    let made = layer(&paths)?;
    group.bench_function("merge", |bencher| {
        bencher.iter(|| Merged::new(Limits::default()).apply(&made));
    });
    let mut merged = Merged::new(Limits::default());
    merged.apply(&made)?;
    group.bench_function("lay out and write", |bencher| {
        bencher.iter(|| merged.index(Use::Lower, &options)?.to_vec());
    });
    group.finish();
    Ok(())
}

criterion_group!(benches, index);
criterion_main!(benches);
