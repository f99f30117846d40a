//! An input that is several documents, which name each other by their digests.
//!
//! In a part `$dN`, `$hN` and `$sN` stand for the digest, its hexadecimal digits, and the size of a later part N, so that
//! what is changed is not refused for its digest alone.

use image_unpack::Digest;

/// Between two parts.
const SEPARATOR: &[u8] = b"\n--\n";

/// The parts of an input, at most so many.
pub(crate) fn split(bytes: &[u8], most: usize) -> Vec<&[u8]> {
    let mut parts = vec![bytes];
    while parts.len() < most {
        let last = parts[parts.len() - 1];
        let Some(at) = find(last, SEPARATOR) else { break };
        parts.pop();
        parts.extend([&last[..at], &last[at + SEPARATOR.len()..]]);
    }
    parts
}

/// Where one text is in another.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

/// The parts, with what stands for others put in; `named` is what of a part has the digest.
pub(crate) fn filled(parts: &[&[u8]], named: fn(&[u8]) -> &[u8]) -> Vec<Vec<u8>> {
    let mut whole: Vec<Vec<u8>> = vec![Vec::new(); parts.len()];
    for (number, part) in parts.iter().enumerate().rev() {
        whole[number] = fill(part, number, &whole, named);
    }
    whole
}

fn fill(part: &[u8], own: usize, whole: &[Vec<u8>], named: fn(&[u8]) -> &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = part;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        out.extend(&rest[..at]);
        rest = &rest[at..];
        let number = rest.get(2).filter(|digit| digit.is_ascii_digit()).map(|digit| digit - b'0');
        let of = number.map(usize::from).filter(|number| *number > own && *number < whole.len());
        let value = of.map(|number| named(&whole[number])).and_then(|bytes| match rest[1] {
            b'd' => Some(Digest::of(bytes).to_string()),
            b'h' => Some(Digest::of(bytes).hex()),
            b's' => Some(bytes.len().to_string()),
            _ => None,
        });
        let length = if value.is_some() { 3 } else { 1 };
        match value {
            Some(value) => out.extend(value.bytes()),
            None => out.push(b'$'),
        }
        rest = &rest[length..];
    }
    out.extend(rest);
    out
}
