//! A program of a cgroup (v2) that decides which devices its processes may use (bpf(2),
//! BPF_PROG_TYPE_CGROUP_DEVICE, Linux 4.15). Allocates.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::process::last_errno;

bitflags::bitflags! {
    /// Kinds of access to a device; the numbers are the kernel's (BPF_DEVCG_ACC_*).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct Access: u8 {
        /// Making a node of it (mknod(2)): `m`.
        const MKNOD = 1;
        /// Opening it to read: `r`.
        const READ = 2;
        /// Opening it to write: `w`.
        const WRITE = 4;
    }
}

/// Which kinds of devices a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    /// Both, whatever their numbers: `a`.
    All,
    /// Block devices: `b`.
    Block,
    /// Character devices: `c`.
    Char,
}

/// Allows or denies access to the devices that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Whether it allows.
    pub allow: bool,
    /// The kind; the numbers of [`DeviceKind::All`] are not looked at.
    pub kind: DeviceKind,
    /// The driver, or all.
    pub major: Option<u32>,
    /// Which of the driver's, or all.
    pub minor: Option<u32>,
    /// To what.
    pub access: Access,
}

impl DeviceRule {
    /// What every container may use, whatever its rules say (config-linux.md, "Default Devices"; as runc):
    /// null, zero, full, random, urandom; tty, console, ptmx; the terminals. Nodes may be made of all devices.
    pub const DEFAULT: [DeviceRule; 10] = [
        DeviceRule::all(true, Access::MKNOD),
        DeviceRule::char(1, Some(3)),
        DeviceRule::char(1, Some(5)),
        DeviceRule::char(1, Some(7)),
        DeviceRule::char(1, Some(8)),
        DeviceRule::char(1, Some(9)),
        DeviceRule::char(5, Some(0)),
        DeviceRule::char(5, Some(1)),
        DeviceRule::char(5, Some(2)),
        DeviceRule::char(136, None),
    ];

    /// Allows everything with a character device.
    pub const fn char(major: u32, minor: Option<u32>) -> DeviceRule {
        let kind = DeviceKind::Char;
        DeviceRule { allow: true, kind, major: Some(major), minor, access: Access::all() }
    }

    /// `allow` for every device.
    pub const fn all(allow: bool, access: Access) -> DeviceRule {
        DeviceRule { allow, kind: DeviceKind::All, major: None, minor: None, access }
    }

    /// The numbers that count.
    fn numbers(&self) -> (Option<u32>, Option<u32>) {
        match self.kind {
            DeviceKind::All => (None, None),
            _ => (self.major, self.minor),
        }
    }
}

/// One instruction of eBPF, laid out as `struct bpf_insn` (linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// The destination, and in the upper half the source.
    registers: u8,
    offset: i16,
    operand: i32,
}

// Operations (linux/bpf.h, linux/bpf_common.h).
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const LOAD_LONG: u8 = 0x18; // BPF_LD | BPF_IMM | BPF_DW, of two instructions
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const COPY: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const OR: u8 = 0x4f; // BPF_ALU64 | BPF_OR | BPF_X
const SHIFT_LEFT: u8 = 0x67; // BPF_ALU64 | BPF_LSH | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const SET: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const SKIP: u8 = 0x05; // BPF_JMP | BPF_JA
const SKIP_IF_BITS: u8 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const SKIP_UNLESS: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const SKIP_UNLESS_SAME: u8 = 0x5d; // BPF_JMP | BPF_JNE | BPF_X
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

// Registers of the program.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
/// The kinds of access that are asked for and not allowed yet.
const WANTED: u8 = 2;
const KIND: u8 = 3;
/// The kind and the major number.
const DRIVER: u8 = 4;
/// The kind and both numbers.
const DEVICE: u8 = 5;
const MINOR: u8 = 6;
const CONSTANT: u8 = 7;

// A device number of the kernel (`dev_t`, linux/kdev_t.h): 12 and 20 bits.
const MAJOR_BITS: u8 = 12;
const MINOR_BITS: u8 = 20;

