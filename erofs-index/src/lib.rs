//! Write EROFS images of metadata only.
//!
//! **Promise.** The entries of a layer, in the order of its tar, become an EROFS image that has all of them but the
//! files' bytes: those stay where they are, in an uncompressed tar for one, which is the image's data device. A tar's
//! data starts on borders of 512 bytes, which are the image's blocks. So a layer is usable after one pass over its
//! headers, and nothing is unpacked. Several layers can become one image ([`Merged`]), with a device each.
//!
//! The crate reads no tar and opens no file: who has the entries hands them over ([`Layer::add`]), and gets bytes
//! ([`Index::write_to`]). The same entries give the same bytes. Nothing that a layer holds panics; memory, depths and
//! counts have [`Limits`].
//!
//! **Format.** That of Linux (fs/erofs/erofs_fs.h): blocks of 512 bytes (Linux 6.4; files as devices: 6.12), a
//! table of devices (5.16), files as chunks (5.15); no compression. See `src/format.rs`.
//!
//! ```
//! use erofs_index::{Data, Device, Kind, Layer, Limits, Merged, Meta, Options, Use};
//!
//! let mut layer = Layer::new(Limits::default());
//! let meta = Meta { mode: 0o755, ..Meta::default() };
//! layer.add(b"bin", &meta, Kind::Directory)?;
//! // The file's 30,000 bytes start at byte 1,024 of the tar, which is device 1.
//! let data = Data::Extent { device: 1, offset: 1024, size: 30_000 };
//! layer.add(b"bin/server", &meta, Kind::File(data))?;
//! layer.link(b"bin/srv", b"bin/server")?;
//!
//! let mut image = Merged::new(Limits::default());
//! image.apply(&layer)?;
//! let devices = Device::of_size(40_960).into_iter().collect();
//! let options = Options { devices, ..Options::default() };
//! let index = image.index(Use::Lower, &options)?;
//! let bytes = index.to_vec()?;
//! assert_eq!((bytes.len() as u64, index.inodes()), (index.size(), 3));
//! // mount -t erofs -o device=layer.tar index /mnt
//! # Ok::<(), erofs_index::Error>(())
//! ```

#![forbid(unsafe_code)]

mod entry;
mod error;
mod format;
mod index;
mod layer;
mod limits;
mod merged;
mod sparse;
mod tree;
mod xattr;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use entry::{Data, Device, INLINE_FREE, Kind, Meta, Time, maps_to_blocks};
pub use error::{Error, Problem};
pub use index::{Index, Options, Use};
pub use layer::Layer;
pub use limits::Limits;
pub use merged::{Merged, Settled};
