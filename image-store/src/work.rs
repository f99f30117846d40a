//! One try to load: unpack what the store lacks into staging, settle it, move it into place.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use image_unpack::{Archive, Digest, Layer, Omitted, Options, Pending, Unpacked};
use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::if_whole;
use crate::load::{LoadOptions, Plan, Progress};
use crate::record::{CONFIG, IMAGE, ImageRecord, LAYER, LayerName, LayerRecord};
use crate::store::Store;
use crate::trust;
use crate::{Error, crash, link};

/// One try to load.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) store: &'a Store,
    pub(crate) plans: &'a [Plan],
    pub(crate) options: &'a LoadOptions,
    /// Only this worker uses it, and whoever comes after its death.
    pub(crate) staging: &'a Dir,
}

/// The layers of all images, by chain id.
pub(crate) type Layers<'a> = HashMap<Digest, State<'a>>;

/// How far a layer is.
pub(crate) enum State<'a> {
    /// The store had it; so many bytes of files.
    Stored(u64),
    /// The store lacks it.
    Missing(Job<'a>),
    /// It is in staging: so many bytes of files, and what is left to do.
    Staged(u64, Option<Pending>),
}

/// A layer to unpack.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    layer: &'a Layer,
    name: LayerName,
    parent: Option<Digest>,
}

