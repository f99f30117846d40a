//! Images get an index: their layers' tars are verified, kept and indexed in one pass, then merged.
//!
//! What is known of a layer is in memory until the index is written; in staging are the tars that are copied.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};

use image_unpack::{Archive, Digest, Indexed, Keep, Layer, Limits};
use rustix::fs::{Mode, OFlags};

use crate::dir::Dir;
use crate::error::{Problem, if_whole};
use crate::index::{
    ArchiveRecord, BLOB, BlobRecord, Devices, INDEX, IndexRecord, IndexedLayer, open_whole,
};
use crate::load::{Plan, Progress};
use crate::record::{CONFIG, IMAGE, ImageRecord, LAYER};
use crate::work::{Work, at_once, existing, staged_image, threads};
use crate::{Error, crash, link};

/// A layer that is to be indexed.
#[derive(Clone, Copy)]
struct Job<'a> {
    layer: &'a Layer,
    source: Source,
}

/// Where a layer's tar is.
#[derive(Clone, Copy)]
enum Source {
    /// The store has it: so many bytes.
    Stored(u64),
    /// It is to be copied from the archive.
    Copied,
    /// It stays in the archive, where it begins at this offset.
    InPlace(u64),
}

/// Layers by diff_id: where in the archive they begin, if they are not blobs, and what is in them.
pub(crate) type Tars = HashMap<Digest, (Option<u64>, Indexed)>;

