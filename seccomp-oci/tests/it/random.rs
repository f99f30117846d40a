//! Random filters and random calls: the program says what the model says.

use proptest::prelude::*;
use seccomp_oci::{Action, Arch, Call, Condition, Filter, Flag, Op, Rule, compile};
use sys::seccomp::{Flags, Instruction};

use crate::model;

const MACHINES: &[Arch] = &[
    Arch::X86_64,
    Arch::X86,
    Arch::Aarch64,
    Arch::Arm,
    Arch::S390x,
    Arch::Mips64,
    Arch::Mipsel64,
    Arch::Ppc64,
    Arch::Riscv64,
];

const NAMES: &[&str] = &[
    "read",
    "write",
    "openat",
    "close",
    "mount",
    "umount2",
    "clone",
    "clone3",
    "personality",
    "socket",
    "connect",
    "accept4",
    "sendmmsg",
    "send",
    "socketcall",
    "ipc",
    "shmget",
    "semtimedop",
    "execve",
    "ioctl",
    "rt_sigaction",
    "ptrace",
    "futex",
    "statx",
    "openat2",
    "faccessat2",
    "set_tls",
    "no_such_call",
    "clock_gettime64",
    "mmap",
    "mmap2",
    "exit",
    "exit_group",
    "getpid",
    "setuid32",
    "preadv2",
    "pwritev2",
    "keyctl",
    "unshare",
    "setns",
];

const VALUES: &[u64] = &[
    0,
    1,
    2,
    16,
    38,
    39,
    40,
    0x7e02_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_0000_0000,
    0xffff_ffff_0000_0001,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => proptest::sample::select(VALUES),
        1 => any::<u64>(),
        1 => any::<u32>().prop_map(u64::from),
    ]
}

