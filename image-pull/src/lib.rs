#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod auth;
mod blobs;
mod challenge;
mod credentials;
mod error;
mod http;
mod manifest;
mod options;
mod registry;
mod retry;

use std::sync::Arc;

pub use credentials::Credentials;
pub use error::Error;
pub use image_store::Reference;
use image_store::{Blobs, Digest, Progress, Source, Store, StoredImage};
pub use options::{Notify, PullOptions};
pub use retry::Retries;

use crate::blobs::RegistryBlobs;
use crate::registry::Registry;

/// What [`pull`] did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pulled {
    /// The image as the store has it now.
    pub image: StoredImage,
    /// The digest of what the registry has under the name: a manifest, or an index of several platforms.
    pub digest: Digest,
    /// Whether the name meant no image or another one before.
    pub newer: bool,
}

/// Fetches an image from its registry into the store, and gives it its name there: `name:tag`, and the
/// name with the digest of what the registry has. Layers that the store has are not fetched; of others
/// three at a time are, and each is unpacked as it arrives and thrown away if its digest is wrong.
///
/// # Errors
/// The registry cannot be reached, has no such image, or gives it to others only; what it gives is no
/// image, has another digest than it should, or is for other platforms; the store cannot take it.
pub fn pull(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let name = reference.familiar();
    let before = store.find(&name).ok().map(|image| image.id);
    let blobs = open(reference, options)?;
    let digest = blobs.root().digest;
    let images = store.load(&Source::Blobs(blobs), &options.load, progress)?;
    // One manifest was asked for, and the store has given an error if it led to no image.
    let image = match images.into_iter().next() {
        Some(image) => image,
        None => store.find(&name)?,
    };
    Ok(Pulled { newer: before != Some(image.id), image, digest })
}

/// The image of a name as its registry has it, for who reads it without a store. Its manifest or index has been fetched,
/// and has the digest that it was asked for by; what that names is fetched when it is asked for, and is the reader's to check.
///
/// # Errors
/// The registry cannot be reached, has no such image, or gives it to others only.
pub fn open(reference: &Reference, options: &PullOptions) -> Result<Arc<dyn Blobs>, Error> {
    let registry = Registry::connect(reference, options);
    let root = manifest::root(&registry, options.load.options.limits.json)?;
    Ok(Arc::new(RegistryBlobs::new(registry, root)))
}
