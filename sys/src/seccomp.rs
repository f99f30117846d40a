//! Installing a seccomp filter (seccomp(2)), and answering the calls that it puts to a listener.

pub mod notify;

use std::os::fd::{FromRawFd, OwnedFd};

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

bitflags::bitflags! {
    /// Flags of seccomp(2)'s SECCOMP_SET_MODE_FILTER (SECCOMP_FILTER_FLAG_* of linux/seccomp.h).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Flags: u64 {
        /// Every action but "allow" is logged (Linux 4.14).
        const LOG = 1 << 1;
        /// The mitigation of speculative store bypass stays off (Linux 4.17).
        const SPEC_ALLOW = 1 << 2;
        /// Gives a descriptor on which calls are put to whoever holds it (Linux 5.0).
        const NEW_LISTENER = 1 << 3;
        /// Who waits for the listener is woken by fatal signals only (Linux 5.19; with
        /// [`Flags::NEW_LISTENER`]).
        const WAIT_KILLABLE_RECV = 1 << 5;
    }
}

/// [`load`] without flags.
pub fn install(program: &[Instruction]) -> Result<(), Errno> {
    load(program, Flags::empty()).map(drop)
}

/// Installs `program` for the calling thread, and gives the listener's descriptor (close-on-exec)
/// where [`Flags::NEW_LISTENER`] asks for one. Needs `no_new_privs` or CAP_SYS_ADMIN (EACCES); a
/// program that the kernel's checker refuses is EINVAL, as is one of more than 4,096 instructions, or
/// a flag that the kernel does not know. EBUSY: a filter that holds already has a listener.
pub fn load(program: &[Instruction], flags: Flags) -> Result<Option<OwnedFd>, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `prog` points at `len` instructions with the layout of sock_filter that live over the
    // call; the kernel copies them and writes nothing.
    let result = unsafe {
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        libc::syscall(libc::SYS_seccomp, mode, flags.bits(), &raw const prog)
    };
    match libc::c_int::try_from(result) {
        Ok(0..) if !flags.contains(Flags::NEW_LISTENER) => Ok(None),
        Ok(listener @ 0..) => {
            // SAFETY: the kernel made it in this call, and nobody else has it.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) }))
        }
        _ => Err(last_errno()),
    }
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
