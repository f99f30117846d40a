//! Images whose index and tars the kernel verifies as they are read (fs-verity), for who asks for it.
//!
//! It is done once an image is complete, for it reads all of it once more and makes the files read-only. What the
//! kernel said of each file is written down then, and compared before each mount: another file in a file's place has
//! another digest, and a changed block of the same cannot be read (EIO).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use image_unpack::Digest;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::Problem;
use crate::index::{BLOB, Device, Devices, INDEX, IndexRecord, open_whole};
use crate::record::{IMAGE, ImageRecord};
use crate::store::Store;
use crate::work::Work;
use crate::{Error, StoredImage, crash, trust};

/// Digests of fs-verity: SHA-256 over a Merkle tree of blocks of 4,096 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verity {
    index: Digest,
    /// Of each layer's tar; none for one that was left in its archive, which is not the store's to change.
    layers: Vec<Option<Digest>>,
}

impl Verity {
    pub(crate) fn index(&self) -> &Digest {
        &self.index
    }

    /// That of a layer's tar, if it has one.
    pub(crate) fn layer(&self, at: usize) -> Option<&Digest> {
        self.layers.get(at)?.as_ref()
    }
}

impl Store {
    /// Has the kernel verify the files of an image, unless it does.
    ///
    /// # Errors
    /// The image is kept as directories, or its file system has no fs-verity ([`Error::NoVerity`]).
    pub(crate) fn protect(&self, image: &StoredImage) -> Result<(), Error> {
        // Nothing of it is removed meanwhile.
        let _hold = self.hold()?;
        let Some(record) = self.image_record(&image.id)? else { return Ok(()) };
        let Some(dir) = self.dirs().images.dir(&image.id.hex())? else { return Ok(()) };
        let Some(index) = &record.index else {
            let why = "it is kept as directories".to_owned();
            return Err(Error::NoVerity { image: image.id, why });
        };
        if index.verity.is_some() {
            return Ok(());
        }
        let enable = |file: &File, path: PathBuf| match sys::verity::enable(file.as_fd()) {
            Ok(()) => measured(file, &path)?.ok_or(Error::System {
                op: "measure",
                path,
                source: Errno::NODATA.into(),
            }),
            Err(Errno::OPNOTSUPP | Errno::NOTTY) => {
                let path = self.root().display();
                let why = format!("the file system of {path} has no fs-verity");
                Err(Error::NoVerity { image: image.id, why })
            }
            Err(errno) => {
                Err(Error::System { op: "enable fs-verity of", path, source: errno.into() })
            }
        };
        let file = open_whole(&dir, INDEX, index.size)?;
        let mut verity =
            Verity { index: enable(&file, dir.path().join(INDEX))?, layers: Vec::new() };
        crash::point();
        for (name, layer) in record.layers.iter().zip(&index.layers) {
            let digest = match layer.at {
                Some(_) => None,
                None => {
                    let file = self.blob(&name.diff_id, layer.tar)?;
                    Some(enable(&file, self.blob_path(&name.diff_id))?)
                }
            };
            verity.layers.push(digest);
        }
        crash::point();
        let index = Some(IndexRecord { verity: Some(verity), ..index.clone() });
        trust::renew(&dir, IMAGE, &ImageRecord { index, ..record })
    }

    pub(crate) fn blob_path(&self, diff_id: &Digest) -> PathBuf {
        self.dirs().blobs.path().join(diff_id.hex()).join(BLOB)
    }
}

impl Work<'_> {
    /// Moves those of an image's blobs away that are not the files that the kernel verified: nobody knows what is in
    /// them.
    pub(crate) fn drop_replaced(&self, record: &ImageRecord) -> Result<(), Error> {
        let Some(index) = &record.index else { return Ok(()) };
        for device in Devices::of(record, index).all {
            let Device::Blob(diff_id) = device.0 else { continue };
            match self.store.device(record, index, &device) {
                Err(Error::Damaged { problem: Problem::Verity(_), .. }) => {
                    let (blobs, hex) = (&self.store.dirs().blobs, diff_id.hex());
                    if let Some(dir) = blobs.dir(&hex)? {
                        self.put_away(blobs, &hex, &dir)?;
                    }
                }
                // Found as such when it is to be used.
                Err(Error::Damaged { .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What the kernel says of a file: `None` where it does not verify it.
pub(crate) fn measured(file: &File, path: &Path) -> Result<Option<Digest>, Error> {
    let digest = sys::verity::measure(file.as_fd()).map_err(|errno| Error::System {
        op: "measure",
        path: path.to_owned(),
        source: errno.into(),
    })?;
    Ok(digest.map(Digest::from))
}

/// That a file is the one whose digest was written down.
///
/// # Errors
/// It is another ([`Error::Damaged`]).
pub(crate) fn compare(file: &File, wanted: Option<&Digest>, path: PathBuf) -> Result<(), Error> {
    let Some(wanted) = wanted else { return Ok(()) };
    match measured(file, &path)? {
        Some(found) if found == *wanted => Ok(()),
        found => Err(Error::Damaged { path, problem: Problem::Verity(found) }),
    }
}
