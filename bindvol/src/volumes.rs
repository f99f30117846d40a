//! Named volumes: directories `DIR/NAME/_data`, shared by many processes.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;
use sys::{below, erase};

use crate::Error;
use crate::target::c_string;

/// The directory with a volume's content.
pub(crate) const DATA: &str = "_data";
/// How the names of volumes that are being removed begin: no volume's name begins with a dot.
const REMOVED: &str = ".removed-";
/// What lies beside a volume's content is nobody's business but ours.
const PRIVATE: Mode = Mode::from_raw_mode(0o700);
/// What [`Volumes::create`] is told to keep beside a volume's content.
const NOTE: &str = "note";
/// Its name while it is written.
const NEW_NOTE: &str = ".note.new";
const DATA_MODE: Mode = Mode::from_raw_mode(0o755);
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether a volume can have this name: Docker's rule `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, 255 bytes at
/// most. So a name is always one component of a path, and never `.` or `..`.
pub fn is_volume_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    name.len() <= 255
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(inner)
}

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The directory with its content, absolute: `…/NAME/_data`.
    pub path: PathBuf,
    /// It was made just now, by this call.
    pub new: bool,
}

impl Volume {
    /// An O_PATH descriptor of the volume's directory, or of `subpath` in it: symbolic links in the
    /// volume lead nowhere but into the volume (openat2(2), Linux 5.6). For [`crate::Bind::of_descriptor`].
    ///
    /// Errors: the volume or the path in it is not there.
    pub fn open(&self, subpath: Option<&str>) -> Result<OwnedFd, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let data = rustix::fs::open(&self.path, flags, Mode::empty())
            .map_err(Error::io("opening the volume's directory", &self.path))?;
        let Some(subpath) = subpath else { return Ok(data) };
        below::open(&data, &c_string("subpath", subpath)?, OFlags::PATH).map_err(|errno| {
            Error::Subpath { name: self.name.clone(), subpath: subpath.to_owned(), errno }
        })
    }
}

/// The volumes below one directory.
#[derive(Debug)]
pub struct Volumes {
    path: PathBuf,
    dir: OwnedFd,
}

impl Volumes {
    /// Opens `dir`; makes it (mode 0700, and its parents) where it is missing, and removes what a
    /// removal that was cut off has left.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(Error::io("making the directory of volumes", dir))?;
        let opened = rustix::fs::open(dir, DIRECTORY - OFlags::NOFOLLOW, Mode::empty())
            .map_err(Error::io("opening the directory of volumes", dir))?;
        // Without links, since it is shown and written down.
        let path = sys::process::path_of(&opened).map_err(Error::io("finding the path of", dir))?;
        let volumes = Self { path, dir: opened };
        for name in volumes.names()? {
            if !name.starts_with(REMOVED) {
                continue;
            }
            match volumes.erase(&name) {
                // Something is mounted in it; when it is not any more, this goes on.
                Ok(()) | Err(Errno::BUSY) => {}
                Err(errno) => {
                    return Err(Error::io("removing", &volumes.path.join(name))(errno));
                }
            }
        }
        Ok(volumes)
    }

    /// The volume of this name; made, empty, where there is none. Of several processes that ask at
    /// once, one gets it as new. Waits while another one fills or removes it.
    ///
    /// Errors: no name for a volume; what the kernel says.
    pub fn ensure(&self, name: &str) -> Result<Volume, Error> {
        self.make(name, None)
    }

    /// As [`Volumes::ensure`], with a made-up name if none is given; `note` is kept beside the
    /// content of a volume that is new ([`Volumes::note`]).
    ///
    /// Errors: as there.
    pub fn create(&self, name: Option<&str>, note: &[u8]) -> Result<Volume, Error> {
        match name {
            Some(name) => self.make(name, Some(note)),
            None => {
                let name = random_name().map_err(Error::io("making a name in", &self.path))?;
                self.make(&name, Some(note))
            }
        }
    }

    /// What [`Volumes::create`] was given for this volume; `None` where it did not make it.
    ///
    /// Errors: no name for a volume; what the kernel says.
    pub fn note(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.checked(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = format!("{name}/{NOTE}");
        let failed = |error| Error::Io {
            op: "reading what is noted of the volume",
            path: self.path.join(&path),
            source: error,
        };
        match rustix::fs::openat(&self.dir, &path, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
            Ok(file) => {
                let mut bytes = Vec::new();
                File::from(file).read_to_end(&mut bytes).map_err(failed)?;
                Ok(Some(bytes))
            }
        }
    }

    fn make(&self, name: &str, note: Option<&[u8]>) -> Result<Volume, Error> {
        let entry = self.checked(name)?;
        let path = self.path.join(name);
        loop {
            match rustix::fs::mkdirat(&self.dir, &entry, PRIVATE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::io("making the volume", &path)(errno)),
            }
            // None: somebody removed it in between.
            let Some(locked) = self.lock(&entry, &path)? else { continue };
            let path = path.join(DATA);
            let new = match make_data(&locked, note) {
                Ok(new) => new,
                Err(errno) => return Err(Error::io("making the volume's directory", &path)(errno)),
            };
            return Ok(Volume { name: name.to_owned(), path, new });
        }
    }

    /// A new volume with a name that nothing else has: 64 hexadecimal digits.
    pub fn anonymous(&self) -> Result<Volume, Error> {
        self.ensure(&random_name().map_err(Error::io("making a name in", &self.path))?)
    }

    /// All volumes, sorted by name.
    pub fn list(&self) -> Result<Vec<Volume>, Error> {
        let mut volumes = Vec::new();
        for name in self.names()?.iter().filter(|name| is_volume_name(name)) {
            volumes.extend(self.get(name)?);
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// The volume of this name, if there is one.
    pub fn get(&self, name: &str) -> Result<Option<Volume>, Error> {
        self.checked(name)?;
        let data = format!("{name}/{DATA}");
        let path = self.path.join(&data);
        match rustix::fs::statat(&self.dir, &data, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(Some(Volume { name: name.to_owned(), path, new: false })),
            // A file that lies here by chance is no volume.
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(Error::io("looking for the volume", &path)(errno)),
        }
    }

    /// Removes the volume with its content. It is gone at once, whatever happens to the process
    /// meanwhile; who uses it has to be known before. Waits while another process fills it.
    ///
    /// Errors: there is none (ENOENT becomes [`Error::NoVolume`]); something is mounted in it (EBUSY).
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.remove_if(name, || true).map(drop)
    }

    /// As [`Volumes::remove`], where `unused` still says so with the volume locked; whether it did. Who writes down
    /// that it uses the volume and gets it by [`Volumes::ensure`] then loses nothing: either `unused` sees what was
    /// written, or `ensure` makes the volume anew.
    ///
    /// Errors: as there.
    pub fn remove_if(&self, name: &str, unused: impl FnOnce() -> bool) -> Result<bool, Error> {
        let entry = self.checked(name)?;
        let path = self.path.join(name);
        let none = || Error::NoVolume { name: name.to_owned() };
        let _locked = self.lock(&entry, &path)?.ok_or_else(none)?;
        if !unused() {
            return Ok(false);
        }
        let id = random_name().map_err(Error::io("making a name in", &self.path))?;
        let removed = format!("{REMOVED}{id}");
        rustix::fs::renameat(&self.dir, &entry, &self.dir, &removed)
            .map_err(Error::io("removing the volume", &path))?;
        self.erase(&removed).map_err(Error::io("removing", &self.path.join(&removed)))?;
        Ok(true)
    }

    /// Where the content of the volume of this name is, or will be.
    ///
    /// Errors: no name for a volume.
    pub fn content(&self, name: &str) -> Result<PathBuf, Error> {
        self.checked(name)?;
        Ok(self.path.join(name).join(DATA))
    }

    fn erase(&self, name: &str) -> Result<(), Errno> {
        // The names are ours, and have no NUL.
        erase::erase(self.dir.as_fd(), &CString::new(name).map_err(|_| Errno::INVAL)?)
    }

    fn checked(&self, name: &str) -> Result<CString, Error> {
        match is_volume_name(name) {
            true => c_string("name", name),
            false => Err(Error::Name { name: name.to_owned() }),
        }
    }

    /// The volume's own directory, locked until the descriptor is closed; `None` when there is none.
    fn lock(&self, entry: &CString, path: &Path) -> Result<Option<Locked>, Error> {
        let directory = match rustix::fs::openat(&self.dir, entry, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::io("opening the volume", path)(errno)),
        };
        let locked = Locked::new(directory).map_err(Error::io("locking the volume", path))?;
        let here = rustix::fs::fstat(&locked).map_err(Error::io("looking at the volume", path))?;
        match rustix::fs::statat(&self.dir, entry, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((here.st_ino == there.st_ino).then_some(locked)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io("looking at the volume", path)(errno)),
        }
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let list = || -> Result<Vec<String>, Errno> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.dir)? {
                // What is not UTF-8 is not ours.
                names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
            }
            Ok(names)
        };
        list().map_err(Error::io("reading the directory of volumes", &self.path))
    }
}

