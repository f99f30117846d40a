//! The rules of the documentation one by one, with programs that are read by hand.

use seccomp_oci::{Action, Arch, Compiled, Condition, Filter, Op, Rule, compile};

use crate::model::{ALLOW, KILL_THREAD, by_number, call, errno};

fn on(index: u32, op: Op, value: u64) -> Condition {
    Condition { index, value, value_two: 0, op }
}

fn with(args: &[Condition], name: &str, number: u32) -> Rule {
    Rule { errno_ret: Some(number), args: args.to_vec(), ..Rule::new([name], Action::Errno) }
}

fn compiled(default: Action, syscalls: &[Rule]) -> Compiled {
    compile(&Filter { syscalls: syscalls.to_vec(), ..Filter::new(default) }, Arch::X86_64).unwrap()
}

fn answer(default: Action, syscalls: &[Rule], name: &str, args: &[u64]) -> u32 {
    let program = compiled(default, syscalls).program;
    program.answer(&call(Arch::X86_64, name, args), true).unwrap()
}

#[test]
fn the_first_rule_without_conditions_holds_over_those_with() {
    let rules =
        [with(&[on(0, Op::Equal, 7)], "read", 11), with(&[], "read", 12), with(&[], "read", 13)];
    assert_eq!(answer(Action::Allow, &rules, "read", &[7]), errno(12));
}

#[test]
fn the_first_rule_whose_conditions_hold_is_the_one() {
    let rules =
        [with(&[on(0, Op::Equal, 7)], "read", 11), with(&[on(1, Op::Equal, 8)], "read", 12)];
    assert_eq!(answer(Action::Allow, &rules, "read", &[7, 8]), errno(11));
    assert_eq!(answer(Action::Allow, &rules, "read", &[6, 8]), errno(12));
    assert_eq!(answer(Action::Allow, &rules, "read", &[6, 7]), ALLOW);
}

#[test]
fn conditions_are_all_to_hold_unless_two_are_about_one_argument() {
    let all = [with(&[on(0, Op::Equal, 7), on(1, Op::Equal, 8)], "read", 11)];
    assert_eq!(answer(Action::Allow, &all, "read", &[7, 8]), errno(11));
    assert_eq!(answer(Action::Allow, &all, "read", &[7, 9]), ALLOW);
    let any = [with(&[on(0, Op::Equal, 7), on(0, Op::Equal, 9), on(1, Op::Equal, 8)], "read", 11)];
    for args in [[7, 0], [9, 0], [0, 8]] {
        assert_eq!(answer(Action::Allow, &any, "read", &args), errno(11), "{args:?}");
    }
    assert_eq!(answer(Action::Allow, &any, "read", &[1, 1]), ALLOW);
}

#[test]
fn a_rule_that_says_what_the_default_says_is_no_exception() {
    let rules = [
        Rule { args: vec![on(0, Op::Equal, 7)], ..Rule::new(["read"], Action::Allow) },
        // EPERM, as the default.
        Rule::new(["read", "write"], Action::Errno),
    ];
    assert_eq!(answer(Action::Errno, &rules, "read", &[7]), ALLOW);
    assert_eq!(answer(Action::Errno, &rules, "read", &[8]), errno(1));
}

#[test]
fn arguments_are_compared_in_both_halves() {
    let big = 0x1_0000_0005;
    for (op, below, equal, above) in [
        (Op::Equal, false, true, false),
        (Op::NotEqual, true, false, true),
        (Op::Less, true, false, false),
        (Op::LessOrEqual, true, true, false),
        (Op::Greater, false, false, true),
        (Op::GreaterOrEqual, false, true, true),
    ] {
        let rules = [with(&[on(2, op, big)], "read", 11)];
        let fits = |argument| answer(Action::Allow, &rules, "read", &[0, 0, argument]) == errno(11);
        for argument in [0, 5, 0xffff_ffff, big - 1] {
            assert_eq!(fits(argument), below, "{argument:#x} {op:?}");
        }
        assert_eq!(fits(big), equal, "{op:?}");
        for argument in [big + 1, 0x2_0000_0000, 0x2_0000_0005, u64::MAX] {
            assert_eq!(fits(argument), above, "{argument:#x} {op:?}");
        }
    }
}

#[test]
fn calls_that_are_newer_than_the_filter_do_not_exist() {
    let rules = [Rule::new(["read", "openat2"], Action::Allow)];
    let largest = Arch::X86_64.number("openat2").unwrap();
    let of = |default, number| {
        let program = compiled(default, &rules).program;
        program.answer(&by_number(Arch::X86_64, number, &[]), true).unwrap()
    };
    assert_eq!(of(Action::Errno, largest - 1), errno(1));
    assert_eq!(of(Action::Errno, largest + 1), errno(38));
    assert_eq!(of(Action::KillProcess, largest + 1), errno(38));
    assert_eq!(of(Action::Log, largest + 1), 0x7ffc_0000);
    // Nothing is named: nothing is known to be newer.
    let none = compiled(Action::Errno, &[]).program;
    assert_eq!(none.answer(&by_number(Arch::X86_64, 1000, &[]), true), Some(errno(1)));
    assert_eq!(none.instructions().len(), 7, "{:?}", none.instructions());
}

