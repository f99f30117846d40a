//! What runs in the child does not allocate: the program that clones may have other threads, and one
//! of them may hold the allocator's lock at that moment.
//!
//! A binary of its own, since the counting allocator is the whole process's.

use std::alloc::System;
use std::os::unix::fs::symlink;

use rustix::io::Errno;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use sys::Failure;

#[allow(dead_code, reason = "the other test binary uses all of it")]
#[path = "it/sandbox.rs"]
mod sandbox;

use sandbox::{Container, bind, sandbox};

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

#[test]
fn binds_are_attached_without_the_heap() {
    sandbox(|| {
        std::fs::write("/tmp/source/file", "").unwrap();
        symlink("/run", "/tmp/root/var").unwrap();
        let binds = [bind("/tmp/source", "/var/a/b/c"), bind("/tmp/source/file", "/etc/x/hosts")];
        let container = Container::start(|root| {
            without_heap(|| binds.iter().try_for_each(|bind| bind.apply(root)))
        })
        .unwrap();
        assert!(container.mount_on("/run/a/b/c").is_some());
    });
}

#[test]
fn a_failure_is_made_without_the_heap() {
    sandbox(|| {
        std::fs::write("/tmp/root/file", "").unwrap();
        let wrong = bind("/tmp/source", "/file");
        Container::start(|root| {
            without_heap(|| match wrong.apply(root) {
                Err(failure) if failure.errno == Errno::NOTDIR => Ok(()),
                _ => Err(Failure::new("failing", Errno::IO)),
            })
        })
        .unwrap();
    });
}

#[test]
fn the_count_would_notice() {
    sandbox(|| {
        let report = Container::start(|_| {
            without_heap(|| {
                drop(std::hint::black_box(Box::new(1)));
                Ok(())
            })
        })
        .map(drop)
        .unwrap_err();
        assert_eq!(report.op, "doing without the heap");
    });
}
