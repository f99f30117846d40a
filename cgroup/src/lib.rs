//! One control group's limits, numbers and end, on cgroup v2, on v1, and on machines that have both.
//!
//! **Promise.** [`Hierarchies`] finds what the machine has; a [`Group`] is a directory in each hierarchy
//! that is mounted and in no other; [`Group::apply`] sets the [`Limits`] that are given and no others, each
//! where its controller is; [`Group::stats`] has the same numbers from either; after [`Group::destroy`]
//! nothing is left of it, no process and no directory. The crate knows nothing of containers.
//!
//! Limits are given in v1's numbers, as the OCI runtime specification has them, and are converted for v2.
//! An error of a limit names it (`memory.limit`), and the controller and how to get it where that is
//! missing.
//!
//! **Prepare, then apply.** A process is not moved into its group but begins there: [`Group::join`] opens
//! what that needs, [`Join::unified`] is for CLONE_INTO_CGROUP, and [`Join::apply`] makes system calls only,
//! for the child between clone and exec.
//!
//! | module | what |
//! |---|---|
//! | [`Hierarchies`], [`Location`] | unified, hybrid, v1 only, nothing mounted; where a group lies in each |
//! | [`Group`] | make, join, limit, freeze, ask, end |
//! | [`limits`] | the limits, as plain values |
//! | [`Abilities`] | which of them this kernel has |
//! | [`stats`] | the numbers |
//! | [`convert`] | numbers of v1 as those of v2, for others too |
//! | [`OomWatch`] | being told of processes killed for want of memory |
//!
//! ```no_run
//! use cgroup::{Hierarchies, Limits};
//!
//! let hierarchies = Hierarchies::find()?;
//! let location = hierarchies.locate("example")?;
//! let group = hierarchies.create(&location)?;
//! let mut limits = Limits { pids: Some(100), ..Limits::default() };
//! limits.memory.limit = Some(64 << 20);
//! group.apply(&limits)?;
//! group.add(rustix::process::getpid())?;
//! println!("{:?}", group.stats()?.memory);
//! // `location.to_string()` may be kept, and parsed by who ends the group.
//! # Ok::<(), cgroup::Error>(())
//! ```
#![forbid(unsafe_code)]

mod abilities;
mod complete;
pub mod convert;
mod devices;
mod dir;
mod end;
mod error;
mod freezer;
mod group;
mod hierarchies;
mod join;
pub mod limits;
mod location;
mod oom;
mod set;
mod set_cpu;
mod set_io;
mod set_memory;
pub mod stats;
mod stats_io;

pub use abilities::Abilities;
pub use error::Error;
pub use group::Group;
pub use hierarchies::Hierarchies;
pub use join::Join;
pub use limits::Limits;
pub use location::Location;
pub use oom::OomWatch;
pub use stats::Stats;