fn action() -> impl Strategy<Value = (Action, Option<u32>)> {
    let plain = vec![
        Action::Kill,
        Action::KillThread,
        Action::KillProcess,
        Action::Trap,
        Action::Allow,
        Action::Log,
        Action::Notify,
    ];
    prop_oneof![
        3 => proptest::sample::select(plain).prop_map(|action| (action, None)),
        3 => proptest::option::of(0_u32..4096).prop_map(|value| (Action::Errno, value)),
        1 => proptest::option::of(0_u32..65536).prop_map(|value| (Action::Trace, value)),
        2 => Just((Action::Allow, None)),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let op = proptest::sample::select(vec![
        Op::NotEqual,
        Op::Less,
        Op::LessOrEqual,
        Op::Equal,
        Op::GreaterOrEqual,
        Op::Greater,
        Op::MaskedEqual,
    ]);
    (0_u32..6, value(), value(), op).prop_map(|(index, value, value_two, op)| Condition {
        index,
        value,
        value_two,
        op,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let names = proptest::collection::vec(proptest::sample::select(NAMES), 1..6);
    let args = prop_oneof![
        2 => Just(Vec::new()),
        3 => proptest::collection::vec(condition(), 1..4),
    ];
    (names, action(), args).prop_map(|(names, (action, errno_ret), args)| Rule {
        errno_ret,
        args,
        ..Rule::new(names, action)
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let rules = proptest::collection::vec(rule(), 0..20);
    let arches = proptest::collection::vec(proptest::sample::select(Arch::ALL), 0..5);
    (action(), arches, rules).prop_map(|((action, default_errno_ret), architectures, syscalls)| {
        Filter {
            default_errno_ret,
            architectures,
            syscalls,
            listener_path: Some("/run/agent".to_owned()),
            ..Filter::new(action)
        }
    })
}

/// Calls of the names above, of numbers beside them, and of none.
fn calls(machine: Arch) -> impl Strategy<Value = Vec<Call>> {
    let arches = machine.runs().iter().copied().chain([Arch::Riscv64, Arch::X86_64]);
    let arches: Vec<Arch> = arches.collect();
    let number = |arch: Arch| {
        let known: Vec<u32> = NAMES.iter().filter_map(|name| arch.number(name)).collect();
        let known = if known.is_empty() { vec![1] } else { known };
        prop_oneof![
            6 => proptest::sample::select(known.clone()),
            2 => (proptest::sample::select(known), 0_u32..3).prop_map(|(number, by)| {
                (number + by).saturating_sub(1)
            }),
            1 => any::<u32>(),
            1 => Just(u32::MAX),
        ]
    };
    let one = proptest::sample::select(arches).prop_flat_map(move |arch| {
        (number(arch), proptest::array::uniform6(value())).prop_map(move |(number, mut args)| {
            let wide = arch.audit().unwrap() & 0x8000_0000 != 0;
            if !wide {
                args = args.map(|arg| arg & 0xffff_ffff);
            }
            model::by_number(arch, number, &args)
        })
    });
    proptest::collection::vec(one, 100)
}

fn is_little(machine: Arch) -> bool {
    machine.audit().unwrap() & 0x4000_0000 != 0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_program_says_what_its_filter_says(
        (machine, filter, calls) in proptest::sample::select(MACHINES)
            .prop_flat_map(|machine| (Just(machine), filter(), calls(machine)))
    ) {
        let program = compile(&filter, machine).unwrap().program;
        for call in calls {
            prop_assert_eq!(
                program.answer(&call, is_little(machine)),
                Some(model::answer(&filter, machine, &call)),
                "{:x?} on {}", call, machine
            );
        }
    }

    #[test]
    fn what_is_written_as_json_is_read_as_the_same(filter in filter()) {
        let text = serde_json::to_string(&filter).unwrap();
        prop_assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The kernel's checker goes through all of a program, also what is never reached.
    #[test]
    fn the_kernel_takes_every_program(filter in filter()) {
        let filter = Filter { flags: Some(vec![Flag::Tsync]), ..filter };
        let program = compile(&filter, Arch::native().unwrap()).unwrap().program;
        let allow = Instruction { code: 0x06, jt: 0, jf: 0, k: model::ALLOW };
        let whole = [&[allow], program.instructions()].concat();
        let loaded = std::thread::spawn(move || sys::seccomp::load(&whole, Flags::empty()));
        prop_assert!(loaded.join().unwrap().is_ok());
    }
}

/// Many rules with conditions: jumps that are too long for one instruction.
#[test]
fn long_programs_jump_further_than_one_instruction_can() {
    let names = ["read", "write", "close", "mmap", "futex", "openat", "ioctl"];
    let rule = |number: u64| Rule {
        errno_ret: Some(number as u32),
        args: vec![Condition {
            index: (number % 6) as u32,
            value: number << 30,
            value_two: 0,
            op: Op::Greater,
        }],
        ..Rule::new([names[number as usize % names.len()]], Action::Errno)
    };
    let syscalls: Vec<Rule> = (1..=500).map(rule).collect();
    let filter = Filter { syscalls, ..Filter::new(Action::Allow) };
    let program = compile(&filter, Arch::X86_64).unwrap().program;
    assert!(program.instructions().len() > 2000, "{}", program.instructions().len());
    for name in names {
        for shift in 0..40 {
            for index in 0..6 {
                let mut args = [0_u64; 6];
                args[index] = (1 << shift) + 1;
                let call = model::call(Arch::X86_64, name, &args);
                let expected = model::answer(&filter, Arch::X86_64, &call);
                assert_eq!(program.answer(&call, true), Some(expected), "{call:x?}");
            }
        }
    }
}

#[test]
fn a_program_that_is_too_long_is_refused() {
    let rule = |number: u64| Rule {
        errno_ret: Some(number as u32 % 4000),
        args: (0..6)
            .map(|index| Condition { index, value: number, value_two: 0, op: Op::Greater })
            .collect(),
        ..Rule::new(["read"], Action::Errno)
    };
    let syscalls = (1..=300).map(rule).collect();
    let filter = Filter { syscalls, ..Filter::new(Action::Allow) };
    let error = compile(&filter, Arch::X86_64).unwrap_err().to_string();
    assert!(error.contains("no more than 4096"), "{error}");
}