impl Work<'_> {
    /// Indexes all layers at once, the largest first, and stages the images that the store lacks.
    pub(crate) fn index_all(
        &self,
        archive: &Archive,
        in_place: Option<&ArchiveRecord>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let mut wanted: Vec<&Plan> = Vec::new();
        for plan in self.plans {
            match self.store.whole_record(&plan.image.id)? {
                Some(record)
                    if self.store.is_usable(&record)?
                        && self.store.has_blob_records(&record)? =>
                {
                    self.store.link(&record)?;
                    if self.options.durable && !record.durable {
                        self.staging.sync_all()?;
                        self.store.is_on_the_disk(&record)?;
                    }
                }
                Some(record) => {
                    self.drop_replaced(&record)?;
                    wanted.push(plan);
                }
                None => wanted.push(plan),
            }
        }
        let mut seen = HashSet::new();
        let mut jobs = Vec::new();
        for layer in wanted.iter().flat_map(|plan| &plan.image.layers) {
            if seen.insert(layer.diff_id) {
                jobs.push(Job { layer, source: self.source(archive, layer, in_place)? });
            }
        }
        jobs.sort_by_key(|job| (std::cmp::Reverse(job.layer.size), job.layer.diff_id));
        let fresh = || jobs.iter().filter(|job| !matches!(job.source, Source::Stored(_)));
        progress.begin(fresh().count(), fresh().map(|job| job.layer.size).sum());
        let cancel = || archive.cancel();
        let done = at_once(threads(archive), &jobs, cancel, |job| {
            self.index_layer(archive, job, progress)
        });
        progress.finish();
        let mut tars: Tars = done?.into_iter().collect();
        for plan in wanted {
            self.stage_indexed(plan, &mut tars, in_place, &self.options.options.limits)?;
        }
        Ok(())
    }

    fn source(
        &self,
        archive: &Archive,
        layer: &Layer,
        in_place: Option<&ArchiveRecord>,
    ) -> Result<Source, Error> {
        if let Some(record) = self.stored_blob(&layer.diff_id)? {
            return Ok(Source::Stored(record.tar));
        }
        let place = match in_place {
            Some(_) => archive.place(layer)?,
            None => None,
        };
        Ok(place.map_or(Source::Copied, |(offset, _)| Source::InPlace(offset)))
    }

    /// A blob that the store has. One of which a power cut took something is put away.
    pub(crate) fn stored_blob(&self, diff_id: &Digest) -> Result<Option<BlobRecord>, Error> {
        let (blobs, hex) = (&self.store.dirs().blobs, diff_id.hex());
        let Some(dir) = blobs.dir(&hex)? else { return Ok(None) };
        if let Some(record) = if_whole(dir.json::<BlobRecord>(LAYER))?
            && if_whole(open_whole(&dir, BLOB, record.tar).map(Some))?.is_some()
        {
            return Ok(Some(record));
        }
        self.put_away(blobs, &hex, &dir).map(|()| None)
    }

    fn index_layer(
        &self,
        archive: &Archive,
        job: &Job<'_>,
        progress: &dyn Progress,
    ) -> Result<(Digest, (Option<u64>, Indexed)), Error> {
        let limits = &self.options.options.limits;
        let advance = |bytes| progress.advance(bytes);
        let diff_id = job.layer.diff_id;
        let done = match job.source {
            Source::Stored(tar) => {
                let file = self.store.blob(&diff_id, tar)?;
                let what = format!("the layer {}", &diff_id.hex()[..12]);
                (None, image_unpack::index_tar(file, 0, tar, &Limits::of_kept(), &what)?)
            }
            Source::InPlace(offset) => {
                (Some(offset), archive.index(job.layer, Keep::InPlace, limits, &advance)?)
            }
            Source::Copied => {
                let (dir, file) = self.stage_blob(&staged_blob(&diff_id))?;
                crash::point();
                let indexed = archive.index(job.layer, Keep::Into(&file), limits, &advance)?;
                self.record_blob(&dir, &diff_id, &indexed)?;
                (None, indexed)
            }
        };
        Ok((diff_id, done))
    }

    /// Makes a blob's directory in staging, and the file in it.
    pub(crate) fn stage_blob(&self, name: &str) -> Result<(Dir, File), Error> {
        self.staging.make(name, 0o700)?;
        let dir = existing(self.staging, name)?;
        let file = create(&dir, BLOB)?;
        Ok((dir, file))
    }

    /// Writes down what a blob is.
    pub(crate) fn record_blob(
        &self,
        dir: &Dir,
        diff_id: &Digest,
        indexed: &Indexed,
    ) -> Result<(), Error> {
        let record = BlobRecord { diff_id: *diff_id, tar: indexed.tar, size: indexed.bytes };
        dir.write_json(LAYER, &record)?;
        crash::point();
        Ok(())
    }

    /// Writes an image's files to staging, the index of all its layers within `limits`.
    pub(crate) fn stage_indexed(
        &self,
        plan: &Plan,
        tars: &mut Tars,
        archive: Option<&ArchiveRecord>,
        limits: &Limits,
    ) -> Result<(), Error> {
        let image = &plan.image;
        let mut layers = Vec::with_capacity(plan.layers.len());
        for name in &plan.layers {
            let missing = || self.store.dirs().blobs.damaged(&name.diff_id.hex(), Problem::Missing);
            let (at, indexed) = tars.get(&name.diff_id).ok_or_else(missing)?;
            layers.push(IndexedLayer { at: *at, tar: indexed.tar, size: indexed.bytes });
        }
        let in_archive = layers.iter().any(|layer| layer.at.is_some());
        let archive = archive.filter(|_| in_archive).cloned();
        let size = layers.iter().map(|layer| layer.size).sum();
        let index = IndexRecord { size: 0, archive, verity: None, layers };
        let mut record = ImageRecord {
            id: image.id,
            manifest: image.manifest,
            size,
            durable: self.options.durable,
            boot: self.boot()?,
            layers: plan.layers.clone(),
            index: None,
        };
        let devices = Devices::of(&record, &index);
        let name = staged_image(&image.id);
        self.staging.make(&name, 0o700)?;
        let dir = existing(self.staging, &name)?;
        let size = write_index(&dir, &record, &devices, tars, limits)?;
        record.index = Some(IndexRecord { size, ..index });
        dir.write(CONFIG, &image.raw_config)?;
        dir.write_json(IMAGE, &record)?;
        crash::point();
        Ok(())
    }

    /// Whether each blob that a staged image counts on is still there.
    pub(crate) fn tars_are_there(&self) -> Result<bool, Error> {
        for plan in self.plans {
            let Some(dir) = self.staging.dir(&staged_image(&plan.image.id))? else { continue };
            let Some(record) = dir.json::<ImageRecord>(IMAGE)? else { continue };
            for (name, layer) in
                record.layers.iter().zip(record.index.iter().flat_map(|i| &i.layers))
            {
                let hex = name.diff_id.hex();
                if layer.at.is_none()
                    && !self.staging.has(&staged_blob(&name.diff_id))?
                    && !self.store.dirs().blobs.has(&hex)?
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Moves blobs, then images into place; first all of it goes to the disk, if it shall be durable.
    pub(crate) fn commit_indexed(&self) -> Result<(), Error> {
        let dirs = self.store.dirs();
        let mut staged = Vec::new();
        for plan in self.plans {
            if self.staging.has(&staged_image(&plan.image.id))? {
                staged.push(plan);
            }
        }
        if staged.is_empty() {
            return Ok(());
        }
        if self.options.durable {
            // What another load left without a sync is covered, too.
            self.staging.sync_all()?;
        }
        let mut theirs = false;
        for name in staged.iter().flat_map(|plan| &plan.layers) {
            if self.staging.has(&staged_blob(&name.diff_id))? {
                theirs |= !self.staging.commit(
                    &staged_blob(&name.diff_id),
                    &dirs.blobs,
                    &name.diff_id.hex(),
                )?;
                crash::point();
            }
        }
        for plan in &staged {
            // Before the image: with its name it must be complete.
            dirs.mounts.make(&plan.image.id.hex(), 0o700)?;
            crash::point();
            link::make_to_mount(&dirs.links, &plan.image.id)?;
            crash::point();
        }
        if self.options.durable {
            if theirs {
                self.staging.sync_all()?;
            }
            for dir in [&dirs.blobs, &dirs.mounts, &dirs.links] {
                dir.sync()?;
            }
        }
        for plan in &staged {
            self.commit_image(&plan.image.id, &[CONFIG, INDEX, IMAGE])?;
        }
        if self.options.durable { dirs.images.sync() } else { Ok(()) }
    }
}

/// Writes the index of an image's layers; gives its bytes.
fn write_index(
    dir: &Dir,
    record: &ImageRecord,
    devices: &Devices,
    tars: &mut Tars,
    limits: &Limits,
) -> Result<u64, Error> {
    let what = format!("the index of {}", record.id);
    let sizes: Vec<u64> = devices.all.iter().map(|(_, size)| *size).collect();
    let mut out = BufWriter::with_capacity(256 << 10, create(dir, INDEX)?);
    let mut layers = image_unpack::Merge::new(&what, limits);
    for (name, device) in record.layers.iter().zip(&devices.of_layers) {
        if let Some((_, indexed)) = tars.get_mut(&name.diff_id) {
            layers.add(indexed, *device)?;
        }
    }
    let size = layers.write(&sizes, record.uuid(), &mut out)?;
    out.flush().map_err(|source| Error::System {
        op: "write",
        path: dir.path().join(INDEX),
        source,
    })?;
    // A short write is found now and not by the first mount.
    open_whole(dir, INDEX, size)?;
    Ok(size)
}

/// Makes a file of mode 0600 in a directory that is nobody else's.
fn create(dir: &Dir, name: &str) -> Result<File, Error> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let made = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
    let made = made.map_err(|errno| dir.failed("make the file", name, errno))?;
    Ok(File::from(made))
}

pub(crate) fn staged_blob(diff_id: &Digest) -> String {
    format!("blob-{}", diff_id.hex())
}
