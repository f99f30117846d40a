//! Network namespaces made on a thread.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use ns_core::NetworkAhead;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::turn;

/// Which namespace it is.
fn inode(namespace: OwnedFd) -> u64 {
    std::fs::File::from(namespace).metadata().unwrap().ino()
}

fn made() -> u64 {
    inode(NetworkAhead::begin().unwrap().wait().unwrap())
}

#[test]
fn a_namespace_is_made_and_its_maker_stays_where_it_is() {
    let _turn = turn();
    let (own, cpus) =
        (std::fs::metadata("/proc/self/ns/net").unwrap().ino(), sched_getaffinity(None));
    assert_ne!(made(), own);
    assert_eq!(std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino(), own);
    assert_eq!(sched_getaffinity(None), cpus);
}

/// The thread is sent to another processor, and brought here when it has not run there.
#[test]
fn one_is_made_where_all_processors_are_busy_or_there_is_one_alone() {
    let _turn = turn();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 * std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let own = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
        for _ in 0..5 {
            assert_ne!(made(), own);
        }
        let all = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        assert_ne!(made(), own);
        assert_eq!(sched_getaffinity(None).unwrap(), one);
        sched_setaffinity(None, &all).unwrap();
        ends.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_nobody_waits_for_leaves_nothing() {
    let _turn = turn();
    let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    drop(NetworkAhead::begin().unwrap());
    let before = (count("/proc/self/fd"), maps());
    for _ in 0..20 {
        drop(NetworkAhead::begin().unwrap());
        made();
    }
    assert_eq!((count("/proc/self/fd"), maps()), before);
}
