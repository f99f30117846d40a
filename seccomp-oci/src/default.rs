//! The profile that a container gets where nothing else is asked for: what Docker's default one does
//! (docs.docker.com/engine/security/seccomp), from a table of our own.

mod calls;

use crate::{Action, Arch, Condition, Filter, Op, Rule, Situation, Version};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Address families that a container does not get: the kernel's cryptography, which has been a way
/// out, and sockets to the host of a virtual machine, which no network namespace holds
/// (linux/socket.h).
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// The execution domains of personality(2) that change nothing about protection: Linux, Linux of 32
/// bits, both with the older uname(2), and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x20000, 0x20008, 0xffff_ffff];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of linux/sched.h.
const NEW_NAMESPACES: u64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

/// Before it, a tracer could change the call after the filter had seen it.
const SAFE_PTRACE: Version = Version { major: 4, minor: 8 };

/// Docker's default profile for a container of these capabilities: a list of what is allowed, and
/// EPERM for the rest.
#[must_use]
pub fn default_profile(situation: &Situation<'_>) -> Filter {
    let has = |name: &str| situation.capabilities.iter().any(|own| own == name);
    let machine = situation.machine.short_name();
    let mut names: Vec<&str> =
        calls::ALWAYS.iter().flat_map(|theme| theme.split_whitespace()).collect();
    for (machines, calls) in calls::BY_MACHINE {
        if machines.contains(&machine) {
            names.extend(calls.split_whitespace());
        }
    }
    for (capability, calls) in calls::BY_CAPABILITY {
        if has(capability) {
            names.extend(calls.split_whitespace());
        }
    }
    if situation.kernel >= SAFE_PTRACE {
        names.extend(["process_vm_readv", "process_vm_writev", "ptrace"]);
    }
    names.sort_unstable();
    names.dedup();
    let allow = |name: &str, op, value| Rule {
        args: vec![Condition { index: 0, value, value_two: 0, op }],
        ..Rule::new([name], Action::Allow)
    };
    let mut syscalls = vec![
        Rule::new(names, Action::Allow),
        allow("socket", Op::Less, AF_ALG),
        allow("socket", Op::Equal, AF_ALG + 1),
        allow("socket", Op::Greater, AF_VSOCK),
    ];
    syscalls.extend(PERSONALITIES.map(|domain| allow("personality", Op::Equal, domain)));
    if !has("CAP_SYS_ADMIN") {
        let mut clone = allow("clone", Op::MaskedEqual, NEW_NAMESPACES);
        if matches!(situation.machine, Arch::S390 | Arch::S390x) {
            // Its first two arguments are the other way round there (clone(2)).
            clone.args[0].index = 1;
        }
        syscalls.push(clone);
        // Its flags are behind a pointer; who is told that there is no such call uses clone.
        let errno_ret = Some(ENOSYS);
        syscalls.push(Rule { errno_ret, ..Rule::new(["clone3"], Action::Errno) });
    }
    let architectures = situation.machine.runs().to_vec();
    let default_errno_ret = Some(EPERM);
    Filter { default_errno_ret, architectures, syscalls, ..Filter::new(Action::Errno) }
}
