//! What a `run` of a known archive pays the store: opening it, and finding the image.
#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

#[path = "../tests/common/mod.rs"]
mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use image_store::{Platform, Store};

fn lookup(criterion: &mut Criterion) {
    let place = common::Place::new();
    let layers =
        |count: u8| -> Vec<_> { (0..count).map(|n| common::many_files(n, 2, 10)).collect() };
    let host = Platform::host();
    for (tag, count) in [("layers-10:1", 10), ("layers-127:1", 127)] {
        let path = place.archive(tag, &[common::Image::new(tag, &layers(count))]);
        common::load(&place.store, &path);
        criterion.bench_function(&format!("known, {count} layers"), |bencher| {
            bencher.iter(|| place.store.known(&path, &host).unwrap().unwrap());
        });
        criterion.bench_function(&format!("find by name, {count} layers"), |bencher| {
            bencher.iter(|| place.store.find(tag).unwrap());
        });
    }
    criterion.bench_function("open", |bencher| {
        bencher.iter(|| Store::open(&place.root()).unwrap());
    });
}

criterion_group!(benches, lookup);
criterion_main!(benches);
