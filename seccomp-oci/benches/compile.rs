//! How long Docker's default profile takes: to be compiled, and to be taken from a cache.

use std::hint::black_box;
use std::os::fd::AsFd;

use criterion::{Criterion, criterion_group, criterion_main};
use seccomp_oci::{Arch, Filter, Situation, Version};

fn filter() -> Filter {
    let situation = Situation {
        capabilities: &["CAP_SYS_CHROOT".to_owned()],
        machine: Arch::X86_64,
        kernel: Version { major: 6, minor: 1 },
    };
    seccomp_oci::default_profile(&situation)
}

fn bench(criterion: &mut Criterion) {
    let filter = filter();
    criterion.bench_function("compile the default profile", |bencher| {
        bencher.iter(|| seccomp_oci::compile(black_box(&filter), Arch::X86_64));
    });
    let dir = tempfile::tempdir().expect("a directory can be made");
    let opened = std::fs::File::open(dir.path()).expect("it can be opened");
    criterion.bench_function("take it from a cache", |bencher| {
        bencher
            .iter(|| seccomp_oci::compile_cached(black_box(&filter), Arch::X86_64, opened.as_fd()));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
