//! The json-file log: a line for each line of output, as Docker writes it; a new file when one is
//! full (`max-size`), and so many old ones as are wanted (`max-file`).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::record::now;

/// Longest piece of a line in one record, bytes: as Docker's.
const PIECE: usize = 16 * 1024;

/// A container's log, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    limits: Limits,
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

/// The name of an older file: 1 is the one before the newest.
pub(crate) fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// One stream of output, whose unfinished line is kept.
#[derive(Debug)]
pub(crate) struct Stream {
    name: &'static str,
    line: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(name: &'static str) -> Stream {
        Stream { name, line: Vec::new() }
    }

    /// What the records of this moment have in common: of short lines most of the work, so that it is made
    /// once.
    fn end_of_record(&self) -> String {
        format!(",\"stream\":\"{}\",\"time\":\"{}\"}}\n", self.name, now())
    }
}

impl Log {
    pub(crate) fn open(path: &Path, limits: Limits) -> Result<Log, Error> {
        let failed = |error| Error::system("open the log", path, error);
        let file = open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Log { path: path.to_owned(), file, size, limits })
    }

    /// Writes as many of the records at a time as the file has room for.
    fn write(&mut self, mut records: &[u8]) -> std::io::Result<()> {
        while !records.is_empty() {
            let count = match self.limits.size {
                None => records.len(),
                Some(most) => fitting(records, most.saturating_sub(self.size)),
            };
            let count = match count {
                0 if self.size > 0 => {
                    self.rotate()?;
                    continue;
                }
                0 => first(records),
                count => count,
            };
            let (now, later) = records.split_at(count);
            self.file.write_all(now)?;
            self.size += count as u64;
            records = later;
        }
        Ok(())
    }

    /// Begins a new file. Who follows the log still has the old one open.
    fn rotate(&mut self) -> std::io::Result<()> {
        for number in (1..self.limits.files.saturating_sub(1)).rev() {
            match std::fs::rename(rotated(&self.path, number), rotated(&self.path, number + 1)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.limits.files > 1 {
            std::fs::rename(&self.path, rotated(&self.path, 1))?;
            self.file = open(&self.path)?;
        } else {
            // There is one at any moment, for who reads.
            let mut new = self.path.as_os_str().to_owned();
            new.push(".new");
            let file = open(Path::new(&new))?;
            std::fs::rename(&new, &self.path)?;
            self.file = file;
        }
        self.size = 0;
        Ok(())
    }

    /// Takes `bytes` of `stream`: writes the lines that they end, and long lines piece by piece.
    pub(crate) fn add(&mut self, stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
        let mut records = Vec::with_capacity(bytes.len() * 2);
        let end_of_record = stream.end_of_record();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            stream.line.extend_from_slice(part);
            while stream.line.len() >= PIECE {
                let end = boundary(&stream.line);
                let rest = stream.line.split_off(end);
                record(&mut records, stream, &end_of_record)?;
                stream.line = rest;
            }
            if stream.line.ends_with(b"\n") {
                record(&mut records, stream, &end_of_record)?;
            }
        }
        self.write(&records)
    }

    /// Writes what has no end of line.
    pub(crate) fn finish(&mut self, stream: &mut Stream) -> std::io::Result<()> {
        let mut records = Vec::new();
        if !stream.line.is_empty() {
            let end_of_record = stream.end_of_record();
            record(&mut records, stream, &end_of_record)?;
        }
        self.write(&records)
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).open(path)
}

/// The bytes of the whole records at the front of `records` that have room.
fn fitting(records: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(records.len());
    records[..room].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}

/// The length of the first record.
fn first(records: &[u8]) -> usize {
    records.iter().position(|&byte| byte == b'\n').map_or(records.len(), |end| end + 1)
}

/// Where a long line is cut: not within a character.
fn boundary(line: &[u8]) -> usize {
    let start = PIECE.min(line.len());
    let continues = |at: usize| line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (start.saturating_sub(3)..=start).rev().find(|&at| !continues(at)).unwrap_or(start)
}

fn record(records: &mut Vec<u8>, stream: &mut Stream, end: &str) -> std::io::Result<()> {
    let log = String::from_utf8_lossy(&stream.line);
    records.extend_from_slice(b"{\"log\":");
    serde_json::to_writer(&mut *records, &log)?;
    records.extend_from_slice(end.as_bytes());
    stream.line.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(parts: &[&[u8]]) -> Vec<serde_json::Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, Limits::default()).unwrap();
        let mut stream = Stream::new("stdout");
        for part in parts {
            log.add(&mut stream, part).unwrap();
        }
        log.finish(&mut stream).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_record_for_each_line() {
        let records = logged(&[b"one\ntw", b"o\n\nthr", b"ee"]);
        let texts: Vec<_> = records.iter().map(|r| r["log"].as_str().unwrap()).collect();
        assert_eq!(texts, ["one\n", "two\n", "\n", "three"]);
        assert!(records.iter().all(|r| r["stream"] == "stdout" && r["time"].is_string()));
        assert!(logged(&[]).is_empty());
    }

    #[test]
    fn a_full_file_makes_place_for_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, Limits { size: Some(200), files: 3 }).unwrap();
        let mut stream = Stream::new("stdout");
        for number in 0..20 {
            log.add(&mut stream, format!("line {number}\n").as_bytes()).unwrap();
        }
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        let all = text(&rotated(&path, 2)) + &text(&rotated(&path, 1)) + &text(&path);
        assert!(!rotated(&path, 3).exists());
        assert!(text(&path).len() <= 200 && all.ends_with("}\n"));
        let lines: Vec<serde_json::Value> =
            all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last: Vec<String> =
            (20 - lines.len()..20).map(|number| format!("line {number}\n")).collect();
        assert!(lines.iter().map(|line| line["log"].as_str().unwrap()).eq(last.iter()));
    }

    proptest::proptest! {
        #[test]
        fn no_character_is_lost(text in "(\\PC|\n){0,200}", times in 1_usize..300, cut in 1_usize..5000) {
            let all = text.repeat(times);
            let parts: Vec<&[u8]> = all.as_bytes().chunks(cut).collect();
            let joined: String =
                logged(&parts).iter().map(|r| r["log"].as_str().unwrap().to_owned()).collect();
            proptest::prop_assert_eq!(joined, all);
        }
    }
}
