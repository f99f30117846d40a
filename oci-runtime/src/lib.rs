//! The OCI runtime specification as a library: a bundle in, a running container out.
//!
//! **Promise.** [`Prepared::new`] takes a bundle's specification and checks all of it: what it asks for
//! and is not done here is an error that names the field, never ignored. [`Prepared::create`] makes the
//! container's process and everything around it, up to the program's exec; [`Created::start`] lets the
//! program run. What fails is a sentence that names the mount, device or path and what the kernel said.
//! The states are types, so that nothing can be started twice. [`PreparedExec`] runs a further program in
//! a container. [`Recorded::checkpoint`] and [`Making::restore`] write a container's processes to files, and let them go on
//! from there, by CRIU. The crate knows nothing of names, images, logs or networks of an engine.
//!
//! ```text
//! parent                                    child (new namespaces; system calls only)
//! ──────                                    ─────
//! Prepared::new   descriptors, C strings
//! Prepared::create ── clone3 ─────────────► session, root onto "/", mounts, devices
//!      ◄── TERMINAL, the pty's master ────  console (with process.terminal)
//!      ◄── NETWORK, a socket ─────────────  waits, where it gets devices of the host
//!      ◄── ENVIRONMENT ───────────────────  waits, where there are hooks to run here
//!   prestart, createRuntime, createContainer hooks
//!                                           pivot_root, hostname, loopback, masks
//!      ◄── LIMITS ────────────────────────  waits, in a user namespace, for its rlimits
//!                                           user, capabilities, working directory
//!      ◄── LISTENER, the descriptor ──────  (a seccomp filter that asks an agent)
//!      ◄── CREATED ───────────────────────  waits (where the user needs nothing of the parent, and no other
//! Created::start                            program starts it: tells it before the user, and waits here)
//!   startContainer hooks, joining it
//!     ── byte ────────────────────────────► signals, seccomp, exec
//!      ◄── end of the channel ────────────  the program runs
//!   poststart hooks
//! ```
//!
//! ```
//! use oci_runtime::{Error, Prepared, Stdio};
//! use oci_runtime::spec::Spec;
//!
//! # let dir = tempfile::tempdir()?;
//! # std::fs::create_dir(dir.path().join("rootfs"))?;
//! # std::fs::write(dir.path().join("config.json"), r#"{"ociVersion": "1.2.0",
//! #     "process": {"user": {}, "cwd": "/", "args": ["/bin/true"]}, "root": {"path": "rootfs"},
//! #     "linux": {"namespaces": [{"type": "mount"}], "intelRdt": {}}}"#)?;
//! let spec: Spec = oci_runtime::load(dir.path())?;
//! match Prepared::new(dir.path(), &spec, Stdio::inherit()?) {
//!     Ok(prepared) => println!("{:?}", prepared.create()?.start()?.wait()?),
//!     // What is not done is said, not ignored.
//!     Err(Error::Unsupported { field }) => assert_eq!(field, "linux.intelRdt"),
//!     Err(other) => return Err(other.into()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod base;
mod bundle;
mod capabilities;
mod checkpoint;
mod config;
mod console;
mod container;
mod control;
mod create;
mod criu;
mod criu_groups;
mod criu_message;
mod criu_options;
mod devices;
mod end;
mod error;
mod exec;
mod exec_config;
mod explain;
mod external;
mod features;
mod foreground;
mod group;
mod home;
mod hook_run;
mod hooks;
mod idmap;
mod inside;
mod labels;
mod limits;
mod memory_policy;
mod mounts;
mod namespaces;
mod net_devices;
mod notify;
mod parts;
mod process;
mod record;
mod resources;
mod restore;
mod root;
mod running;
mod scheduling;
mod scope;
mod seccomp;
mod shield;
mod shown_group;
mod signal;
mod start;
mod stdio;
mod supported;
mod symlink;
mod sysctl;
mod user_home;
mod version;

/// Numbers of a container's cgroup.
pub use cgroup::{OomWatch, stats};
/// The types of `config.json`, from the crate oci-spec.
pub use oci_spec::runtime as spec;
/// What Docker gives every container: mounts, devices, masked and read-only paths.
pub use pivot::standard;

pub use base::MountBase;
pub use bundle::{
    load, load_file_with_warnings, load_process, load_process_with_warnings, load_with_warnings,
};
pub use capabilities::machine as machine_capabilities;
pub use checkpoint::Checkpoint;
pub use config::Config;
pub use console::{send_pidfd, send_terminal};
pub use container::{Created, Prepared};
pub use create::Making;
pub use criu_options::{CgroupsMode, CriuOptions};
pub use error::{CommandProblem, Error};
pub use exec::PreparedExec;
pub use exec_config::ExecConfig;
pub use features::features;
pub use foreground::{set_size, wait as wait_in_foreground, window_size};
pub use home::Home;
pub use hooks::{HookKind, Hooks};
pub use inside::{View, mount_into, unmount_from};
pub use namespaces::{Ahead, is_rootless};
pub use notify::Notify;
pub use ns_core::Exit;
pub use record::{Recorded, State, Status};
pub use resources::given as limits;
pub use restore::Restore;
pub use running::Running;
pub use scheduling::use_all_processors;
pub use scope::{CgroupDriver, Scope};
pub use shield::{own_path, shield};
pub use signal::signal;
pub use stdio::Stdio;
pub use user_home::set_home;
pub use version::MAX as SPEC_VERSION;
