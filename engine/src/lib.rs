//! What a user of Docker expects around an OCI runtime.
#![forbid(unsafe_code)]

mod caps;
mod config;
mod env;
mod error;
mod etc;
mod init_binary;
mod inspect;
mod mounts;
mod names;
mod near;
mod process;
mod record;
mod reference;
mod request;
mod signal;
mod spec;
#[cfg(test)]
mod testing;
mod user;
mod volumes;

pub use error::Error;
pub use mounts::{LayerView, MountView, Origin};
pub use record::{
    Config, Container, Empty, HostConfig, Lower, MountKind, MountPoint, State, Status, ZERO_TIME,
};
pub use request::{ExecRequest, ImageArg, Network, RunRequest};
