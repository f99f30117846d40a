//! Loading: an archive's images become the store's.

use std::collections::HashSet;
use std::path::Path;

use image_unpack::{Digest, Image, Layer, Omitted, Options, Platform, WhiteoutForm};

use crate::error::if_whole;
use crate::form::{LayerForm, takes_index};
use crate::index::INDEX;
use crate::record::{LayerName, StoredImage};
use crate::reference::{candidates, complete};
use crate::source::{Known, KnownImage, Opened, Source, Stamp};
use crate::staging::Staging;
use crate::store::Store;
use crate::tags::{PREFIX_MIN, Tags};
use crate::work::Work;
use crate::{Error, crash};

/// How often a load starts over because what it counted on was removed meanwhile.
const ATTEMPTS: u32 = 8;

/// How images are loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// For which machine. Default: this one.
    pub platform: Platform,
    /// How layers are unpacked. All layers of a store are of one form. Default: with the image's
    /// owners and devices if this process is root, else without them, and with whiteouts that need no
    /// privilege.
    pub options: Options,
    /// Only the image of this name or id. Default: all.
    pub reference: Option<String>,
    /// Whether the layers and the image are on the disk before they have their names, so that a power
    /// cut takes nothing of them. Costs a `syncfs`. Default: false: the kernel writes them soon, and what
    /// a power cut took before is found.
    pub durable: bool,
    /// How layers are kept. An image that the store has stays in the form that it has. Default:
    /// [`LayerForm::Auto`].
    pub layer_form: LayerForm,
    /// Whether the kernel shall verify what it reads of an image's index and tars (fs-verity), which makes these files
    /// read-only for good. They are read once more for it. Implies [`LayerForm::Index`]; an image that the store has
    /// gets it too. What is left in an archive is not protected. Default: false.
    pub verity: bool,
    /// Whether layers that are not compressed are left in the archive, which has to be a tar file, and neither copied nor
    /// unpacked: it becomes a part of the store. Its inode, size and times are looked at before each mount; who can write to
    /// it and set its times back, or writes to it while it is mounted, changes running containers. Implies
    /// [`LayerForm::Index`]. Default: false.
    pub in_place: bool,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        // Only root can give files to others; whoever is root wants the image's own owners.
        let owners = rustix::process::geteuid().is_root();
        // Neither may anybody else set trusted attributes.
        let form = match owners {
            true => WhiteoutForm::Device,
            false => WhiteoutForm::Xattr { user: true },
        };
        let options = Options { owners, form, ..Options::default() };
        LoadOptions {
            platform: Platform::host(),
            options,
            reference: None,
            durable: false,
            layer_form: LayerForm::default(),
            verity: false,
            in_place: false,
        }
    }
}

/// Who wants to know how far a load is. Called from several threads.
pub trait Progress: Sync {
    /// `layers` layers of `bytes` bytes in the archive are about to be unpacked.
    fn begin(&self, layers: usize, bytes: u64);
    /// So many more bytes of the archive are done.
    fn advance(&self, bytes: u64);
    /// A layer was unpacked without that, for want of privilege. Default: nobody wants to know.
    fn omit(&self, _omitted: Omitted) {}
    /// The unpacking is over, well or not.
    fn finish(&self);
}

