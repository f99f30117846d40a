//! A frozen group stands still.

use std::time::Duration;

use cgroup::Hierarchies;

use crate::harness::{TestGroup, until};

fn stands_still(group: &TestGroup) -> bool {
    let used = || group.stats().unwrap().cpu.usage_ns;
    let before = used();
    std::thread::sleep(Duration::from_millis(100));
    used() == before
}

fn a_spinner_stands_still(group: &TestGroup) {
    let mut child = group.start("while :; do :; done");
    until("it runs", || !stands_still(group));
    let hierarchies = Hierarchies::find().unwrap();
    let is_told = || hierarchies.stands_still(&group.location).unwrap();
    assert!(!group.is_frozen().unwrap() && !is_told());
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap() && is_told());
    assert!(stands_still(group));
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap() && !is_told());
    until("it goes on", || !stands_still(group));
    // A frozen one can be ended.
    group.freeze().unwrap();
    group.kill_all().unwrap();
    until("it ends", || child.try_wait().unwrap().is_some());
}

#[test]
fn a_frozen_spinner_stands_still_goes_on_and_ends() {
    a_spinner_stands_still(&TestGroup::new("freezer"));
}

/// On a machine with v1's freezer: frozen by somebody else's hand there.
#[test]
fn a_group_that_v1_froze_is_seen_and_ended() {
    let group = TestGroup::new("freezer-v1");
    let paths = group.paths();
    let Some((_, dir)) = paths.iter().find(|(controllers, _)| controllers == "freezer") else {
        assert!(Hierarchies::find().unwrap().is_unified(), "v1 without a freezer");
        return;
    };
    let mut child = group.start("while :; do :; done");
    std::fs::write(dir.join("freezer.state"), "FROZEN").unwrap();
    assert!(group.is_frozen().unwrap());
    assert!(Hierarchies::find().unwrap().stands_still(&group.location).unwrap());
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap());
    std::fs::write(dir.join("freezer.state"), "FROZEN").unwrap();
    group.destroy().unwrap();
    until("it ends", || child.try_wait().unwrap().is_some());
}

#[test]
fn an_empty_group_can_be_frozen() {
    let group = TestGroup::new("freezer-empty");
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
}
