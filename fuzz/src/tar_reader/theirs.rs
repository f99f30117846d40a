//! What the crate `tar` reads, as the entries of a layer.

use std::collections::BTreeMap;
use std::io::Read;

use ::tar::{Archive, Entry, Header};

use crate::ops::{Attributes, Op, What};

/// PAX records that count: later ones win, and an empty value takes back an earlier one.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The entries. None where the other reader sees an error, or is known to be wrong: nothing can be learnt of it.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Op>> {
    let mut ops = Vec::new();
    each(bytes, |entry| ops.extend(entry.op()))?;
    Some(ops)
}

/// The names as they stand in the archive.
pub(super) fn names(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    each(bytes, |entry| names.push(entry.name))?;
    Some(names)
}

/// An entry as it is read.
struct Plain {
    kind: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    attributes: Attributes,
    device: (u32, u32),
    content: Vec<u8>,
}

fn each(bytes: &[u8], mut take: impl FnMut(Plain)) -> Option<()> {
    let mut archive = Archive::new(bytes);
    let mut globals = Records::new();
    for entry in archive.entries().expect("an archive at its beginning") {
        // Who sees an error is not misled: it knows no empty numbers, and no sums of signed bytes.
        let mut entry = entry.ok()?;
        let at = usize::try_from(entry.raw_header_position()).expect("a position");
        let header = Header::from_byte_slice(&bytes[at..at + 512]);
        let kind = header.as_old().linkflag[0];
        match kind {
            b'g' => {
                records(&mut entry, &mut globals)?;
                continue;
            }
            // It does not know Solaris's name of an extended header; it takes data for a hard link.
            b'X' => return None,
            b'1' if entry.size() != 0 => return None,
            _ => {}
        }
        let mut own = globals.clone();
        records(&mut entry, &mut own)?;
        // Nor holes in PAX.
        if own.keys().any(|key| key.starts_with(b"GNU.sparse.")) {
            return None;
        }
        take(one(kind, header, &mut entry, &own)?);
    }
    Some(())
}

fn records<R: Read>(entry: &mut Entry<'_, R>, into: &mut Records) -> Option<()> {
    let extensions = entry.pax_extensions().ok()?;
    for record in extensions.into_iter().flatten() {
        let record = record.ok()?;
        let (key, value) = (record.key_bytes().to_vec(), record.value_bytes().to_vec());
        // An attribute may be empty.
        if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
            into.remove(&key);
        } else {
            into.insert(key, value);
        }
    }
    Some(())
}

fn one<R: Read>(
    kind: u8,
    header: &Header,
    entry: &mut Entry<'_, R>,
    records: &Records,
) -> Option<Plain> {
    let id = |key: &[u8], field: std::io::Result<u64>| {
        let id = match records.get(key) {
            Some(digits) => std::str::from_utf8(digits).expect("digits").parse().expect("an id"),
            None => field.ok()?,
        };
        Some(u32::try_from(id).expect("an id that ours takes"))
    };
    let mtime = match records.get(&b"mtime"[..]) {
        Some(text) => time(std::str::from_utf8(text).expect("a time")),
        // It takes negative times for large ones.
        None if header.as_old().mtime[0] & 0x80 != 0 => return None,
        None => (header.mtime().ok()?.cast_signed(), 0),
    };
    let named = records.iter().filter_map(|(key, value)| {
        Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value.clone()))
    });
    let attributes = Attributes {
        mode: (header.mode().ok()? & 0o7777) as u16,
        uid: id(b"uid", header.uid())?,
        gid: id(b"gid", header.gid())?,
        mtime,
        xattrs: named.collect(),
    };
    let device = match kind {
        b'3' | b'4' => {
            let (major, minor) = (header.device_major().ok()?, header.device_minor().ok()?);
            (major.unwrap_or(0), minor.unwrap_or(0))
        }
        _ => (0, 0),
    };
    let name = until_nul(&entry.path_bytes());
    let link = entry.link_name_bytes().map(|link| until_nul(&link)).unwrap_or_default();
    let mut content = Vec::new();
    entry.take(2 << 20).read_to_end(&mut content).ok()?;
    Some(Plain { kind, name, link, attributes, device, content })
}

fn until_nul(name: &[u8]) -> Vec<u8> {
    name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Seconds and nanoseconds of a decimal number.
fn time(text: &str) -> (i64, u32) {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i128 = format!("{whole}{part}").parse().expect("a time");
    let nanos = if negative { -nanos } else { nanos };
    let billion = 1_000_000_000;
    (nanos.div_euclid(billion) as i64, nanos.rem_euclid(billion) as u32)
}

impl Plain {
    /// What it is to a layer, if anything.
    fn op(self) -> Option<Op> {
        let parts = clean(&self.name);
        let Some((last, parents)) = parts.split_last() else {
            return Some(Op::Add(Vec::new(), self.attributes(true), What::Directory));
        };
        if parents.iter().any(|part| part.starts_with(b".wh..wh.")) {
            return None;
        }
        assert!(!parents.iter().any(|part| part.starts_with(b".wh.")), "below a whiteout");
        let path = parts.join(&b'/');
        match last.strip_prefix(b".wh.") {
            Some(b".wh..opq") => return Some(Op::Opaque(parents.join(&b'/'))),
            Some(rest) if rest.starts_with(b".wh.") => return None,
            Some(gone) => {
                assert!(!matches!(gone, b"" | b"." | b".."), "a whiteout of nothing");
                return Some(Op::Whiteout([parents, &[gone]].concat().join(&b'/')));
            }
            None => {}
        }
        let mut attributes = self.attributes(matches!(self.kind, 0 | b'0' | b'5' | b'7' | b'S'));
        let what = match self.kind {
            b'1' => return Some(Op::Link(path, clean(&self.link).join(&b'/'))),
            0 | b'0' | b'7' if self.name.ends_with(b"/") => What::Directory,
            0 | b'0' | b'7' | b'S' => What::File(self.content),
            b'2' => {
                attributes.mode = 0o777;
                What::Symlink(self.link)
            }
            b'3' => What::Character(self.device.0, self.device.1),
            b'4' => What::Block(self.device.0, self.device.1),
            b'5' => What::Directory,
            b'6' => What::Fifo,
            other => panic!("ours takes the type {other:?}"),
        };
        Some(Op::Add(path, attributes, what))
    }

    /// Those that a file of this kind can have, on this host.
    fn attributes(&self, takes_user: bool) -> Attributes {
        let mut attributes = self.attributes.clone();
        attributes.xattrs.retain(|(name, _)| {
            name != b"security.selinux" && (takes_user || !name.starts_with(b"user."))
        });
        attributes
    }
}

fn clean(name: &[u8]) -> Vec<&[u8]> {
    let parts: Vec<&[u8]> =
        name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    assert!(!parts.contains(&&b".."[..]), "a name that leads upwards");
    parts
}
