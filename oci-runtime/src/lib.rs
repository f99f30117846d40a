//! The OCI runtime specification as a library: a bundle in, a running container out.
//!
//! **Promise.** [`Prepared::new`] takes a bundle's specification and checks all of it: what it asks for
//! and is not done here is an error that names the field, never ignored. [`Prepared::create`] makes the
//! container's process and everything around it, up to the program's exec; [`Created::start`] lets the
//! program run. What fails is a sentence that names the mount, device or path and what the kernel said.
//! The states are types, so that nothing can be started twice. [`PreparedExec`] runs a further program in
//! a container. The crate knows nothing of names, images, logs or networks of an engine.
//!
//! ```text
//! parent                                    child (new namespaces; system calls only)
//! ──────                                    ─────
//! Prepared::new   descriptors, C strings
//! Prepared::create ── clone3 ─────────────► session, root onto "/", mounts, devices
//!      ◄── TERMINAL, the pty's master ────  console (with process.terminal)
//!                                           pivot_root, hostname, loopback, masks
//!                                           user, capabilities, working directory
//!      ◄── CREATED ───────────────────────  waits
//! Created::start ── byte ─────────────────► signals, seccomp, exec
//!      ◄── end of the channel ────────────  the program runs
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
//! #     "linux": {"namespaces": [{"type": "mount"}], "timeOffsets": {"boottime": {"secs": 1}}}}"#)?;
//! let spec: Spec = oci_runtime::load(dir.path())?;
//! match Prepared::new(dir.path(), &spec, Stdio::inherit()?) {
//!     Ok(prepared) => println!("{:?}", prepared.create()?.start()?.wait()?),
//!     // What is not done is said, not ignored.
//!     Err(Error::Unsupported { field }) => assert_eq!(field, "linux.timeOffsets"),
//!     Err(other) => return Err(other.into()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod bundle;
mod capabilities;
mod container;
mod error;
mod exec;
mod explain;
mod group;
mod inside;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod shield;
mod stdio;
mod supported;
mod sysctl;

/// The types of `config.json`, from the crate oci-spec.
pub use oci_spec::runtime as spec;
/// What Docker gives every container: mounts, devices, masked and read-only paths.
pub use pivot::standard;

pub use bundle::load;
pub use capabilities::machine as machine_capabilities;
pub use container::{Created, Prepared, Running};
pub use error::{CommandProblem, Error};
pub use exec::PreparedExec;
pub use inside::{View, mount_into, unmount_from};
pub use ns_core::Exit;
pub use resources::given as limits;
pub use shield::{own_path, shield};
pub use stdio::Stdio;
