//! What a power cut may have damaged, and how that is found.
//!
//! A load that is not durable leaves its bytes to the kernel, which writes them within about half a minute
//! (`/proc/sys/vm/dirty_expire_centisecs`). Its records have the boot in which it was. In another boot the layers
//! are looked at once, before their first use: a file that was not written is shorter than it was, or not there,
//! for file systems put a file's size on the disk after its data (ext4 with `data=ordered`, xfs, btrfs). What is
//! whole then is on the disk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use image_unpack::Tally;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use serde::Serialize;

use crate::dir::{Dir, dots, system};
use crate::error::Problem;
use crate::record::{IMAGE, ImageRecord, LAYER, LayerName, LayerRecord};
use crate::store::{Dirs, Store};
use crate::{Error, link};

/// Counts what is below `dir`.
pub(crate) fn tally(dir: &Dir) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    // Paths as layers have them, of which the longest leaves no room for more.
    let mut directories: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = directories.pop() {
        let failed = |op, errno| system(op, dir.path().join(OsStr::from_bytes(&path)), errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let name: &[u8] = if path.is_empty() { b"." } else { &path };
        let open = rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve);
        let open = open.map_err(|errno| failed("open the directory", errno))?;
        let read = |errno| failed("read the directory", errno);
        for entry in rustix::fs::Dir::read_from(&open).map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = entry.file_name();
            if dots(name) {
                continue;
            }
            tally.names += 1;
            match entry.file_type() {
                FileType::Directory => directories.push(match &path[..] {
                    b"" => name.to_bytes().to_vec(),
                    parent => [parent, b"/", name.to_bytes()].concat(),
                }),
                FileType::RegularFile | FileType::Unknown => {
                    let stat = rustix::fs::statat(&open, name, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|errno| failed("look at what is in", errno))?;
                    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                        tally.bytes += u64::try_from(stat.st_size).unwrap_or_default();
                    }
                }
                _ => {}
            }
        }
    }
    Ok(tally)
}

/// This boot of the machine (random(4)).
pub(crate) fn boot() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = sys::whole::read_text(path);
    let id = id.map_err(|source| Error::System { op: "read", path: path.into(), source })?;
    Ok(id.trim().to_owned())
}

/// Whether something was left to the kernel to be written, in another boot than this one.
fn is_in_doubt(boot: Option<&String>) -> Result<bool, Error> {
    match boot {
        None => Ok(false),
        Some(then) => Ok(*then != self::boot()?),
    }
}

impl Store {
    /// Looks once at what another boot of the machine left to the kernel.
    ///
    /// # Errors
    /// Something of it was lost ([`Problem::Lost`]).
    pub(crate) fn look_at(&self, record: &ImageRecord) -> Result<(), Error> {
        if !is_in_doubt(record.boot.as_ref())? {
            return Ok(());
        }
        let images = &self.dirs().images;
        match self.look_at_layers(record) {
            // It was removed meanwhile: nothing was lost.
            Err(Error::Damaged { .. }) if !images.has(&record.id.hex())? => return Ok(()),
            looked => looked?,
        }
        self.link(record)?;
        self.is_on_the_disk(record)
    }

    fn look_at_layers(&self, record: &ImageRecord) -> Result<(), Error> {
        let Dirs { images, layers, .. } = self.dirs();
        if record.index.is_some() {
            return match self.is_usable(record)? && self.has_blob_records(record)? {
                true => Ok(()),
                false => Err(images.damaged(&record.id.hex(), Problem::Lost)),
            };
        }
        for LayerName { chain_id, .. } in &record.layers {
            let missing = |dir: &Dir, name: &str| dir.damaged(name, Problem::Missing);
            let hex = chain_id.hex();
            let dir = layers.dir(&hex)?.ok_or_else(|| missing(layers, &hex))?;
            let record = dir.json(LAYER)?.ok_or_else(|| missing(&dir, LAYER))?;
            self.look_at_layer(&dir, record)?;
        }
        Ok(())
    }

    /// Makes the short links of an image that are missing: all that they say is known.
    pub(crate) fn link(&self, record: &ImageRecord) -> Result<(), Error> {
        let Dirs { links, mounts, .. } = self.dirs();
        if record.index.is_some() {
            mounts.make(&record.id.hex(), 0o700)?;
            return link::make_to_mount(links, &record.id);
        }
        record.layers.iter().try_for_each(|layer| link::make(links, &layer.chain_id))
    }

    /// Writes down that an image and its layers are on the disk by now.
    pub(crate) fn is_on_the_disk(&self, record: &ImageRecord) -> Result<(), Error> {
        let dirs = self.dirs();
        let Some(dir) = dirs.images.dir(&record.id.hex())? else { return Ok(()) };
        renew(&dir, IMAGE, &ImageRecord { durable: true, boot: None, ..record.clone() })
    }

    /// The same for one layer, in its directory.
    pub(crate) fn look_at_layer(&self, dir: &Dir, record: LayerRecord) -> Result<(), Error> {
        if !is_in_doubt(record.boot.as_ref())? {
            return Ok(());
        }
        let Some(diff) = dir.dir("diff")? else {
            return Err(dir.damaged("diff", Problem::Missing));
        };
        if let Some(content) = record.content
            && tally(&diff)? != content
        {
            return Err(dir.damaged("diff", Problem::Lost));
        }
        renew(dir, LAYER, &LayerRecord { boot: None, ..record })
    }
}

/// Writes a record anew. Two that do so at once write the same.
pub(crate) fn renew(dir: &Dir, name: &str, record: &impl Serialize) -> Result<(), Error> {
    let new = format!("{name}.{}", rustix::process::getpid().as_raw_nonzero());
    dir.write_json(&new, record)?;
    dir.replace(&new, dir, name)
}
