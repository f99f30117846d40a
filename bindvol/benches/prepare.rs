//! What volumes cost the parent before it clones.

use std::os::fd::AsFd;
use std::path::Path;

use bindvol::{Attributes, Bind, VolumeSpec, Volumes, fill};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

fn parse(c: &mut Criterion) {
    c.bench_function("-v with options", |b| {
        b.iter(|| VolumeSpec::parse_volume("/mnt/data:/data:ro,nosuid,rslave"));
    });
    c.bench_function("--mount with options", |b| {
        b.iter(|| VolumeSpec::parse_mount("type=bind,source=/mnt/data,target=/data,readonly"));
    });
}

fn prepare(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("a directory: {error}"));
    let read_only =
        Attributes { tree_set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..Attributes::default() };
    c.bench_function("a bind, prepared and dropped", |b| {
        b.iter(|| Bind::prepare(dir.path(), "/data", true, &Attributes::default()));
    });
    c.bench_function("a bind, read-only, prepared and dropped", |b| {
        b.iter(|| Bind::prepare(dir.path(), "/data", true, &read_only));
    });
}

fn volumes(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("a directory: {error}"));
    let image = dir.path().join("image");
    make_image(&image).unwrap_or_else(|error| panic!("making {image:?}: {error}"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let image = rustix::fs::open(&image, flags, Mode::empty())
        .unwrap_or_else(|error| panic!("opening the image: {error}"));
    let volumes = Volumes::open(&dir.path().join("volumes"))
        .unwrap_or_else(|error| panic!("the volumes: {error}"));
    c.bench_function("a volume that is there", |b| b.iter(|| volumes.ensure("there")));
    c.bench_function("a volume filled with 100 files of 4 KiB", |b| {
        b.iter_batched(
            || volumes.anonymous(),
            |volume| {
                let volume = volume?;
                fill(&volume, image.as_fd(), "/data")?;
                volumes.remove(&volume.name)
            },
            BatchSize::PerIteration,
        );
    });
}

fn make_image(image: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(image.join("data"))?;
    (0..100).try_for_each(|n| std::fs::write(image.join(format!("data/{n}")), [b'x'; 4096]))
}

criterion_group!(benches, parse, prepare, volumes);
criterion_main!(benches);
