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
mod base;
mod bundle;
mod caps;
mod changes;
mod commit;
mod config;
mod copy;
mod detach;
mod devices;
mod diff;
mod dir;
mod duration;
mod engine;
mod env;
mod error;
mod etc;
mod events;
mod exec;
mod export;
mod group;
mod health;
mod healthcheck;
mod holder;
mod hotplug;
mod hub;
mod images;
mod init;
mod init_binary;
mod inspect;
mod inspect_image;
mod json;
mod layers;
mod limits;
mod list;
mod log;
mod log_options;
mod logs;
mod made;
mod mounts;
mod names;
mod near;
mod oom;
mod options;
mod output;
mod pause;
mod process;
mod pull;
mod record;
mod reference;
mod remove;
mod rename;
mod report;
mod request;
mod restart;
mod rotated;
mod run;
mod seccomp;
mod session;
mod shared;
mod signal;
mod socket;
mod spec;
mod start;
mod stats;
mod stop;
mod supervise;
mod system;
mod target;
#[cfg(test)]
mod testing;
mod tidy;
mod top;
mod update;
mod usage;
mod user;
mod view;
mod volume;
mod volume_changes;
mod volumes;
mod volumes_from;
mod wait;
mod wire;

pub use attach::{AttachEnd, AttachOptions, Streams, attach};
pub use bindvol::{SyntaxError, VolumeSpec};
pub use commit::{CommitRequest, ImportSource};
pub use copy::CopyOptions;
pub use detach::DetachKeys;
pub use diff::{Change, ChangeKind};
pub use duration::{duration_text, parse_duration};
pub use engine::{Engine, Layers};
pub use error::Error;
pub use events::{Actor, Event, EventsRequest};
pub use health::{Health, HealthResult, HealthStatus};
pub use healthcheck::Healthcheck;
pub use image_pull::{Error as PullError, Pulled, Reference};
pub use image_store::{
    CheckOptions, Checked, DamagedImage, Error as StoreError, Finding, Grade, Images, LayerForm,
    Limits as ImageLimits, Omitted, ParseLimitError, Platform, Progress, Repaired, SaveFormat,
    StoredImage, split_reference,
};
pub use images::{HistoryEntry, RemovedImage};
pub use init::{InitError, init};
pub use limits::{LimitOptions, Limits, ThrottleDevice, WeightDevice};
pub use logs::{LogLine, LogsRequest};
pub use mounts::{LayerView, MountView, Origin};
pub use oci_runtime::shield;
pub use options::HostOptions;
pub use pull::PullRequest;
pub use record::{
    Config, Container, DeviceMapping, Empty, HostConfig, LogConfig, Lower, MountKind, MountPoint,
    State, Status, Ulimit, ZERO_TIME,
};
pub use request::{ExecRequest, ImageArg, Network, RunRequest};
pub use restart::RestartPolicy;
pub use session::Session;
pub use start::StartRequest;
pub use stats::ContainerStats;
pub use system::{DiskUsage, ImageUsage};
pub use top::Top;
pub use user::{User, resolve as resolve_user};
pub use volume::{Pruned, VolumeView};
pub use wait::Wait;
