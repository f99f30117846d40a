//! Files with holes: into chunks of one size, each of which is a hole or one stretch of data.

use crate::error::Problem;
use crate::format::{BLOCK, BLOCK_BITS, CHUNK_BITS_MAX, CHUNK_INDEX};

/// Most bits of a chunk whose bytes the index holds itself: it is stored whole, zeros and all.
const STORED_BITS_MAX: u32 = 11;

/// How a file is cut: `count` chunks of 2^`bits` blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) bits: u32,
    pub(crate) count: u64,
}

impl Cut {
    fn new(size: u64, bits: u32) -> Cut {
        Cut { bits, count: size.div_ceil(1 << (bits + BLOCK_BITS)) }
    }

    /// Bytes of a chunk.
    pub(crate) fn chunk(self) -> u64 {
        1 << (self.bits + BLOCK_BITS)
    }
}

/// Few chunks for a file in one stretch: one up to 1 TiB.
pub(crate) fn whole(size: u64) -> Cut {
    let bits = size.div_ceil(BLOCK).next_power_of_two().trailing_zeros();
    Cut::new(size, bits.min(CHUNK_BITS_MAX))
}

/// A map holds if its pieces are in order, lie in the file and are `stored` bytes together.
pub(crate) fn check(map: &[(u64, u64)], stored: Option<u64>, size: u64) -> Result<u64, Problem> {
    if i64::try_from(size).is_err() {
        return Err(Problem::Size(size));
    }
    let (mut end, mut sum) = (0_u64, 0_u64);
    for (at, length) in map {
        let next = at.checked_add(*length).filter(|next| *at >= end && *next <= size);
        end = next.ok_or(Problem::Map)?;
        sum += length; // no overflow: the pieces do not overlap
    }
    if stored.is_some_and(|stored| stored != sum) { Err(Problem::Map) } else { Ok(sum) }
}

/// The largest chunks that are holes or data from end to end. The map keeps to blocks.
pub(crate) fn mapped(map: &[(u64, u64)], size: u64) -> Cut {
    let limit = whole(size).bits;
    // Where data starts and ends, in blocks; what ends at the file's end may end within a chunk.
    let border = |border: u64| if border >= size { 0 } else { border.div_ceil(BLOCK) };
    let borders = map
        .iter()
        .filter(|(_, length)| *length > 0)
        .fold(0, |borders, (at, length)| borders | border(*at) | border(at + length));
    let bits = if borders == 0 { limit } else { borders.trailing_zeros().min(limit) };
    Cut::new(size, bits)
}

/// The chunks that make the index smallest if it holds the data.
pub(crate) fn stored(map: &[(u64, u64)], size: u64) -> Cut {
    let cuts = (0..=STORED_BITS_MAX.min(whole(size).bits)).map(|bits| Cut::new(size, bits));
    let cost = |cut: &Cut| cut.count * CHUNK_INDEX + held(map, *cut).count() as u64 * cut.chunk();
    cuts.min_by_key(cost).unwrap_or(Cut::new(size, 0))
}

/// The numbers of the chunks in which data lies, each once, in order.
pub(crate) fn held(map: &[(u64, u64)], cut: Cut) -> impl Iterator<Item = u64> {
    let mut next = 0;
    map.iter().filter(|(_, length)| *length > 0).flat_map(move |(at, length)| {
        let (first, last) = (at / cut.chunk(), (at + length - 1) / cut.chunk());
        let range = first.max(next)..last + 1;
        next = next.max(last + 1);
        range
    })
}

/// For each chunk of a mapped file in order, the byte of the stored data at which it starts; None for a hole.
pub(crate) fn sources(map: &[(u64, u64)], cut: Cut) -> impl Iterator<Item = Option<u64>> {
    let mut pieces = map.iter().filter(|(_, length)| *length > 0).peekable();
    let mut before = 0;
    (0..cut.count).map(move |number| {
        let at = number * cut.chunk();
        while let Some((start, length)) = pieces.peek()
            && start + length <= at
        {
            before += length;
            pieces.next();
        }
        let (start, _) = pieces.peek()?;
        (*start <= at).then(|| before + (at - start))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: u64 = 1024;

    #[test]
    fn a_file_in_one_stretch_has_one_chunk_up_to_1_tib() {
        for (size, bits, count) in [
            (1, 0, 1),
            (512, 0, 1),
            (513, 1, 1),
            (1025, 2, 1),
            (1 << 40, 31, 1),
            ((1 << 40) + 1, 31, 2),
        ] {
            assert_eq!(whole(size), Cut { bits, count }, "{size}");
        }
    }

    #[test]
    fn maps_are_checked() {
        assert_eq!(check(&[(0, 5), (5, 0), (7, 1)], Some(6), 8), Ok(6));
        for (map, size) in [
            (&[(0, 5), (4, 1)][..], 9),
            (&[(0, 9)], 8),
            (&[(u64::MAX, 2)], 1 << 62),
            (&[(3, 1)], 3),
        ] {
            assert_eq!(check(map, None, size), Err(Problem::Map));
        }
        assert_eq!(check(&[(0, 5)], Some(4), 8), Err(Problem::Map));
        assert_eq!(check(&[], None, 1 << 63), Err(Problem::Size(1 << 63)));
    }

    #[test]
    fn chunks_are_holes_or_data() {
        let map = [(0, 4 * K), (64 * K, 8 * K), (72 * K, 4 * K), (1024 * K, 100)];
        let cut = mapped(&map, 1024 * K + 100);
        assert_eq!(cut, Cut { bits: 3, count: 257 });
        let found: Vec<_> =
            sources(&map, cut).enumerate().filter_map(|(n, at)| Some((n, at?))).collect();
        assert_eq!(found, [(0, 0), (16, 4 * K), (17, 8 * K), (18, 12 * K), (256, 16 * K)]);
        // What ends within a block before the end bounds the chunk at the next block.
        assert_eq!(mapped(&[(0, 100)], 1024 * K), Cut { bits: 0, count: 2048 });
        assert_eq!(mapped(&[], 1024 * K), Cut { bits: 11, count: 1 });
    }

    #[test]
    fn stored_chunks_are_balanced() {
        let map = [(10, 5), (100 * K, 1), (100 * K + 7, 600)];
        let cut = stored(&map, 1024 * K);
        assert_eq!(cut, Cut { bits: 2, count: 512 });
        assert_eq!(held(&map, cut).collect::<Vec<_>>(), [0, 50]);
        // One byte in 1 GiB: 64 KiB of zeros beside 16,384 pointers.
        assert_eq!(stored(&[(0, 1)], 1 << 30).bits, 7);
    }
}
