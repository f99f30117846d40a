//! `logs`: what a container with a log has printed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::dir::{Attempt, Dir};
use crate::{Engine, Error};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsRequest {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail: Option<usize>,
    /// Only what was printed at this time or after it (RFC 3339 in UTC).
    pub since: Option<String>,
    /// Only what was printed before this time (RFC 3339 in UTC).
    pub until: Option<String>,
}

/// A piece of output: a line, or a part of a very long one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogLine {
    /// The text, with its end of line.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// When it was taken, RFC 3339 in UTC.
    pub time: String,
}

impl Engine {
    /// Gives the lines of a container's log, the oldest first, to `show`, until that returns `false`.
    ///
    /// # Errors
    /// There is no such container; it has no log ([`Error::NoLog`]); a file of it cannot be read, or is
    /// damaged.
    pub fn logs(
        &self,
        container: &str,
        request: &LogsRequest,
        mut show: impl FnMut(&LogLine) -> bool,
    ) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        // One that runs in the background and has printed nothing has an empty one.
        if !container.log || !dir.log().exists() {
            return Err(Error::NoLog { name: container.name });
        }
        let mut reader = Reader::open(&dir)?;
        let wanted = |line: &LogLine| {
            request.since.as_ref().is_none_or(|since| line.time >= *since)
                && request.until.as_ref().is_none_or(|until| line.time < *until)
        };
        if let Some(most) = request.tail {
            let mut last = VecDeque::with_capacity(most.min(1000));
            while let Some(line) = reader.next()? {
                if wanted(&line) && most > 0 {
                    if last.len() == most {
                        last.pop_front();
                    }
                    last.push_back(line);
                }
            }
            if !last.iter().all(&mut show) {
                return Ok(());
            }
        }
        loop {
            // Asked before the log is read to its end: what is written until then is read.
            let ended = !request.follow || at_rest(&dir)?;
            while let Some(line) = reader.next()? {
                if wanted(&line) && !show(&line) {
                    return Ok(());
                }
            }
            let past = |until: &String| *until <= crate::record::now();
            if ended || request.until.as_ref().is_some_and(past) {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Whether nobody writes the container's log any more.
fn at_rest(dir: &Dir) -> Result<bool, Error> {
    Ok(!matches!(dir.try_lock()?, Attempt::Held))
}

/// The files of a log, the rotated ones first.
struct Reader {
    path: PathBuf,
    /// What is left to read before the newest file, the oldest last.
    older: Vec<PathBuf>,
    file: Option<BufReader<File>>,
    /// Whether `file` is the one that is written to.
    newest: bool,
    line: Vec<u8>,
}

impl Reader {
    fn open(dir: &Dir) -> Result<Reader, Error> {
        let path = dir.log();
        let older = (1..)
            .map(|number| crate::log::rotated(&path, number))
            .take_while(|path| path.exists())
            .collect();
        let mut reader = Reader { path, older, file: None, newest: false, line: Vec::new() };
        reader.next_file()?;
        Ok(reader)
    }

    fn next_file(&mut self) -> Result<(), Error> {
        let (path, newest) = match self.older.pop() {
            Some(path) => (path, false),
            None => (self.path.clone(), true),
        };
        self.newest = newest;
        self.file = match File::open(&path) {
            Ok(file) => Some(BufReader::with_capacity(64 * 1024, file)),
            // Nothing was printed yet, or it was rotated away meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Error::system("open the log", path, error)),
        };
        Ok(())
    }

    /// The next line; `None` where there is none yet.
    fn next(&mut self) -> Result<Option<LogLine>, Error> {
        loop {
            if let Some(file) = &mut self.file {
                let failed = |error| Error::system("read the log", &self.path, error);
                let before = self.line.len();
                let count = file.read_until(b'\n', &mut self.line).map_err(failed)?;
                if self.line.ends_with(b"\n") {
                    let line = serde_json::from_slice(&self.line);
                    self.line.clear();
                    let damaged = |source| Error::Damaged { path: self.path.clone(), source };
                    return line.map(Some).map_err(damaged);
                }
                if count > 0 && before + count > 0 {
                    continue; // a record that is just being written
                }
            }
            if !self.newest {
                self.line.clear();
                self.next_file()?;
                continue;
            }
            if !self.was_rotated()? {
                return Ok(None);
            }
            self.line.clear();
            self.next_file()?;
        }
    }

    /// Whether the file that is read is no longer the one that is written to.
    fn was_rotated(&mut self) -> Result<bool, Error> {
        use std::os::unix::fs::MetadataExt;
        let failed = |error| Error::system("look at the log", &self.path, error);
        let now = match std::fs::metadata(&self.path) {
            Ok(now) => now,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        let Some(file) = &mut self.file else { return Ok(true) };
        let own = file.get_ref().metadata().map_err(failed)?;
        if own.ino() != now.ino() {
            // What was written to it after the last look.
            let at = file.stream_position().map_err(failed)?;
            let more = own.len() > at;
            if more {
                file.seek(SeekFrom::Start(at)).map_err(failed)?;
                return Ok(false);
            }
            return Ok(true);
        }
        Ok(false)
    }
}
