//! Records: files of JSON, replaced as a whole.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// The record `name` in `dir`; `None` where there is none, or a power cut took it.
///
/// # Errors
/// It cannot be read, or is none.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, Error> {
    let path = dir.join(name);
    let bytes = match sys::whole::read_record(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::system("read", path, error)),
    };
    // The power failed between its name and its bytes, which nobody waited for.
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { path, source })
}

/// Writes the record `name` in `dir`: who reads it sees the old one or the new one.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), Error> {
    Staged::new(dir, name, value)?.put()
}

/// A record that is written, and that nobody finds before [`Staged::put`].
pub(crate) struct Staged {
    new: PathBuf,
    path: PathBuf,
    there: bool,
}

impl Staged {
    /// The record `name` in `dir`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn new(dir: &Path, name: &str, value: &impl Serialize) -> Result<Staged, Error> {
        // Of this process alone: two at once would write into one another's.
        let new = dir.join(format!(".{name}.{}.new", std::process::id()));
        let path = dir.join(name);
        let staged = Staged { new, path, there: false };
        let write = || -> io::Result<()> {
            let mut bytes = serde_json::to_vec(value)?;
            bytes.push(b'\n');
            File::create(&staged.new)?.write_all(&bytes)
        };
        write().map_err(|error| Error::system("write", &staged.path, error))?;
        Ok(staged)
    }

    /// Lets it be found.
    ///
    /// # Errors
    /// A system call fails.
    pub(crate) fn put(mut self) -> Result<(), Error> {
        let put = std::fs::rename(&self.new, &self.path);
        self.there = put.is_ok();
        put.map_err(|error| Error::system("write", &self.path, error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.there {
            // Nobody looks for it.
            let _ = std::fs::remove_file(&self.new);
        }
    }
}
