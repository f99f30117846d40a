//! `image-unpack`'s reader of tars, beside that of the crate `tar`: two readers that understand one archive
//! differently are how entries are smuggled.
//!
//! A tar that ours takes is indexed and read back, and must be what the other reader's entries make of a plain model.
//! What ours refuses may be anything. `theirs` has the few things in which the other reader is known to be wrong.

mod theirs;

use image_unpack::{LayerTar, Limits, Merge, index_tar};

use crate::meaning::overlaid;
use crate::memory;
use crate::ops::Model;
use crate::reader::Reader;
use crate::tar::{checksum, number, record};
use crate::tree::{Tree, assert_same, unlinked};

/// Small, so that no input is slow.
fn limits() -> Limits {
    Limits { bytes: 1 << 20, memory: 1 << 20, ..Limits::default() }
}

/// Bytes as the tar of a layer; and, where that is refused, with the checksums and lengths that it should have.
///
/// # Panics
/// The reader does; or another reader sees another layer.
pub fn run(bytes: &[u8]) {
    whole(bytes);
    let Some((tar, ours)) = taken(bytes) else { return };
    // None: not to be compared.
    let Some(theirs) = theirs::read(&tar) else { return };
    let mut model = Model::new();
    assert!(model.apply(&theirs).is_some(), "the model refuses what is unpacked: {theirs:?}");
    assert_same(&unlinked(ours), &unlinked(model.tree));
}

/// The tar that is taken, and its tree.
fn taken(bytes: &[u8]) -> Option<(Vec<u8>, Tree)> {
    if let Some(tree) = ours(bytes) {
        return Some((bytes.to_vec(), tree));
    }
    let tar = with_checksums(bytes);
    whole(&tar);
    let tree = ours(&tar)?;
    Some((tar, tree))
}

/// Whole blocks, with the right checksum in each header, and the right length in each PAX record: a change of one byte
/// is not to be the end of it.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::with_capacity(bytes.len() + 1024);
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut block = [0; 512];
        let length = rest.len().min(512);
        block[..length].copy_from_slice(&rest[..length]);
        rest = &rest[length..];
        if block.iter().all(|byte| *byte == 0) {
            tar.extend(block);
            continue;
        }
        let digits = block[124..136].iter().filter(|byte| (b'0'..=b'7').contains(byte));
        let size = digits.fold(0, |size, digit| size * 8 + usize::from(digit - b'0'));
        let (data, after) =
            rest.split_at(if block[156] == b'1' { 0 } else { size.min(rest.len()) });
        let mut data = data.to_vec();
        if matches!(block[156], b'x' | b'g') {
            data = with_lengths(&data);
            number(&mut block[124..136], data.len() as u64);
        }
        checksum(&mut block);
        tar.extend(block);
        tar.extend(&data);
        tar.resize(tar.len().next_multiple_of(512), 0);
        let padding = size.next_multiple_of(512) - size;
        rest = if block[156] == b'1' { after } else { &after[padding.min(after.len())..] };
    }
    tar
}

/// Lines as PAX records.
fn with_lengths(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        let start = line.iter().position(|byte| !byte.is_ascii_digit() && *byte != b' ');
        let pair = start.and_then(|start| {
            let equals = line[start..].iter().position(|byte| *byte == b'=')?;
            Some((&line[start..start + equals], &line[start + equals + 1..]))
        });
        if let Some((key, value)) = pair
            && let Ok(key) = std::str::from_utf8(key)
        {
            out.extend(record(key, value));
        }
    }
    out
}

/// What a container would see of the layer. None if it is refused.
fn ours(bytes: &[u8]) -> Option<Tree> {
    let length = bytes.len() as u64;
    let mut indexed = index_tar(memory::file(bytes), 0, length, &limits(), "the layer").ok()?;
    assert_eq!(indexed.tar, length);
    let mut merge = Merge::new("the image");
    // A link to a lower layer, of which there is none here, is refused by now.
    merge.add(&mut indexed, 1).ok()?;
    let mut index = Vec::new();
    merge.write(&[length], [7; 16], &mut index).ok()?;
    // What is left of the last block is not read, as no file reaches into it; the reader wants whole blocks.
    let mut device = bytes.to_vec();
    device.resize(device.len().next_multiple_of(512), 0);
    Some(overlaid(&[Reader::tree(&index, &[device])]))
}

/// As one that comes alone, from a file: the same, and its digest.
fn whole(bytes: &[u8]) {
    // A compressed one is decoded as a whole first, up to more than a fuzzer has time for.
    let compressed = bytes.starts_with(b"\x1f\x8b") || bytes.get(1..4) == Some(b"\xb5\x2f\xfd");
    if compressed || bytes.get(1..4) == Some(b"\x2a\x4d\x18") {
        return;
    }
    let indexed = index_tar(memory::file(bytes), 0, bytes.len() as u64, &limits(), "the layer");
    let Ok(tar) = LayerTar::open(memory::file(bytes), "the layer", "/".as_ref()) else { return };
    let copy = memory::file(b"");
    match (tar.index(&copy, &limits(), &|_| ()), indexed) {
        (Ok((digest, one)), Ok(other)) => {
            assert_eq!(digest, image_unpack::Digest::of(bytes));
            assert_eq!((one.bytes, one.tar), (other.bytes, other.tar));
            let copy = std::fs::read(memory::path(&copy)).expect("the copy");
            assert!(copy == bytes, "what was written is not what was read");
        }
        (Err(_), Err(_)) => {}
        (one, other) => panic!("{one:?} in one pass, {other:?} where it is kept already"),
    }
}

/// A tar that is taken, and the names of its entries: those that GNU tar lists.
pub fn names(bytes: &[u8]) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let (tar, _) = taken(bytes)?;
    let names = theirs::names(&tar)?;
    Some((tar, names))
}

/// A tree, for who compares by hand.
pub fn shown(bytes: &[u8]) -> Option<String> {
    let lines = ours(bytes)?.into_iter().map(|(path, node)| {
        format!("{} {:o} {}\n", path.escape_ascii(), node.mode, node.content.len())
    });
    Some(lines.collect())
}