impl Progress for () {
    fn begin(&self, _layers: usize, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
}

/// An image of the archive, with the chain ids of its layers.
pub(crate) struct Plan {
    pub(crate) image: Image,
    pub(crate) layers: Vec<LayerName>,
}

impl Store {
    /// Loads the images of an archive, or the one that `options` names, and returns them with the
    /// archive's order. A layer that the store has is not read, and of an archive that was loaded
    /// before nothing is. Names of the archive's images move to them.
    ///
    /// Processes and threads that load the same image at once do it once; all succeed. On an error
    /// nothing stays but whole layers, which a later load uses.
    ///
    /// Another process may remove an image as soon as it is loaded; a [`Hold`](crate::Hold) taken
    /// before the load prevents that.
    ///
    /// # Errors
    /// The archive is no image, or damaged ([`Error::Unpack`]); it lacks the image that was asked
    /// for ([`Error::NotInArchive`]); a layer of another form ([`Error::Form`]); fs-verity is asked for where it is not
    /// to be had ([`Error::NoVerity`]); a system call fails.
    pub fn load(
        &self,
        source: &Source,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<StoredImage>, Error> {
        let images = self.load_all(source, options, progress)?;
        for image in images.iter().filter(|_| options.verity) {
            self.protect(image)?;
        }
        Ok(images)
    }

    fn load_all(
        &self,
        source: &Source,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<StoredImage>, Error> {
        let opened = Opened::new(source)?;
        let key = |stamp: Stamp| stamp.key(&options.platform, options.reference.as_deref());
        if let Some(stamp) = opened.stamp
            && let Some(known) = self.recall(&key(stamp))?
            && (!options.durable || self.is_durable(&known)?)
        {
            let _hold = self.hold()?;
            self.give_tags(&known.images)?;
            if let Some(images) = self.known_images(&known)? {
                return Ok(images);
            }
        }
        let archive = opened.archive(self.dirs().staging.path(), &options.options.limits)?;
        let images = select(archive.images(&options.platform)?, &opened.name, options)?;
        let plans = plans(images)?;
        let known = Known { name: opened.name.clone(), images: known_images(&plans) };
        let name = staging_name(&plans);
        let in_place = options.in_place.then(|| opened.in_place(&archive)).transpose()?;
        let (indexed, plans) = self.by_form(plans, options)?;
        for _ in 0..ATTEMPTS {
            let staging = Staging::acquire(&self.dirs().staging, name.clone())?;
            let work = Work { store: self, plans: &plans, options, staging: staging.dir() };
            let tars = Work { plans: &indexed, ..work };
            let mut layers = work.layers()?;
            if !indexed.is_empty() {
                tars.index_all(&archive, in_place.as_ref(), progress)?;
            }
            if !plans.is_empty() || indexed.is_empty() {
                work.unpack_all(&archive, &mut layers, progress)?;
            }
            // From here on nothing that the image needs can be removed; was it until now?
            let _hold = self.hold()?;
            if !work.are_there(&layers)? || !tars.tars_are_there()? {
                continue;
            }
            work.settle(&mut layers)?;
            work.commit(&layers)?;
            tars.commit_indexed()?;
            self.give_tags(&known.images)?;
            if let Some(stamp) = opened.unchanged() {
                staging.dir().write_json("source", &known)?;
                crash::point();
                staging.dir().replace("source", &self.dirs().sources, &key(stamp))?;
                crash::point();
            }
            if let Some(images) = self.known_images(&known)? {
                return Ok(images);
            }
        }
        Err(Error::Raced { archive: opened.name, attempts: ATTEMPTS })
    }

    /// The images of an archive that was loaded before and has not changed since; `None` where it is
    /// not known, or one of its images is not complete. Only looks: names stay where they are.
    ///
    /// # Errors
    /// There is no such file, a system call fails, or the store is damaged.
    pub fn known(
        &self,
        path: &Path,
        platform: &Platform,
    ) -> Result<Option<Vec<StoredImage>>, Error> {
        let Some(stamp) = Stamp::of_path(path)? else { return Ok(None) };
        match self.recall(&stamp.key(platform, None))? {
            Some(known) => self.known_images(&known),
            None => Ok(None),
        }
    }

    /// The images that get an index or have one, and the others. An image stays in the form that it has.
    fn by_form(
        &self,
        plans: Vec<Plan>,
        options: &LoadOptions,
    ) -> Result<(Vec<Plan>, Vec<Plan>), Error> {
        let implied = options.in_place || options.verity;
        let wanted = if implied { LayerForm::Index } else { options.layer_form };
        let (mut indexed, mut others) = (Vec::new(), Vec::new());
        let mut probed = None;
        for plan in plans {
            let id = &plan.image.id;
            let is_indexed = match if_whole(self.image_record(id))? {
                Some(record) => record.index.is_some(),
                // Whose record a power cut took.
                None if self.dirs().images.has(&format!("{}/{INDEX}", id.hex()))? => true,
                // An overlay needs a lower directory, and a mount of nothing is none.
                None if plan.layers.is_empty() => false,
                None => {
                    let layers = plan.image.layers.iter().map(|layer| layer.size);
                    takes_index(wanted, layers, || match &probed {
                        Some(known) => Ok(Option::clone(known)),
                        None => Ok(probed.insert(self.probe()?).clone()),
                    })?
                }
            };
            if is_indexed { indexed.push(plan) } else { others.push(plan) }
        }
        Ok((indexed, others))
    }

    fn recall(&self, key: &str) -> Result<Option<Known>, Error> {
        Known::read(&self.dirs().sources, key)
    }

    /// The images, if all of them are there with all their layers.
    fn known_images(&self, known: &Known) -> Result<Option<Vec<StoredImage>>, Error> {
        let tags = self.tags()?;
        let mut images = Vec::with_capacity(known.images.len());
        for KnownImage { id, .. } in &known.images {
            match if_whole(self.known_image(id, &tags))? {
                Some(image) => images.push(image),
                None => return Ok(None),
            }
        }
        Ok(Some(images))
    }

    fn known_image(&self, id: &Digest, tags: &Tags) -> Result<Option<StoredImage>, Error> {
        let Some(record) = self.image_record(id)? else { return Ok(None) };
        self.look_at(&record)?;
        match self.is_complete(&record)? {
            true => self.image_of(id, record, tags),
            false => Ok(None),
        }
    }

    fn is_durable(&self, known: &Known) -> Result<bool, Error> {
        for KnownImage { id, .. } in &known.images {
            if if_whole(self.image_record(id))?.is_none_or(|record| !record.durable) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives each image that is there its names.
    pub(crate) fn give_tags(&self, images: &[KnownImage]) -> Result<(), Error> {
        let names = || images.iter().flat_map(|image| image.tags.iter().map(|tag| (tag, image.id)));
        let now = self.tags()?;
        if names().all(|(tag, id)| now.get(tag) == Some(&id)) {
            return Ok(());
        }
        let mut there = HashSet::new();
        for image in images {
            if self.dirs().images.has(&image.id.hex())? {
                there.insert(image.id);
            }
        }
        self.change_tags(|tags| {
            tags.extend(
                names().filter(|(_, id)| there.contains(id)).map(|(tag, id)| (tag.clone(), id)),
            );
            Ok(())
        })
    }
}

/// The images that are to be loaded: by name, or else by the start of an id.
fn select(images: Vec<Image>, archive: &str, options: &LoadOptions) -> Result<Vec<Image>, Error> {
    let Some(reference) = &options.reference else { return Ok(images) };
    let names = candidates(reference).unwrap_or_default();
    let named = |image: &Image| image.tags.iter().any(|tag| names.contains(tag));
    let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
    let by_name = images.iter().any(named);
    let wanted = |image: &Image| match by_name {
        true => named(image),
        false => digits.len() >= PREFIX_MIN && image.id.hex().starts_with(digits),
    };
    if !images.iter().any(wanted) {
        let mut found: Vec<String> = images
            .iter()
            .flat_map(|image| image.tags.iter().cloned().chain([image.id.to_string()]))
            .collect();
        found.truncate(10);
        let (archive, reference) = (archive.to_owned(), reference.clone());
        return Err(Error::NotInArchive { archive, reference, found });
    }
    Ok(images.into_iter().filter(wanted).collect())
}

/// Images with checked names, each once.
fn plans(images: Vec<Image>) -> Result<Vec<Plan>, Error> {
    let mut plans: Vec<Plan> = Vec::with_capacity(images.len());
    for mut image in images {
        image.tags = image.tags.iter().map(|tag| complete(tag)).collect::<Result<_, _>>()?;
        if let Some(same) = plans.iter_mut().find(|plan| plan.image.id == image.id) {
            same.image.tags.append(&mut image.tags);
            same.image.digests.append(&mut image.digests);
            continue;
        }
        let mut below = None;
        let chain = |layer: &Layer| {
            let chain_id = image_unpack::chain_id(below.as_ref(), &layer.diff_id);
            below = Some(chain_id);
            LayerName { chain_id, diff_id: layer.diff_id }
        };
        let layers = image.layers.iter().map(chain).collect();
        plans.push(Plan { image, layers });
    }
    Ok(plans)
}

fn known_images(plans: &[Plan]) -> Vec<KnownImage> {
    let known = |plan: &Plan| {
        let Image { id, tags, digests, .. } = &plan.image;
        KnownImage { id: *id, tags: tags.iter().chain(digests).cloned().collect() }
    };
    plans.iter().map(known).collect()
}

/// One name for each set of images, so that who loads the same waits.
fn staging_name(plans: &[Plan]) -> String {
    let mut ids: Vec<String> = plans.iter().map(|plan| plan.image.id.hex()).collect();
    ids.sort_unstable();
    format!("load-{}", Digest::of(ids.concat().as_bytes()).hex())
}
