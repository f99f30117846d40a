//! An image leaves, with the layers that no other image uses.

use std::collections::HashSet;

use image_unpack::Digest;

use crate::dir::Dir;
use crate::reference::has_digest;
use crate::source::Known;
use crate::staging::Staging;
use crate::store::{Exclusive, LOCK, Store};
use crate::tags::Meaning;
use crate::{Error, StoredImage, crash, link};

/// What the names of directories in `staging/` begin with to which a removal moves what it takes away.
const TRASH: &str = "remove-";

/// What [`Store::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Removed {
    /// The names that were taken away.
    pub untagged: Vec<String>,
    /// The image, where it is gone. `None` where it has other names, or a container uses it.
    pub image: Option<Digest>,
    /// The chain ids of the layers that are gone.
    pub layers: Vec<Digest>,
}

/// What images use.
#[derive(Default)]
pub(crate) struct Used {
    /// The chain ids of their layers.
    layers: HashSet<Digest>,
    /// Of those that are directories.
    directories: HashSet<Digest>,
    /// The diff_ids of those that are blobs, or are left in an archive.
    blobs: HashSet<Digest>,
    /// Whether there is an image whose record is damaged, so that nobody knows what it needs.
    is_unknown: bool,
}

impl Store {
    /// Removes an image, or one of its names if it has several and is given by name.
    ///
    /// With the last name that has a tag goes the image, and with it each layer that no image uses. `in_use` is
    /// asked, with the store locked, whether a container uses the image; it must not call the store.
    /// An image in use is not removed: that is an error, and with `force` only its names go.
    /// An image with several names that is given by its id needs `force`.
    ///
    /// As long as the record of another image is damaged nobody knows which layers that needs, and all of them stay; its own
    /// removal takes them. A name whose image a power cut took goes.
    ///
    /// # Errors
    /// As [`Store::find`]; [`Error::InUse`], [`Error::SeveralTags`].
    pub fn remove(
        &self,
        reference: &str,
        force: bool,
        in_use: &dyn Fn(&Digest) -> bool,
    ) -> Result<Removed, Error> {
        let dirs = self.dirs();
        let lock = self.exclusive(LOCK)?;
        let (removed, gone) = self.change_tags(|tags| {
            let meaning = self.resolve(reference, tags)?;
            let id = meaning.id();
            if !dirs.images.has(&id.hex())? {
                let Meaning::Tag(name, _) = meaning else {
                    return Err(self.not_found(reference, tags));
                };
                tags.remove(&name);
                return Ok((Removed { untagged: vec![name], ..Removed::default() }, None));
            }
            let all: Vec<String> =
                tags.iter().filter(|(_, of)| **of == id).map(|(tag, _)| tag.clone()).collect();
            // A name with a digest goes with the last one with a tag.
            let tagged: Vec<&String> = all.iter().filter(|name| !has_digest(name)).collect();
            let (untagged, gone) = match meaning {
                Meaning::Tag(name, _)
                    if tagged.len() > 1 || (all.len() > 1 && !tagged.contains(&&name)) =>
                {
                    (vec![name], false)
                }
                Meaning::Id(_) if tagged.len() > 1 && !force => {
                    let tags = tagged.into_iter().cloned().collect();
                    return Err(Error::SeveralTags { id, tags });
                }
                _ if !in_use(&id) => (all, true),
                _ if force => (all, false),
                _ => {
                    let image = all.into_iter().next().unwrap_or_else(|| id.to_string());
                    return Err(Error::InUse { image });
                }
            };
            tags.retain(|name, _| !untagged.contains(name));
            // Known before anything is changed.
            let gone = if gone { Some((id, self.used(&[id])?)) } else { None };
            Ok((Removed { untagged, ..Removed::default() }, gone))
        })?;
        let Some((id, used)) = gone else { return Ok(removed) };
        let layers = self.discard(lock, &[id], &used)?;
        Ok(Removed { image: Some(id), layers, ..removed })
    }

    /// Removes an image with all its names, where no container uses it and it is `wanted`. Both are asked with
    /// the store locked, so that `wanted` sees the names that the image has by then; `in_use` is as for
    /// [`Store::remove`]. What stays keeps its names, and [`Removed::image`] is `None`.
    ///
    /// # Errors
    /// A record is damaged; a system call fails.
    pub fn prune(
        &self,
        id: &Digest,
        wanted: &dyn Fn(&StoredImage) -> bool,
        in_use: &dyn Fn(&Digest) -> bool,
    ) -> Result<Removed, Error> {
        let lock = self.exclusive(LOCK)?;
        let gone = self.change_tags(|tags| match self.image(id, tags)? {
            Some(image) if !in_use(id) && wanted(&image) => {
                let used = self.used(&[*id])?;
                tags.retain(|_, of| of != id);
                Ok(Some((image.tags, used)))
            }
            _ => Ok(None),
        })?;
        let Some((untagged, used)) = gone else { return Ok(Removed::default()) };
        let layers = self.discard(lock, &[*id], &used)?;
        Ok(Removed { untagged, image: Some(*id), layers })
    }

