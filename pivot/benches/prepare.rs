//! What the parent pays for each start before it clones.

use criterion::{Criterion, criterion_group, criterion_main};
use pivot::{Cgroups, Devices, Filesystem, Masks, Nodes, standard};

fn prepare(c: &mut Criterion) {
    c.bench_function("standard mounts", |b| {
        b.iter(|| -> Result<Vec<Filesystem>, pivot::Error> {
            standard::MOUNTS.iter().map(|mount| mount.prepare()).collect()
        });
    });
    c.bench_function("cgroups (reads /proc/self)", |b| {
        b.iter(|| Cgroups::prepare(standard::CGROUP.target, standard::CGROUP.options));
    });
    c.bench_function("devices, made", |b| {
        b.iter(|| Devices::prepare(&standard::devices(), Nodes::Make));
    });
    c.bench_function("devices, bound", |b| {
        b.iter(|| Devices::prepare(&standard::devices(), Nodes::Bind));
    });
    c.bench_function("masks (reads /sys)", |b| {
        b.iter(|| Masks::prepare(&standard::masked_paths(), &standard::READ_ONLY));
    });
}

criterion_group!(benches, prepare);
criterion_main!(benches);
