//! What runs in the child does not allocate: the program that clones may have other threads, and one of
//! them may hold the allocator's lock at that moment.
//!
//! A binary of its own, since the counting allocator is the whole process's.

use std::alloc::System;

use cgroup::Hierarchies;
use ns_core::{Event, Spawn};
use rustix::io::Errno;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use sys::Failure;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_process_joins_without_the_heap() {
    let hierarchies = Hierarchies::find().unwrap();
    let path = format!("/cgroup-test-no-alloc-{}", std::process::id());
    let group = hierarchies.create(&hierarchies.locate(&path).unwrap()).unwrap();
    let join = group.join().unwrap();
    let mut spawn = Spawn::new();
    if let Some(fd) = join.unified() {
        spawn = spawn.cgroup(fd);
    }
    let child = spawn.spawn(|gate| {
        let before = ALLOCATOR.stats();
        join.apply()?;
        if ALLOCATOR.stats() != before {
            return Err(Failure::new("doing without the heap", Errno::NOMEM));
        }
        gate.wait(1)?;
        Err(Failure::new("waiting", Errno::CANCELED))
    });
    let mut child = child.unwrap();
    let event = child.next().unwrap();
    let joined = group.is_populated().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    group.destroy().unwrap();
    assert!(matches!(event, Event::Phase(1, None)) && joined, "{event:?}");
}
