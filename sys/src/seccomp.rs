//! Installing a seccomp filter (seccomp(2)).

use rustix::io::Errno;

use crate::process::last_errno;

/// One instruction of classic BPF, laid out as `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// Instructions to skip when a jump's condition is true.
    pub jt: u8,
    /// Instructions to skip when it is false.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// Installs `program` for the calling thread. Needs `no_new_privs` or CAP_SYS_ADMIN (EACCES); a
/// program that the kernel's checker refuses is EINVAL, as is one of more than 4,096 instructions.
pub fn install(program: &[Instruction]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `prog` points at `len` instructions with the layout of sock_filter that live over the
    // call; the kernel copies them and writes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const prog)
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// A program that answers the system calls of these numbers with `errno`, and lets all others be: a
/// kernel that lacks them, for tests (ENOSYS). It looks at the number alone, which is this
/// architecture's only when the caller is of it.
pub fn answer(calls: &[libc::c_long], errno: Errno) -> Vec<Instruction> {
    // linux/bpf_common.h, linux/seccomp.h; the number is the first word of struct seccomp_data.
    let load = Instruction { code: 0x20, jt: 0, jf: 0, k: 0 };
    let give = |k| Instruction { code: 0x06, jt: 0, jf: 0, k };
    let refuse = libc::SECCOMP_RET_ERRNO | errno.raw_os_error() as u32;
    let mut program = vec![load];
    for call in calls {
        program.push(Instruction { code: 0x15, jt: 0, jf: 1, k: *call as u32 });
        program.push(give(refuse));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calls_named_are_answered() {
        // A filter is the thread's own, and goes with it.
        std::thread::spawn(|| {
            install(&answer(&[libc::SYS_getppid, libc::SYS_keyctl], Errno::NOSYS)).unwrap();
            // A kernel without keyrings has none to share.
            assert_eq!(crate::keyring::new_session(), Ok(()));
            assert!(std::fs::read("/proc/self/status").is_ok());
        })
        .join()
        .unwrap();
        std::thread::spawn(|| {
            install(&answer(&[libc::SYS_keyctl], Errno::PERM)).unwrap();
            assert_eq!(crate::keyring::new_session(), Err(Errno::PERM));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_program_that_is_none_is_refused() {
        assert_eq!(install(&[]), Err(Errno::INVAL));
    }
}
