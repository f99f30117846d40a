//! A new image of the layers of another and one more: what a container changed, or a whole root file system.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use image_unpack::{Digest, Image, LayerTar, Limits};
use oci_spec::image::ImageConfiguration;
use rustix::fs::{Mode, OFlags};

use crate::dir::Dir;
use crate::error::Problem;
use crate::form::takes_index;
use crate::index_load::{Tars, staged_blob};
use crate::load::{LoadOptions, Plan, Progress};
use crate::record::{LayerName, StoredImage};
use crate::reference::complete;
use crate::source::KnownImage;
use crate::staging::Staging;
use crate::store::Store;
use crate::tags::Tags;
use crate::work::{State, Work};
use crate::{Error, crash};

/// Where the new layer is unpacked before its name is known.
const UNNAMED: &str = "unnamed";

/// An image that is to be made.
pub struct NewImage<'a> {
    /// The image whose layers lie below; none: the new layer is the only one.
    pub base: Option<&'a StoredImage>,
    /// The layer on top.
    pub layer: &'a LayerTar,
    /// Makes the configuration, given the diff_ids of all layers, the lowest first.
    pub config: &'a dyn Fn(&[Digest]) -> Vec<u8>,
    /// The image's name, which one that had it before loses.
    pub name: Option<&'a str>,
}

