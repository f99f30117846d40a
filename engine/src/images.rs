//! Images: their names, their end, what they are made of.

use std::cell::RefCell;
use std::io::Write;

use image_store::{Digest, SaveFormat, SaveOptions};

use crate::{Container, Engine, Error};

/// What `rmi` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemovedImage {
    /// The names that were taken away.
    pub untagged: Vec<String>,
    /// The image, if it is gone, and the layers that went with it, the topmost first.
    pub deleted: Vec<Digest>,
}

/// A step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image, for its last step.
    pub id: Option<Digest>,
    /// The image's names, for its last step.
    pub tags: Vec<String>,
    /// When, RFC 3339.
    pub created: Option<String>,
    /// By which command.
    pub created_by: String,
    /// Bytes of the files in its layer; none where it made no layer.
    pub size: u64,
    /// What was said of it.
    pub comment: String,
}

impl Engine {
    /// Gives an image one more name.
    ///
    /// # Errors
    /// There is no such image; the name breaks Docker's rules.
    pub fn tag(&self, image: &str, name: &str) -> Result<(), Error> {
        let name = self.store.tag(image, name)?;
        if let Ok(image) = self.store.find(&name) {
            self.root.events().image("tag", &image, Some(&name));
        }
        Ok(())
    }

    /// Removes an image, or one of its names if it has several and is given by name. One that a
    /// container is of, whatever that does, stays; with `force` it loses its names.
    ///
    /// # Errors
    /// There is no such image; a container is of it ([`Error::ImageInUse`]); it has several names, is
    /// given by its id, and `force` is not given.
    pub fn remove_image(&self, image: &str, force: bool) -> Result<RemovedImage, Error> {
        // One that is damaged can be removed all the same, and one that is not there is told below.
        let found = self.store.find(image).ok();
        let id = found.as_ref().map(|found| found.id);
        let layers = found.iter().flat_map(|found| found.layers.iter().rev());
        let layers: Vec<Digest> = layers.map(|layer| layer.chain_id).collect();
        let (user, unknown) = (RefCell::new(None), RefCell::new(None));
        // With the store locked: a container that is just being made has written down its image.
        let in_use = |id: &Digest| match self.user_of(id) {
            Ok(found) => user.replace(found).is_some() || user.borrow().is_some(),
            // Where nobody knows, nothing is removed.
            Err(error) => {
                unknown.replace(Some(error));
                true
            }
        };
        let in_use_error = || {
            if let Some(error) = unknown.take() {
                return error;
            }
            let container = user.borrow().clone().map(|container: Container| container.name);
            Error::ImageInUse { image: crate::error::shorten(image), container }
        };
        let removed = match self.store.remove(image, force, &in_use) {
            Err(image_store::Error::InUse { .. }) => return Err(in_use_error()),
            result => result?,
        };
        if removed.image.is_none() && removed.untagged.is_empty() {
            return Err(in_use_error());
        }
        if let Some(id) = removed.image.or(id) {
            self.root.events().removed(&id, &removed.untagged, removed.image.is_some());
        }
        let own = layers.iter().filter(|layer| removed.layers.contains(layer));
        let others = removed.layers.iter().filter(|layer| !layers.contains(layer));
        let deleted = removed.image.iter().chain(own).chain(others).copied().collect();
        Ok(RemovedImage { untagged: removed.untagged, deleted })
    }

    /// The newest container that is of the image, in whatever state. Asked with the store locked: nothing is tidied up
    /// meanwhile, which may take long.
    fn user_of(&self, id: &Digest) -> Result<Option<Container>, Error> {
        let id = id.to_string();
        let mut newest: Option<Container> = None;
        for dir in self.root.dirs()? {
            let Some(container) = dir.container()? else { continue };
            let is_newer = newest.as_ref().is_none_or(|other| container.created > other.created);
            if container.image == id && is_newer {
                newest = Some(container);
            }
        }
        Ok(newest)
    }

    /// Whether a container is of the image, or nobody knows: nothing is removed then.
    pub(crate) fn may_have_user(&self, id: &Digest) -> bool {
        !matches!(self.user_of(id), Ok(None))
    }

    /// How an image was made, the last step first.
    ///
    /// # Errors
    /// There is no such image; the store is damaged.
    pub fn history(&self, image: &str) -> Result<Vec<HistoryEntry>, Error> {
        let image = self.store.find(image)?;
        let mut sizes = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            sizes.push(self.store.layer_size(layer)?.unwrap_or(0));
        }
        let mut sizes = sizes.into_iter();
        let mut entries = Vec::new();
        for step in image.config.history().iter().flatten() {
            let is_empty = step.empty_layer().unwrap_or(false);
            entries.push(HistoryEntry {
                created: step.created().clone(),
                created_by: step.created_by().clone().unwrap_or_default(),
                size: if is_empty { 0 } else { sizes.next().unwrap_or(0) },
                comment: step.comment().clone().unwrap_or_default(),
                ..HistoryEntry::default()
            });
        }
        // Layers of which nothing is told.
        entries.extend(sizes.map(|size| HistoryEntry { size, ..HistoryEntry::default() }));
        entries.reverse();
        if let Some(last) = entries.first_mut() {
            last.id = Some(image.id);
            last.tags = image.tags;
            last.created = last.created.take().or(image.created);
        }
        Ok(entries)
    }

    /// Writes images as an archive; the same images give the same bytes. See
    /// [`image_store::Store::save`].
    ///
    /// # Errors
    /// There is no such image; the store is damaged; `out` takes no more.
    pub fn save(
        &self,
        images: &[String],
        format: SaveFormat,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let options = SaveOptions { format, ..SaveOptions::default() };
        self.store.save(images, &options, out)?;
        for image in images.iter().filter_map(|name| self.store.find(name).ok()) {
            self.root.events().image("save", &image, None);
        }
        Ok(())
    }
}
