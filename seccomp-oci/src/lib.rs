//! An OCI seccomp filter in, a BPF program out.
//!
//! **Promise.** [`Filter`] is the object `linux.seccomp` of the OCI runtime specification;
//! [`compile`] makes of it the program that the kernel runs before each system call
//! (seccomp(2)), without libseccomp, and says which names it did not know. [`compile_cached`] keeps
//! programs in a directory by what they were made of. [`Profile`] is the file that Docker and Podman
//! take, and [`default_profile`] what Docker gives to containers. [`Program::answer`] runs a program
//! without a kernel. The crate knows nothing of processes: who installs the program is the caller.
//!
//! **Which rule holds.** For one call:
//!
//! 1. A rule that says what the default action says is skipped (as runc does), so that it is no
//!    exception to other rules.
//! 2. The first rule without conditions holds, whatever rules with conditions there are (as
//!    libseccomp).
//! 3. Else the first rule whose conditions hold. libseccomp tries them by its own order of arguments
//!    and values, and refuses two with equal conditions; filters of which no two rules of one call
//!    fit at once, as Docker's and Podman's, are the same for both.
//! 4. Else the default action.
//!
//! All conditions of a rule must hold; where two of them are about one argument, one of all is enough
//! (as runc). On architectures of 32 bits a value above 32 bits is never met, but for those that are
//! negative numbers (libseccomp takes the lower half of every value). x32 has registers of 64 bits,
//! which are compared whole (libseccomp compares the lower halves).
//!
//! **What the filter does not name.** Calls of an architecture that is neither the machine's nor named
//! end the thread (as libseccomp); so do calls of x32 where it is not named. Calls with a number above
//! the largest that the filter names are newer than the filter: they fail with ENOSYS, by which
//! programs know that a kernel lacks them and do it in another way, unless the default action lets
//! calls be (as runc). Where an architecture has socketcall(2) or ipc(2), a rule without conditions
//! for `connect` is one for `socketcall` with its number too.
//!
//! **The program** tests the architecture, finds the number by halves in ranges of equal decisions,
//! and compares arguments only for the numbers that need it: the kernel checks and translates each
//! instruction when it is loaded, so that a short program is a short start.
//!
//! ```
//! use seccomp_oci::{Arch, Call, Filter};
//!
//! let filter: Filter = serde_json::from_str(r#"{
//!     "defaultAction": "SCMP_ACT_ALLOW",
//!     "syscalls": [{"names": ["mount", "frobnicate"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
//! }"#)?;
//! let compiled = seccomp_oci::compile(&filter, Arch::X86_64)?;
//! assert_eq!(compiled.unknown, ["frobnicate"]);
//!
//! let call = |name| Call {
//!     number: Arch::X86_64.number(name).unwrap(),
//!     arch: Arch::X86_64.audit().unwrap(),
//!     ..Call::default()
//! };
//! // linux/seccomp.h: SECCOMP_RET_ERRNO with 1 (EPERM), SECCOMP_RET_ALLOW.
//! assert_eq!(compiled.program.answer(&call("mount"), true), Some(0x0005_0001));
//! assert_eq!(compiled.program.answer(&call("read"), true), Some(0x7fff_0000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/under-filter.rs` runs a command under a filter.

#![forbid(unsafe_code)]

mod arch;
mod assemble;
mod bytes;
mod cache;
mod decide;
mod default;
mod error;
mod filter;
mod generate;
mod multiplex;
mod profile;
mod program;

pub use arch::Arch;
pub use cache::{Kept, compile_cached};
pub use default::default_profile;
pub use error::Error;
pub use filter::{Action, Condition, Filter, Flag, Op, Rule};
pub use profile::{Profile, Situation, Version};
pub use program::{Call, Program};

use sys::seccomp::Flags;

/// Most instructions that the kernel takes (BPF_MAXINSNS of linux/bpf_common.h).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// What became of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What the kernel gets.
    pub program: Program,
    /// Names of the filter that are none of a system call of its architectures, sorted: the rules for
    /// them were skipped. To be told as a warning.
    pub unknown: Vec<String>,
    /// Architectures of the filter that the machine runs and whose calls have no names here: they end
    /// the thread, as those of an architecture that is not named.
    pub without_table: Vec<Arch>,
}

/// Compiles `filter` for a kernel of `machine` ([`Arch::native`]).
///
/// # Errors
/// A field of the filter has no meaning; the program is longer than the kernel takes; the machine's
/// system calls are not known.
pub fn compile(filter: &Filter, machine: Arch) -> Result<Compiled, Error> {
    filter.check()?;
    let decisions = decide::decide(filter, machine)?;
    let instructions = generate::generate(&decisions, machine);
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLarge { instructions: instructions.len() });
    }
    let program = Program { instructions, flags: flags(filter) };
    Ok(Compiled { program, unknown: decisions.unknown, without_table: decisions.without_table })
}

fn flags(filter: &Filter) -> Flags {
    let notifies = filter.notifies();
    let one = |flag: &Flag| match flag {
        Flag::Log => Flags::LOG,
        Flag::SpecAllow => Flags::SPEC_ALLOW,
        // Without a listener the kernel refuses it.
        Flag::WaitKillableRecv if notifies => Flags::WAIT_KILLABLE_RECV,
        Flag::WaitKillableRecv | Flag::Tsync => Flags::empty(),
    };
    let given = filter.flags.as_deref().unwrap_or(&[Flag::SpecAllow]);
    let listener = if notifies { Flags::NEW_LISTENER } else { Flags::empty() };
    given.iter().map(one).fold(listener, Flags::union)
}