/// Each kind of access is decided by the last rule that matches it, and denied where there is none: so
/// the rules are looked at from the last to the first.
///
/// A rule compares once where it can: the verifier follows each comparison both ways, and what of a state it has not
/// forgotten makes it go over the rest again. One comparison for each number takes it three times as long.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let op = |code, to: u8, from: u8, offset, operand| {
        let registers = to | from << 4;
        Instruction { code, registers, offset, operand }
    };
    let answer = |value| [op(SET, ANSWER, 0, 0, value), op(EXIT, 0, 0, 0, 0)];
    // struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor.
    let mut code = vec![
        op(LOAD_WORD, WANTED, CONTEXT, 0, 0),
        op(LOAD_WORD, CONSTANT, CONTEXT, 4, 0),
        op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        op(COPY, KIND, WANTED, 0, 0),
        op(AND, KIND, 0, 0, 0xffff),
        op(COPY, DRIVER, KIND, 0, 0),
        op(SHIFT_LEFT, DRIVER, 0, 0, MAJOR_BITS.into()),
        op(OR, DRIVER, CONSTANT, 0, 0),
        op(COPY, DEVICE, DRIVER, 0, 0),
        op(SHIFT_LEFT, DEVICE, 0, 0, MINOR_BITS.into()),
        op(OR, DEVICE, MINOR, 0, 0),
        op(SHIFT_RIGHT, WANTED, 0, 0, 16),
        op(SKIP_UNLESS, WANTED, 0, 2, 0),
    ];
    code.extend(answer(1));
    for rule in rules.iter().rev() {
        let access = i32::from(rule.access.bits());
        let every = rule.access.is_all();
        let mut body = Vec::new();
        match rule.allow {
            true if !every => {
                body.push(op(AND, WANTED, 0, 0, !access));
                body.push(op(SKIP_UNLESS, WANTED, 0, 2, 0));
            }
            false if !every => {
                body.push(op(SKIP_IF_BITS, WANTED, 0, 1, access));
                body.push(op(SKIP, 0, 0, 2, 0));
            }
            _ => {}
        }
        body.extend(answer(i32::from(rule.allow)));
        // BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR.
        let kind = match rule.kind {
            DeviceKind::All => None,
            DeviceKind::Block => Some(1),
            DeviceKind::Char => Some(2),
        };
        let (major, minor) = rule.numbers();
        let fits = |number: Option<u32>, bits| number.is_none_or(|number| number >> bits == 0);
        if !fits(major, MAJOR_BITS) || !fits(minor, MINOR_BITS) {
            continue; // no device has such a number
        }
        // How many instructions are left to skip, with the rule's own.
        let rest = |more: i16| more + body.len() as i16;
        match (kind, major, minor) {
            (None, ..) => {}
            (Some(kind), None, None) => code.push(op(SKIP_UNLESS, KIND, 0, rest(0), kind)),
            (Some(kind), None, Some(minor)) => code.extend([
                op(SKIP_UNLESS, KIND, 0, rest(1), kind),
                op(SKIP_UNLESS, MINOR, 0, rest(0), minor as i32),
            ]),
            (Some(kind), Some(major), None) => {
                let driver = kind << MAJOR_BITS | major as i32;
                code.push(op(SKIP_UNLESS, DRIVER, 0, rest(0), driver));
            }
            (Some(kind), Some(major), Some(minor)) => {
                let driver = i64::from(kind) << MAJOR_BITS | i64::from(major);
                let device = driver << MINOR_BITS | i64::from(minor);
                code.extend([
                    op(LOAD_LONG, CONSTANT, 0, 0, device as i32),
                    op(0, 0, 0, 0, (device >> 32) as i32),
                    op(SKIP_UNLESS_SAME, DEVICE, CONSTANT, rest(0), 0),
                ]);
            }
        }
        let always = kind.is_none();
        code.extend(body);
        if always && every {
            return code; // the verifier takes no code that cannot be reached
        }
    }
    code.extend(answer(0));
    code
}

