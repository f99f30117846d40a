//! `erofs-index`: the kernel mounts what it writes, of whatever a layer holds.
//!
//! Random layers, written and read back by a reader that shares nothing with the writer, are what a plain model makes
//! of them. What the model has no opinion on (wrong names, numbers, maps) is refused or read back without complaint.

use arbitrary::{Result, Unstructured};
use erofs_index::{Data, Device, Kind, Layer, Limits, Merged, Meta, Options, Time, Use};

use crate::meaning::{Accepted, layers_are_what_they_mean};
use crate::more::{bytes, more};
use crate::ops::{Attributes, Op, What};
use crate::reader::Reader;

/// Bytes as layers.
///
/// # Panics
/// The crate does; or it writes something else than it was given, or what the format does not allow.
pub fn run(bytes: &[u8]) {
    run_with(bytes, &|_, _| ());
}

/// As [`run`]; `accepted` is told each image, with its devices, that must be right.
pub fn run_with(bytes: &[u8], accepted: &impl Fn(&[u8], &[Vec<u8>])) {
    let mut input = Unstructured::new(bytes);
    let (Ok(raw), Ok(count)) = (input.ratio(1, 4), input.int_in_range(1..=3)) else { return };
    if raw {
        raw_layer(&mut input, accepted);
        return;
    }
    let mut layers = vec![Vec::new(); count];
    let mut at = 0;
    // The layers in turn, as long as the bytes last.
    while let Ok(true) = more(&mut input, 40, 41) {
        let Ok(op) = op(&mut input) else { break };
        layers[at].push(op);
        at = (at + usize::from(input.ratio(1, 3).unwrap_or(false))) % count;
        if layers[at].len() == 40 {
            break;
        }
    }
    layers_are_what_they_mean(layers, accepted);
}

/// Whether the input is a layer of anything at all, of which no model knows what it means.
pub fn is_raw(bytes: &[u8]) -> bool {
    Unstructured::new(bytes).ratio(1, 4).unwrap_or(false)
}

fn name(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    const NAMES: [&[u8]; 12] =
        [b"a", b"b", b"c", b"d", b"!", b"-x", b".a", b"..b", b"\x7f", b"...", b"a0", b".wh.a"];
    if input.ratio(9, 10)? {
        return Ok(input.choose(&NAMES)?.to_vec());
    }
    let mut name = bytes(input, 255)?;
    name.iter_mut().filter(|byte| matches!(**byte, b'/' | 0)).for_each(|byte| *byte = b'_');
    Ok(if matches!(&name[..], b"" | b"." | b"..") { b"dot".to_vec() } else { name })
}

fn path(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut path = name(input)?;
    for _ in 0..3 {
        if more(input, 2, 5)? {
            path.push(b'/');
            path.extend(name(input)?);
        }
    }
    Ok(path)
}

fn what(input: &mut Unstructured<'_>) -> Result<What> {
    Ok(match input.int_in_range(0..=7)? {
        0 | 1 => What::Directory,
        2 => What::File(bytes(input, 80)?),
        3 => What::File(vec![input.arbitrary()?; input.int_in_range(0..=1700)?]),
        4 => holes(input)?,
        5 => {
            let mut target = vec![input.int_in_range(1..=255)?; input.int_in_range(1..=1200)?];
            target[0] = b'x';
            What::Symlink(target)
        }
        6 if input.arbitrary()? => {
            What::Character(input.int_in_range(1..=0xfff)?, input.int_in_range(0..=0xf_ffff)?)
        }
        6 => What::Block(input.int_in_range(0..=0xfff)?, input.int_in_range(0..=0xf_ffff)?),
        _ => What::Fifo,
    })
}

fn holes(input: &mut Unstructured<'_>) -> Result<What> {
    let step = if input.arbitrary()? { 512 } else { input.int_in_range(1..=900)? };
    let (mut at, mut pieces) = (0_u64, Vec::new());
    while pieces.len() < 4 && more(input, 3, 4)? {
        let start = at + input.int_in_range(0..=3)? * step;
        let length: usize = if input.arbitrary()? { 512 } else { input.int_in_range(1..=700)? };
        at = start + length as u64;
        pieces.push((start, vec![7; length]));
    }
    Ok(What::Holes(at + input.int_in_range(0..=5000)?, pieces))
}

