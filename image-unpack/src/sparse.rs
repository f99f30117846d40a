//! Files with holes: GNU's old format, and its formats 0.0, 0.1 and 1.0 in PAX.

use crate::error::TarProblem;
use crate::pax::{PaxSparse, decimal};

/// Where stored bytes belong: offset and length.
pub(crate) type Map = Vec<(u64, u64)>;

/// A map holds if its pieces are in order, lie in the file, and are as long together as what is stored.
pub(crate) fn check_map(map: &[(u64, u64)], stored: u64, size: u64) -> Result<(), TarProblem> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for (offset, length) in map {
        if *offset < end {
            return Err(TarProblem::Sparse);
        }
        end = offset.checked_add(*length).ok_or(TarProblem::Sparse)?;
        sum = sum.checked_add(*length).ok_or(TarProblem::Sparse)?;
    }
    if end > size || sum != stored { Err(TarProblem::Sparse) } else { Ok(()) }
}

/// What the PAX records of an entry say of its holes.
pub(crate) enum PaxForm {
    /// No holes.
    None,
    /// 0.0 and 0.1: the map is in the records.
    Records(Map, u64),
    /// 1.0: the map is before the data.
    InData(u64),
}

/// Which form the records tell; a half of one is an error.
pub(crate) fn pax_form(sparse: PaxSparse) -> Result<PaxForm, TarProblem> {
    let PaxSparse { major, minor, real_size, pieces, map, list, name, .. } = sparse;
    match (major, minor) {
        (None, None) | (Some(0), Some(0 | 1)) => {}
        (Some(1), Some(0)) if map.is_none() && list.is_empty() => {
            return Ok(PaxForm::InData(real_size.ok_or(TarProblem::Sparse)?));
        }
        _ => return Err(TarProblem::Sparse),
    }
    let map = match (map, list.is_empty()) {
        (Some(map), true) => map,
        (None, false) => list,
        (Some(_), false) => return Err(TarProblem::Sparse),
        // 0.0 with no data at all has no piece.
        (None, true) if pieces == Some(0) => list,
        (None, true)
            if real_size.is_none() && pieces.is_none() && name.is_none() && major.is_none() =>
        {
            return Ok(PaxForm::None);
        }
        (None, true) => return Err(TarProblem::Sparse),
    };
    if pieces.is_some_and(|pieces| pieces != map.len() as u64) {
        return Err(TarProblem::Sparse);
    }
    Ok(PaxForm::Records(map, real_size.ok_or(TarProblem::Sparse)?))
}

/// Reads the map of format 1.0, line by line: a count, then offset and length of each piece.
#[derive(Default)]
pub(crate) struct MapReader {
    line: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    map: Map,
}

impl MapReader {
    /// The next bytes; true once the map is whole.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<bool, TarProblem> {
        for byte in bytes {
            if self.is_whole() {
                return Ok(true);
            }
            if *byte != b'\n' {
                if self.line.len() == 20 {
                    return Err(TarProblem::Sparse);
                }
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&self.line).ok_or(TarProblem::Sparse)?;
            self.line.clear();
            match (self.count, self.offset.take()) {
                (None, _) => self.count = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => self.map.push((offset, number)),
            }
        }
        Ok(self.is_whole())
    }

    fn is_whole(&self) -> bool {
        self.count == Some(self.map.len() as u64)
    }

    pub(crate) fn finish(self) -> Map {
        self.map
    }
}