impl<'a> Work<'a> {
    /// The layers of all images, each once: stored or missing.
    pub(crate) fn layers(&self) -> Result<Layers<'a>, Error> {
        let mut layers = HashMap::new();
        for plan in self.plans {
            let mut parent = None;
            for (layer, &name) in plan.image.layers.iter().zip(&plan.layers) {
                let job = Job { layer, name, parent: parent.replace(name.chain_id) };
                if layers.contains_key(&name.chain_id) {
                    continue;
                }
                let state = self.stored(&name.chain_id)?.unwrap_or(State::Missing(job));
                layers.insert(name.chain_id, state);
            }
        }
        Ok(layers)
    }

    /// A layer that the store has, in the form that is asked for. One of which a power cut took something
    /// is put away.
    pub(crate) fn stored(&self, chain_id: &Digest) -> Result<Option<State<'a>>, Error> {
        let layers = &self.store.dirs().layers;
        let Some(dir) = layers.dir(&chain_id.hex())? else { return Ok(None) };
        let Some(record) = if_whole(dir.json::<LayerRecord>(LAYER))? else {
            return self.put_away(layers, &chain_id.hex(), &dir).map(|()| None);
        };
        let size = record.size;
        self.check_form(chain_id, &record.form)?;
        match self.store.look_at_layer(&dir, record) {
            Ok(()) => Ok(Some(State::Stored(size))),
            Err(Error::Damaged { .. }) => {
                self.put_away(layers, &chain_id.hex(), &dir).map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    /// Moves what is not whole out of the way, unless another process has done that, and put it anew maybe.
    pub(crate) fn put_away(&self, parent: &Dir, name: &str, broken: &Dir) -> Result<(), Error> {
        // Nothing is removed meanwhile, and who else would put it away waits.
        let _hold = self.store.hold()?;
        broken.lock(true)?;
        if parent.is(name, broken)? {
            let kind = parent.path().file_name().unwrap_or_default().display();
            parent.commit(name, self.staging, &format!("lost-{kind}-{name}"))?;
        }
        Ok(())
    }

    fn check_form(&self, chain_id: &Digest, stored: &str) -> Result<(), Error> {
        let wanted = form(&self.options.options);
        if stored == wanted {
            return Ok(());
        }
        let stored = stored.to_owned();
        let path = self.store.dirs().layers.path().join(chain_id.hex());
        Err(Error::Form { path, stored, wanted })
    }

    /// Unpacks all missing layers at once into staging, the largest first, on all processors.
    pub(crate) fn unpack_all(
        &self,
        archive: &Archive,
        layers: &mut Layers<'a>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let missing = |state: &State<'a>| match state {
            State::Missing(job) => Some(*job),
            _ => None,
        };
        let mut jobs: Vec<Job<'a>> = layers.values().filter_map(missing).collect();
        jobs.sort_by_key(|job| (std::cmp::Reverse(job.layer.size), job.name.chain_id));
        progress.begin(jobs.len(), jobs.iter().map(|job| job.layer.size).sum());
        let threads = threads(archive);
        let total: u64 = jobs.iter().map(|job| job.layer.size).sum();
        // What comes from elsewhere waits for that, and not for a processor.
        let is_long = |job: &Job<'_>| {
            archive.parallel().is_none() && job.layer.size.saturating_mul(threads as u64) > total
        };
        let done = at_once(
            threads,
            &jobs,
            || archive.cancel(),
            |job| {
                let state = self.unpack(archive, job, is_long(job), progress)?;
                Ok((job.name.chain_id, state))
            },
        );
        progress.finish();
        layers.extend(done?);
        Ok(())
    }

    /// Unpacks one layer into staging.
    fn unpack(
        &self,
        archive: &Archive,
        job: &Job<'_>,
        read_ahead: bool,
        progress: &dyn Progress,
    ) -> Result<State<'a>, Error> {
        let (dir, diff) = self.stage_layer(&job.name.chain_id.hex())?;
        crash::point();
        let advance = |bytes| progress.advance(bytes);
        let options = Options { read_ahead, ..self.options.options.clone() };
        let unpacked = archive.unpack(job.layer, diff.as_fd(), &options, &advance)?;
        if unpacked.omitted != Omitted::default() {
            progress.omit(unpacked.omitted);
        }
        self.record_layer(&dir, &diff, job.name, job.parent, unpacked)
    }

    /// Makes a layer's directory in staging, and the one in it that takes the files.
    pub(crate) fn stage_layer(&self, name: &str) -> Result<(Dir, Dir), Error> {
        self.staging.make(name, 0o700)?;
        let dir = existing(self.staging, name)?;
        dir.make("diff", 0o755)?;
        let diff = existing(&dir, "diff")?;
        Ok((dir, diff))
    }

    /// Writes down what an unpacked layer is.
    pub(crate) fn record_layer(
        &self,
        dir: &Dir,
        diff: &Dir,
        name: LayerName,
        parent: Option<Digest>,
        unpacked: Unpacked,
    ) -> Result<State<'a>, Error> {
        let content = match unpacked.tally {
            Some(tally) => tally,
            None => trust::tally(diff)?,
        };
        let record = LayerRecord {
            diff_id: name.diff_id,
            parent,
            size: unpacked.bytes,
            form: form(&self.options.options),
            content: Some(content),
            boot: self.boot()?,
        };
        dir.write("link", format!("{}\n", link::name(&name.chain_id)).as_bytes())?;
        dir.write_json(LAYER, &record)?;
        crash::point();
        Ok(State::Staged(unpacked.bytes, Some(unpacked.pending)))
    }

    /// The boot of the machine, where it is left to the kernel to write what is loaded.
    pub(crate) fn boot(&self) -> Result<Option<String>, Error> {
        (!self.options.durable).then(trust::boot).transpose()
    }

    /// Whether each layer that the store had is still there.
    pub(crate) fn are_there(&self, layers: &Layers<'_>) -> Result<bool, Error> {
        for (chain_id, state) in layers {
            if matches!(state, State::Stored(_))
                && !self.store.dirs().layers.has(&chain_id.hex())?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does what needs the layers below, from the lowest up.
    pub(crate) fn settle(&self, layers: &mut Layers<'_>) -> Result<(), Error> {
        for plan in self.plans {
            // The layers' directories up to here, opened once a layer needs those below.
            let mut open: Vec<Dir> = Vec::new();
            for (index, name) in plan.layers.iter().enumerate() {
                let Some(State::Staged(_, pending)) = layers.get_mut(&name.chain_id) else {
                    continue;
                };
                let Some(pending) = pending.take().filter(|pending| !pending.is_empty()) else {
                    continue;
                };
                for name in &plan.layers[open.len()..=index] {
                    open.push(self.diff(&name.chain_id)?);
                }
                let lowers: Vec<_> = open[..index].iter().rev().map(AsFd::as_fd).collect();
                let recount = pending.changes_names();
                pending.settle(open[index].as_fd(), &lowers)?;
                if recount {
                    self.count_anew(&name.chain_id, &open[index])?;
                }
            }
        }
        Ok(())
    }

    /// Writes down what is in a staged layer after it was changed.
    fn count_anew(&self, chain_id: &Digest, diff: &Dir) -> Result<(), Error> {
        let dir = existing(self.staging, &chain_id.hex())?;
        let Some(record) = dir.json::<LayerRecord>(LAYER)? else { return Ok(()) };
        dir.write_json(LAYER, &LayerRecord { content: Some(trust::tally(diff)?), ..record })?;
        Ok(())
    }

    /// A layer's directory, in staging or in the store.
    fn diff(&self, chain_id: &Digest) -> Result<Dir, Error> {
        let name = chain_id.hex();
        match self.staging.dir(&name)? {
            Some(dir) => existing(&dir, "diff"),
            None => existing(&existing(&self.store.dirs().layers, &name)?, "diff"),
        }
    }

    /// Moves layers, then images into place; first all of it goes to the disk, if it shall be durable.
    pub(crate) fn commit(&self, layers: &Layers<'_>) -> Result<(), Error> {
        let dirs = self.store.dirs();
        let durable = self.options.durable;
        let mut fresh = layers.values().any(|state| matches!(state, State::Staged(..)));
        for plan in self.plans {
            fresh |= self.stage_image(plan, layers)?;
        }
        crash::point();
        if durable && fresh {
            // Layers that another load left without a sync are covered, too.
            self.staging.sync_all()?;
        }
        let mut theirs = false;
        for name in self.plans.iter().flat_map(|plan| &plan.layers) {
            let hex = name.chain_id.hex();
            // Before the layer: with its name it must be complete.
            link::make(&dirs.links, &name.chain_id)?;
            crash::point();
            if self.staging.has(&hex)? {
                theirs |= !self.staging.commit(&hex, &dirs.layers, &hex)?;
                crash::point();
            }
        }
        if durable && fresh {
            if theirs {
                self.staging.sync_all()?;
            }
            dirs.layers.sync()?;
            dirs.links.sync()?;
        }
        for plan in self.plans {
            // One that another process has made meanwhile stays: it may be durable.
            let is_whole = !durable && self.store.whole_record(&plan.image.id)?.is_some();
            let files: &[&str] = if is_whole { &[] } else { &[CONFIG, IMAGE] };
            self.commit_image(&plan.image.id, files)?;
        }
        if durable && fresh { dirs.images.sync() } else { Ok(()) }
    }

    /// Writes an image's files to staging; `false` where the store has the image as it shall be.
    fn stage_image(&self, plan: &Plan, layers: &Layers<'_>) -> Result<bool, Error> {
        let image = &plan.image;
        let stored = self.store.whole_record(&image.id)?;
        if stored.is_some_and(|record| record.durable || !self.options.durable) {
            return Ok(false);
        }
        let size = |name: &LayerName| match layers.get(&name.chain_id) {
            Some(State::Stored(size) | State::Staged(size, _)) => *size,
            Some(State::Missing(_)) | None => 0,
        };
        let record = ImageRecord {
            id: image.id,
            manifest: image.manifest,
            size: plan.layers.iter().map(size).sum(),
            durable: self.options.durable,
            boot: self.boot()?,
            layers: plan.layers.clone(),
            index: None,
        };
        let name = staged_image(&image.id);
        self.staging.make(&name, 0o700)?;
        let dir = existing(self.staging, &name)?;
        dir.write(CONFIG, &image.raw_config)?;
        dir.write_json(IMAGE, &record)?;
        Ok(true)
    }

    /// Moves a staged image into place. One that is there, and not as it shall be, gets the new `files`, of which the record
    /// is the last: who is killed before it leaves a record that is found not to fit.
    pub(crate) fn commit_image(&self, id: &Digest, files: &[&str]) -> Result<(), Error> {
        let images = &self.store.dirs().images;
        let (name, hex) = (staged_image(id), id.hex());
        let Some(staged) = self.staging.dir(&name)? else { return Ok(()) };
        if !self.staging.commit(&name, images, &hex)? {
            let there = existing(images, &hex)?;
            for file in files {
                staged.replace(file, &there, file)?;
                crash::point();
            }
            if self.options.durable {
                there.sync()?;
            }
        }
        crash::point();
        Ok(())
    }
}

/// Does all jobs in this order, `threads` of them at once. After the first error, which is what comes back, no other is
/// begun, and `cancel` is called.
pub(crate) fn at_once<J: Sync, T: Send>(
    threads: usize,
    jobs: &[J],
    cancel: impl Fn() + Sync,
    job: impl Fn(&J) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    let work = || {
        while !stop.load(Ordering::Relaxed)
            && let Some(next) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let result = job(next);
            let failed = result.is_err();
            stop.fetch_or(failed, Ordering::Relaxed);
            done.lock().unwrap_or_else(PoisonError::into_inner).push(result);
            // After the push: the first error is the one that is told.
            if failed {
                cancel();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(jobs.len()) {
            // Where no thread can be made, this one does all the work.
            let _ = std::thread::Builder::new().name("layer".into()).spawn_scoped(scope, work);
        }
        work();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
}

/// How many layers are dealt with at once.
pub(crate) fn threads(archive: &Archive) -> usize {
    archive.parallel().unwrap_or_else(processors)
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn staged_image(id: &Digest) -> String {
    format!("image-{}", id.hex())
}

/// What two layers must have in common to be used together, in words.
pub(crate) fn form(options: &Options) -> String {
    format!("whiteouts {:?}, owners {}", options.form, options.owners)
}

pub(crate) fn existing(dir: &Dir, name: &str) -> Result<Dir, Error> {
    dir.dir(name)?.ok_or_else(|| dir.failed("open the directory", name, Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes have looked at the same layer: the second is late, and finds what the first has made since.
    #[test]
    fn what_another_has_put_anew_stays() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("store")).unwrap();
        let (layers, staging) = (&store.dirs().layers, &store.dirs().staging);
        let options = LoadOptions::default();
        let work = Work { store: &store, plans: &[], options: &options, staging };
        layers.make("x", 0o700).unwrap();
        let broken = existing(layers, "x").unwrap();
        work.put_away(layers, "x", &broken).unwrap();
        assert!(!layers.has("x").unwrap() && staging.has("lost-layers-x").unwrap());
        staging.rmdir("lost-layers-x").unwrap();
        work.put_away(layers, "x", &broken).unwrap();
        layers.make("x", 0o700).unwrap();
        work.put_away(layers, "x", &broken).unwrap();
        assert!(layers.has("x").unwrap(), "what is whole was put away");
    }
}
