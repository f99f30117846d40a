//! Devices are allowed and denied, by v1's list and by v2's program.

use cgroup::limits::{Access, DeviceKind, DeviceRule};
use cgroup::{Hierarchies, Limits};

use crate::harness::TestGroup;

fn rules(rules: &[DeviceRule]) -> Limits {
    Limits { devices: Some(rules.to_vec()), ..Limits::default() }
}

fn works(group: &TestGroup) {
    let deny = DeviceRule::all(false, Access::all());
    let null = DeviceRule::char(1, Some(3));
    let zero = |allow, access| DeviceRule { allow, access, ..DeviceRule::char(1, Some(5)) };
    let can = |what: &str| group.succeeds(&format!("(: {what}) 2>/dev/null"));
    let works = |given: &[DeviceRule], expected: [bool; 4]| {
        group.apply(&rules(given)).unwrap_or_else(|error| panic!("{given:?}: {error}"));
        let found = ["< /dev/null", "< /dev/zero", "> /dev/zero", "< /dev/full"].map(can);
        assert_eq!(found, expected, "{given:?}");
    };
    assert!(can("< /dev/full"));
    works(&[deny, null], [true, false, false, false]);
    works(&[null, zero(true, Access::READ)], [true, true, false, false]);
    works(&[deny, null, zero(true, Access::WRITE)], [true, false, true, false]);
    works(&[deny, DeviceRule { minor: None, ..null }], [true, true, true, true]);
    works(
        &[deny, null, zero(true, Access::all()), zero(false, Access::WRITE)],
        [true, true, false, false],
    );
    let all = DeviceRule::all(true, Access::all());
    works(&[all, zero(false, Access::READ)], [true, false, true, true]);
    works(&[deny, all], [true, true, true, true]);
    // Nodes of all kinds may be made and not opened, of Docker's default.
    let nodes = DeviceRule::all(true, Access::MKNOD);
    group.apply(&rules(&[deny, nodes, null])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node");
    let script = format!("mknod {0} b 7 9 && ! (: < {0}) 2>/dev/null", node.display());
    let (succeeded, said) = group.run(&script);
    assert!(succeeded, "{said}");
    group.apply(&rules(&[deny, null])).unwrap();
    let other = dir.path().join("other");
    assert!(!group.succeeds(&format!("mknod {} b 7 9 2>/dev/null", other.display())));
}

#[test]
fn where_the_machine_has_them() {
    works(&TestGroup::new("devices"));
}

#[test]
fn by_a_program_of_v2_on_every_machine() {
    works(&TestGroup::of(&Hierarchies::find().unwrap().only(&[]), "devices-v2"));
}

#[test]
fn a_list_that_v1_cannot_keep_names_its_rule() {
    let hierarchies = Hierarchies::find().unwrap();
    let group = TestGroup::of(&hierarchies, "devices-hole");
    let all_of_1 = DeviceRule::char(1, None);
    let hole = DeviceRule { allow: false, kind: DeviceKind::Char, ..DeviceRule::char(1, Some(3)) };
    match group.apply(&rules(&[all_of_1, hole])) {
        Ok(()) => {
            assert!(hierarchies.is_unified() && !group.succeeds("(: < /dev/null) 2>/dev/full"))
        }
        Err(error) => assert!(error.to_string().starts_with("devices[1]: "), "{error}"),
    }
}
