//! Limits that are reached.

use std::time::Duration;

use cgroup::Limits;
use cgroup::limits::{Cpu, Memory};

use crate::harness::{TestGroup, until};

#[test]
fn a_fork_bomb_is_stopped() {
    let group = TestGroup::new("bomb");
    group.apply(&Limits { pids: Some(10), ..Limits::default() }).unwrap();
    let (succeeded, said) =
        group.run("for i in $(seq 40); do sleep 100 > /dev/null 2>&1 & done; wait");
    assert!(!succeeded, "{said}");
    let pids = group.stats().unwrap().pids.unwrap();
    assert!(pids.current <= 10 && pids.limit == Some(10), "{pids:?}");
    assert!(group.processes().unwrap().len() >= 5, "{:?}", group.processes());
}

#[test]
fn a_hog_is_killed_and_that_is_told() {
    let group = TestGroup::new("hog");
    let memory = Memory { limit: Some(16 << 20), swap: Some(16 << 20), ..Memory::default() };
    group.apply(&Limits { memory, ..Limits::default() }).unwrap();
    let mut watch = group.watch_oom().unwrap();
    assert_eq!(watch.wait(Duration::from_millis(20)), Some(0));
    assert_eq!(group.oom_kills().unwrap(), Some(0));
    let (succeeded, said) = group.run("dd if=/dev/zero of=/dev/null bs=64M count=1 2>&1");
    assert!(!succeeded, "{said}");
    assert!(watch.wait(Duration::from_secs(10)).unwrap() >= 1);
    assert!(group.oom_kills().unwrap().unwrap() >= 1);
    let stats = group.stats().unwrap().memory.unwrap();
    assert!(stats.oom_kills >= 1, "{stats:?}");
    // Newer kernels count it in v2 only.
    assert!(stats.limit_hits >= 1 || group.is_legacy("memory"), "{stats:?}");
    assert!(!stats.stat.is_empty());
    assert_eq!(watch.wait(Duration::from_millis(20)), Some(0));
    group.destroy().unwrap();
    assert_eq!(watch.wait(Duration::from_secs(10)), None);
}

#[test]
fn a_spinner_is_throttled_and_its_time_is_counted() {
    let group = TestGroup::new("quota");
    let cpu = Cpu { quota: Some(2_000), period: Some(10_000), ..Cpu::default() };
    group.apply(&Limits { cpu, ..Limits::default() }).unwrap();
    let mut child = group.start("while :; do :; done");
    let cpu = || group.stats().unwrap().cpu;
    until("it is throttled", || cpu().throttled_periods > 5 && cpu().throttled_ns > 0);
    let stats = cpu();
    assert!(stats.periods >= stats.throttled_periods, "{stats:?}");
    assert!(stats.usage_ns > 0, "{stats:?}");
    assert!(stats.user_ns > 0, "{stats:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_is_read_from_a_disk_is_counted() {
    let group = TestGroup::new("read");
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = format!("dd if=/dev/zero of={} bs=1M count=4 oflag=direct", file.path().display());
    let (succeeded, said) = group.run(&script);
    assert!(succeeded, "{said}");
    let io = || group.stats().unwrap().io;
    until("4 MiB are counted", || io().iter().map(|io| io.write_bytes).sum::<u64>() >= 4 << 20);
    assert!(io().iter().any(|io| io.writes > 0), "{:?}", io());
}
