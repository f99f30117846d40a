//! A process begins in its group.

use cgroup::{Hierarchies, Location};
use ns_core::{Event, Namespaces, Spawn};

use crate::harness::TestGroup;

/// What a process that begins in the group has as its groups.
fn groups_of_a_child(group: &TestGroup, namespaces: Namespaces) -> Location {
    let join = group.join().unwrap();
    let mut spawn = Spawn::new().namespaces(namespaces);
    if let Some(fd) = join.unified() {
        spawn = spawn.cgroup(fd);
    }
    let child = spawn.spawn(|gate| {
        join.apply()?;
        gate.wait(1)?;
        unreachable!("the parent never opens the gate")
    });
    let mut child = child.unwrap();
    match child.next().unwrap() {
        Event::Phase(1, _) => {}
        Event::Failed(report) => panic!("{}: {report}", join.describe(report.index)),
        other => panic!("{other:?}"),
    }
    let groups = Location::of_process(&child.pid().as_raw_nonzero().to_string()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    groups
}

#[test]
fn a_process_is_in_the_group_in_every_hierarchy_from_its_start() {
    let group = TestGroup::new("join");
    let groups = groups_of_a_child(&group, Namespaces::empty());
    for (controllers, _) in group.paths() {
        let path = |location: &Location| match &controllers[..] {
            "" => location.unified().map(str::to_owned),
            names => location.legacy(names).map(str::to_owned),
        };
        assert_eq!(path(&groups), path(&group.location), "{controllers}");
    }
}

#[test]
fn a_group_that_goes_meanwhile_is_an_error() {
    let group = TestGroup::new("join-gone");
    let join = group.join().unwrap();
    group.destroy().unwrap();
    assert!(group.join().unwrap_err().is_not_found());
    if let Some(fd) = join.unified() {
        let child = Spawn::new().cgroup(fd).spawn(|_| unreachable!());
        assert!(child.is_err());
    } else {
        let failure = join.apply().unwrap_err();
        assert!(join.describe(failure.index).ends_with("/tasks"));
    }
}

#[test]
fn paths_are_the_roots_or_the_callers() {
    let hierarchies = Hierarchies::find().unwrap();
    let absolute = hierarchies.locate("/a/../b//c").unwrap();
    assert!(absolute.to_string().lines().all(|line| line.ends_with(":/b/c")), "{absolute}");
    let own = Location::of_process("self").unwrap();
    let relative = hierarchies.locate("../x").unwrap();
    for line in relative.to_string().lines() {
        let (controllers, path) = line.strip_prefix("0:").unwrap().split_once(':').unwrap();
        let expected = match controllers {
            // Beside the caller's, which has processes.
            "" => own.unified().unwrap().rsplit_once('/').unwrap().0,
            names => own.legacy(names).unwrap().trim_end_matches('/'),
        };
        assert_eq!(path, format!("{expected}/x"), "{controllers}");
    }
    for none in ["", "/", "a/.."] {
        assert!(hierarchies.locate(none).is_err());
    }
}

/// A group that has processes cannot hand on controllers (v2): so a limit below it names the reason.
#[test]
fn a_busy_parent_is_told() {
    let hierarchies = Hierarchies::find().unwrap();
    let parent = TestGroup::of(&hierarchies, "busy");
    let mut child = parent.start("sleep 100");
    let below = parent.location.to_string();
    let below = below.lines().next().unwrap().rsplit(':').next().unwrap();
    let inner = TestGroup::at(&hierarchies, &format!("{below}/inner"));
    // Not one that can be counted for threads, which such a group can hand on.
    let mut memory = cgroup::Limits::default();
    memory.memory.limit = Some(64 << 20);
    match inner.apply(&memory) {
        Ok(()) => assert!(!hierarchies.is_unified()),
        Err(error) => {
            let error = error.to_string();
            assert!(hierarchies.is_unified(), "{error}");
            assert!(
                error.starts_with(
                    "memory.limit: the requested cgroup controller `memory` is not available"
                ),
                "{error}"
            );
            assert!(error.contains("start from another group"), "{error}");
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The mounts' table is read only where the hierarchies are not in their usual places.
#[test]
fn finding_them_opens_no_table_of_mounts() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let output = std::process::Command::new("strace")
        .args(["-f", "-e", "trace=openat", "-o"])
        .arg(trace.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "ways_in::they_are_found"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", crate::harness::text(&output));
    let trace = std::fs::read_to_string(trace.path()).unwrap();
    assert!(trace.contains("/proc/self/cgroup"), "{trace}");
    assert!(!trace.contains("mountinfo"), "{trace}");
}

#[test]
fn they_are_found() {
    let found = Hierarchies::find().unwrap().describe();
    assert!(found.iter().all(|(_, path)| path.starts_with("/sys/fs/cgroup")), "{found:?}");
}