/// `union bpf_attr` of BPF_PROG_LOAD, as far as it is used.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u64; 2],
    version: u32,
    flags: u32,
}

/// `union bpf_attr` of BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// `union bpf_attr` of BPF_PROG_QUERY, up to the last field that a kernel writes to: Linux 6.17 to 7.1 write
/// `revision` however short the structure is said to be. Older ones take more than they know where it is zero.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    attach_flags_of_each: u64,
    links: u64,
    attach_flags_of_links: u64,
    revision: u64,
}

/// `union bpf_attr` of BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

// Numbers of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
/// BPF_CGROUP_MAX_PROGS of the kernel: no group has more.
const MOST: usize = 64;

/// # Safety
/// `T` is what the command reads, and has room for all that any kernel writes, which does not always look at
/// the size that it is told; what it points to lives over the call.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> Result<i32, Errno> {
    // SAFETY: by this function's contract; the size is that of the structure.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(last_errno)
}

/// As [`bpf`], of a command that makes a descriptor (close-on-exec).
///
/// # Safety
/// As there, and the command makes a descriptor.
unsafe fn bpf_fd<T>(command: libc::c_int, attributes: &mut T) -> Result<OwnedFd, Errno> {
    // SAFETY: by this function's contract.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: the call just made this descriptor, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets the processes of the cgroup whose directory `group` is open on use devices as `rules` say, beside
/// what is forbidden to the groups above it: the last rule that matches decides, and what none matches is
/// denied. What was set before in this group is replaced, with no moment without either. It goes with the
/// group. Needs CAP_SYS_ADMIN; EINVAL without CONFIG_CGROUP_BPF.
pub fn restrict_devices(group: BorrowedFd<'_>, rules: &[DeviceRule]) -> Result<(), Errno> {
    let code = program(rules);
    let mut load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(code.len()).map_err(|_| Errno::TOOBIG)?,
        code: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        version: 0,
        flags: 0,
    };
    // SAFETY: `load` is of the command's form; the instructions and the text live over the call.
    let program = unsafe { bpf_fd(PROG_LOAD, &mut load) }?;
    let before = programs(group)?;
    let of = |program: &OwnedFd, flags| Attach {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags,
    };
    // SAFETY: the structure is of the command's form and points to nothing.
    unsafe { bpf(PROG_ATTACH, &mut of(&program, ALLOW_MULTI)) }?;
    for old in &before {
        // SAFETY: as above.
        unsafe { bpf(PROG_DETACH, &mut of(old, 0)) }?;
    }
    Ok(())
}

