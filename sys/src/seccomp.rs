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
