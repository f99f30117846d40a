//! Files that get numbers when they are full: of logs and of events.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::Error;
use crate::log::pieces::Piece;

/// The name of an older file: 1 is the one before the newest.
pub(crate) fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The files of a log, the oldest first. They are opened together, so that none is missed or read twice
/// when they are given other names meanwhile.
pub(crate) struct Reader {
    path: PathBuf,
    /// What is left to read after `file`, the oldest first.
    newer: VecDeque<File>,
    file: BufReader<File>,
    /// The record that was read.
    record: Vec<u8>,
}

impl Reader {
    /// `None`: there is no file.
    pub(crate) fn open(path: PathBuf) -> Result<Option<Reader>, Error> {
        let mut newer = newer(&path, None)?;
        let file = newer.pop_front().map(reader);
        Ok(file.map(|file| Reader { path, newer, file, record: Vec::new() }))
    }

    /// The next line, as JSON; `None` where there is none yet.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        if !self.advance(read_line)? {
            return Ok(None);
        }
        serde_json::from_slice(&self.record)
            .map(Some)
            .map_err(|source| Error::Damaged { path: self.path.clone(), source })
    }

    /// The next piece of a local log; `None` where there is none yet.
    pub(crate) fn piece(&mut self) -> Result<Option<Piece<'_>>, Error> {
        if !self.advance(Piece::read)? {
            return Ok(None);
        }
        Piece::parse(&self.record).map(Some).ok_or_else(|| Error::Damaged {
            path: self.path.clone(),
            source: serde::de::Error::custom("a piece of output does not end where it says"),
        })
    }

    /// Reads a record by `read`, which says whether there is a whole one, from the file or from the next one.
    fn advance(
        &mut self,
        read: fn(&mut BufReader<File>, &mut Vec<u8>) -> std::io::Result<bool>,
    ) -> Result<bool, Error> {
        loop {
            if self.rest(read)? {
                return Ok(true);
            }
            if self.newer.is_empty() {
                let own = self.file.get_ref();
                self.newer = newer(&self.path, Some(identity(own, &self.path)?))?;
                if self.newer.is_empty() {
                    return Ok(false);
                }
                // What was written to it between the last look and its end as the newest.
                if self.rest(read)? {
                    return Ok(true);
                }
            }
            if let Some(file) = self.newer.pop_front() {
                self.file = reader(file);
            }
        }
    }

    /// The next record of the file that is read.
    fn rest(
        &mut self,
        read: fn(&mut BufReader<File>, &mut Vec<u8>) -> std::io::Result<bool>,
    ) -> Result<bool, Error> {
        self.record.clear();
        read(&mut self.file, &mut self.record)
            .map_err(|error| Error::system("read the log", &self.path, error))
    }
}

/// Reads a line to the empty `line`; whether there is a whole one. If not (the end, or it is just being
/// written), it is read anew the next time.
fn read_line(file: &mut BufReader<File>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let count = file.read_until(b'\n', line)?;
    let whole = line.ends_with(b"\n");
    if !whole {
        file.seek_relative(-i64::try_from(count).map_err(std::io::Error::other)?)?;
    }
    Ok(whole)
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
    use crate::log::json::Record;
    use crate::log::{Form, Limits, Log, Stream};
    use crate::wire::Outlet;

    fn line(number: u32) -> String {
        format!("line {number}\n")
    }

    fn next(reader: &mut Reader, form: Form) -> Option<String> {
        match form {
            Form::Json => reader.next::<Record>().unwrap().map(|record| record.log),
            Form::Local => {
                let text = |piece: Piece<'_>| String::from_utf8(piece.bytes.to_owned()).unwrap();
                reader.piece().unwrap().map(text)
            }
        }
    }

    /// Reads on after every `step` lines of `count`; how many came, in order, up to the last.
    fn read_while_written(form: Form, limits: Limits, count: u32, step: u32) -> u32 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, form, limits).unwrap();
        let mut stream = Stream::new(Outlet::Stdout);
        let mut reader = Reader::open(path).unwrap().unwrap();
        let mut read = Vec::new();
        for number in 0..count {
            log.add(&mut stream, line(number).as_bytes()).unwrap();
            if number % step == 0 || number + 1 == count {
                log.flush().unwrap();
                while let Some(line) = next(&mut reader, form) {
                    read.push(line);
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
        for (form, size) in [(Form::Json, 400), (Form::Local, 140)] {
            let limits = |files| Limits { size: Some(size), files };
            for step in [1, 2, 5, 12] {
                assert_eq!(read_while_written(form, limits(4), 100, step), 100, "each {step}");
            }
            // More is written between two looks than is kept.
            let few = read_while_written(form, limits(4), 100, 60);
            assert!((12..100).contains(&few), "{few}");
            for files in [1, 2] {
                assert_eq!(read_while_written(form, limits(files), 50, 1), 50);
            }
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
        let mut log = Log::open(&path, Form::Json, Limits { size: Some(300), files: 5 }).unwrap();
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Also where this thread panics: the other one is waited for.
            let _end = End(&end);
            scope.spawn(|| {
                let mut stream = Stream::new(Outlet::Stdout);
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
                        let Ok(line) = serde_json::from_str::<Record>(&text.unwrap()) else {
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
