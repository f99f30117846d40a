//! `seccomp-oci`: a filter comes with an image's configuration or a profile that somebody wrote, and what is made of
//! it decides what a container may do.
//!
//! The program, run by an interpreter of BPF, says of each call what a plain model reads off the filter's rules.

use arbitrary::{Result, Unstructured};
use seccomp_oci::{
    Action, Arch, Call, Condition, Filter, Op, Profile, Rule, Situation, Version, compile,
};

use crate::model;
use crate::more::more;

const MACHINES: [Arch; 6] =
    [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::S390x, Arch::Mipsel64, Arch::Ppc64];

const NAMES: [&str; 24] = [
    "read",
    "write",
    "openat",
    "mount",
    "clone",
    "clone3",
    "socket",
    "connect",
    "sendmmsg",
    "socketcall",
    "ipc",
    "shmget",
    "semtimedop",
    "execve",
    "ioctl",
    "ptrace",
    "futex",
    "openat2",
    "set_tls",
    "no_such_call",
    "mmap2",
    "exit_group",
    "setuid32",
    "keyctl",
];

const VALUES: [u64; 12] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_0000_0000,
    0xffff_ffff_8000_0000,
    u64::MAX,
];

/// Bytes as a filter and calls, or, where the first byte is a brace, as JSON: of a filter, and of a profile.
///
/// # Panics
/// The compiler does; or a program says something else than its filter.
pub fn run(bytes: &[u8]) {
    if bytes.first() == Some(&b'{') {
        json(bytes);
        return;
    }
    let mut input = Unstructured::new(bytes);
    // What is too short for a filter is none.
    let Ok((machine, filter)) = filter(&mut input) else { return };
    let Ok(compiled) = compile(&filter, machine) else { return };
    while let Ok(call) = call(&mut input, machine) {
        assert_same(&filter, &compiled.program, machine, &call);
    }
    for call in fixed(machine) {
        assert_same(&filter, &compiled.program, machine, &call);
    }
}

fn assert_same(filter: &Filter, program: &seccomp_oci::Program, machine: Arch, call: &Call) {
    let little = machine.audit().is_some_and(|audit| audit & 0x4000_0000 != 0);
    let said = program.answer(call, little);
    assert_eq!(
        said,
        Some(model::answer(filter, machine, call)),
        "{call:x?} on {machine}: {filter:?}"
    );
}

fn json(bytes: &[u8]) {
    if let Ok(filter) = serde_json::from_slice::<Filter>(bytes) {
        check(&filter);
        let text = serde_json::to_string(&filter).expect("a filter as JSON");
        assert_eq!(serde_json::from_str::<Filter>(&text).expect("its own JSON"), filter);
    }
    if let Ok(profile) = serde_json::from_slice::<Profile>(bytes) {
        let capabilities = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"].map(str::to_owned);
        let situation = Situation {
            machine: Arch::X86_64,
            kernel: Version { major: 6, minor: 8 },
            capabilities: &capabilities,
        };
        if let Ok(filter) = profile.resolve(&situation) {
            check(&filter);
        }
    }
}

/// Compiles it for each machine, and asks about some calls of its names.
fn check(filter: &Filter) {
    for machine in MACHINES {
        match compile(filter, machine) {
            Ok(compiled) => {
                let names = filter.syscalls.iter().flat_map(|rule| &rule.names).take(40);
                let numbers = names.filter_map(|name| machine.number(name));
                let own = numbers.map(|number| model::by_number(machine, number, &[1, 2, 3]));
                for call in own.chain(fixed(machine)) {
                    assert_same(filter, &compiled.program, machine, &call);
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Calls that every filter is asked about.
fn fixed(machine: Arch) -> impl Iterator<Item = Call> {
    let numbers = [0, 1, 2, 56, 102, 117, 400, 0x4000_0001, u32::MAX];
    let arches = machine.runs().iter().copied().chain([machine, Arch::Riscv64, Arch::X86_64]);
    arches.filter(|arch| arch.audit().is_some()).flat_map(move |arch| {
        numbers.map(move |number| model::by_number(arch, number, &[1, 0x1_0000_0001]))
    })
}

fn value(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(if input.ratio(3, 4)? { *input.choose(&VALUES)? } else { input.arbitrary()? })
}

fn action(input: &mut Unstructured<'_>) -> Result<(Action, Option<u32>)> {
    Ok(match input.int_in_range(0..=9)? {
        0 => (Action::Kill, None),
        1 => (Action::KillThread, None),
        2 => (Action::KillProcess, None),
        3 => (Action::Trap, None),
        4 => (Action::Log, None),
        5 => (Action::Notify, None),
        6 => (Action::Trace, Some(input.int_in_range(0..=0xffff)?)),
        7 => (Action::Errno, Some(input.int_in_range(0..=4095)?)),
        8 => (Action::Errno, None),
        _ => (Action::Allow, None),
    })
}

fn condition(input: &mut Unstructured<'_>) -> Result<Condition> {
    let ops = [
        Op::NotEqual,
        Op::Less,
        Op::LessOrEqual,
        Op::Equal,
        Op::GreaterOrEqual,
        Op::Greater,
        Op::MaskedEqual,
    ];
    Ok(Condition {
        index: input.int_in_range(0..=5)?,
        value: value(input)?,
        value_two: value(input)?,
        op: *input.choose(&ops)?,
    })
}

fn rule(input: &mut Unstructured<'_>) -> Result<Rule> {
    let (action, errno_ret) = action(input)?;
    let mut names = vec![*input.choose(&NAMES)?];
    while names.len() < 5 && more(input, 1, 3)? {
        names.push(*input.choose(&NAMES)?);
    }
    let mut args = Vec::new();
    while args.len() < 4 && more(input, 1, 2)? {
        args.push(condition(input)?);
    }
    Ok(Rule { errno_ret, args, ..Rule::new(names, action) })
}

fn filter(input: &mut Unstructured<'_>) -> Result<(Arch, Filter)> {
    let machine = *input.choose(&MACHINES)?;
    let (action, default_errno_ret) = action(input)?;
    let mut architectures = Vec::new();
    while architectures.len() < 4 && more(input, 1, 2)? {
        architectures.push(*input.choose(Arch::ALL)?);
    }
    let mut syscalls = Vec::new();
    while syscalls.len() < 24 && more(input, 4, 5)? {
        syscalls.push(rule(input)?);
    }
    let filter = Filter {
        default_errno_ret,
        architectures,
        syscalls,
        listener_path: Some("/run/agent".to_owned()),
        ..Filter::new(action)
    };
    Ok((machine, filter))
}

fn call(input: &mut Unstructured<'_>, machine: Arch) -> Result<Call> {
    if input.is_empty() {
        return Err(arbitrary::Error::NotEnoughData);
    }
    let arches: Vec<Arch> =
        machine.runs().iter().copied().chain([machine]).filter(|a| a.audit().is_some()).collect();
    let arch = *input.choose(&arches)?;
    let number = match arch.number(input.choose(&NAMES)?) {
        Some(number) => number.saturating_add(input.int_in_range(0..=1)?),
        None => input.arbitrary()?,
    };
    let wide = arch.audit().is_some_and(|audit| audit & 0x8000_0000 != 0);
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = value(input)? & if wide { u64::MAX } else { 0xffff_ffff };
    }
    Ok(model::by_number(arch, number, &args))
}
