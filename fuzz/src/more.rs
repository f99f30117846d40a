//! Lists out of a fuzzer's bytes.

use arbitrary::{Result, Unstructured};

/// Whether there is one more: in so many of so many cases, and never once the bytes are used up.
pub(crate) fn more(input: &mut Unstructured<'_>, of: u32, all: u32) -> Result<bool> {
    Ok(!input.is_empty() && input.ratio(of, all)?)
}

/// Up to `most` bytes of the input.
pub(crate) fn bytes(input: &mut Unstructured<'_>, most: usize) -> Result<Vec<u8>> {
    let length = input.int_in_range(0..=most)?.min(input.len());
    Ok(input.bytes(length)?.to_vec())
}
