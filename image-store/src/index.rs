//! Images whose layers are tars with one index over all of them: what is on disk, and where the data is.

use std::fs::File;
use std::path::PathBuf;

use image_unpack::{Digest, Indexed, Limits};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::dir::Dir;
use crate::error::{Problem, if_whole};
use crate::record::{ImageRecord, LAYER};
use crate::source::Stamp;
use crate::store::Store;
use crate::verity::{self, Verity};

/// The index in an image's directory.
pub(crate) const INDEX: &str = "index.erofs";
/// The tar in a blob's directory.
pub(crate) const BLOB: &str = "blob";

/// What `image.json` says of an image with an index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct IndexRecord {
    /// Bytes of the index.
    pub(crate) size: u64,
    /// The archive that has the data of layers that were left in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) archive: Option<ArchiveRecord>,
    /// What the kernel verifies of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verity: Option<Verity>,
    /// As many as the image has layers, the lowest first.
    pub(crate) layers: Vec<IndexedLayer>,
}

/// An archive whose layers were left in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArchiveRecord {
    pub(crate) path: PathBuf,
    pub(crate) stamp: Stamp,
}

/// A layer's tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexedLayer {
    /// Where in the archive it begins; else it is a blob of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<u64>,
    /// Its bytes.
    pub(crate) tar: u64,
    /// Bytes of its files.
    pub(crate) size: u64,
}

/// `blobs/<diff_id>/layer.json`
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BlobRecord {
    pub(crate) diff_id: Digest,
    /// Bytes of the tar.
    pub(crate) tar: u64,
    /// Bytes of its files.
    pub(crate) size: u64,
}

/// What holds the data of some of an image's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    Archive,
    Blob(Digest),
}

/// An image's devices with their bytes, numbered from 1, and the number that each layer's data is on.
pub(crate) struct Devices {
    pub(crate) all: Vec<(Device, u64)>,
    pub(crate) of_layers: Vec<u16>,
}

impl Devices {
    pub(crate) fn of(record: &ImageRecord, index: &IndexRecord) -> Devices {
        let mut devices = Devices { all: Vec::new(), of_layers: Vec::new() };
        for (name, layer) in record.layers.iter().zip(&index.layers) {
            let device = match (layer.at, &index.archive) {
                (Some(_), Some(archive)) => (Device::Archive, archive.stamp.size()),
                _ => (Device::Blob(name.diff_id), layer.tar),
            };
            let at = devices.all.iter().position(|known| *known == device);
            let at = at.unwrap_or_else(|| {
                devices.all.push(device);
                devices.all.len() - 1
            });
            // More than 4,096 devices are an error of the index.
            devices.of_layers.push(u16::try_from(at + 1).unwrap_or(u16::MAX));
        }
        devices
    }
}

impl Store {
    /// The record of a blob; `None` where there is none.
    pub(crate) fn blob_record(&self, diff_id: &Digest) -> Result<Option<BlobRecord>, Error> {
        let Some(dir) = self.dirs().blobs.dir(&diff_id.hex())? else { return Ok(None) };
        dir.json(LAYER)
    }