/// A directory with flock(2) on it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Locked(OwnedFd);

impl Locked {
    /// Waits for whoever has it.
    pub(crate) fn new(directory: OwnedFd) -> Result<Self, Errno> {
        rustix::io::retry_on_intr(|| rustix::fs::flock(&directory, FlockOperation::LockExclusive))?;
        Ok(Self(directory))
    }
}

impl AsFd for Locked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing alone would leave it to a child that another thread cloned meanwhile. It cannot
        // fail on an open descriptor; closing would be all that is left to do.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Makes the content's directory if it is missing, and says whether it was.
///
/// The note comes first: a volume that is there has it.
fn make_data(volume: &Locked, note: Option<&[u8]>) -> Result<bool, Errno> {
    if let Some(note) = note
        && rustix::fs::statat(volume, DATA, AtFlags::SYMLINK_NOFOLLOW).is_err()
    {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(rustix::fs::openat(volume, NEW_NOTE, flags, mode)?);
        file.write_all(note).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        rustix::fs::renameat(volume, NEW_NOTE, volume, NOTE)?;
    }
    match rustix::fs::mkdirat(volume, DATA, DATA_MODE) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(false),
        Err(errno) => return Err(errno),
    }
    // The umask of whoever calls must not decide what the container sees.
    let data = rustix::fs::openat(volume, DATA, DIRECTORY, Mode::empty())?;
    rustix::fs::fchmod(&data, DATA_MODE)?;
    Ok(true)
}

fn random_name() -> Result<String, Errno> {
    let mut bytes = [0_u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        let longest = "a".repeat(255);
        assert!(["a", "0", "data.1_x-y", &longest].iter().all(|name| is_volume_name(name)));
        let bad = ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "ä", "a\0", &"a".repeat(256)];
        assert!(bad.iter().all(|name| !is_volume_name(name)));
    }

    proptest::proptest! {
        #[test]
        fn a_name_is_one_component_of_a_path(name in "[a-z./\\x00-]{0,6}") {
            if is_volume_name(&name) {
                let path = Path::new("/v").join(&name);
                proptest::prop_assert_eq!(path.parent(), Some(Path::new("/v")));
                proptest::prop_assert_eq!(path.file_name().unwrap().to_str(), Some(name.as_str()));
            }
        }
    }
}
