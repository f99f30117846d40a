//! Descriptor-typed Linux system calls that [`rustix`] lacks, and paths that stay below a root.
//!
//! **Promise.** Each function here is one system call (or a bounded loop of them) behind a safe,
//! descriptor-typed signature. Beside `ns-core` this is the only crate of the workspace with
//! `unsafe`, each block with the invariant that holds. It knows nothing of policy: which mount,
//! which namespace, which limit is decided above.
//!
//! **Between clone and exec.** Unless its documentation says "allocates", a function here makes
//! system calls only: it does not allocate, lock or log, so a child of a program with threads may
//! call it. What fails there is a [`Failure`], a value without heap, that travels to the parent over
//! a pipe and becomes a [`Report`].
//!
//! | module | what |
//! |---|---|
//! | [`failure`] | the report of a failed step, without allocation |
//! | [`below`] | open and make paths that cannot leave a root (openat2) |
//! | [`erase`] | remove a tree, however deep (allocates) |
//! | [`fscontext`] | fsopen, fsconfig, fsmount, with the kernel's log on failure |
//! | [`message`] | messages with descriptors between processes |
//! | [`mount`] | open_tree, move_mount, mount_setattr, umount2 |
//! | [`mountinfo`] | `/proc/PID/mountinfo`, parsed (allocates) |
//! | [`exec`] | execve of a program prepared in the parent |
//! | [`entry`], [`executable`] | the program goes over to another mount of its file, before the C library or later |
//! | [`program`] | the start and the end of a program, without Rust's runtime (allocates) |
//! | [`process`] | close_range, signal state, signalfd, a thread with its own working directory |
//! | [`bpf`] | the devices that a cgroup may use (allocates) |
//! | [`keyring`] | a session keyring of its own |
//! | [`loop_device`] | a file as a block device (allocates) |
//! | [`namespace`] | which kind of namespace a file stands for |
//! | [`net`] | the loopback device |
//! | [`netlink`] | network devices and their addresses |
//! | [`sched`] | scheduling, priority of input and output, personality |
//! | [`seccomp`] | install a BPF program; answer the calls that it puts to a listener |
//! | [`signal`] | signals by number |
//! | [`verity`] | files that the kernel verifies (fs-verity) |
//! | [`whole`] | small files, read whole |
//!
//! ```
//! use rustix::fs::{Mode, OFlags};
//! let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
//! // `..` stays below the root, wherever it stands.
//! let etc = sys::below::open(&root, c"../../etc", OFlags::PATH)?;
//! assert!(rustix::fs::fstat(&etc).is_ok());
//! # Ok::<(), rustix::io::Errno>(())
//! ```

pub mod below;
pub mod bpf;
pub mod entry;
pub mod erase;
pub mod exec;
pub mod executable;
pub mod failure;
pub mod fscontext;
pub mod keyring;
pub mod loop_device;
pub mod message;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod placement;
pub mod process;
pub mod program;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod verity;
pub mod whole;

pub use failure::{Failure, KernelLog, Report, Step};
