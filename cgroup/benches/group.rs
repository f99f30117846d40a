//! What a container's group costs: to be found, made, limited, read and removed. As root.

use cgroup::{Error, Group, Hierarchies, Limits};
use criterion::{Criterion, criterion_group, criterion_main};

fn made(hierarchies: &Hierarchies) -> Result<Group, Error> {
    let name = format!("bench-{}", std::process::id());
    hierarchies.create(&hierarchies.locate(&name)?)
}

fn group(c: &mut Criterion) {
    measure(c).unwrap_or_else(|error| panic!("needs root: {error}"));
}

fn measure(c: &mut Criterion) -> Result<(), Error> {
    c.bench_function("find the hierarchies (reads /proc/self)", |b| b.iter(Hierarchies::find));
    let hierarchies = Hierarchies::find()?;
    c.bench_function("make and remove", |b| b.iter(|| made(&hierarchies)?.remove()));
    let group = made(&hierarchies)?;
    let limits = Limits { pids: Some(100), ..Limits::default() };
    c.bench_function("limit the processes", |b| b.iter(|| group.apply(&limits)));
    c.bench_function("open it for a process to join", |b| b.iter(|| group.join()));
    c.bench_function("read its numbers", |b| b.iter(|| group.stats()));
    group.remove()
}

criterion_group!(benches, group);
criterion_main!(benches);
