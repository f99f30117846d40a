//! Machines with other hierarchies than this one: this program again, in a mount namespace where some are
//! taken away.

use std::process::Command;

use cgroup::limits::{Access, DeviceRule};
use cgroup::{Hierarchies, Limits};

use crate::harness::{TestGroup, text};

const INSIDE: &str = "CGROUP_TEST_INSIDE";

/// Runs the test `name` again after `script`, in a mount namespace of its own.
fn again(name: &str, script: &str) {
    let script = format!("{script} && exec \"$0\" --exact \"$1\" --nocapture");
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(format!("elsewhere::{name}"))
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let output_text = text(&output);
    assert!(output.status.success() && output_text.contains("1 passed"), "{output_text}");
}

fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A group's whole life.
fn works(hierarchies: &Hierarchies, test: &str) {
    let group = TestGroup::of(hierarchies, test);
    let devices = Some(vec![DeviceRule::char(1, Some(3))]);
    group.apply(&Limits { devices, ..Limits::default() }).unwrap();
    assert!(group.succeeds("(: < /dev/null) && ! (: < /dev/zero) 2>/dev/null"));
    let deny = vec![DeviceRule::all(true, Access::all())];
    group.apply(&Limits { devices: Some(deny), ..Limits::default() }).unwrap();
    let mut child = group.start("sleep 100 & while :; do :; done");
    crate::harness::until("they run", || group.processes().unwrap().len() >= 2);
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
    group.destroy().unwrap();
    child.wait().unwrap();
}

#[test]
fn nothing_is_mounted() {
    if !inside() {
        return again("nothing_is_mounted", "umount -l /sys/fs/cgroup");
    }
    let hierarchies = Hierarchies::find().unwrap();
    assert!(hierarchies.is_unified());
    let place = hierarchies.describe()[0].1.display().to_string();
    assert_eq!(place, "(a mount of its own of cgroup2)");
    works(&hierarchies, "nothing");
}

#[test]
fn v2_is_mounted_in_another_place() {
    if !inside() {
        let script = "umount -l /sys/fs/cgroup && mount -t tmpfs none /mnt && mkdir /mnt/c && \
                      mount -t cgroup2 -o nsdelegate none /mnt/c";
        return again("v2_is_mounted_in_another_place", script);
    }
    let hierarchies = Hierarchies::find().unwrap();
    let expected = [(String::new(), "/mnt/c".into())];
    assert_eq!(hierarchies.describe(), expected);
    works(&hierarchies, "another");
}

#[test]
fn v2_in_the_usual_place_is_all_there_is() {
    if !inside() {
        // A hierarchy of v1 that every kernel with v1 has, without controllers.
        let script = "umount -l -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && \
                      mount -t tmpfs none /mnt && mkdir /mnt/v1 && \
                      mount -t cgroup -o none,name=cgroup-test none /mnt/v1";
        return again("v2_in_the_usual_place_is_all_there_is", script);
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(own.contains(":name=cgroup-test:"), "{own}");
    let hierarchies = Hierarchies::find().unwrap();
    assert_eq!(hierarchies.describe(), [(String::new(), "/sys/fs/cgroup".into())]);
    works(&hierarchies, "usual");
}

#[test]
fn v2_is_mounted_where_something_else_lies_over_it_and_elsewhere() {
    if !inside() {
        let script = "umount -l -R /sys/fs/cgroup && mount -t tmpfs none /mnt && \
                      mkdir /mnt/a /mnt/b && mount -t cgroup2 none /mnt/a && \
                      mount -t tmpfs none /mnt/a && mount -t cgroup2 none /mnt/b";
        return again("v2_is_mounted_where_something_else_lies_over_it_and_elsewhere", script);
    }
    let hierarchies = Hierarchies::find().unwrap();
    assert_eq!(hierarchies.describe(), [(String::new(), "/mnt/b".into())]);
}

/// As a container sees it that shares the host's cgroup namespace.
#[test]
fn a_part_of_v2_is_mounted() {
    if !inside() {
        let script = "d=$(findmnt -n -t cgroup2 -o TARGET | head -1) && mkdir $d/cgroup-test-part && \
                      mount -t tmpfs none /mnt && mkdir /mnt/c && \
                      mount --bind $d/cgroup-test-part /mnt/c && rmdir $d/cgroup-test-part/x 2>/dev/null; \
                      umount -l /sys/fs/cgroup";
        again("a_part_of_v2_is_mounted", script);
        let hierarchies = Hierarchies::find().unwrap();
        let part = hierarchies.locate("/cgroup-test-part").unwrap();
        return hierarchies.open(&part).unwrap().destroy().unwrap();
    }
    let hierarchies = Hierarchies::find().unwrap();
    assert_eq!(hierarchies.describe(), [(String::new(), "/mnt/c".into())]);
    let location = hierarchies.locate("/cgroup-test-part/below").unwrap();
    let group = TestGroup { group: hierarchies.create(&location).unwrap(), location };
    assert_eq!(group.paths(), [(String::new(), "/mnt/c/below".into())]);
    assert!(group.succeeds("grep -q ^0::.*/cgroup-test-part/below$ /proc/self/cgroup"));
}

/// On a hybrid machine: the v1 hierarchies alone, with no cgroup.kill and no directory beside theirs.
#[test]
fn v1_alone() {
    if !inside() {
        if Hierarchies::find().unwrap().is_unified() {
            return; // There is no v1 here; the tests in the virtual machine and on the host make both.
        }
        return again("v1_alone", "umount -l /sys/fs/cgroup/unified");
    }
    let hierarchies = Hierarchies::find().unwrap();
    let found = hierarchies.describe();
    assert!(found.iter().all(|(controllers, _)| !controllers.is_empty()), "{found:?}");
    let names = |path: &str| -> Vec<_> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        entries.collect()
    };
    let before = names("/sys/fs/cgroup");
    works(&hierarchies, "v1");
    assert_eq!(names("/sys/fs/cgroup"), before);
    let group = TestGroup::of(&hierarchies, "v1-unified");
    let mut limits = Limits::default();
    limits.unified.insert("memory.high".into(), "1".into());
    let error = group.apply(&limits).unwrap_err().to_string();
    assert!(
        error.starts_with("unified[\"memory.high\"]: ")
            && error.contains("cgroup v2 is not mounted"),
        "{error}"
    );
}
