//! What is set is what the kernel has, and what is not given stays.

use cgroup::Limits;
use cgroup::limits::{Cpu, Memory, Rate};

use crate::harness::TestGroup;

const MIB: i64 = 1 << 20;

fn memory(memory: Memory) -> Limits {
    Limits { memory, ..Limits::default() }
}

fn cpu(cpu: Cpu) -> Limits {
    Limits { cpu, ..Limits::default() }
}

#[test]
fn memory_and_swap_grow_and_shrink_in_one_call() {
    let group = TestGroup::new("memory");
    let limit = |group: &TestGroup| {
        let stats = group.stats().unwrap().memory.unwrap();
        (stats.limit, stats.swap_limit)
    };
    type Given = (Option<i64>, Option<i64>);
    type Limits = (Option<u64>, Option<u64>);
    // What is given: memory alone, and memory and swap together.
    let sets: [(Given, Limits); 5] = [
        ((Some(32 * MIB), Some(48 * MIB)), (Some(32 << 20), Some(16 << 20))),
        ((Some(64 * MIB), Some(64 * MIB)), (Some(64 << 20), Some(0))),
        ((Some(16 * MIB), Some(20 * MIB)), (Some(16 << 20), Some(4 << 20))),
        ((None, Some(-1)), (Some(16 << 20), None)),
        ((Some(-1), None), (None, None)),
    ];
    for ((alone, together), (memory_is, swap_is)) in sets {
        let given = Memory { limit: alone, swap: together, ..Memory::default() };
        group.apply(&memory(given)).unwrap();
        let (memory, swap) = limit(&group);
        assert_eq!(memory, memory_is, "{alone:?} {together:?}");
        // A kernel without swap has no limit of it.
        let counted =
            group.file("memory", "memory.memsw.limit_in_bytes", "memory.swap.max").exists();
        if counted {
            assert_eq!(swap, swap_is, "{alone:?} {together:?}");
        }
    }
    let reserved = Memory { reservation: Some(8 * MIB), ..Memory::default() };
    group.apply(&memory(reserved)).unwrap();
    let found = group.read("memory", "memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(found, (8 * MIB).to_string());
    // Zeros, as an engine sends them for what was not asked for, change nothing.
    let zeros = Memory {
        limit: Some(0),
        reservation: Some(0),
        swap: Some(0),
        kernel: Some(0),
        kernel_tcp: Some(0),
        disable_oom_killer: Some(false),
        ..Memory::default()
    };
    group.apply(&memory(zeros)).unwrap();
    let found = group.read("memory", "memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(found, (8 * MIB).to_string());
}

#[test]
fn what_is_in_use_is_not_cut_when_it_is_to_be_looked_at_first() {
    let group = TestGroup::new("check");
    // A buffer of that size, full, which nobody takes.
    let mut child = group.start("dd if=/dev/zero bs=24M count=1 2>/dev/null | sleep 100");
    let usage = || group.stats().unwrap().memory.unwrap().usage;
    crate::harness::until("memory is used", || usage() > 20 << 20);
    let check =
        |limit| Memory { limit: Some(limit), check_before_update: Some(true), ..Memory::default() };
    let error = group.apply(&memory(check(4 * MIB))).unwrap_err().to_string();
    assert!(error.starts_with("memory.limit: ") && error.contains("are in use"), "{error}");
    assert!(child.try_wait().unwrap().is_none());
    group.apply(&memory(check(200 * MIB))).unwrap();
    assert_eq!(group.stats().unwrap().memory.unwrap().limit, Some(200 << 20));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn processors_are_limited_and_only_what_is_given_changes() {
    let group = TestGroup::new("cpu");
    let time = || {
        if group.is_legacy("cpu") {
            let of = |file: &str| group.read("cpu", file, "");
            format!("{} {}", of("cpu.cfs_quota_us"), of("cpu.cfs_period_us"))
        } else {
            group.read("cpu", "", "cpu.max")
        }
    };
    let any = if group.is_legacy("cpu") { "-1" } else { "max" };
    let sets: [(Option<i64>, Option<u64>, String); 6] = [
        (Some(50_000), None, "50000 100000".into()),
        (None, Some(200_000), "50000 200000".into()),
        (Some(5_000), Some(10_000), "5000 10000".into()),
        (None, None, "5000 10000".into()),
        (Some(0), Some(0), "5000 10000".into()),
        (Some(-1), None, format!("{any} 10000")),
    ];
    for (quota, period, expected) in sets {
        group.apply(&cpu(Cpu { quota, period, ..Cpu::default() })).unwrap();
        assert_eq!(time(), expected, "{quota:?} {period:?}");
    }
    let shares = Cpu { shares: Some(1_024), ..Cpu::default() };
    group.apply(&cpu(shares.clone())).unwrap();
    assert!(matches!(&group.read("cpu", "cpu.shares", "cpu.weight")[..], "1024" | "100"));
    // Burst and quota in one call, whichever way they go.
    for (quota, burst) in [(20_000, 20_000), (10_000, 5_000), (30_000, 30_000)] {
        let given = Cpu { quota: Some(quota), burst: Some(burst), ..Cpu::default() };
        group.apply(&cpu(given)).unwrap();
        let found = group.read("cpu", "cpu.cfs_burst_us", "cpu.max.burst");
        assert_eq!(found, burst.to_string());
    }
    // An idle group has no share; given both, idle wins, and the share comes back without it.
    group.apply(&cpu(Cpu { idle: Some(1), ..shares.clone() })).unwrap();
    assert_eq!(group.read("cpu", "cpu.idle", "cpu.idle"), "1");
    group.apply(&cpu(Cpu { idle: Some(1), ..shares.clone() })).unwrap();
    let error = group.apply(&cpu(shares.clone())).unwrap_err().to_string();
    assert!(error.contains("cpu.idle"), "{error}");
    group.apply(&cpu(Cpu { idle: Some(0), ..shares })).unwrap();
    assert_eq!(group.read("cpu", "cpu.idle", "cpu.idle"), "0");
}

#[test]
fn a_process_runs_where_the_cpuset_says() {
    let group = TestGroup::new("cpuset");
    let cpus = |group: &TestGroup| {
        let (_, said) = group.run("grep Cpus_allowed_list /proc/self/status");
        said.split_whitespace().last().unwrap().to_owned()
    };
    // With one processor there is one set, and to be refused another.
    let several = cpus(&group).contains(['-', ',']);
    let which = if several { "1" } else { "0" };
    let one = Cpu { cpus: Some(which.into()), mems: Some("0".into()), ..Cpu::default() };
    group.apply(&cpu(one)).unwrap();
    assert_eq!(cpus(&group), which);
    let error = group.apply(&cpu(Cpu { cpus: Some("4000".into()), ..Cpu::default() })).unwrap_err();
    assert!(error.to_string().starts_with("cpu.cpus: writing \"4000\""), "{error}");
    let error = group.apply(&cpu(Cpu { mems: Some("x".into()), ..Cpu::default() })).unwrap_err();
    assert!(error.to_string().starts_with("cpu.mems: writing \"x\""), "{error}");
}

/// A disk of the machine, from /proc/partitions.
fn disk() -> (i64, i64) {
    let text = std::fs::read_to_string("/proc/partitions").unwrap();
    let disk = text.lines().skip(2).find_map(|line| {
        let mut words = line.split_whitespace();
        let numbers = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let name = words.nth(1)?;
        std::path::Path::new("/sys/block").join(name).exists().then_some(numbers)
    });
    disk.expect("a disk")
}

#[test]
fn rates_of_a_disk_are_set_and_lifted() {
    let group = TestGroup::new("io");
    let (major, minor) = disk();
    let rates = |rate| vec![Rate { major, minor, rate }];
    let set = |rate| {
        let mut limits = Limits::default();
        limits.block_io.read_bps = rates(rate);
        limits.block_io.write_bps = rates(rate * 2);
        limits.block_io.read_iops = rates(rate / 1_024);
        limits.block_io.write_iops = rates(rate / 512);
        group.apply(&limits).unwrap();
    };
    let found = || {
        if group.is_legacy("blkio") {
            ["read_bps", "write_bps", "read_iops", "write_iops"]
                .map(|name| group.read("blkio", &format!("blkio.throttle.{name}_device"), ""))
                .join("; ")
        } else {
            group.read("blkio", "", "io.max")
        }
    };
    set(1 << 20);
    let expected = match group.is_legacy("blkio") {
        true => {
            format!("{0} 1048576; {0} 2097152; {0} 1024; {0} 2048", format_args!("{major}:{minor}"))
        }
        false => format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=1024 wiops=2048"),
    };
    assert_eq!(found(), expected);
    set(0);
    assert_eq!(found().replace("; ", ""), "");
}

#[test]
fn pids_huge_pages_and_files_of_v2() {
    let group = TestGroup::new("pids");
    let pids = |most| Limits { pids: Some(most), ..Limits::default() };
    for (most, expected) in [(7, Some(7)), (0, Some(7)), (-1, None)] {
        group.apply(&pids(most)).unwrap();
        assert_eq!(group.stats().unwrap().pids.unwrap().limit, expected);
    }
    let mut limits = Limits::default();
    limits.unified.insert("cgroup.max.depth".into(), "3".into());
    group.apply(&limits).unwrap();
    assert_eq!(group.read("(v2)", "", "cgroup.max.depth"), "3");
    // hugetlb is on v2's side on some hybrid machines.
    let own = std::fs::read_to_string("/proc/cgroups").unwrap();
    assert!(own.contains("hugetlb"), "a kernel with huge pages");
    let pages = cgroup::limits::HugePages { page_size: "2MB".into(), limit: 4 << 20 };
    let limits = Limits { huge_pages: vec![pages], ..Limits::default() };
    group.apply(&limits).unwrap();
    let found = group.read("hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max");
    assert_eq!(found, "4194304");
    let found = group.read("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.max");
    assert_eq!(found, "4194304");
    assert!(group.stats().unwrap().huge_pages.iter().any(|pages| pages.page_size == "2MB"));
}
