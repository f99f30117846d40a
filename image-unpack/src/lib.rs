#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod apply;
mod archive;
mod decode;
mod digest;
mod dirs;
mod docker;
mod documents;
mod entry;
mod error;
mod files;
mod header;
mod layout;
mod limits;
mod lowers;
mod meta;
mod names;
mod options;
mod path;
mod pax;
mod pending;
mod platform;
mod source;
mod sparse;
mod tarstream;

pub use archive::{Archive, Image, Layer};
pub use digest::{Digest, Hasher, ParseDigestError, chain_id};
pub use error::{Error, Refusal, TarProblem};
pub use limits::Limits;
pub use options::{Omitted, Options, Unpacked, WhiteoutForm};
pub use pending::Pending;
pub use platform::{ParsePlatformError, Platform};
