//! Start a process in new namespaces, or in those of another process, by descriptors.
//!
//! **Promise.** [`Spawn`] makes one child by one clone3(2), in the namespaces that were asked for, with
//! its id maps written before any of the caller's code runs in it. Parent and child meet at gates
//! ([`Gate::wait`]); what fails in the child before its exec comes back as a [`sys::Report`] that says
//! which step it was and what the kernel said ([`Event::Failed`]). No stage is executed again, nothing
//! is looked up by a path after a namespace was entered. The crate knows nothing of file systems,
//! images or the layout of cgroups.
//!
//! **Between clone and exec.** The child is a copy of the calling thread only: another thread of the
//! program may hold the allocator's lock at that moment, for ever. So the closure given to
//! [`Spawn::spawn`] may make system calls only: no allocation, no locks, no output. What it needs is
//! prepared before, and captured by reference.
//!
//! ```text
//! parent                                  child
//! ──────                                  ─────
//! Spawn::spawn ── clone3 ───────────────► setns of what is to be joined
//!   writes uid_map, gid_map ── byte ────► (only with id maps: waits for it)
//! Child::next ◄── Phase(1) ──────────────  Gate::wait(1)
//! Child::proceed ── byte ───────────────►    … the closure goes on
//! Child::next ◄── Phase(2), descriptor ──  Gate::tell(2, Some(fd))
//! Child::next ◄── Executed ──────────────  exec closes the channel
//!              or Failed(report) ◄───────  the closure returned its Failure
//! Child::wait ── end of the channel ────►  exit status 1
//! ```
//!
//! Where a user namespace is joined, or made beside others that are joined, the child goes step by step
//! after the clone (`enter.rs`): it joins what only the caller may, then the user namespace, and makes
//! the rest there. A new PID namespace then takes a second clone, whose child takes the first one's place.
//!
//! A parent that goes away opens no gate: the child then fails with ECANCELED and ends.
//!
//! ```no_run
//! use ns_core::{Event, Namespaces, Spawn};
//! use sys::exec::Program;
//!
//! let program = Program::new(vec![c"/bin/hostname".into()], vec![c"hostname".into()], vec![]);
//! let mut child = Spawn::new().namespaces(Namespaces::UTS).spawn(|_gate| {
//!     rustix::system::sethostname(b"elsewhere")
//!         .map_err(|errno| sys::Failure::new("setting the hostname", errno))?;
//!     Err(program.exec())
//! })?;
//! assert!(matches!(child.next()?, Event::Executed));
//! println!("{}", child.wait()?);
//! # Ok::<(), ns_core::Error>(())
//! ```

mod ahead;
mod channel;
mod child;
mod door;
mod enter;
mod error;
mod idmap;
mod namespaces;
mod older_clone;
mod spawn;
mod split;

pub use ahead::NetworkAhead;
pub use channel::Gate;
pub use child::{Child, Event, Exit};
pub use door::{Attended, Door, Knock};
pub use enter::in_cgroup_namespace;
pub use error::Error;
pub use idmap::IdMap;
pub use namespaces::Namespaces;
pub use spawn::Spawn;
pub use split::split;