    /// Whether each blob of an image has its record, which the next load of its layer needs.
    pub(crate) fn has_blob_records(&self, record: &ImageRecord) -> Result<bool, Error> {
        let layers = record.layers.iter().zip(record.index.iter().flat_map(|index| &index.layers));
        for (name, _) in layers.filter(|(_, layer)| layer.at.is_none()) {
            if if_whole(self.blob_record(&name.diff_id))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a blob, which has to have as many bytes as it had.
    pub(crate) fn blob(&self, diff_id: &Digest, tar: u64) -> Result<File, Error> {
        let blobs = &self.dirs().blobs;
        let hex = diff_id.hex();
        let dir = blobs.dir(&hex)?.ok_or_else(|| blobs.damaged(&hex, Problem::Missing))?;
        open_whole(&dir, BLOB, tar)
    }

    /// That a blob is there with as many bytes as it had.
    fn blob_is_whole(&self, diff_id: &Digest, tar: u64) -> Result<(), Error> {
        let blobs = &self.dirs().blobs;
        let name = format!("{}/{BLOB}", diff_id.hex());
        match rustix::fs::statat(blobs, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if u64::try_from(stat.st_size) == Ok(tar) => Ok(()),
            Ok(_) => Err(blobs.damaged(&name, Problem::Lost)),
            Err(Errno::NOENT) => Err(blobs.damaged(&name, Problem::Missing)),
            Err(errno) => Err(blobs.failed("look at", &name, errno)),
        }
    }

    /// Opens an image's index, if it is what it was.
    pub(crate) fn index_file(&self, dir: &Dir, index: &IndexRecord) -> Result<File, Error> {
        let file = open_whole(dir, INDEX, index.size)?;
        let wanted = index.verity.as_ref().map(Verity::index);
        verity::compare(&file, wanted, dir.path().join(INDEX))?;
        Ok(file)
    }

    /// Opens what a device's data is in, if it is what it was.
    pub(crate) fn device(
        &self,
        record: &ImageRecord,
        index: &IndexRecord,
        device: &(Device, u64),
    ) -> Result<File, Error> {
        let file = self.device_file(&record.id, index, device)?;
        if let (Device::Blob(diff_id), Some(verity)) = (device.0, &index.verity) {
            let at = record.layers.iter().position(|layer| layer.diff_id == diff_id);
            let wanted = at.and_then(|at| verity.layer(at));
            verity::compare(&file, wanted, self.blob_path(&diff_id))?;
        }
        Ok(file)
    }

    fn device_file(
        &self,
        image: &Digest,
        index: &IndexRecord,
        device: &(Device, u64),
    ) -> Result<File, Error> {
        match (device, &index.archive) {
            ((Device::Blob(diff_id), tar), _) => self.blob(diff_id, *tar),
            ((Device::Archive, _), Some(archive)) => archive.open(image),
            ((Device::Archive, _), None) => {
                Err(self.dirs().images.damaged(&image.hex(), Problem::Missing))
            }
        }
    }

    /// Whether an image's index and all that it needs is there, as it was.
    ///
    /// # Errors
    /// A system call fails. What is not as it was is no error.
    pub(crate) fn is_usable(&self, record: &ImageRecord) -> Result<bool, Error> {
        let Some(index) = &record.index else { return Ok(true) };
        let Some(dir) = self.dirs().images.dir(&record.id.hex())? else { return Ok(false) };
        let mut found = self.index_file(&dir, index).map(drop);
        for device in Devices::of(record, index).all {
            found = found.and_then(|()| match (device, &index.verity) {
                // One call for each of maybe hundreds: the next thing is that they are opened to be mounted.
                ((Device::Blob(diff_id), tar), None) => self.blob_is_whole(&diff_id, tar),
                _ => self.device(record, index, &device).map(drop),
            });
        }
        match found {
            Ok(()) => Ok(true),
            Err(Error::Damaged { .. } | Error::Archive { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A layer of an image, indexed anew from its tar, whatever limits it came in with.
    pub(crate) fn index_again(
        &self,
        image: &Digest,
        index: &IndexRecord,
        layer: &IndexedLayer,
        diff_id: &Digest,
    ) -> Result<Indexed, Error> {
        let (device, offset) = match layer.at {
            Some(at) => (Device::Archive, at),
            None => (Device::Blob(*diff_id), 0),
        };
        let file = self.device_file(image, index, &(device, layer.tar))?;
        let what = format!("layer {} of {image}", &diff_id.hex()[..12]);
        Ok(image_unpack::index_tar(file, offset, layer.tar, &Limits::of_kept(), &what)?)
    }
}

impl ArchiveRecord {
    /// Opens the archive, if it is the very file that it was.
    pub(crate) fn open(&self, image: &Digest) -> Result<File, Error> {
        let path = self.path.clone();
        let changed = |why: String| Error::Archive { image: *image, path: path.clone(), why };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(changed("is gone".to_owned())),
            Err(errno) => {
                let why = std::io::Error::from(errno);
                return Err(changed(format!("cannot be opened: {why}")));
            }
        };
        let metadata = file.metadata().map_err(|source| Error::System {
            op: "look at",
            path: path.clone(),
            source,
        })?;
        match Stamp::of(&metadata) {
            Some(stamp) if stamp == self.stamp => Ok(file),
            _ => Err(changed("has changed since".to_owned())),
        }
    }
}

/// Opens a file of the store, which has to have so many bytes: one that was not on the disk when the machine went
/// down is shorter.
pub(crate) fn open_whole(dir: &Dir, name: &str, size: u64) -> Result<File, Error> {
    let Some(file) = dir.file(name)? else { return Err(dir.damaged(name, Problem::Missing)) };
    let metadata = file.metadata().map_err(|source| Error::System {
        op: "look at",
        path: dir.path().join(name),
        source,
    })?;
    match metadata.len() == size {
        true => Ok(file),
        false => Err(dir.damaged(name, Problem::Lost)),
    }
}
