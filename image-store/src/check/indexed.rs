//! Images with an index: their tars are there byte for byte, so here a check is exact. A tar's digest is its layer's
//! diff_id, and the index is what the tars give.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use image_unpack::{Digest, Hasher, Limits, Merge};

use super::{AGAIN, Look, Remedy};
use crate::dir::Dir;
use crate::error::Problem;
use crate::index::{BLOB, BlobRecord, Device, Devices, INDEX, IndexRecord, open_whole};
use crate::record::{ImageRecord, LAYER};
use crate::{Error, link};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Bytes of a file.
struct Range {
    offset: u64,
    length: u64,
}

impl Look<'_> {
    /// All blobs, each by itself.
    pub(super) fn blobs(&mut self) -> Result<(), Error> {
        let blobs = &self.store.dirs().blobs;
        for name in blobs.names()? {
            let path = blobs.path().join(&name);
            let Ok(diff_id) = Digest::from_hex(&name) else {
                self.leftover(path, "is no layer; nobody uses it");
                continue;
            };
            self.found.layers += 1;
            self.blobs.insert(diff_id);
            if let Err(error) = self.blob(&name, &diff_id) {
                self.damage(Remedy::None, path, format!("cannot be looked at: {error}"));
            }
        }
        Ok(())
    }

    fn blob(&mut self, name: &str, diff_id: &Digest) -> Result<(), Error> {
        let Some(dir) = self.store.dirs().blobs.dir(name)? else { return Ok(()) };
        let record = dir.json::<BlobRecord>(LAYER);
        let broken = || Remedy::Blob(*diff_id);
        let Some(record) = self.sound(&dir, LAYER, broken(), record)? else { return Ok(()) };
        if record.diff_id != *diff_id {
            let what = format!("is another layer's, {}; {AGAIN}", record.diff_id);
            self.damage(broken(), dir.path().join(LAYER), what);
        }
        let file = open_whole(&dir, BLOB, record.tar).map(Some);
        let Some(file) = self.sound(&dir, BLOB, broken(), file)? else { return Ok(()) };
        if self.options.content {
            let all = Range { offset: 0, length: record.tar };
            self.digest(&file, all, diff_id, broken(), dir.path().join(BLOB))?;
        }
        Ok(())
    }

    /// That bytes have the digest that they should have.
    fn digest(
        &mut self,
        file: &std::fs::File,
        Range { offset, length }: Range,
        wanted: &Digest,
        remedy: Remedy,
        path: PathBuf,
    ) -> Result<(), Error> {
        let (mut hasher, mut buffer, mut at) = (Hasher::new(), vec![0; PIECE], 0);
        while at < length {
            let want = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
            match file.read_at(&mut buffer[..want], offset + at) {
                Ok(0) => break, // shorter: another digest
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::System { op: "read", path, source }),
            }
        }
        match hasher.finish() {
            found if found == *wanted => self.found.verified += 1,
            found => {
                self.damage(remedy, path, format!("is damaged: its digest is {found}; {AGAIN}"));
            }
        }
        Ok(())
    }

    /// An image's index, and that all that it needs is there.
    pub(super) fn indexed(
        &mut self,
        dir: &Dir,
        record: &ImageRecord,
        index: &IndexRecord,
    ) -> Result<(), Error> {
        let broken = || Remedy::Image(record.id);
        self.used_blobs.extend(record.layers.iter().map(|layer| layer.diff_id));
        if index.layers.len() != record.layers.len() {
            let what = format!("has an index of other layers; {AGAIN}");
            self.damage(broken(), dir.path().join(crate::record::IMAGE), what);
            return Ok(());
        }
        self.mount_link(&record.id)?;
        let mut whole = true;
        for device in Devices::of(record, index).all {
            match (self.store.device(record, index, &device), device.0) {
                (Ok(file), Device::Archive) if self.options.content => {
                    self.in_archive(&file, record, index)?;
                }
                (Ok(_), _) => {}
                (Err(error @ Error::Archive { .. }), _) => {
                    whole = false;
                    let path = index.archive.as_ref().map(|archive| archive.path.clone());
                    // It may be back with the next mount of its disk: nothing is removed for it.
                    let what = format!("is not what it was: {error}");
                    self.damage(Remedy::None, path.unwrap_or_default(), what);
                }
                // A blob that is there and not whole was found as such.
                (Err(Error::Damaged { path, problem }), Device::Blob(diff_id)) => {
                    whole = false;
                    if !self.blobs.contains(&diff_id) {
                        let what = format!("is missing, a layer of {}; {AGAIN}", record.id);
                        self.damage(broken(), path, what);
                    } else if let Problem::Verity(_) = problem {
                        let what = format!("is damaged: {problem}; {AGAIN}");
                        self.damage(Remedy::Blob(diff_id), path, what);
                    }
                }
                (Err(error), _) => return Err(error),
            }
        }
        let file = self.store.index_file(dir, index).map(Some);
        let Some(mut file) = self.sound(dir, INDEX, broken(), file)? else { return Ok(()) };
        if whole && self.options.content {
            let mut found = Vec::new();
            let read = file.read_to_end(&mut found);
            read.map_err(|source| Error::System {
                op: "read",
                path: dir.path().join(INDEX),
                source,
            })?;
            if self.index_of(record, index)? != found {
                let what = format!("is not the index of the image's layers; {AGAIN}");
                self.damage(broken(), dir.path().join(INDEX), what);
            }
        }
        Ok(())
    }

    /// That an image's short link leads to its mount.
    fn mount_link(&mut self, id: &Digest) -> Result<(), Error> {
        let dirs = self.store.dirs();
        let (name, to) = (link::name(id), link::to_mount(id));
        match link::target(&dirs.links, &name)? {
            Some(found) if found == to => {}
            Some(found) => {
                let what = format!("leads to {found} and not to {to}; remove it");
                self.damage(Remedy::MountLink(*id), dirs.links.path().join(name), what);
            }
            None => {
                let what = format!("is missing; {AGAIN}");
                self.damage(Remedy::MountLink(*id), dirs.links.path().join(name), what);
            }
        }
        Ok(())
    }

    /// The layers that were left in an archive.
    fn in_archive(
        &mut self,
        file: &std::fs::File,
        record: &ImageRecord,
        index: &IndexRecord,
    ) -> Result<(), Error> {
        let path = index.archive.as_ref().map(|archive| archive.path.clone()).unwrap_or_default();
        for (name, layer) in record.layers.iter().zip(&index.layers) {
            if let Some(at) = layer.at {
                let own = Range { offset: at, length: layer.tar };
                let broken = Remedy::Image(record.id);
                self.digest(file, own, &name.diff_id, broken, path.clone())?;
            }
        }
        Ok(())
    }

    /// The index that the tars give.
    fn index_of(&self, record: &ImageRecord, index: &IndexRecord) -> Result<Vec<u8>, Error> {
        let devices = Devices::of(record, index);
        let mut merge = Merge::new("the index", &Limits::of_kept());
        let layers = record.layers.iter().zip(&index.layers).zip(&devices.of_layers);
        for ((name, layer), device) in layers {
            let again = self.store.index_again(&record.id, index, layer, &name.diff_id);
            merge.add(&mut again?, *device)?;
        }
        let sizes: Vec<u64> = devices.all.iter().map(|(_, size)| *size).collect();
        let mut bytes = Vec::new();
        merge.write(&sizes, record.uuid(), &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn unused_blobs(&mut self) -> Result<(), Error> {
        let dirs = self.store.dirs();
        if dirs.staging.names()?.is_empty() {
            let unused: Vec<Digest> = self.blobs.difference(&self.used_blobs).copied().collect();
            for id in unused {
                let what = "is of no image; the next image that is removed takes it along";
                self.leftover(dirs.blobs.path().join(id.hex()), what);
            }
        }
        for name in dirs.mounts.names()? {
            if !dirs.images.has(&name)? {
                let what = "is the place of no image's mount; the next image that is removed takes it along";
                self.leftover(dirs.mounts.path().join(name), what);
            }
        }
        Ok(())
    }
}
