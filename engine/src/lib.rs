//! What a user of Docker expects around an OCI runtime.
#![forbid(unsafe_code)]

mod error;
mod record;
mod request;

pub use error::Error;
pub use record::{
    Config, Container, Empty, HostConfig, Lower, MountKind, MountPoint, State, Status, ZERO_TIME,
};
pub use request::{ExecRequest, ImageArg, Network, RunRequest};
