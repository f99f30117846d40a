//! How a process is scheduled, its execution domain and where its memory comes from: sched_setattr(2), ioprio_set(2),
//! personality(2), set_mempolicy(2).

use rustix::io::Errno;

use crate::process::last_errno;

/// What sched_setattr(2) sets (sched(7); Linux 3.14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// SCHED_OTHER 0, SCHED_FIFO 1, SCHED_RR 2, SCHED_BATCH 3, SCHED_ISO 4, SCHED_IDLE 5,
    /// SCHED_DEADLINE 6.
    pub policy: u32,
    /// SCHED_FLAG_… bits.
    pub flags: u64,
    /// -20 to 19, of SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// 1 to 99, of SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds, of SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, of SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, of SCHED_DEADLINE.
    pub period: u64,
}

/// `struct sched_attr` of linux/sched/types.h, in its first version.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets policy and priority of the calling thread (sched_setattr(2)).
pub fn set_attributes(attributes: &Attributes) -> Result<(), Errno> {
    let &Attributes { policy, flags, nice, priority, runtime, deadline, period } = attributes;
    let size = size_of::<SchedAttr>() as u32;
    let mut attr = SchedAttr { size, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: the kernel reads as many bytes as `size` says, which is the structure's own, and writes to `size`
    // alone (where it knows no such size). The structure lives over the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut attr, 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Sets class (1 realtime, 2 best-effort, 3 idle) and level (0 to 7) of the calling thread's input and
/// output (ioprio_set(2)).
pub fn set_io_priority(class: u8, level: u8) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = libc::c_int::from(class) << CLASS_SHIFT | libc::c_int::from(level);
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// PER_LINUX of linux/personality.h.
pub const PER_LINUX: u32 = 0;
/// PER_LINUX32: uname(2) says i686 on x86_64.
pub const PER_LINUX32: u32 = 8;

/// Sets the execution domain of the calling process (personality(2)).
pub fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: the call takes a number only.
    let result = unsafe { libc::personality(libc::c_ulong::from(domain)) };
    if result >= 0 { Ok(()) } else { Err(last_errno()) }
}

/// Nodes of a machine's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryNodes([libc::c_ulong; Self::WORDS]);

impl MemoryNodes {
    /// Their numbers are less; no kernel has more (MAX_NUMNODES).
    pub const MOST: usize = 1024;
    const BITS: usize = libc::c_ulong::BITS as usize;
    const WORDS: usize = Self::MOST / Self::BITS;

    /// Adds one; a number that is too large is none.
    pub fn set(&mut self, node: usize) {
        if let Some(word) = self.0.get_mut(node / Self::BITS) {
            *word |= 1 << (node % Self::BITS);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// Sets from where the memory of the calling thread comes, and of what it starts: MPOL_… with MPOL_F_… (set_mempolicy(2)).
pub fn set_memory_policy(mode: u32, nodes: &MemoryNodes) -> Result<(), Errno> {
    // The kernel counts the one that is not there, too.
    let (mask, most) = match nodes.is_empty() {
        true => (std::ptr::null(), 0),
        false => (nodes.0.as_ptr(), MemoryNodes::MOST + 1),
    };
    // SAFETY: the kernel reads MOST bits at `mask`, which the array has, and none from a null pointer with 0.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, most) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_scheduled_as_it_says() {
        // Of a thread, which ends with the test.
        std::thread::spawn(|| {
            set_attributes(&Attributes { policy: 3, nice: 5, ..Attributes::default() }).unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            // proc_pid_stat(5): nice is field 19, policy 41; the first here is 3.
            assert_eq!((fields[16], fields[38]), ("5", "3"));
            set_io_priority(3, 0).unwrap();
            assert_eq!(set_io_priority(5, 0), Err(Errno::INVAL));
            let mut nodes = MemoryNodes::default();
            nodes.set(0);
            // MPOL_PREFERRED.
            set_memory_policy(1, &nodes).unwrap();
            let maps = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap();
            assert!(maps.contains(" prefer:0 "), "{maps}");
            set_memory_policy(0, &MemoryNodes::default()).unwrap();
            assert_eq!(set_memory_policy(0, &nodes), Err(Errno::INVAL));
            let wrong = Attributes { policy: 77, ..Attributes::default() };
            assert_eq!(set_attributes(&wrong), Err(Errno::INVAL));
        })
        .join()
        .unwrap();
    }
}
