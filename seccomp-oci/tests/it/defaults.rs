//! Docker's default profile.

use seccomp_oci::{Arch, Compiled, Situation, Version, compile, default_profile};

use crate::model::{self, ALLOW, call, errno};

const MODERN: Version = Version { major: 6, minor: 12 };

fn compiled(capabilities: &[&str], machine: Arch, kernel: Version) -> Compiled {
    let capabilities: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
    let situation = Situation { capabilities: &capabilities, machine, kernel };
    compile(&default_profile(&situation), machine).unwrap()
}

fn answer(capabilities: &[&str], name: &str, args: &[u64]) -> u32 {
    let program = compiled(capabilities, Arch::X86_64, MODERN).program;
    program.answer(&call(Arch::X86_64, name, args), true).unwrap()
}

#[test]
fn what_ways_out_have_started_with_is_denied() {
    for name in [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "pivot_root",
        "move_mount",
        "open_tree",
        "fsopen",
        "mount_setattr",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "kexec_load",
        "init_module",
        "finit_module",
        "reboot",
        "swapon",
        "acct",
        "settimeofday",
        "open_by_handle_at",
        "kcmp",
        "lookup_dcookie",
        "quotactl",
        "syslog",
        "ioperm",
        "iopl",
        "chroot",
        "sethostname",
        "move_pages",
        "mbind",
        "nfsservctl",
        "uselib",
        "ustat",
        "sysfs",
        "vhangup",
        "process_madvise",
        "pidfd_getfd",
        "fanotify_init",
    ] {
        assert_eq!(answer(&[], name, &[]), errno(1), "{name}");
    }
}

#[test]
fn capabilities_open_what_they_are_for() {
    for (capability, names) in [
        ("CAP_SYS_ADMIN", &["mount", "unshare", "setns", "clone3", "bpf", "sethostname"][..]),
        ("CAP_SYS_CHROOT", &["chroot"]),
        ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd"]),
        ("CAP_SYS_TIME", &["settimeofday", "clock_settime"]),
        ("CAP_SYS_NICE", &["mbind"]),
        ("CAP_SYS_MODULE", &["init_module"]),
        ("CAP_SYS_BOOT", &["reboot"]),
        ("CAP_SYS_PACCT", &["acct"]),
        ("CAP_SYS_RAWIO", &["iopl"]),
        ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
        ("CAP_SYSLOG", &["syslog"]),
        ("CAP_BPF", &["bpf"]),
        ("CAP_PERFMON", &["perf_event_open"]),
        ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ] {
        for name in names {
            assert_ne!(answer(&[], name, &[]), ALLOW, "{name}");
            assert_eq!(answer(&[capability], name, &[]), ALLOW, "{name} with {capability}");
        }
    }
    // Loading modules is not mounting.
    assert_eq!(answer(&["CAP_SYS_MODULE"], "mount", &[]), errno(1));
}

#[test]
fn ordinary_programs_run() {
    for name in [
        "read",
        "write",
        "openat",
        "mmap",
        "execve",
        "clone",
        "vfork",
        "fork",
        "futex",
        "epoll_wait",
        "accept4",
        "connect",
        "rt_sigaction",
        "getrandom",
        "statx",
        "newfstatat",
        "prctl",
        "capset",
        "setgroups",
        "setresuid",
        "seccomp",
        "landlock_create_ruleset",
        "rseq",
        "close_range",
        "openat2",
        "faccessat2",
        "memfd_create",
        "inotify_add_watch",
        "shmget",
        "mq_open",
        "arch_prctl",
        "modify_ldt",
        "ptrace",
        "mknod",
        "setxattr",
        "pidfd_open",
        "fchmodat2",
        "sched_setaffinity",
        "clock_nanosleep",
        "exit_group",
        "mseal",
        "statmount",
    ] {
        assert_eq!(answer(&[], name, &[]), ALLOW, "{name}");
    }
}

#[test]
fn arguments_decide_where_they_must() {
    const NEWUSER: u64 = 0x1000_0000;
    assert_eq!(answer(&[], "clone", &[17]), ALLOW);
    assert_eq!(answer(&[], "clone", &[17 | NEWUSER]), errno(1));
    assert_eq!(answer(&["CAP_SYS_ADMIN"], "clone", &[17 | NEWUSER]), ALLOW);
    assert_eq!(answer(&[], "clone3", &[]), errno(38), "so that libraries use clone");
    for (domain, expected) in [(0, ALLOW), (8, ALLOW), (0xffff_ffff, ALLOW), (0x40000, errno(1))] {
        assert_eq!(answer(&[], "personality", &[domain]), expected, "{domain:#x}");
    }
    for (family, expected) in [
        (1, ALLOW),
        (2, ALLOW),
        (16, ALLOW),
        (38, errno(1)),
        (39, ALLOW),
        (40, errno(1)),
        (44, ALLOW),
    ] {
        assert_eq!(answer(&[], "socket", &[family]), expected, "{family}");
    }
    // On s390x the flags are the second argument.
    let s390x = compiled(&[], Arch::S390x, MODERN).program;
    let of = |args: &[u64]| s390x.answer(&call(Arch::S390x, "clone", args), false).unwrap();
    assert_eq!(of(&[NEWUSER, 17]), ALLOW);
    assert_eq!(of(&[0, NEWUSER]), errno(1));
}

#[test]
fn old_kernels_have_no_ptrace() {
    let old = compiled(&[], Arch::X86_64, Version { major: 4, minor: 7 }).program;
    assert_eq!(old.answer(&call(Arch::X86_64, "ptrace", &[]), true), Some(errno(1)));
}

#[test]
fn sub_architectures_have_it_too() {
    let program = compiled(&[], Arch::X86_64, MODERN).program;
    for arch in [Arch::X86, Arch::X32] {
        let of = |name| program.answer(&call(arch, name, &[]), true).unwrap();
        assert_eq!(of("execve"), ALLOW);
        assert_eq!(of("mount"), errno(1));
        assert_eq!(of("unshare"), errno(1));
    }
    let newer = model::by_number(Arch::X86_64, 500, &[]);
    assert_eq!(program.answer(&newer, true), Some(errno(38)));
}

#[test]
fn it_is_short_and_all_its_names_are_calls() {
    for machine in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64, Arch::S390x, Arch::Ppc64le] {
        let compiled = compiled(&[], machine, MODERN);
        let length = compiled.program.instructions().len();
        assert!(length < 400, "{length} instructions on {machine}");
        if machine == Arch::X86_64 {
            // Its sub-architecture of 32 bits has the older ones.
            assert!(compiled.unknown.is_empty(), "{:?}", compiled.unknown);
        }
    }
}
