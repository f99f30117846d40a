//! What a container's start pays per mount: its target opened or made below the root; and the parsing of
//! a mount table.
#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

use criterion::{Criterion, criterion_group, criterion_main};
use rustix::fs::{AtFlags, Mode, OFlags};
use sys::below::{self, Kind};

const MODE: Mode = Mode::from_raw_mode(0o755);

fn paths(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("a directory: {error}"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir.path(), flags, Mode::empty())
        .unwrap_or_else(|error| panic!("opening it: {error}"));
    below::make(&root, c"usr/share/nginx/html", Kind::Directory, MODE)
        .unwrap_or_else(|error| panic!("making a path: {error}"));
    criterion.bench_function("below::open, four components", |bencher| {
        bencher.iter(|| below::open(&root, c"usr/share/nginx/html", OFlags::PATH));
    });
    criterion.bench_function("below::make, the last of four is missing", |bencher| {
        bencher.iter(|| {
            below::make(&root, c"usr/share/nginx/new", Kind::Directory, MODE)?;
            rustix::fs::unlinkat(&root, c"usr/share/nginx/new", AtFlags::REMOVEDIR)
        });
    });
}

fn mountinfo(criterion: &mut Criterion) {
    // An overlay of 20 layers beside 50 plain mounts.
    let lowers = vec!["/var/lib/store/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ"; 20].join(":");
    let mut table = format!("90 28 0:50 / /merged rw - overlay overlay rw,lowerdir={lowers}\n");
    for id in 100..150 {
        table += &format!("{id} 28 0:{id} / /mnt/{id} rw,relatime shared:{id} - tmpfs tmpfs rw\n");
    }
    criterion.bench_function("mountinfo::parse, 51 mounts", |bencher| {
        bencher.iter(|| sys::mountinfo::parse(table.as_bytes()));
    });
}

criterion_group!(benches, paths, mountinfo);
criterion_main!(benches);
