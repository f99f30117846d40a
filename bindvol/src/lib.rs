//! A tree of the host becomes a mount inside a root, and never outside it: binds, named volumes,
//! and what `-v`, `--mount` and `--tmpfs` say.
//!
//! **Promise.** [`Bind::apply`] mounts below the root's descriptor, whatever symbolic links the
//! root holds and whoever changes them meanwhile, by descriptor on both sides; nothing is mounted
//! over or into the root's `/proc` but what lxcfs is for. `ro` is recursive; nothing that is
//! mounted in the container appears on the host unless `shared` was asked for. A named volume is
//! filled once ([`fill`]), and one whose filling was cut off is completed at the next. The crate
//! knows nothing of images or how processes are made.
//!
//! **Prepare, then apply.** [`Bind::prepare`] runs in the parent: it opens the source, clones its
//! mount and sets everything on the detached tree, and fails with an [`Error`] that names the path.
//! [`Bind::apply`] runs in the child between clone and exec: system calls only, and what fails is a
//! [`sys::Failure`].
//!
//! | text | [`VolumeSpec`] | mounted by |
//! |---|---|---|
//! | `-v /a:/b`, `--mount type=bind,…` | [`Kind::Bind`] | [`Bind::prepare`] |
//! | `-v data:/b`, `--mount type=volume,…` | [`Kind::Named`] | [`Volumes::ensure`], [`fill`], [`Volume::open`], [`Bind::of_descriptor`] |
//! | `-v /b` | [`Kind::Anonymous`] | [`Volumes::anonymous`], the rest as above |
//! | `--tmpfs /b`, `--mount type=tmpfs,…` | [`Kind::Tmpfs`] | whoever mounts file systems, with [`VolumeSpec::words`] |
//!
//! ```
//! use bindvol::{Kind, VolumeSpec};
//!
//! let spec = VolumeSpec::parse_volume("/mnt/nginx_volume:/nginx_volume:ro,nosuid")?;
//! assert_eq!(spec.target, "/nginx_volume");
//! assert_eq!(spec.words(), ["rbind", "rprivate", "rro", "nosuid"]);
//! let Kind::Bind { source, .. } = &spec.kind else { unreachable!() };
//! assert_eq!(source, std::path::Path::new("/mnt/nginx_volume"));
//! // The parent: Bind::prepare(source, &spec.target, spec.options.recursive, &spec.attributes())?
//! // The child: bind.apply(root.as_fd())?   See examples/bind.rs.
//! let error = VolumeSpec::parse_volume("/a:/b:rprivate,src=/").unwrap_err();
//! assert!(error.to_string().contains("the option \"src=/\" is not known"));
//! # Ok::<(), bindvol::SyntaxError>(())
//! ```
#![forbid(unsafe_code)]

mod bind;
mod copy;
mod csv;
mod error;
mod fill;
mod parse_mount;
mod parse_tmpfs;
mod parse_volume;
mod sharing;
mod source;
mod spec;
mod syntax;
mod target;
mod volumes;
mod words;

pub use bind::{Attributes, Bind};
pub use error::Error;
pub use fill::{copy_directory, fill};
pub use source::create_source;
pub use spec::{Kind, Options, VolumeSpec};
pub use syntax::{Problem, SyntaxError};
pub use volumes::{Volume, Volumes, is_volume_name};
