//! Records: files of JSON, replaced as a whole.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

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
    // Of this process alone: two at once would write into one another's.
    let new = dir.join(format!(".{name}.{}.new", std::process::id()));
    let path = dir.join(name);
    let write = || -> io::Result<()> {
        let mut bytes = serde_json::to_vec(value)?;
        bytes.push(b'\n');
        File::create(&new)?.write_all(&bytes)?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|error| Error::system("write", &path, error))
}
