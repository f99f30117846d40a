//! What a start and end of a child costs, for each kind of namespace and for a container's six.

use std::convert::Infallible;

use criterion::{Criterion, criterion_group, criterion_main};
use ns_core::{Namespaces, Spawn};
use sys::Failure;

fn start(kinds: Namespaces) {
    let end = |_: ns_core::Gate<'_>| -> Result<Infallible, Failure> {
        Err(Failure::new("the end", rustix::io::Errno::CANCELED))
    };
    let child = Spawn::new().namespaces(kinds).spawn(end).expect("needs root");
    child.wait().expect("a child");
}

fn spawn(c: &mut Criterion) {
    let mut group = c.benchmark_group("spawn");
    group.bench_function("none", |b| b.iter(|| start(Namespaces::empty())));
    for (kind, name) in Namespaces::NAMES {
        group.bench_function(name, |b| b.iter(|| start(kind)));
    }
    group.bench_function("container", |b| b.iter(|| start(Namespaces::all() - Namespaces::USER)));
    group.finish();
}

criterion_group!(benches, spawn);
criterion_main!(benches);
