//! What a filter says about a call, read off its rules one by one, without programs and ranges.

use seccomp_oci::{Action, Arch, Call, Condition, Filter, Op, Rule};

pub(crate) const KILL_THREAD: u32 = 0;
pub(crate) const ALLOW: u32 = 0x7fff_0000;
const X32_BIT: u32 = 0x4000_0000;

pub(crate) fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

fn value(action: Action, value: Option<u32>) -> u32 {
    let value = value.unwrap_or(1);
    match action {
        Action::Kill | Action::KillThread => KILL_THREAD,
        Action::KillProcess => 0x8000_0000,
        Action::Trap => 0x0003_0000,
        Action::Errno => errno(value),
        Action::Notify => 0x7fc0_0000,
        Action::Trace => 0x7ff0_0000 | value,
        Action::Log => 0x7ffc_0000,
        Action::Allow => ALLOW,
    }
}

pub(crate) fn call(arch: Arch, name: &str, args: &[u64]) -> Call {
    let number = arch.number(name).unwrap_or_else(|| panic!("{arch} has no {name}"));
    by_number(arch, number, args)
}

pub(crate) fn by_number(arch: Arch, number: u32, args: &[u64]) -> Call {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Call { number, arch: arch.audit().unwrap(), instruction_pointer: 0x1234, args: all }
}

/// Which of the filter's architectures a call is of.
fn arch_of(filter: &Filter, machine: Arch, call: &Call) -> Option<Arch> {
    let there = |arch: Arch| {
        arch == machine || filter.architectures.contains(&arch) && machine.runs().contains(&arch)
    };
    let x86_64 = Some(call.arch) == Arch::X86_64.audit();
    // -1 is no call of x32: a tracer has cancelled one.
    let x32 = x86_64 && call.number >= X32_BIT;
    let found = if x32 && there(Arch::X32) {
        Arch::X32
    } else if x32 && call.number != u32::MAX {
        return None;
    } else if x86_64 {
        Arch::X86_64
    } else {
        *Arch::ALL.iter().find(|arch| arch.audit() == Some(call.arch))?
    };
    (there(found) && found.has_table()).then_some(found)
}

const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// The number by which ipc(2) knows a call.
fn ipc(name: &str) -> Option<u32> {
    Some(match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    })
}

/// How a name is about a call: by its own number, or through another.
enum About {
    Itself,
    Through(bool),
}

fn about(name: &str, arch: Arch, call: &Call) -> Option<About> {
    if arch.number(name) == Some(call.number) {
        return Some(About::Itself);
    }
    let first = call.args[0] as u32;
    if arch.number("socketcall") == Some(call.number) {
        let index = SOCKETCALLS.iter().position(|own| *own == name)?;
        // All of the argument where the kernel sees 64 bits.
        return Some(About::Through(call.args[0] == index as u64 + 1));
    }
    if arch.number("ipc") == Some(call.number) {
        let number = ipc(name)?;
        return Some(About::Through(first & 0xffff == number));
    }
    None
}

fn largest(filter: &Filter, arch: Arch) -> Option<u32> {
    // A rule with conditions is none for the call through which its name can be reached too.
    let named = filter
        .syscalls
        .iter()
        .flat_map(|rule| rule.names.iter().map(|name| (&name[..], rule.args.is_empty())));
    named
        .flat_map(|(name, always)| {
            let through = if SOCKETCALLS.contains(&name) {
                arch.number("socketcall")
            } else if ipc(name).is_some() {
                arch.number("ipc")
            } else {
                None
            };
            [arch.number(name), through.filter(|_| always)]
        })
        .flatten()
        .max()
}

fn holds(condition: &Condition, call: &Call, bits: u32) -> bool {
    let argument = call.args[condition.index as usize];
    let narrow = |value: u64| match bits {
        32 if value >> 32 == 0xffff_ffff => value & 0xffff_ffff,
        _ => value,
    };
    let (argument, value) = match bits {
        32 => (argument & 0xffff_ffff, narrow(condition.value)),
        _ => (argument, condition.value),
    };
    match condition.op {
        Op::Equal => argument == value,
        Op::NotEqual => argument != value,
        Op::Less => argument < value,
        Op::LessOrEqual => argument <= value,
        Op::Greater => argument > value,
        Op::GreaterOrEqual => argument >= value,
        Op::MaskedEqual => {
            let mask = condition.value;
            argument & mask == narrow(condition.value_two) & mask
        }
    }
}

fn all_hold(rule: &Rule, call: &Call, bits: u32) -> bool {
    let twice = (0..6).any(|index| rule.args.iter().filter(|c| c.index == index).count() > 1);
    let mut each = rule.args.iter().map(|condition| holds(condition, call, bits));
    if twice { each.any(|holds| holds) } else { each.all(|holds| holds) }
}

pub(crate) fn answer(filter: &Filter, machine: Arch, call: &Call) -> u32 {
    let Some(arch) = arch_of(filter, machine, call) else { return KILL_THREAD };
    let bits = match arch {
        Arch::X86 | Arch::Arm | Arch::Mips | Arch::Mipsel | Arch::Ppc => 32,
        _ => 64,
    };
    let default = value(filter.default_action, filter.default_errno_ret);
    let lets_be = matches!(filter.default_action, Action::Allow | Action::Log | Action::Trace);
    if !lets_be && largest(filter, arch).is_some_and(|largest| call.number > largest) {
        return errno(38);
    }
    let mut conditional = None;
    for rule in &filter.syscalls {
        let answer = value(rule.action, rule.errno_ret);
        if answer == default {
            continue;
        }
        for name in &rule.names {
            match about(name, arch, call) {
                Some(About::Itself) if rule.args.is_empty() => return answer,
                Some(About::Itself) if all_hold(rule, call, bits) => {
                    conditional = conditional.or(Some(answer));
                }
                Some(About::Through(true)) if rule.args.is_empty() => {
                    conditional = conditional.or(Some(answer));
                }
                _ => {}
            }
        }
    }
    match conditional {
        Some(answer) => answer,
        None if !lets_be && arch == Arch::S390x && call.number == 0 => errno(38),
        None => default,
    }
}
