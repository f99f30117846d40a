//! Where an image comes from, and how an archive that was loaded is known again.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use image_unpack::{Archive, Blobs, Digest, Limits, Platform};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::dir::Dir;
use crate::error::if_whole;
use crate::index::ArchiveRecord;

/// Where an image comes from.
#[derive(Debug)]
pub enum Source {
    /// A tar file, or an OCI layout directory.
    Path(PathBuf),
    /// A stream, read to its end; a regular file is used as it is, from its beginning.
    Stdin(File),
    /// A registry's image, whose layers are unpacked as they arrive; those that the store has are not asked for.
    Blobs(Arc<dyn Blobs>),
}

/// A source that is open, with its stamp from before anything was read.
pub(crate) struct Opened {
    input: Input,
    path: Option<PathBuf>,
    pub(crate) name: String,
    pub(crate) stamp: Option<Stamp>,
}

enum Input {
    File(File),
    Layout(PathBuf),
    Blobs(Arc<dyn Blobs>),
}

impl Opened {
    pub(crate) fn new(source: &Source) -> Result<Opened, Error> {
        let (file, path, name) = match source {
            Source::Path(path) => {
                let file = File::open(path).map_err(failed("open the image archive", path))?;
                (file, Some(path), path.display().to_string())
            }
            Source::Stdin(file) => {
                let file = file.try_clone().map_err(failed("use", "standard input".as_ref()))?;
                (file, None, "standard input".to_owned())
            }
            Source::Blobs(blobs) => {
                let (name, input) = (blobs.name(), Input::Blobs(Arc::clone(blobs)));
                return Ok(Opened { input, path: None, name, stamp: None });
            }
        };
        let metadata = file.metadata().map_err(failed("look at", name.as_ref()))?;
        let input = match path {
            Some(layout) if metadata.is_dir() => Input::Layout(layout.clone()),
            _ => Input::File(file),
        };
        let stamp = Stamp::stable(|| input.metadata());
        Ok(Opened { input, path: path.cloned(), name, stamp })
    }

    /// The archive; what cannot be read by position is kept in an unnamed file in `spool`.
    pub(crate) fn archive(&self, spool: &Path, limits: &Limits) -> Result<Archive, Error> {
        let limits = limits.clone();
        match &self.input {
            Input::File(file) => {
                let file = file.try_clone().map_err(failed("use", self.name.as_ref()))?;
                Ok(Archive::from_file(file, &self.name, spool, limits)?)
            }
            Input::Layout(layout) => Ok(Archive::open_within(layout, spool, limits)?),
            Input::Blobs(blobs) => Ok(Archive::from_blobs(Arc::clone(blobs), limits)),
        }
    }

    /// The archive as one whose layers can be left in it.
    ///
    /// # Errors
    /// It is no file with a name, or has changed just now ([`Error::InPlace`]).
    pub(crate) fn in_place(&self, archive: &Archive) -> Result<ArchiveRecord, Error> {
        let refuse = |why| Err(Error::InPlace { archive: self.name.clone(), why });
        let Some(path) = &self.path else { return refuse("it is no file with a name") };
        let own = archive.file_of_all().and_then(|file| file.metadata().ok());
        let Some(own) = own.as_ref().and_then(Stamp::of) else {
            return refuse("it is no tar file");
        };
        let Some(stamp) = self.unchanged() else {
            return refuse(
                "it was changed just now, or has been changed since; try again in two seconds",
            );
        };
        if own != stamp {
            return refuse("it is compressed");
        }
        let path = std::fs::canonicalize(path).map_err(failed("find the path of", path))?;
        Ok(ArchiveRecord { path, stamp })
    }

    /// The stamp, if the archive is still what it was when it was opened.
    pub(crate) fn unchanged(&self) -> Option<Stamp> {
        let now = self.input.metadata()?;
        self.stamp.filter(|stamp| Stamp::of(&now).as_ref() == Some(stamp))
    }
}

impl Input {
    /// What the stamp is made of: of a layout directory its index's.
    fn metadata(&self) -> Option<Metadata> {
        match self {
            Input::File(file) => file.metadata().ok(),
            Input::Layout(layout) => metadata_of(&index(layout)).ok(),
            Input::Blobs(_) => None,
        }
    }
}

