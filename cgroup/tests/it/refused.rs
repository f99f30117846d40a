//! What cannot be is said, with the limit's name.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use cgroup::limits::{HugePages, Limits, Rdma};
use cgroup::{Error, Hierarchies};

use crate::harness::{TestGroup, text};

#[test]
fn values_without_meaning_name_their_limit() {
    let group = TestGroup::new("refused");
    let fails = |expected: &str, change: &dyn Fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = group.apply(&limits).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    fails("memory.limit: ", &|limits| limits.memory.limit = Some(-2));
    fails("memory.swappiness: ", &|limits| limits.memory.swappiness = Some(101));
    fails("memory.swap: ", &|limits| {
        limits.memory.limit = Some(32 << 20);
        limits.memory.swap = Some(16 << 20);
    });
    fails("cpu.idle: ", &|limits| limits.cpu.idle = Some(2));
    fails("cpu.quota: ", &|limits| {
        limits.cpu.quota = Some(10);
        limits.cpu.period = Some(100_000);
    });
    fails("cpu.period: ", &|limits| limits.cpu.period = Some(5));
    fails("blockIO.weight: ", &|limits| limits.block_io.weight = Some(5));
    fails("blockIO.throttleReadBpsDevice[0]: ", &|limits| {
        limits.block_io.read_bps =
            vec![cgroup::limits::Rate { major: 4_000, minor: 77, rate: 1 << 20 }];
    });
    for page_size in ["2M", "2", "../2MB", "0MB", "MB"] {
        fails("hugepageLimits[0].pageSize: ", &|limits| {
            limits.huge_pages = vec![HugePages { page_size: page_size.into(), limit: 0 }];
        });
    }
    fails("hugepageLimits[0].limit: ", &|limits| {
        limits.huge_pages = vec![HugePages { page_size: "7MB".into(), limit: 0 }];
    });
    for key in ["memory", "../memory.high", "a/b.c"] {
        fails(
            &format!(
                "unified[{key:?}]: the specified key has not the form CONTROLLER.VALUE `{key}`"
            ),
            &|limits| {
                limits.unified.insert(key.into(), "1".into());
            },
        );
    }
    fails(
        "unified[\"nothing.at_all\"]: the requested cgroup controller `nothing` is not available",
        &|limits| {
            limits.unified.insert("nothing.at_all".into(), "1".into());
        },
    );
    fails("unified[\"cgroup.max.depth\"]: writing \"x\" to ", &|limits| {
        limits.unified.insert("cgroup.max.depth".into(), "x".into());
    });
}

#[test]
fn a_controller_that_is_missing_is_named_and_where_it_is_to_be_had() {
    let hierarchies = Hierarchies::find().unwrap();
    let group = TestGroup::of(&hierarchies, "missing");
    let has = |name: &str| {
        let described = hierarchies.describe();
        described.iter().any(|(all, _)| all.split(',').any(|one| one == name))
    };
    assert!(!has("net_cls") && !has("net_prio"), "the test needs a machine without them");
    let mut limits = Limits::default();
    limits.network.class_id = Some(1);
    let error = group.apply(&limits).unwrap_err().below("linux.resources").to_string();
    let expected = "linux.resources.network.classID: the requested cgroup controller `net_cls` is not available";
    assert!(error.starts_with(expected) && error.contains("mount -t cgroup"), "{error}");
    // Nothing is asked for.
    limits.network.class_id = Some(0);
    group.apply(&limits).unwrap();
    let device = Rdma { device: "none".into(), handles: Some(1), objects: None };
    let error = group.apply(&Limits { rdma: vec![device], ..Limits::default() }).unwrap_err();
    assert!(error.to_string().starts_with("rdma.none"), "{error}");
    // A group without v1's part has no controllers on a hybrid machine.
    let bare = TestGroup::of(&Hierarchies::find().unwrap().only(&[]), "bare");
    let pids = |most| Limits { pids: Some(most), ..Limits::default() };
    match bare.apply(&pids(5)) {
        Ok(()) => assert!(hierarchies.is_unified()),
        Err(error) => {
            assert!(
                matches!(&error, Error::NoController { controller, .. } if controller == "pids")
            );
            assert!(error.to_string().contains("/proc/cgroups"), "{error}");
        }
    }
    bare.apply(&pids(-1)).unwrap();
}

const INSIDE: &str = "CGROUP_TEST_NOBODY";

/// Without root a group may not be made: an error of its own kind, and nothing is left.
#[test]
fn who_has_no_right_is_told_so() {
    const PATH: &str = "/cgroup-test-nobody";
    if std::env::var_os(INSIDE).is_some() {
        let hierarchies = Hierarchies::find().unwrap();
        let location = hierarchies.locate(PATH).unwrap();
        let error = hierarchies.create(&location).unwrap_err();
        assert!(error.is_permission(), "{error}");
        let sentence = error.to_string();
        assert!(sentence.contains("making the cgroup") && sentence.contains(PATH), "{sentence}");
        return;
    }
    // Where nobody can execute it.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.path().join("it");
    // Written by another process: a test beside this one that forks would hold it open, and it could not be executed.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let output = Command::new(&program)
        .args(["--exact", "refused::who_has_no_right_is_told_so", "--nocapture"])
        .env(INSIDE, "1")
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let hierarchies = Hierarchies::find().unwrap();
    let error = hierarchies.open(&hierarchies.locate(PATH).unwrap()).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}
