//! The json-file log: a line for each line of output, as Docker writes it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;

use crate::Error;
use crate::record::now;

/// Longest piece of a line in one record, bytes: as Docker's.
const PIECE: usize = 16 * 1024;

/// One record.
#[derive(Serialize)]
struct Record<'a> {
    log: &'a str,
    stream: &'static str,
    time: &'a str,
}

/// A container's log, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
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
}

impl Log {
    pub(crate) fn open(path: &Path) -> Result<Log, Error> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        match options.open(path) {
            Ok(file) => Ok(Log { file }),
            Err(error) => Err(Error::system("open the log", path, error)),
        }
    }

    /// Takes `bytes` of `stream`: writes the lines that they end, and long lines piece by piece.
    pub(crate) fn add(&mut self, stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
        let mut records = Vec::with_capacity(bytes.len() * 2);
        let time = now();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            stream.line.extend_from_slice(part);
            while stream.line.len() >= PIECE {
                let end = boundary(&stream.line);
                let rest = stream.line.split_off(end);
                record(&mut records, stream, &time)?;
                stream.line = rest;
            }
            if stream.line.ends_with(b"\n") {
                record(&mut records, stream, &time)?;
            }
        }
        self.file.write_all(&records)
    }

    /// Writes what has no end of line.
    pub(crate) fn finish(&mut self, stream: &mut Stream) -> std::io::Result<()> {
        let mut records = Vec::new();
        if !stream.line.is_empty() {
            record(&mut records, stream, &now())?;
        }
        self.file.write_all(&records)
    }
}

/// Where a long line is cut: not within a character.
fn boundary(line: &[u8]) -> usize {
    let start = PIECE.min(line.len());
    let continues = |at: usize| line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (start.saturating_sub(3)..=start).rev().find(|&at| !continues(at)).unwrap_or(start)
}

fn record(records: &mut Vec<u8>, stream: &mut Stream, time: &str) -> std::io::Result<()> {
    let log = String::from_utf8_lossy(&stream.line);
    serde_json::to_writer(&mut *records, &Record { log: &log, stream: stream.name, time })?;
    records.push(b'\n');
    stream.line.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(parts: &[&[u8]]) -> Vec<serde_json::Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path).unwrap();
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