/// What tells a file from other files, and from itself before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// seconds and nanoseconds
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Stamp {
    /// The stamp of a path: of the file itself, or of a layout directory's index, since all that an
    /// index leads to is named by digest.
    pub(crate) fn of_path(path: &Path) -> Result<Option<Stamp>, Error> {
        let metadata = metadata_of(path)?;
        if !metadata.is_dir() {
            return Ok(Stamp::of(&metadata));
        }
        Ok(metadata_of(&index(path)).ok().as_ref().and_then(Stamp::of))
    }

    /// The stamp of a regular file.
    pub(crate) fn of(metadata: &Metadata) -> Option<Stamp> {
        metadata.is_file().then(|| Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// A stamp that each later change of the file changes too; waits up to 20 ms for it.
    ///
    /// A file system's clock stands still for some ms (up to 10 ms; two seconds where times have no
    /// fractions), and two writes in that time leave the same stamp. So only a stamp that is older
    /// than that when it is taken is good.
    fn stable(metadata: impl Fn() -> Option<Metadata>) -> Option<Stamp> {
        let stamp = Stamp::of(&metadata()?)?;
        let Some(wait) = stamp.unsettled() else { return Some(stamp) };
        if wait > TICK {
            return None;
        }
        std::thread::sleep(wait);
        Stamp::of(&metadata()?).filter(|stamp| stamp.unsettled().is_none())
    }

    /// How long until the stamp is good, if it is not.
    fn unsettled(&self) -> Option<Duration> {
        let newest = self.mtime.max(self.ctime);
        let tick = if newest.1 == 0 { COARSE_TICK } else { TICK };
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(newest.0), u32::try_from(newest.1)) else {
            return None; // before 1970: long ago
        };
        let good = Duration::new(seconds, nanos).saturating_add(tick);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        good.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// The name below `sources/` of what an archive had for a platform, and for one reference if
    /// only that image was loaded.
    pub(crate) fn key(&self, platform: &Platform, reference: Option<&str>) -> String {
        let text = format!("{self:?} {platform} {reference:?}");
        Digest::of(text.as_bytes()).hex()
    }
}

const TICK: Duration = Duration::from_millis(20);
const COARSE_TICK: Duration = Duration::from_secs(2);

/// `sources/<key>`: which images an archive has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    /// What the user named; for people who look.
    pub(crate) name: String,
    pub(crate) images: Vec<KnownImage>,
}

/// An image of an archive.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KnownImage {
    pub(crate) id: Digest,
    /// Its names, those with a digest too.
    pub(crate) tags: Vec<String>,
}

impl Known {
    /// What is known. It is a cache, not synced to the disk: one that does not parse is not known.
    pub(crate) fn read(sources: &Dir, key: &str) -> Result<Option<Known>, Error> {
        if_whole(sources.json(key))
    }
}

fn index(layout: &Path) -> PathBuf {
    layout.join("index.json")
}

fn metadata_of(path: &Path) -> Result<Metadata, Error> {
    std::fs::metadata(path).map_err(failed("look at the image archive", path))
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::System { op, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_just_written_is_waited_for_and_then_tells_each_change() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x.tar");
        std::fs::write(&path, b"one").unwrap();
        let opened = Opened::new(&Source::Path(path.clone())).unwrap();
        assert!(opened.stamp.is_some() && opened.unchanged().is_some());
        std::fs::write(&path, b"two").unwrap();
        assert_eq!(opened.unchanged(), None);
        assert_ne!(Stamp::of_path(&path).unwrap(), opened.stamp);
    }

    #[test]
    fn a_time_in_the_future_or_of_whole_seconds_is_not_trusted() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x.tar");
        let file = File::create(&path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        assert_eq!(Opened::new(&Source::Path(path)).unwrap().stamp, None);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let whole = (i64::try_from(now).unwrap(), 0);
        let stamp = Stamp { device: 1, inode: 1, size: 1, mtime: whole, ctime: whole };
        assert!(stamp.unsettled().unwrap() > TICK);
    }

    #[test]
    fn the_key_depends_on_all_that_matters() {
        let stamp = Stamp { device: 1, inode: 2, size: 3, mtime: (4, 5), ctime: (6, 7) };
        let host = Platform::host();
        let keys = [
            stamp.key(&host, None),
            stamp.key(&host, Some("a")),
            stamp.key(&"linux/s390x".parse().unwrap(), None),
            Stamp { ctime: (6, 8), ..stamp }.key(&host, None),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
