//! What runs in the child does not allocate: the program that clones may have other threads, and one
//! of them may hold the allocator's lock at that moment.
//!
//! A binary of its own, since the counting allocator is the whole process's.

use std::alloc::System;
use std::os::fd::{AsFd, BorrowedFd};

use pivot::{
    Cgroups, Devices, Filesystem, Masks, Nodes, Remount, RootPropagation, console, standard,
};
use rustix::io::Errno;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use sys::Failure;

#[path = "it/child.rs"]
mod child;
#[allow(dead_code, reason = "the other test binary uses all of it")]
#[path = "it/harness.rs"]
mod harness;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Fails when `apply` used the heap in any way.
fn without_heap(apply: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let before = ALLOCATOR.stats();
    apply()?;
    match ALLOCATOR.stats() == before {
        true => Ok(()),
        false => Err(Failure::new("doing without the heap", Errno::NOMEM)),
    }
}

fn everything(nodes: Nodes, tree: BorrowedFd<'_>) -> Result<harness::Container, sys::Report> {
    let mounts: Vec<_> = standard::MOUNTS.iter().map(|mount| mount.prepare().unwrap()).collect();
    let run = Filesystem::new("tmpfs", "/var/run/a/b", None, &["mode=700", "rshared"]).unwrap();
    let remount = Remount::new("/var/run/a/b", &["remount", "noexec", "size=1m"]).unwrap();
    let cgroups = Cgroups::prepare(standard::CGROUP.target, standard::CGROUP.options).unwrap();
    let devices = Devices::prepare(&standard::devices(), nodes).unwrap();
    let masks = Masks::prepare(&standard::masked_paths(), &standard::READ_ONLY).unwrap();
    harness::Container::start(|| {
        without_heap(|| {
            let root = pivot::enter(tree, RootPropagation::Shared)?;
            let root = root.as_fd();
            mounts.iter().try_for_each(|mount| mount.apply(root))?;
            run.apply(root)?;
            remount.apply(root)?;
            cgroups.apply(root)?;
            devices.apply(root)?;
            let pty = console::open_pty(root)?;
            console::bind(root, pty.slave.as_fd())?;
            pivot::pivot(root, RootPropagation::Shared)?;
            masks.apply(root)?;
            pivot::read_only(root)
        })
    })
}

#[test]
fn a_whole_root_is_made_without_the_heap() {
    for nodes in [Nodes::Make, Nodes::Bind] {
        let image = harness::Image::new();
        std::os::unix::fs::symlink("/run", image.path("var")).unwrap();
        let container = everything(nodes, image.tree.as_fd()).unwrap();
        assert!(container.mounts().len() > 10);
    }
}

#[test]
fn a_failure_is_made_without_the_heap() {
    let image = harness::Image::new();
    let wrong = Filesystem::new("tmpfs", "/x", None, &["nonsense=1"]).unwrap();
    harness::Container::start(|| {
        without_heap(|| {
            let root = pivot::enter(image.tree.as_fd(), RootPropagation::Private)?;
            match wrong.apply(root.as_fd()) {
                Err(failure) if !failure.log.as_bytes().is_empty() => Ok(()),
                _ => Err(Failure::new("failing with a log", Errno::IO)),
            }
        })
    })
    .unwrap();
}

#[test]
fn the_count_would_notice() {
    let report = harness::Container::start(|| {
        without_heap(|| {
            drop(std::hint::black_box(Box::new(1)));
            Ok(())
        })
    })
    .map(drop)
    .unwrap_err();
    assert_eq!(report.op, "doing without the heap");
}
