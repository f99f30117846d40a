//! A container's log: its output in one of two forms; a new file when one is full (`max-size`), and so many
//! old ones as are wanted (`max-file`).

pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod pieces;
mod writer;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Error;
use crate::rotated::rotated;
use crate::wire::Outlet;
use lines::Lines;
use writer::Writer;

/// A container's log, open for appending. What is added is in the file when [`Log::flush`] was called.
pub(crate) struct Log {
    path: PathBuf,
    form: Form,
    file: Writer,
    limits: Limits,
}

/// How output is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In pieces, as it was read: the default.
    Local,
    /// Line by line, as Docker's json-file.
    Json,
}

impl Form {
    /// The name of a container's newest file, in its directory.
    pub(crate) fn file_name(self, id: &str) -> String {
        match self {
            Form::Local => format!("{id}-local.log"),
            Form::Json => format!("{id}-json.log"),
        }
    }
}

/// How large a log may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// `max-size`: bytes of one file; `None` without a limit. A single record may be longer.
    pub(crate) size: Option<u64>,
    /// `max-file`: files in all, from 1 on.
    pub(crate) files: u32,
}

impl Default for Limits {
    /// Docker's: one file without a limit.
    fn default() -> Limits {
        Limits { size: None, files: 1 }
    }
}

/// One stream of output.
#[derive(Debug)]
pub(crate) struct Stream {
    outlet: Outlet,
    /// Those of the json-file form.
    lines: Lines,
    /// Whether a line has no end yet.
    is_open: bool,
}

impl Stream {
    pub(crate) fn new(outlet: Outlet) -> Stream {
        Stream { outlet, lines: Lines::default(), is_open: false }
    }
}

impl Log {
    pub(crate) fn open(path: &Path, form: Form, limits: Limits) -> Result<Log, Error> {
        let failed = |error| Error::system("open the log", path, error);
        let file = open(path).map_err(failed)?;
        let mut size = file.metadata().map_err(failed)?.len();
        let whole = match form {
            Form::Local => pieces::whole(&file),
            Form::Json => json::whole(&file),
        };
        let whole = whole.map_err(failed)?;
        if whole < size {
            file.set_len(whole).map_err(failed)?;
            size = whole;
        }
        Ok(Log { path: path.to_owned(), form, file: Writer::new(file, size), limits })
    }

    /// Writes so much at a time as the file has room for, but no less than a line.
    fn write(
        &mut self,
        mut bytes: &[u8],
        overhead: usize,
        put: impl Fn(&mut Writer, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = match self.limits.size {
                None => bytes.len(),
                Some(most) => {
                    fitting(bytes, most.saturating_sub(self.file.size() + overhead as u64))
                }
            };
            let count = match count {
                0 if self.file.size() > 0 => {
                    self.rotate()?;
                    continue;
                }
                0 => first(bytes),
                count => count,
            };
            let (now, later) = bytes.split_at(count);
            put(&mut self.file, now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Begins a new file. Who follows the log still has the old one open.
    fn rotate(&mut self) -> io::Result<()> {
        // Before anything is renamed: where there is no room for it, the log stays as it is.
        let mut new = self.path.as_os_str().to_owned();
        new.push(".new");
        let file = open(Path::new(&new))?;
        self.file.flush()?;
        let oldest = self.limits.files.saturating_sub(1);
        if oldest > 0 {
            // The first number that is nobody's is place enough.
            let mut last = 1;
            while last < oldest && rotated(&self.path, last).try_exists()? {
                last += 1;
            }
            for number in (1..last).rev() {
                rename_if_there(&rotated(&self.path, number), &rotated(&self.path, number + 1))?;
            }
            rename_if_there(&self.path, &rotated(&self.path, 1))?;
        }
        std::fs::rename(&new, &self.path)?;
        self.file.replace(file);
        Ok(())
    }

    /// Takes `bytes` of `stream`.
    pub(crate) fn add(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
        match self.form {
            Form::Json => {
                let records = json::encode(stream, bytes)?;
                self.write_records(&records)
            }
            Form::Local => {
                stream.is_open = !bytes.ends_with(b"\n");
                let (outlet, time) = (stream.outlet, nanoseconds());
                self.write(bytes, pieces::OVERHEAD, |file, bytes| {
                    pieces::put(file, outlet, time, bytes)
                })
            }
        }
    }

    /// The place for as many bytes of output as this, which are then taken by [`Log::took`]: read there, they
    /// need not be copied. `None`: it must be looked at what they are.
    pub(crate) fn space(&mut self, most: usize) -> Option<&mut [u8]> {
        let with_it = self.file.size() + (pieces::OVERHEAD + most) as u64;
        if self.form == Form::Json || self.limits.size.is_some_and(|size| size < with_it) {
            return None;
        }
        pieces::space(&mut self.file, most)
    }

    /// So many bytes of `stream` are in the space.
    pub(crate) fn took(&mut self, stream: &mut Stream, count: usize) -> io::Result<()> {
        let last = pieces::took(&mut self.file, stream.outlet, nanoseconds(), count)?;
        stream.is_open = last != b'\n';
        Ok(())
    }

    /// Whether something that was added is not in the file yet.
    pub(crate) fn holds(&self) -> bool {
        self.file.holds()
    }

    /// Writes what was added to the file.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// The stream's process has ended, and maybe its last line has not.
    pub(crate) fn finish(&mut self, stream: &mut Stream) -> io::Result<()> {
        match self.form {
            Form::Json => {
                let records = json::encode_rest(stream)?;
                self.write_records(&records)
            }
            Form::Local if std::mem::take(&mut stream.is_open) => {
                pieces::put(&mut self.file, stream.outlet, nanoseconds(), &[])
            }
            Form::Local => Ok(()),
        }
    }

    fn write_records(&mut self, records: &[u8]) -> io::Result<()> {
        self.write(records, 0, |file, records| file.put(&[records]))
    }
}

fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What an attempt that failed half-way has renamed already is not there.
fn rename_if_there(old: &Path, new: &Path) -> io::Result<()> {
    match std::fs::rename(old, new) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o640).open(path)
}

/// How many bytes at the front have room: all, or those of whole lines.
fn fitting(bytes: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    match bytes.get(..room) {
        None => bytes.len(),
        Some(front) => front.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1),
    }
}

/// The length of the first line.
fn first(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| end + 1)
}

#[cfg(test)]
mod tests;
