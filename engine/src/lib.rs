//! What a user of Docker expects around an OCI runtime: images by name, containers with names, volumes,
//! `exec`, `inspect`, `stop`, logs. Without a daemon.
//!
//! **Promise.** Everything lies below one root directory ([`Engine::open`]), and two roots never meet. Each
//! container has a supervising process, split off the caller without an exec, that has its input and output,
//! keeps its log and its exit status and tidies up behind it. Who manages a container holds a lock that dies with its holder,
//! so whatever is killed, the next [`Engine::open`] tidies up. A [`Engine::run`] that fails leaves nothing. The
//! crate knows nothing of command-line syntax and terminal output, and not how namespaces and mounts are made.
//!
//! ```
//! use engine::{AttachOptions, Engine, ImageArg, RunRequest, Streams};
//!
//! # let dir = tempfile::tempdir()?;
//! let engine = Engine::open(&dir.path().join("root"))?;
//! let request = RunRequest {
//!     image: ImageArg::parse("nginx:1.27", |path| path.exists()),
//!     command: vec!["nginx".to_owned(), "-t".to_owned()],
//!     remove: true,
//!     ..RunRequest::default()
//! };
//! match engine.run(&request, &()) {
//!     Ok(session) => {
//!         println!("{:?}", engine::attach(session, Streams::own(), &AttachOptions::default())?);
//!     }
//!     // The store of this example is empty.
//!     Err(error) => assert_eq!(error.exit_code(), 125),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What lies on the disk, the README lists.
#![forbid(unsafe_code)]

mod attach;
mod bundle;
mod caps;
mod config;
mod detach;
mod dir;
mod engine;
mod env;
mod error;
mod etc;
mod exec;
mod group;
mod holder;
mod hub;
mod init;
mod init_binary;
mod inspect;
mod log;
mod log_options;
mod logs;
mod mounts;
mod names;
mod near;
mod output;
mod process;
mod record;
mod reference;
mod remove;
mod report;
mod request;
mod restart;
mod run;
mod session;
mod signal;
mod spec;
mod start;
mod stop;
mod supervise;
mod target;
#[cfg(test)]
mod testing;
mod tidy;
mod user;
mod volumes;
mod wire;

pub use attach::{AttachEnd, AttachOptions, Streams, attach};
pub use bindvol::{SyntaxError, VolumeSpec};
pub use detach::DetachKeys;
pub use engine::Engine;
pub use error::Error;
pub use image_store::{Platform, Progress, StoredImage};
pub use init::{InitError, init};
pub use logs::{LogLine, LogsRequest};
pub use mounts::{LayerView, MountView, Origin};
pub use oci_runtime::shield;
pub use record::{
    Config, Container, Empty, HostConfig, LogConfig, Lower, MountKind, MountPoint, State, Status,
    ZERO_TIME,
};
pub use request::{ExecRequest, ImageArg, Network, RunRequest};
pub use restart::RestartPolicy;
pub use session::Session;
pub use start::StartRequest;
