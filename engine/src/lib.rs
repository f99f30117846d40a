//! What a user of Docker expects around an OCI runtime.
#![forbid(unsafe_code)]

mod attach;
mod caps;
mod config;
mod dir;
mod engine;
mod env;
mod error;
mod etc;
mod exec;
mod init;
mod init_binary;
mod inspect;
mod log;
mod mounts;
mod names;
mod near;
mod process;
mod record;
mod reference;
mod remove;
mod report;
mod request;
mod run;
mod session;
mod signal;
mod spec;
mod stop;
mod supervise;
mod target;
#[cfg(test)]
mod testing;
mod tidy;
mod user;
mod volumes;

pub use attach::attach;
pub use bindvol::{SyntaxError, VolumeSpec};
pub use engine::Engine;
pub use error::Error;
pub use image_store::{Platform, Progress, StoredImage};
pub use init::{InitError, init};
pub use mounts::{LayerView, MountView, Origin};
pub use record::{
    Config, Container, Empty, HostConfig, Lower, MountKind, MountPoint, State, Status, ZERO_TIME,
};
pub use request::{ExecRequest, ImageArg, Network, RunRequest};
pub use session::Session;
