//! The records of the json-file log: a line of JSON for each line of output, as Docker writes them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Deserialize;

use crate::log::Stream;
use crate::record::now;
use crate::wire::Outlet;

/// A record, when it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    pub(crate) log: String,
    pub(crate) stream: String,
    pub(crate) time: String,
}

/// The records of the lines that `bytes` complete.
pub(super) fn encode(stream: &mut Stream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut records = Vec::with_capacity(bytes.len() * 2);
    let end = end(stream.outlet);
    stream.lines.add(bytes, |line| record(&mut records, line, &end))?;
    Ok(records)
}

/// The record of what has no end of line.
pub(super) fn encode_rest(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut records = Vec::new();
    let end = end(stream.outlet);
    stream.lines.finish(|line| record(&mut records, line, &end))?;
    Ok(records)
}

/// What the records of this moment have in common: of short lines most of the work, so that it is made once.
fn end(outlet: Outlet) -> String {
    format!(",\"stream\":\"{}\",\"time\":\"{}\"}}\n", outlet.name(), now())
}

fn record(records: &mut Vec<u8>, line: &[u8], end: &str) -> io::Result<()> {
    records.extend_from_slice(b"{\"log\":");
    serde_json::to_writer(&mut *records, &String::from_utf8_lossy(line))?;
    records.extend_from_slice(end.as_bytes());
    Ok(())
}

/// How many bytes at the front of a file are whole records. What is behind them was being written when its
/// writer was killed, and would spoil the next record.
pub(super) fn whole(file: &File) -> io::Result<u64> {
    let mut block = [0; 4096];
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let bytes = &mut block[..(end - start) as usize];
        file.read_exact_at(bytes, start)?;
        if let Some(at) = bytes.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
