//! Directories' blocks: entries in front, their names behind. Blocks and entries are sorted by name, and the kernel
//! searches both by halves; `.` and `..` stand where they sort.

use crate::format::{BLOCK, DIRENT, put_dirent};

/// An entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u64,
    pub(super) file_type: u8,
}

/// How many of the entries, whose names have these lengths, fit into the first block, and the bytes that they take.
fn fit(lengths: impl Iterator<Item = usize>) -> (usize, usize) {
    let mut fitting = (0, 0);
    for length in lengths {
        let bytes = fitting.1 + DIRENT + length;
        if bytes > BLOCK as usize {
            break;
        }
        fitting = (fitting.0 + 1, bytes);
    }
    fitting
}

/// Bytes of a directory whose names have these lengths, in order.
pub(super) fn size(lengths: impl Iterator<Item = usize>) -> u64 {
    let (mut blocks, mut used) = (0, 0);
    for length in lengths {
        let bytes = DIRENT + length;
        if used + bytes > BLOCK as usize {
            blocks += 1;
            used = 0;
        }
        used += bytes;
    }
    blocks * BLOCK + used as u64
}

/// A directory's bytes: all blocks but the last are filled up.
pub(super) fn encode(out: &mut Vec<u8>, mut items: &[Item<'_>]) {
    let start = out.len();
    while !items.is_empty() {
        out.resize(start + (out.len() - start).next_multiple_of(BLOCK as usize), 0);
        let (count, _) = fit(items.iter().map(|item| item.name.len()));
        let (block, rest) = items.split_at(count.max(1)); // one fits always
        let mut name_at = block.len() * DIRENT;
        for item in block {
            put_dirent(out, item.inode, name_at as u16, item.file_type);
            name_at += item.name.len();
        }
        block.iter().for_each(|item| out.extend(item.name));
        items = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_bytes() {
        for lengths in [vec![1, 2], vec![255; 9], vec![500 - 255, 243, 1], (1..256).collect()] {
            let names: Vec<Vec<u8>> = lengths.iter().map(|length| vec![b'x'; *length]).collect();
            let items: Vec<_> =
                names.iter().map(|name| Item { name, inode: 36, file_type: 1 }).collect();
            let mut out = vec![1, 2, 3]; // what is there already does not matter
            encode(&mut out, &items);
            assert_eq!(out.len() as u64 - 3, size(lengths.into_iter()));
        }
    }
}
