//! x32: the 64-bit machine with 32-bit pointers. Its numbers are those of x86_64 with a bit set, but
//! for the calls whose structures have pointers in them, which are its own
//! (arch/x86/entry/syscalls/syscall_64.tbl).

/// The bit that marks a number as one of x32 (__X32_SYSCALL_BIT): all from it on are taken for such.
pub(crate) const BIT: u32 = 0x4000_0000;

/// The calls of its own, from number 512 on.
pub(super) const OWN: &[&str] = &[
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];
const FIRST_OWN: u32 = 512;

/// Calls of x86_64 that x32 never had.
const ONLY_64: &[&str] = &[
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
];

/// The number of `name`, which on x86_64 has the number `wide`.
pub(super) fn number(name: &str, wide: Option<u32>) -> Option<u32> {
    let own = (FIRST_OWN..).zip(OWN).find(|(_, own)| **own == name).map(|(number, _)| number);
    let shared = wide.filter(|_| !ONLY_64.contains(&name));
    own.or(shared).map(|number| number | BIT)
}