impl std::fmt::Debug for NewImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewImage").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Store {
    /// An unnamed file on the store's file system, for what is to become a layer.
    ///
    /// # Errors
    /// A system call fails.
    pub fn spool(&self) -> Result<File, Error> {
        let staging = &self.dirs().staging;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(staging, ".", flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|errno| staging.failed("make a file without a name in", "", errno))
    }

    /// A tar that is to become a layer within `limits`; see [`LayerTar::open`].
    ///
    /// # Errors
    /// What cannot be read, is empty, or is compressed in a way that is not known.
    pub fn layer_tar(&self, file: File, name: &str, limits: &Limits) -> Result<LayerTar, Error> {
        Ok(LayerTar::open(file, name, self.dirs().staging.path(), limits)?)
    }

    /// Checks a name for an image, and adds `:latest` where it has no tag.
    ///
    /// # Errors
    /// It breaks Docker's rules ([`Error::BadReference`]).
    pub fn complete_name(name: &str) -> Result<String, Error> {
        complete(name)
    }

    /// Makes an image. Nothing of it is there if this fails, but maybe a whole layer.
    ///
    /// # Errors
    /// The tar is malformed or refused ([`Error::Unpack`]); a layer of the base is gone or of another
    /// form; the configuration is none ([`Error::Damaged`]); a name that breaks Docker's rules; a
    /// system call fails.
    pub fn create(
        &self,
        new: &NewImage<'_>,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<StoredImage, Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let tags: Vec<String> = new.name.map(complete).transpose()?.into_iter().collect();
        let process = rustix::process::getpid().as_raw_nonzero();
        let name = format!("create-{process}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let staging = Staging::acquire(&self.dirs().staging, name)?;
        let work = Work { store: self, plans: &[], options, staging: staging.dir() };
        let indexed = match new.base {
            Some(base) => base.index.is_some(),
            None => takes_index(options.layer_form, [new.layer.size()], || self.probe())?,
        };
        if indexed {
            return self.create_indexed(new, &work, tags, progress);
        }
        let (dir, diff) = work.stage_layer(UNNAMED)?;
        progress.begin(1, new.layer.size());
        let unpacked =
            new.layer.unpack(std::os::fd::AsFd::as_fd(&diff), &options.options, &|bytes| {
                progress.advance(bytes)
            });
        progress.finish();
        let (diff_id, unpacked) = unpacked?;
        let name_of = |layer: &crate::StoredLayer| LayerName {
            chain_id: layer.chain_id,
            diff_id: layer.diff_id,
        };
        let mut names: Vec<_> =
            new.base.iter().flat_map(|base| &base.layers).map(name_of).collect();
        let parent = names.last().map(|name| name.chain_id);
        let chain_id = image_unpack::chain_id(parent.as_ref(), &diff_id);
        let top = LayerName { chain_id, diff_id };
        let staged = work.record_layer(&dir, &diff, top, parent, unpacked)?;
        staging.dir().commit(UNNAMED, staging.dir(), &chain_id.hex())?;

        // From here on nothing that the image needs can be removed.
        let _hold = self.hold()?;
        let mut layers: HashMap<Digest, State<'_>> = HashMap::from([(chain_id, staged)]);
        for name in &names {
            let Some(stored) = work.stored(&name.chain_id)? else {
                let layers = &self.dirs().layers;
                return Err(layers.damaged(&name.chain_id.hex(), Problem::Missing));
            };
            layers.insert(name.chain_id, stored);
        }
        names.push(top);
        let plans = [plan(new, names, staging.dir())?];
        let work = Work { plans: &plans, ..work };
        work.settle(&mut layers)?;
        work.commit(&layers)?;
        self.created(plans[0].image.id, tags)
    }

    /// The same with an index: of the base's tars, and the new one.
    fn create_indexed(
        &self,
        new: &NewImage<'_>,
        work: &Work<'_>,
        tags: Vec<String>,
        progress: &dyn Progress,
    ) -> Result<StoredImage, Error> {
        let (dir, file) = work.stage_blob(UNNAMED)?;
        let limits = &work.options.options.limits;
        progress.begin(1, new.layer.size());
        let indexed = new.layer.index(&file, limits, &|bytes| progress.advance(bytes));
        progress.finish();
        let (diff_id, indexed) = indexed?;
        work.record_blob(&dir, &diff_id, &indexed)?;
        // One that a power cut has shortened makes room.
        work.stored_blob(&diff_id)?;
        work.staging.commit(UNNAMED, work.staging, &staged_blob(&diff_id))?;

        // From here on nothing that the image needs can be removed.
        let _hold = self.hold()?;
        let mut tars = Tars::new();
        let (mut names, mut archive) = (Vec::new(), None);
        if let Some(base) = new.base {
            let gone = || self.not_found(&base.id.to_string(), &Tags::default());
            let record = self.image_record(&base.id)?.ok_or_else(gone)?;
            let Some(index) = &record.index else { return Err(gone()) };
            for (name, layer) in record.layers.iter().zip(&index.layers) {
                let again = self.index_again(&base.id, index, layer, &name.diff_id)?;
                tars.insert(name.diff_id, (layer.at, again));
            }
            (names, archive) = (record.layers.clone(), index.archive.clone());
        }
        tars.entry(diff_id).or_insert((None, indexed));
        let parent = names.last().map(|name| name.chain_id);
        let chain_id = image_unpack::chain_id(parent.as_ref(), &diff_id);
        names.push(LayerName { chain_id, diff_id });
        let plans = [plan(new, names, work.staging)?];
        let work = Work { plans: &plans, ..*work };
        // What came in with higher limits takes one more layer.
        work.stage_indexed(&plans[0], &mut tars, archive.as_ref(), &Limits::of_kept())?;
        work.commit_indexed()?;
        self.created(plans[0].image.id, tags)
    }

    /// Gives an image that was just made its names.
    fn created(&self, id: Digest, tags: Vec<String>) -> Result<StoredImage, Error> {
        crash::point();
        self.give_tags(&[KnownImage { id, tags }])?;
        let tags = self.tags()?;
        self.image(&id, &tags)?.ok_or_else(|| self.not_found(&id.to_string(), &tags))
    }
}

/// The image that is to be made of these layers. `dir` is for messages.
fn plan(new: &NewImage<'_>, layers: Vec<LayerName>, dir: &Dir) -> Result<Plan, Error> {
    let diff_ids: Vec<Digest> = layers.iter().map(|name| name.diff_id).collect();
    let raw_config = (new.config)(&diff_ids);
    let config = ImageConfiguration::from_reader(raw_config.as_slice())
        .map_err(|error| dir.damaged("config.json", Problem::Config(error)))?;
    let id = Digest::of(&raw_config);
    let (tags, digests) = (Vec::new(), Vec::new());
    let image = Image { id, manifest: None, config, raw_config, tags, digests, layers: Vec::new() };
    Ok(Plan { image, layers })
}