#[test]
fn calls_of_other_architectures_end_the_thread() {
    let plain = compiled(Action::Allow, &[]).program;
    for arch in [Arch::X86, Arch::Aarch64] {
        let number = arch.number("getpid").unwrap();
        assert_eq!(plain.answer(&by_number(arch, number, &[]), true), Some(KILL_THREAD));
    }
    assert_eq!(plain.answer(&call(Arch::X32, "getpid", &[]), true), Some(KILL_THREAD));
    // A call that a tracer has cancelled is none of x32.
    assert_eq!(plain.answer(&by_number(Arch::X86_64, u32::MAX, &[]), true), Some(ALLOW));
    let filter = Filter {
        architectures: vec![Arch::X32, Arch::X86, Arch::S390x],
        ..Filter::new(Action::Allow)
    };
    let all = compile(&filter, Arch::X86_64).unwrap().program;
    for arch in [Arch::X86, Arch::X86_64, Arch::X32] {
        assert_eq!(all.answer(&call(arch, "getpid", &[]), true), Some(ALLOW));
    }
}

#[test]
fn what_goes_through_socketcall_is_meant_too() {
    let filter = Filter {
        architectures: vec![Arch::X86],
        syscalls: vec![
            with(&[], "connect", 11),
            with(&[], "shmget", 12),
            with(&[on(0, Op::Equal, 1)], "socket", 13),
        ],
        ..Filter::new(Action::Allow)
    };
    let program = compile(&filter, Arch::X86_64).unwrap().program;
    let of = |name, args: &[u64]| program.answer(&call(Arch::X86, name, args), true).unwrap();
    assert_eq!(of("connect", &[]), errno(11));
    assert_eq!(of("socketcall", &[3]), errno(11));
    assert_eq!(of("socketcall", &[2]), ALLOW);
    assert_eq!(of("ipc", &[23]), errno(12));
    assert_eq!(of("ipc", &[0x0001_0017]), errno(12), "with a version above");
    // The family is behind a pointer there.
    assert_eq!(of("socketcall", &[1]), ALLOW);
    assert_eq!(of("socket", &[1]), errno(13));
}

#[test]
fn unknown_names_are_skipped_and_told_once() {
    let rules = [
        Rule::new(["frobnicate", "read", "breakpoint"], Action::Errno),
        Rule::new(["frobnicate"], Action::Errno),
    ];
    let compiled = compiled(Action::Allow, &rules);
    assert_eq!(compiled.unknown, ["breakpoint", "frobnicate"]);
    assert_eq!(compiled.program.answer(&call(Arch::X86_64, "read", &[]), true), Some(errno(1)));
    let arm = Filter {
        architectures: vec![Arch::Arm],
        syscalls: rules.to_vec(),
        ..Filter::new(Action::Allow)
    };
    assert_eq!(compile(&arm, Arch::Aarch64).unwrap().unknown, ["frobnicate"]);
}

#[test]
fn wrong_fields_are_named() {
    let of = |text: &str| {
        let filter: Filter = serde_json::from_str(text).unwrap();
        compile(&filter, Arch::X86_64).unwrap_err().below("linux.seccomp").to_string()
    };
    let rule = |rule: &str| {
        of(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {{"names": ["read"], "action": "SCMP_ACT_LOG"}}, {rule}]}}"#
        ))
    };
    for (error, field) in [
        (
            rule(
                r#"{"names": ["x"], "action": "SCMP_ACT_LOG",
                   "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            "linux.seccomp.syscalls[1].args[0].index",
        ),
        (rule(r#"{"names": [], "action": "SCMP_ACT_LOG"}"#), "linux.seccomp.syscalls[1].names"),
        (
            rule(r#"{"names": ["a", ""], "action": "SCMP_ACT_LOG"}"#),
            "linux.seccomp.syscalls[1].names[1]",
        ),
        (
            rule(r#"{"names": ["x"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}"#),
            "linux.seccomp.syscalls[1].errnoRet",
        ),
        (
            rule(r#"{"names": ["x"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#),
            "linux.seccomp.syscalls[1].errnoRet",
        ),
        (rule(r#"{"names": ["x"], "action": "SCMP_ACT_NOTIFY"}"#), "linux.seccomp.listenerPath"),
        (
            of(r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}"#),
            "linux.seccomp.listenerMetadata",
        ),
        (
            of(r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}"#),
            "linux.seccomp.defaultErrnoRet",
        ),
    ] {
        assert!(error.starts_with(&format!("{field} of ")) || error.starts_with(field), "{error}");
    }
}
