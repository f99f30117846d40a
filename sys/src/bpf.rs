//! A program of a cgroup (v2) that decides which devices its processes may use (bpf(2),
//! BPF_PROG_TYPE_CGROUP_DEVICE, Linux 4.15). Allocates.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::process::last_errno;

/// A device: its kind, its major number, and its minor number where not all of them are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Whether it is a block device; else it is a character device.
    pub block: bool,
    /// Its driver.
    pub major: u32,
    /// Which of the driver's.
    pub minor: Option<u32>,
}

impl Device {
    /// A character device.
    pub const fn char(major: u32, minor: Option<u32>) -> Device {
        Device { block: false, major, minor }
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
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const COPY: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const SET: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const SKIP_IF_BITS: u8 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const SKIP_UNLESS: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

// BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR, and BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE: what is left is
// mknod.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
const READ_OR_WRITE: i32 = 2 | 4;

/// Yes to mknod(2) of anything and to the use of `allowed`, no to the rest.
fn program(allowed: &[Device]) -> Vec<Instruction> {
    let op = |code, to: u8, from: u8, offset, operand| {
        let registers = to | from << 4;
        Instruction { code, registers, offset, operand }
    };
    let answer = |value| [op(SET, 0, 0, 0, value), op(EXIT, 0, 0, 0, 0)];
    // struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor.
    let mut code = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
        op(COPY, 3, 2, 0, 0),
        op(AND, 3, 0, 0, 0xffff),
        op(SHIFT_RIGHT, 2, 0, 0, 16),
        op(SKIP_IF_BITS, 2, 0, 2, READ_OR_WRITE),
    ];
    code.extend(answer(1));
    for Device { block, major, minor } in allowed {
        let rest = if minor.is_some() { 4 } else { 3 };
        code.push(op(SKIP_UNLESS, 3, 0, rest, if *block { BLOCK } else { CHAR }));
        code.push(op(SKIP_UNLESS, 4, 0, rest - 1, *major as i32));
        code.extend(minor.map(|minor| op(SKIP_UNLESS, 5, 0, 2, minor as i32)));
        code.extend(answer(1));
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

/// `union bpf_attr` of BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Lets the processes of the cgroup whose directory `group` is open on read and write the
/// devices `allowed` and no other device, beside what is forbidden to the groups above it. They may make
/// nodes of all kinds. It goes with the group. Needs CAP_SYS_ADMIN; EINVAL without CONFIG_CGROUP_BPF.
pub fn allow_devices(group: BorrowedFd<'_>, allowed: &[Device]) -> Result<(), Errno> {
    // Numbers of linux/bpf.h.
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let code = program(allowed);
    let load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(code.len()).map_err(|_| Errno::TOOBIG)?,
        code: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        version: 0,
        flags: 0,
    };
    // SAFETY: `load`, the instructions and the text that it points to live over the call; the kernel
    // reads them only.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(last_errno)?;
    // SAFETY: the call just made this descriptor (close-on-exec), and nothing else knows it.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let attach = Attach {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `attach` lives over the call, and the kernel reads it only.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>())
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    /// A group below this process's own.
    struct Group(PathBuf);

    impl Group {
        fn new() -> Group {
            let mounts = crate::mountinfo::parse(&std::fs::read("/proc/self/mountinfo").unwrap());
            let mount = mounts.unwrap().into_iter().find(|mount| mount.fstype == "cgroup2");
            let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
            let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
            let name = format!("sys-bpf-{}", std::process::id());
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
        let group = Group::new();
        let dir = std::fs::File::open(&group.0).unwrap();
        assert!(group.run(": < /dev/zero"));
        let loop_0 = Device { block: true, major: 7, minor: Some(0) };
        let allowed = [Device::char(1, Some(3)), Device::char(136, None), loop_0];
        allow_devices(dir.as_fd(), &allowed).unwrap();
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
    fn what_is_no_group_is_refused() {
        let dir = std::fs::File::open("/").unwrap();
        assert!(allow_devices(dir.as_fd(), &[]).is_err());
    }
}
