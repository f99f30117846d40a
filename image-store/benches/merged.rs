//! One index of all layers against one for each, stacked by an overlay: what a start waits for, and what the first look
//! at each path costs. Needs root, and Linux 6.12.
//!
//! `cargo bench -p image-store --bench merged`; docs/performance.md has the figures that decided it.
#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use image_unpack::{Indexed, Limits, Merge, index_tar};
use overlay::Overlay;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::fscontext::FsContext;

const LAYERS: [usize; 4] = [1, 10, 127, overlay::MAX_LOWERS - 1];

/// Files of each layer, in directories that all layers have.
const FILES: usize = 20;
const DIRECTORIES: usize = 7;

/// Paths that are looked at, in layers all over the stack.
const LOOKS: usize = 1000;

/// Layers, with the index of all of them and that of each.
struct Made {
    tars: Vec<File>,
    merged: File,
    each: Vec<File>,
    empty: tempfile::TempDir,
}

fn path(layer: usize, file: usize) -> String {
    format!("directory-{}/file-{layer}-{file}", file % DIRECTORIES)
}

fn tar(layer: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in 0..FILES {
        let mut header = tar::Header::new_gnu();
        header.set_size(700);
        header.set_mode(0o644);
        tar.append_data(&mut header, path(layer, file), &[b'x'; 700][..]).unwrap();
    }
    tar.into_inner().unwrap()
}

fn indexed(tar: &File) -> Indexed {
    let size = tar.metadata().unwrap().len();
    index_tar(tar.try_clone().unwrap(), 0, size, &Limits::default(), "a layer").unwrap()
}

impl Made {
    fn new(count: usize) -> Made {
        let (mut merge, mut tars, mut each) =
            (Merge::new("all layers", &Limits::default()), Vec::new(), Vec::new());
        let mut sizes = Vec::new();
        for layer in 0..count {
            let (bytes, mut file) = (tar(layer), tempfile::tempfile().unwrap());
            file.write_all(&bytes).unwrap();
            merge.add(&mut indexed(&file), u16::try_from(layer + 1).unwrap()).unwrap();
            let (mut alone, mut index) =
                (Merge::new("a layer", &Limits::default()), tempfile::tempfile().unwrap());
            alone.add(&mut indexed(&file), 1).unwrap();
            alone.write(&[bytes.len() as u64], [1; 16], &mut index).unwrap();
            sizes.push(bytes.len() as u64);
            each.push(index);
            tars.push(file);
        }
        let mut merged = tempfile::tempfile().unwrap();
        merge.write(&sizes, [1; 16], &mut merged).unwrap();
        Made { tars, merged, each, empty: tempfile::tempdir().unwrap() }
    }

    fn one(&self) -> OwnedFd {
        self.overlay(&[erofs(&self.merged, &self.tars)])
    }

    fn stacked(&self) -> OwnedFd {
        let layers = self.each.iter().zip(self.tars.chunks(1)).rev();
        let layers: Vec<OwnedFd> = layers.map(|(index, tar)| erofs(index, tar)).collect();
        self.overlay(&layers)
    }

    fn overlay(&self, lowers: &[OwnedFd]) -> OwnedFd {
        // One lower directory alone is no overlay; the empty one is what a container's own is.
        let lowers = lowers.iter().map(fd_path);
        let overlay = Overlay::new().lowers(lowers).lower(self.empty.path());
        overlay.detached().unwrap()
    }
}

fn fd_path(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

fn erofs(index: &File, devices: &[File]) -> OwnedFd {
    let context = FsContext::open(c"erofs").unwrap();
    let set = |key, file: &File| {
        context.string(key, &CString::new(fd_path(file)).unwrap()).unwrap();
    };
    set(c"source", index);
    devices.iter().for_each(|device| set(c"device", device));
    let mount = context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY);
    mount.unwrap_or_else(|failure| panic!("{failure:?}"))
}

/// The time of `work` alone, on something that is made anew each time.
fn each_anew<T>(rounds: u64, make: impl Fn() -> T, work: impl Fn(&T)) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let made = make();
        let start = Instant::now();
        work(&made);
        total += start.elapsed();
    }
    total
}

/// Looks at paths of all layers, or at names beside them that no layer has.
fn look(root: &OwnedFd, layers: usize, there: bool) {
    for number in 0..LOOKS {
        let layer = number * 7919 % layers;
        let path = path(layer, number % FILES);
        let found = match there {
            true => rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW).map(drop),
            false => {
                let path = format!("{path}-{number}");
                match rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => Ok(()),
                    other => other.map(drop),
                }
            }
        };
        found.unwrap();
    }
}

fn start(c: &mut Criterion) {
    let mut group = c.benchmark_group("mount");
    group.sample_size(10);
    for count in LAYERS {
        let made = Made::new(count);
        for (name, mount) in WAYS {
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter_custom(|rounds| {
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        let start = Instant::now();
                        let mounted = mount(&made);
                        total += start.elapsed();
                        drop(mounted);
                    }
                    total
                });
            });
        }
    }
}

/// How the layers are mounted.
type Way = (&'static str, fn(&Made) -> OwnedFd);

const WAYS: [Way; 2] = [("merged", Made::one), ("stacked", Made::stacked)];

fn look_ups(c: &mut Criterion) {
    for (what, there) in [("1000 paths", true), ("1000 missing", false)] {
        let mut group = c.benchmark_group(what);
        group.sample_size(10);
        for count in LAYERS {
            let made = Made::new(count);
            for (name, mount) in WAYS {
                group.bench_function(BenchmarkId::new(name, count), |b| {
                    b.iter_custom(|rounds| {
                        each_anew(rounds, || mount(&made), |root| look(root, count, there))
                    });
                });
            }
        }
    }
}

criterion_group!(benches, start, look_ups);
criterion_main!(benches);
