//! Nothing of a group is left, whatever it holds.

use std::io::ErrorKind;
use std::time::Duration;

use cgroup::Hierarchies;
use cgroup::limits::{Cpu, Limits};

use crate::harness::{TestGroup, until};

#[test]
fn all_processes_of_nested_groups_are_killed_and_all_groups_removed() {
    let hierarchies = Hierarchies::find().unwrap();
    let group = TestGroup::of(&hierarchies, "nested");
    let path = group.location.to_string();
    let path = path.lines().next().unwrap().rsplit(':').next().unwrap();
    // Both without groups below them: v2 has processes in no others.
    let [inner, other] = ["a/b", "c"].map(|below| {
        let location = hierarchies.locate(&format!("{path}/{below}")).unwrap();
        TestGroup { group: hierarchies.create(&location).unwrap(), location }
    });
    // Each leaves its parent, and its session, and starts more.
    let script =
        "for i in 1 2 3; do setsid sh -c 'while :; do sleep 0.01; done' > /dev/null 2>&1 & done";
    assert!(other.succeeds(script));
    assert!(inner.succeeds(script));
    until("they run", || group.processes().unwrap().len() >= 6);
    assert!(inner.processes().unwrap().len() >= 3);
    assert!(group.is_populated().unwrap());
    let error = group.remove().unwrap_err();
    assert_eq!(error.source_kind(), Some(std::io::ErrorKind::ResourceBusy), "{error}");
    group.kill_all().unwrap();
    until("they end", || !group.is_populated().unwrap());
    group.remove().unwrap();
    for (_, path) in group.paths() {
        assert!(!path.exists(), "{}", path.display());
    }
    // Once more is no error.
    group.kill_all().unwrap();
    group.remove().unwrap();
    group.destroy().unwrap();
}

/// As on kernels before cgroup.kill (5.14), and where v2 is not mounted.
#[test]
fn processes_are_killed_one_by_one_as_well() {
    let group = TestGroup::new("one-by-one");
    let mut child = group.start("(sleep 100 & sleep 100 & wait) & wait");
    until("they run", || group.processes().unwrap().len() >= 4);
    assert!(group.signal_each(rustix::process::Signal::KILL).unwrap() >= 4);
    until("they end", || child.try_wait().unwrap().is_some());
    until("the others too", || !group.is_populated().unwrap());
}

/// Who has used up its time ends when it gets some again.
#[test]
fn processes_that_may_not_run_now_are_killed_as_well() {
    let group = TestGroup::new("throttled");
    let cpu = Cpu { quota: Some(1_000), period: Some(1_000_000), ..Cpu::default() };
    let mut child = group.start("while :; do :; done");
    group.apply(&Limits { cpu, ..Limits::default() }).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    group.kill_all().unwrap();
    until("it ends", || child.try_wait().unwrap().is_some());
    group.remove().unwrap();
}

/// Somebody has moved a process out of the group in one hierarchy, and left it in the others.
#[test]
fn what_is_in_one_hierarchy_only_keeps_the_group() {
    let group = TestGroup::new("partly");
    let mut child = group.start("exec sleep 100");
    let first = &group.paths()[0].1;
    std::fs::write(first.parent().unwrap().join("cgroup.procs"), child.id().to_string()).unwrap();
    if group.paths().len() > 1 {
        let error = group.remove().unwrap_err();
        assert_eq!(error.source_kind(), Some(ErrorKind::ResourceBusy), "{error}");
        assert!(group.is_populated().unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    group.remove().unwrap();
    assert!(!group.is_populated().unwrap());
}

#[test]
fn a_record_finds_the_group_again() {
    let hierarchies = Hierarchies::find().unwrap();
    let group = TestGroup::of(&hierarchies, "record");
    let record = group.location.to_string();
    let again = hierarchies.open(&record.parse().unwrap()).unwrap();
    assert_eq!(again.paths(), group.paths());
    // As far as it is there: somebody may have removed a part of it.
    std::fs::remove_dir(&group.paths()[0].1).unwrap();
    if let Ok(rest) = hierarchies.open(&group.location) {
        assert_eq!(rest.paths(), group.paths()[1..]);
    }
    group.destroy().unwrap();
    let error = hierarchies.open(&group.location).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}
