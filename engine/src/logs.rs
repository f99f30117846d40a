//! `logs`: what a container with a log has printed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::dir::{Attempt, Dir};
use crate::log::rotated;
use crate::record::LogConfig;
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
    /// There is no such container; it has no log ([`Error::LogDriver`]); a file of it cannot be read,
    /// or is damaged.
    pub fn logs(
        &self,
        container: &str,
        request: &LogsRequest,
        mut show: impl FnMut(&LogLine) -> bool,
    ) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        if container.host_config.log_config.as_ref().is_some_and(LogConfig::is_none) {
            return Err(Error::LogDriver { name: container.name });
        }
        // It has one from its first start on.
        let Some(mut reader) = Reader::open(dir.log())? else { return Ok(()) };
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

/// The files of a log, the oldest first. They are opened together, so that none is missed or read twice
/// when they are given other names meanwhile.
pub(crate) struct Reader {
    path: PathBuf,
    /// What is left to read after `file`, the oldest first.
    newer: VecDeque<File>,
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Reader {
    /// `None`: there is no file.
    pub(crate) fn open(path: PathBuf) -> Result<Option<Reader>, Error> {
        let mut newer = newer(&path, None)?;
        let file = newer.pop_front().map(reader);
        Ok(file.map(|file| Reader { path, newer, file, line: Vec::new() }))
    }

    /// The next line; `None` where there is none yet.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(line) = self.rest()? {
                return Ok(Some(line));
            }
            if self.newer.is_empty() {
                let own = self.file.get_ref();
                self.newer = newer(&self.path, Some(identity(own, &self.path)?))?;
                if self.newer.is_empty() {
                    return Ok(None);
                }
                // What was written to it between the last look and its end as the newest.
                if let Some(line) = self.rest()? {
                    return Ok(Some(line));
                }
            }
            if let Some(file) = self.newer.pop_front() {
                self.line.clear();
                self.file = reader(file);
            }
        }
    }

    /// The next line of the file that is read.
    fn rest<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let failed = |error| Error::system("read the log", &self.path, error);
        self.file.read_until(b'\n', &mut self.line).map_err(failed)?;
        if !self.line.ends_with(b"\n") {
            return Ok(None); // the end, or a record that is just being written
        }
        let line = serde_json::from_slice(&self.line);
        self.line.clear();
        line.map(Some).map_err(|source| Error::Damaged { path: self.path.clone(), source })
    }
}

fn reader(file: File) -> BufReader<File> {
    BufReader::with_capacity(64 * 1024, file)
}

/// How often the files are opened anew because some were removed meanwhile.
const ATTEMPTS: u32 = 16;

/// The files of the log at `path` that were begun after the one `known`, the oldest first; without, all.
fn newer(path: &Path, known: Option<(u64, u64)>) -> Result<VecDeque<File>, Error> {
    // What cannot be looked at has its name still.
    let is_gone = |file: &File| file.metadata().is_ok_and(|data| data.nlink() == 0);
    let mut found = opened(path, known)?;
    for _ in 1..ATTEMPTS {
        // Of those that were removed nobody knows which came first.
        if !found.iter().any(is_gone) {
            break;
        }
        found = opened(path, known)?;
    }
    found.sort_by_cached_key(is_gone);
    Ok(found.into_iter().rev().collect())
}

/// The files that [`newer`] finds, the newest first.
///
/// A file's number only grows. So from the newest on none is missed, and one whose number grows
/// meanwhile is met again behind those that have come after it; unless it was removed, as the oldest is.
/// While it grows, a number is nobody's.
fn opened(path: &Path, known: Option<(u64, u64)>) -> Result<Vec<File>, Error> {
    // From the newest on.
    let mut found: Vec<((u64, u64), File)> = Vec::new();
    let mut missing = 0;
    for number in 0.. {
        let path = match number {
            0 => path.to_owned(),
            number => rotated(path, number),
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                missing += 1;
                if missing == 2 {
                    break;
                }
                continue;
            }
            Err(error) => return Err(Error::system("open the log", path, error)),
        };
        missing = 0;
        let identity = identity(&file, &path)?;
        if Some(identity) == known {
            break;
        }
        found.retain(|(seen, _)| *seen != identity);
        found.push((identity, file));
    }
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

/// Which file it is, whatever its name: as long as it is open, no other has this.
fn identity(file: &File, path: &Path) -> Result<(u64, u64), Error> {
    let data = file.metadata().map_err(|error| Error::system("look at the log", path, error))?;
    Ok((data.dev(), data.ino()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::log::{Limits, Log, Stream};

    fn line(number: u32) -> String {
        format!("line {number}\n")
    }

    /// Reads on after every `step` lines of `count`; how many came, in order, up to the last.
    fn read_while_written(limits: Limits, count: u32, step: u32) -> u32 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, limits).unwrap();
        let mut stream = Stream::new("stdout");
        let mut reader = Reader::open(path).unwrap().unwrap();
        let mut read = Vec::new();
        for number in 0..count {
            log.add(&mut stream, line(number).as_bytes()).unwrap();
            if number % step == 0 || number + 1 == count {
                while let Some(line) = reader.next::<LogLine>().unwrap() {
                    read.push(line.log);
                }
            }
        }
        assert_eq!(read.last(), Some(&line(count - 1)));
        let numbers = read.iter().map(|text| text[5..].trim_end().parse::<u32>().unwrap());
        assert!(numbers.is_sorted_by(|a, b| a < b), "{read:?}");
        u32::try_from(read.len()).unwrap()
    }

    #[test]
    fn nothing_is_lost_or_read_twice_while_files_are_rotated() {
        let limits = Limits { size: Some(400), files: 4 };
        for step in [1, 2, 5, 12] {
            assert_eq!(read_while_written(limits, 100, step), 100, "each {step}");
        }
        // More is written between two looks than is kept.
        let few = read_while_written(limits, 100, 60);
        assert!((12..100).contains(&few), "{few}");
        for files in [1, 2] {
            assert_eq!(read_while_written(Limits { size: Some(400), files }, 50, 1), 50);
        }
    }

    /// Set when it goes.
    struct End<'a>(&'a AtomicBool);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// The numbers of files grow while they are opened.
    #[test]
    fn a_reader_beside_a_writer_sees_each_line_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, Limits { size: Some(300), files: 5 }).unwrap();
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Also where this thread panics: the other one is waited for.
            let _end = End(&end);
            scope.spawn(|| {
                let mut stream = Stream::new("stdout");
                for number in 0.. {
                    log.add(&mut stream, line(number).as_bytes()).unwrap();
                    if end.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            for _ in 0..300 {
                let files = newer(&path, None).unwrap();
                let mut ids: Vec<_> = files.iter().map(|f| identity(f, &path).unwrap()).collect();
                ids.sort_unstable();
                ids.dedup();
                assert_eq!(ids.len(), files.len());
                let mut numbers = Vec::new();
                for file in files {
                    for text in reader(file).lines() {
                        let Ok(line) = serde_json::from_str::<LogLine>(&text.unwrap()) else {
                            break; // just being written
                        };
                        numbers.push(line.log[5..].trim_end().parse::<u32>().unwrap());
                    }
                }
                // Files that are removed while others are opened leave a gap.
                assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
            }
        });
    }
}