/// The device programs of a group itself, without those of the groups above.
fn programs(group: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0_u32; MOST];
    let mut query = Query {
        target: group.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    // SAFETY: `query` is of the command's form, with room for all that any kernel writes; `ids` has room for
    // the count that it names.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    let found = ids.get(..query.count as usize).unwrap_or(&ids);
    let open = |id: &u32| {
        // SAFETY: the structure is of the command's form and points to nothing; it makes a descriptor.
        unsafe { bpf_fd(PROG_GET_FD_BY_ID, &mut ById { id: *id, next: 0, flags: 0 }) }
    };
    found.iter().map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    /// A group below this process's own.
    struct Group(PathBuf);

    impl Group {
        fn new(test: &str) -> Group {
            let mounts = crate::mountinfo::parse(&std::fs::read("/proc/self/mountinfo").unwrap());
            let mount = mounts.unwrap().into_iter().find(|mount| mount.fstype == "cgroup2");
            let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
            let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
            let name = format!("sys-bpf-{test}-{}", std::process::id());
            let path = mount.expect("a mounted cgroup2").target.join(own).join(name);
            std::fs::create_dir(&path).unwrap();
            Group(path)
        }

        /// Runs a shell's script in the group; whether it succeeds.
        fn run(&self, script: &str) -> bool {
            let script = format!("echo $$ > {}/cgroup.procs && {script}", self.0.display());
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            output.status.success()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            std::fs::remove_dir(&self.0).unwrap();
        }
    }

    #[test]
    fn only_the_devices_allowed_can_be_opened() {
        let group = Group::new("only");
        let dir = std::fs::File::open(&group.0).unwrap();
        assert!(group.run(": < /dev/zero"));
        let loop_0 = DeviceRule { kind: DeviceKind::Block, ..DeviceRule::char(7, Some(0)) };
        let nodes = DeviceRule::all(true, Access::MKNOD);
        let rules = [nodes, DeviceRule::char(1, Some(3)), DeviceRule::char(136, None), loop_0];
        restrict_devices(dir.as_fd(), &rules).unwrap();
        assert!(group.run(": < /dev/null && : > /dev/null"));
        for other in ["zero", "full", "urandom"] {
            assert!(!group.run(&format!(": < /dev/{other}")), "{other}");
        }
        // Nodes of any kind can be made; a block device with an allowed pair of numbers is another.
        let temp = tempfile::tempdir().unwrap();
        let node = temp.path().join("node");
        assert!(group.run(&format!("mknod {0} b 1 3 && ! (: < {0})", node.display())));
        // EPERM is the cgroup's; whether there is such a device, its driver says.
        let open = "rm {0}; mknod {0} b 7 MINOR && (: < {0}) 2>&1 | grep -q 'not permitted'";
        let open = open.replace("{0}", node.to_str().unwrap());
        assert!(!group.run(&open.replace("MINOR", "0")) && group.run(&open.replace("MINOR", "1")));
    }

    #[test]
    fn the_last_rule_that_matches_an_access_decides_and_new_rules_replace_old_ones() {
        let group = Group::new("last");
        let dir = std::fs::File::open(&group.0).unwrap();
        let rule = |allow, access| DeviceRule { allow, access, ..DeviceRule::char(1, Some(3)) };
        let all = DeviceRule::all;
        let sets: [(&[DeviceRule], [bool; 3]); 10] = [
            (&[], [false, false, false]),
            (&[all(true, Access::all())], [true, true, true]),
            (&[all(true, Access::all()), rule(false, Access::WRITE)], [true, false, false]),
            (&[all(false, Access::all()), rule(true, Access::READ)], [true, false, false]),
            (&[rule(true, Access::READ), rule(true, Access::WRITE)], [true, true, true]),
            (&[rule(true, Access::all()), all(false, Access::READ)], [false, true, false]),
            // Numbers that no device has, of which only a part would be compared.
            (&[DeviceRule::char(1, Some(3 + (1 << 20)))], [false, false, false]),
            (&[DeviceRule::char((1 << 12) + 1, Some(3))], [false, false, false]),
            (&[DeviceRule { major: None, ..DeviceRule::char(0, Some(3)) }], [true, true, true]),
            (&[DeviceRule { major: None, ..DeviceRule::char(0, Some(4)) }], [false, false, false]),
        ];
        for (rules, expected) in sets {
            restrict_devices(dir.as_fd(), rules).unwrap();
            let can = ["< /dev/null", "> /dev/null", "<> /dev/null"]
                .map(|redirection| group.run(&format!("(: {redirection})")));
            assert_eq!(can, expected, "{rules:?}");
            assert_eq!(programs(dir.as_fd()).unwrap().len(), 1);
        }
    }

    /// The kernel reads the sizes, and writes behind a structure that is too short for it.
    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!((size_of::<Load>(), size_of::<Attach>()), (48, 16));
        assert_eq!((size_of::<Query>(), size_of::<ById>()), (64, 12));
        assert_eq!(std::mem::offset_of!(Query, revision), 56);
    }

    #[test]
    fn what_is_no_group_is_refused() {
        let dir = std::fs::File::open("/").unwrap();
        assert!(restrict_devices(dir.as_fd(), &[]).is_err());
    }
}