    /// Removes images that have no name any more, and the layers that are not used; gives their chain ids.
    pub(crate) fn discard(
        &self,
        lock: Exclusive,
        ids: &[Digest],
        used: &Used,
    ) -> Result<Vec<Digest>, Error> {
        let dirs = self.dirs();
        // One that is damaged goes all the same.
        let records: Vec<_> =
            ids.iter().filter_map(|id| self.image_record(id).ok().flatten()).collect();
        let name = ids.first().map(Digest::hex).unwrap_or_default();
        let trash = Staging::acquire(&dirs.staging, format!("{TRASH}{name}"))?;
        crash::point();
        for id in ids {
            dirs.images.commit(&id.hex(), trash.dir(), &format!("image-{}", id.hex()))?;
            crash::point();
        }
        self.discard_mounts()?;
        self.discard_blobs(used, trash.dir())?;
        let mut layers = self.discard_layers(used, trash.dir())?;
        let indexed = records.iter().filter(|record| record.index.is_some() && !used.is_unknown);
        let own = indexed.flat_map(|record| &record.layers).map(|layer| layer.chain_id);
        layers.extend(own.filter(|chain_id| !used.layers.contains(chain_id)));
        layers.sort_unstable();
        layers.dedup();
        for id in ids {
            self.forget_sources(id)?;
        }
        // Deleting the trees takes long, and concerns nobody any more.
        drop(lock);
        drop(trash);
        Ok(layers)
    }

    /// Goes on with a removal whose process has died, to whom the directory `name` of `staging/` belonged: what no image
    /// uses is moved to that. `false` where somebody uses the store, and the next command is to do it.
    pub(crate) fn finish_removal(&self, name: &str, trash: &Dir) -> Result<bool, Error> {
        if !name.starts_with(TRASH) {
            return Ok(true);
        }
        let Some(_lock) = self.try_exclusive(LOCK)? else { return Ok(false) };
        let used = self.used(&[])?;
        self.discard_mounts()?;
        self.discard_blobs(&used, trash)?;
        self.discard_layers(&used, trash)?;
        Ok(true)
    }

    /// What all images but those of `except` use.
    pub(crate) fn used(&self, except: &[Digest]) -> Result<Used, Error> {
        let mut used = Used::default();
        for id in self.ids()?.iter().filter(|id| !except.contains(id)) {
            let record = match self.image_record(id) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(Error::Damaged { .. }) => {
                    used.is_unknown = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            used.layers.extend(record.layers.iter().map(|layer| layer.chain_id));
            if record.index.is_some() {
                used.blobs.extend(record.layers.iter().map(|layer| layer.diff_id));
            } else {
                used.directories.extend(record.layers.iter().map(|layer| layer.chain_id));
            }
        }
        Ok(used)
    }

    /// Takes away the mounts of images that are gone, and their places.
    fn discard_mounts(&self) -> Result<(), Error> {
        let dirs = self.dirs();
        for name in dirs.mounts.names()? {
            if Digest::from_hex(&name).is_ok() && !dirs.images.has(&name)? {
                self.forget_mount(&name)?;
                crash::point();
            }
        }
        Ok(())
    }

    /// Moves each blob that no image uses to `trash`; among them those that a dead loader left.
    fn discard_blobs(&self, used: &Used, trash: &Dir) -> Result<(), Error> {
        let blobs = &self.dirs().blobs;
        if used.is_unknown {
            return Ok(());
        }
        for name in blobs.names()? {
            let Ok(diff_id) = Digest::from_hex(&name) else { continue };
            if !used.blobs.contains(&diff_id) {
                blobs.commit(&name, trash, &format!("blob-{name}"))?;
                crash::point();
            }
        }
        Ok(())
    }

    /// Moves each layer's directory that no image uses to `trash`; among them those that a dead loader left.
    fn discard_layers(&self, used: &Used, trash: &Dir) -> Result<Vec<Digest>, Error> {
        let dirs = self.dirs();
        let mut gone = Vec::new();
        if used.is_unknown {
            return Ok(gone);
        }
        for name in dirs.layers.names()? {
            let Ok(chain_id) = Digest::from_hex(&name) else { continue };
            if !used.directories.contains(&chain_id) && dirs.layers.commit(&name, trash, &name)? {
                crash::point();
                // After the layer: a link that leads nowhere is harmless, a layer without one is not.
                dirs.links.unlink(&link::name(&chain_id))?;
                crash::point();
                gone.push(chain_id);
            }
        }
        // Links whose layer a dead process removed.
        for name in dirs.links.names()? {
            if !dirs.links.has(&name)? {
                dirs.links.unlink(&name)?;
            }
        }
        Ok(gone)
    }

    /// Removes what is remembered of archives that had the image.
    pub(crate) fn forget_sources(&self, id: &Digest) -> Result<(), Error> {
        let sources = &self.dirs().sources;
        for name in sources.names()? {
            let known = Known::read(sources, &name)?;
            if known.is_none_or(|known| known.images.iter().any(|image| image.id == *id)) {
                sources.unlink(&name)?;
            }
        }
        Ok(())
    }
}
