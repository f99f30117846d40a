//! What an overlay of ten layers costs, mounted and unmounted, in each form that this kernel has.

use std::os::fd::AsFd;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use overlay::Overlay;
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

fn layers(root: &Path) -> Overlay {
    let dir = |name: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(&path).map(|()| path)
    };
    let made = (0..10).map(|n| dir(&n.to_string())).collect::<Result<Vec<_>, _>>();
    let all = made.and_then(|lowers| Ok((lowers, dir("upper")?, dir("work")?)));
    let (lowers, upper, work) = all.unwrap_or_else(|error| panic!("making directories: {error}"));
    Overlay::new().lowers(lowers).upper(upper).work(work)
}

fn mount(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("a directory: {error}"));
    let overlay = layers(dir.path());
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let merged = dir.path().join("merged");
    std::fs::create_dir(&merged).unwrap_or_else(|error| panic!("making {merged:?}: {error}"));
    c.bench_function("ten layers, one string, attached and unmounted", |b| {
        b.iter(|| -> Result<(), Box<dyn std::error::Error>> {
            let (target, base) = (open(&merged)?, open(dir.path())?);
            overlay.mount_at(target.as_fd(), base.as_fd())?;
            Ok(rustix::mount::unmount(&merged, UnmountFlags::DETACH)?)
        });
    });
    c.bench_function("ten layers, detached", |b| b.iter(|| overlay.detached()));
}

criterion_group!(benches, mount);
criterion_main!(benches);
