//! What is damaged goes, so that the next load brings it back.

use std::collections::BTreeSet;

use image_unpack::Digest;

use crate::check::{CheckOptions, Checked, Remedy};
use crate::error::if_whole;
use crate::store::{LOCK, Store, TAGS_LOCK};
use crate::tags::TAGS;
use crate::{Error, link};

/// What [`Store::repair`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// Images that are gone, with the names that they had.
    pub images: Vec<(Digest, Vec<String>)>,
    /// The chain ids of layers that are gone.
    pub layers: Vec<Digest>,
    /// Names that were no image's.
    pub names: Vec<String>,
    /// Whether all names are gone, since nobody could read them.
    pub all_names: bool,
    /// Short links that were made anew, by their names.
    pub links: Vec<String>,
    /// Images that are damaged and stay, since a container is of them.
    pub kept: Vec<Digest>,
}

impl Store {
    /// Looks through the store as [`Store::check`] does, and removes what is damaged: images, their names, and the layers
    /// that no other image has; what was left over of layers goes with them. Links are made anew. Nothing is removed
    /// that is whole and that somebody names, and no image that is `in_use` ([`Store::remove`]). Waits for holds,
    /// which wait for it. A load of an image that is removed here meanwhile is to be made again.
    ///
    /// Where an image that is in use is so damaged that nobody knows which layers it needs, all layers stay.
    ///
    /// # Errors
    /// A system call fails.
    pub fn repair(
        &self,
        options: &CheckOptions,
        in_use: &dyn Fn(&Digest) -> bool,
    ) -> Result<(Checked, Repaired), Error> {
        let lock = self.exclusive(LOCK)?;
        let checked = self.look_through(options)?;
        let mut done = Repaired::default();
        let mut broken = Broken::default();
        for finding in &checked.findings {
            match &finding.remedy {
                Remedy::None => {}
                Remedy::Image(id) => drop(broken.images.insert(*id)),
                Remedy::Layer(chain_id) => drop(broken.layers.insert(*chain_id)),
                Remedy::Blob(diff_id) => drop(broken.blobs.insert(*diff_id)),
                Remedy::Name(name) => done.names.push(name.clone()),
                Remedy::Names => done.all_names = true,
                Remedy::LayerLink(chain_id) => {
                    // Not of one that goes, or that is not there.
                    if !broken.layers.contains(chain_id) {
                        self.link_anew(&link::name(chain_id), || {
                            link::make(&self.dirs().links, chain_id)
                        })?;
                        done.links.push(link::name(chain_id));
                    }
                }
                Remedy::MountLink(id) => {
                    self.link_anew(&link::name(id), || {
                        link::make_to_mount(&self.dirs().links, id)
                    })?;
                    done.links.push(link::name(id));
                }
            }
        }
        self.spread(&mut broken)?;
        let (kept, gone): (Vec<Digest>, Vec<Digest>) =
            broken.images.iter().partition(|id| in_use(id));
        done.kept = kept;
        if done.all_names {
            let _lock = self.exclusive(TAGS_LOCK)?;
            self.dirs().root.unlink(TAGS)?;
        }
        let parts = [!broken.layers.is_empty(), !broken.blobs.is_empty(), !done.names.is_empty()];
        let is_something = !gone.is_empty() || parts.contains(&true);
        // Known before anything is changed.
        let used = self.used(&gone)?;
        let names = &done.names;
        let tags = self.change_tags(|tags| {
            let before = tags.clone();
            tags.retain(|name, id| !names.contains(name) && !gone.contains(id));
            Ok(before)
        })?;
        let of = |id: Digest| -> Vec<String> {
            tags.iter().filter(|(_, of)| **of == id).map(|(name, _)| name.clone()).collect()
        };
        done.images = gone.iter().map(|id| (*id, of(*id))).collect();
        for id in names.iter().filter_map(|name| tags.get(name)) {
            self.forget_sources(id)?;
        }
        if is_something {
            done.layers = self.discard(lock, &gone, &used)?;
        }
        Ok((checked, done))
    }

    /// Removes what is at a short link's place, and makes it.
    fn link_anew(&self, name: &str, make: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        self.dirs().links.unlink(name)?;
        make()
    }

    /// Adds the images that have a broken layer.
    fn spread(&self, broken: &mut Broken) -> Result<(), Error> {
        for id in self.ids()? {
            // One that is damaged was found as such.
            let Some(record) = if_whole(self.image_record(&id))? else { continue };
            let has = record.layers.iter().any(|layer| match &record.index {
                Some(_) => broken.blobs.contains(&layer.diff_id),
                None => broken.layers.contains(&layer.chain_id),
            });
            if has {
                broken.images.insert(id);
            }
        }
        Ok(())
    }
}

/// What a look through the store found to be beyond use.
#[derive(Default)]
struct Broken {
    images: BTreeSet<Digest>,
    /// Directories, by chain id.
    layers: BTreeSet<Digest>,
    /// Tars, by diff_id.
    blobs: BTreeSet<Digest>,
}