fn attributes(input: &mut Unstructured<'_>) -> Result<Attributes> {
    if input.ratio(1, 2)? {
        return Ok(Attributes::default());
    }
    const NAMES: [&str; 6] = [
        "user.a",
        "user.b",
        "trusted.x",
        "trusted.overlay.opaque",
        "trusted.overlay.overlay.opaque",
        "security.capability",
    ];
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for name in NAMES {
        if more(input, 1, 5)? {
            let value = if input.arbitrary()? {
                bytes(input, 20)?
            } else {
                vec![b'y'; input.int_in_range(0..=600)?]
            };
            xattrs.push((name.into(), value));
        }
    }
    let mtime = if input.arbitrary()? {
        (1_700_000_000, 0)
    } else {
        (input.arbitrary()?, input.int_in_range(0..=999_999_999)?)
    };
    let mut owner = || if input.ratio(1, 2)? { Ok(0) } else { input.arbitrary() };
    let (uid, gid) = (owner()?, owner()?);
    Ok(Attributes { mode: input.int_in_range(0..=0o7777)?, uid, gid, mtime, xattrs })
}

fn op(input: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match input.int_in_range(0..=17)? {
        0..=11 => Op::Add(path(input)?, attributes(input)?, what(input)?),
        12 | 13 => Op::Link(path(input)?, path(input)?),
        14 | 15 => Op::Whiteout(path(input)?),
        16 if input.ratio(1, 6)? => Op::Opaque(Vec::new()),
        16 => Op::Opaque(path(input)?),
        _ => Op::Add(Vec::new(), attributes(input)?, What::Directory),
    })
}

/// A layer of anything at all: what is taken, is written, and the reader finds nothing wrong with it.
fn raw_layer(input: &mut Unstructured<'_>, accepted: Accepted<'_>) {
    let mut layer = Layer::new(Limits { chunks: 10_000, memory: 1 << 20, ..Limits::default() });
    while !input.is_empty() && raw_entry(&mut layer, input).is_ok() {}
    let device = vec![0; 64 << 10];
    let mut merged = Merged::new(Limits { chunks: 10_000, memory: 1 << 20, ..Limits::default() });
    if merged.apply(&layer).is_err() {
        return;
    }
    let devices = [device];
    let of_size = Device::of_size(devices[0].len() as u64).expect("a small device");
    let options = Options { devices: vec![of_size], ..Options::default() };
    for how in [Use::Alone, Use::Lower] {
        let Ok(index) = merged.index(how, &options) else { continue };
        let bytes = index.to_vec().expect("an index in memory");
        assert_eq!(bytes.len() as u64, index.size());
        Reader::tree(&bytes, &devices);
        accepted(&bytes, &devices);
    }
}

fn raw_entry(layer: &mut Layer, input: &mut Unstructured<'_>) -> Result<()> {
    let path = if input.arbitrary()? { path(input)? } else { bytes(input, 40)? };
    let name = bytes(input, 30)?;
    let xattrs = [(name, bytes(input, 10)?)];
    let meta = Meta {
        mode: input.arbitrary()?,
        uid: input.arbitrary()?,
        gid: input.arbitrary()?,
        mtime: Time { seconds: input.arbitrary()?, nanos: input.arbitrary()? },
        xattrs: if input.arbitrary()? { &xattrs } else { &[] },
    };
    let content = bytes(input, 40)?;
    let mut map: Vec<(u64, u64)> = Vec::new();
    while map.len() < 4 && more(input, 1, 2)? {
        map.push((size(input)?, size(input)?));
    }
    let device = input.int_in_range(0..=2)?;
    // A refusal is an answer.
    let _ = match input.int_in_range(0..=9)? {
        0 => layer.link(&path, &content),
        1 => layer.whiteout(&path),
        2 => layer.opaque(&path),
        3 => layer.add(&path, &meta, Kind::Symlink(&content)),
        4 => {
            let (major, minor) = (input.arbitrary()?, input.arbitrary()?);
            layer.add(&path, &meta, Kind::Character { major, minor })
        }
        5 => layer.add(&path, &meta, Kind::File(Data::Bytes(&content))),
        6 => {
            let data = Data::Extent { device, offset: size(input)?, size: size(input)? };
            layer.add(&path, &meta, Kind::File(data))
        }
        7 => {
            let (offset, size) = (size(input)?, size(input)?);
            layer.add(&path, &meta, Kind::File(Data::Sparse { size, device, offset, map: &map }))
        }
        8 => {
            let size = size(input)?;
            let data = Data::SparseBytes { size, map: &map, bytes: &content };
            layer.add(&path, &meta, Kind::File(data))
        }
        _ => layer.add(&path, &meta, Kind::Directory),
    };
    Ok(())
}

/// Mostly what files have, now and then what none has.
fn size(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match input.int_in_range(0..=7)? {
        0..=3 => input.int_in_range(0..=40)? * 512,
        4..=6 => input.int_in_range(0..=3000)?,
        _ => input.arbitrary()?,
    })
}
