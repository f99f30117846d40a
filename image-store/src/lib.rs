//! A content-addressed, crash-safe store of container images, shared by many processes.
//!
//! Images go in as archives ([`Store::load`]), come out as a parsed configuration and a list of
//! layer directories ([`StoredImage`]), and leave with the layers that no other image uses
//! ([`Store::remove`]). The store knows nothing of containers' processes: who runs them says which
//! images are in use.
//!
//! ```
//! use image_store::{LoadOptions, Source, Store};
//!
//! # let temp = tempfile::tempdir()?;
//! # let (root, archive) = (temp.path().join("store"), temp.path().join("empty.tar"));
//! # let config = format!(
//! #     r#"{{"os":"linux","architecture":"{}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#,
//! #     image_store::Platform::host().architecture
//! # );
//! # let manifest = r#"[{"Config":"config.json","RepoTags":["empty:1"],"Layers":[]}]"#;
//! # let mut tar = tar::Builder::new(std::fs::File::create(&archive)?);
//! # for (name, text) in [("config.json", config.as_str()), ("manifest.json", manifest)] {
//! #     let mut header = tar::Header::new_ustar();
//! #     header.set_size(text.len() as u64);
//! #     (header.set_mode(0o644), header.set_uid(0), header.set_gid(0), header.set_mtime(0));
//! #     tar.append_data(&mut header, name, text.as_bytes())?;
//! # }
//! # tar.into_inner()?;
//! let store = Store::open(&root)?;
//! for image in store.load(&Source::Path(archive), &LoadOptions::default(), &())? {
//!     println!("{} {:?}", image.id, image.tags);
//!     for layer in &image.layers {
//!         println!("  {} -> {}", layer.link, layer.path().display());
//!     }
//! }
//! assert_eq!(store.find("empty:1")?.layers, []);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Images go out as archives again ([`Store::save`]), and new ones are made of the layers of one that is there and
//! one more ([`Store::create`]); [`Pack`] writes the tars of both.
//!
//! # On disk
//!
//! ```text
//! ROOT/                       mode 0700: layers have set-user-id files that nobody else may reach
//!   image-store.lock          marks a store; shared lock: nothing is removed; exclusive: removal
//!   tags.lock                 held while tags.json is replaced
//!   tags.json                 {"name:tag": image id}, and "name@digest" of what was pulled; replaced by rename
//!   images/<id>/config.json   the configuration, byte for byte: its digest is the image's id
//!   images/<id>/image.json    its layers, size, manifest's digest
//!   layers/<chain id>/diff/   the unpacked layer, in overlayfs's form
//!   layers/<chain id>/link, layer.json
//!   l/<26 characters>         -> ../layers/<chain id>/diff, or ../mounts/<id>
//!   images/<id>/index.erofs   of an image with an index: all its layers as one file system, without the files' data
//!   blobs/<diff_id>/blob      such an image's layer: its tar, uncompressed, whose digest is its name
//!   blobs/<diff_id>/layer.json
//!   mounts/<id>/              where an image's index is mounted while a container uses it
//!   sources/<key>             which images an archive file had, by device, inode, size and times
//!   staging/<name>/           work in progress, held by an flock
//! ```
//!
//! Other names in the root are left alone. A layer is keyed by its chain id and not by its diff_id,
//! since one layer upon others can need what is below it (implied directories, hard links), and
//! since an overlay refuses the same directory twice.
//!
//! # What holds
//!
//! * **Complete or absent.** A directory in `layers/` or `images/` is complete once it has its name:
//!   it is made in `staging/` and moved by one `rename`. The order is layers, then image, then tags,
//!   then source; removal goes the other way. So a `kill -9` at any point leaves a store that the
//!   next command uses, and what was in the making is removed by the next [`Store::open`].
//! * **Locks die with their holder** (flock). Two processes that load the same image do the work
//!   once: the second waits. Two that load images with a layer in common both write it, and one copy
//!   stays. Nothing else waits for a load; a removal waits for a load's commit and for [`Hold`]s.
//! * **Power cuts.** With [`LoadOptions::durable`] all of a layer is on the disk before it has its name
//!   (one `syncfs` for all layers of a load), and all layers before the image has its. Without, the
//!   default, the kernel writes them within about half a minute. What a power cut takes before that is
//!   found: layers of another boot are looked at once, before their first use (98,000 files in 1.1 s), and one that is not
//!   whole is loaded again from the archive, or else is an error that says so ([`Problem::Lost`]); so are records of images
//!   that are missing or empty ([`Images::damaged`]). What was there before is not in danger.
//! * **Two forms, one tree.** An image's layers are directories, or tars with one index over all of them
//!   ([`LayerForm`]), which [`Store::mount`] mounts once for all its users: they are counted by a lock that dies with
//!   them, and the last one takes the mount away. An image stays in the form that it has.
//! * **Verified as it is read,** for who asks ([`LoadOptions::verity`]): the kernel holds what it reads of an image's
//!   index and tars against digests (fs-verity).
//! * **Checked.** [`Store::check`] looks through all of it, and says what is damaged and what is left over;
//!   [`Store::repair`] removes what is damaged, and no more.
//! * **An archive is known** by its device, inode, size, mtime and ctime (a layout directory by those
//!   of its `index.json`): loading it again reads neither manifests nor layers. A file that changed
//!   too recently for its time to tell is not remembered.

#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as image_store; // the tests' images are made for this crate from outside and inside

mod check;
mod crash;
mod create;
mod dir;
mod erofs;
mod error;
mod form;
mod index;
mod index_load;
mod link;
mod load;
mod mount;
mod pack;
mod record;
mod reference;
mod remove;
mod repair;
mod save;
mod source;
mod staging;
mod store;
mod tags;
mod trust;
mod verity;
mod work;

pub use check::{CheckOptions, Checked, Finding, Grade, Remedy};
pub use create::NewImage;
pub use error::{Error, Problem};
pub use form::{LayerForm, ParseLayerFormError};
pub use image_unpack::{
    BlobDocument, Blobs, Digest, Extract, LayerTar, Limit, Limits, Links, Omitted, Options,
    ParseLimitError, ParsePlatformError, ParseReferenceError, Platform, Reference, Root,
    WhiteoutForm,
};
pub use load::{LoadOptions, Progress};
pub use mount::Mounted;
pub use pack::Pack;
pub use record::{DamagedImage, Images, StoredImage, StoredIndex, StoredLayer, StoredLower};
pub use reference::split as split_reference;
pub use remove::Removed;
pub use repair::Repaired;
pub use save::{SaveFormat, SaveOptions};
pub use source::Source;
pub use store::{Hold, Store};
