#![doc = include_str!("../README.md")]
//!
//! # Verified before use
//!
//! ```
//! use image_unpack::{Archive, Digest, Error, Platform};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("layout");
//! # let platform = Platform::host();
//! # let config = format!(
//! #     r#"{{"os":"linux","architecture":"{}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#,
//! #     platform.architecture,
//! # );
//! # std::fs::create_dir_all(path.join("blobs/sha256"))?;
//! # let blob = |text: &str| -> std::io::Result<String> {
//! #     let digest = Digest::of(text.as_bytes());
//! #     std::fs::write(path.join("blobs/sha256").join(digest.hex()), text)?;
//! #     Ok(format!(r#""digest":"{digest}","size":{}"#, text.len()))
//! # };
//! # let config = blob(&config)?;
//! # let kind = "application/vnd.oci.image";
//! # let manifest = blob(&format!(
//! #     r#"{{"config":{{"mediaType":"{kind}.config.v1+json",{config}}},"layers":[]}}"#
//! # ))?;
//! # let index = format!(r#"{{"manifests":[{{"mediaType":"{kind}.manifest.v1+json",{manifest}}}]}}"#);
//! # std::fs::write(path.join("index.json"), index)?;
//! // `path` is an OCI layout directory of one image without layers.
//! let archive = Archive::open(&path, dir.path())?;
//! let image = archive.images(&Platform::host())?.remove(0);
//! assert_eq!(image.id, Digest::of(&image.raw_config));
//!
//! // Whoever changes a byte of the configuration is found out.
//! let blob = path.join("blobs/sha256").join(image.id.hex());
//! let changed = std::fs::read_to_string(&blob)?.replace("layers", "Layers");
//! std::fs::write(&blob, changed)?;
//! assert!(matches!(archive.images(&Platform::host()), Err(Error::Mismatch { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod ahead;
mod apply;
mod archive;
mod blobs;
mod copy;
mod decode;
mod digest;
mod dirs;
mod docker;
mod documents;
mod entry;
mod error;
mod extract;
mod files;
mod header;
mod index;
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
mod reference;
mod single;
mod source;
mod sparse;
mod tarstream;

pub use archive::{Archive, Image, Layer};
pub use blobs::{Blobs, Document as BlobDocument, Root};
pub use digest::{Digest, Hasher, ParseDigestError, chain_id};
pub use error::{Error, Refusal, TarProblem};
pub use extract::{Extract, Links};
pub use index::{Indexed, Keep, Merge, index_tar};
pub use limits::{Limit, Limits, ParseLimitError};
pub use meta::given_name;
pub use options::{Omitted, Options, Tally, Unpacked, WhiteoutForm};
pub use pending::Pending;
pub use platform::{ParsePlatformError, Platform};
pub use reference::{ParseReferenceError, Reference};
pub use single::LayerTar;
