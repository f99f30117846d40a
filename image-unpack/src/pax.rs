//! PAX extended headers (POSIX pax, "pax Extended Header"), read strictly.

use crate::entry::Time;
use crate::error::{TarProblem, show};

/// What one extended header says.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    /// Names without the `SCHILY.xattr.` prefix; of two with one name the later counts.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: PaxSparse,
}

/// The keys of GNU's three sparse formats in PAX.
#[derive(Debug, Default, Clone)]
pub(crate) struct PaxSparse {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    /// `size` of 0.0 and 0.1, `realsize` of 1.0.
    pub(crate) real_size: Option<u64>,
    pub(crate) pieces: Option<u64>,
    /// 0.1: a list in one record.
    pub(crate) map: Option<Vec<(u64, u64)>>,
    /// 0.0: one record each, in order.
    pub(crate) list: Vec<(u64, u64)>,
    offset: Option<u64>,
}

/// What one header says once, or the same each time: of two values some readers take the first, some the last.
const ONCE: [&[u8]; 6] = [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"];

impl Pax {
    /// The records of one header, read upon `self`, which has those of earlier ones.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<(), TarProblem> {
        let mut said = [None; ONCE.len()];
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes)?;
            if let Some(at) = ONCE.iter().position(|once| *once == key)
                && said[at].replace(value).is_some_and(|before| before != value)
            {
                return Err(TarProblem::TwoValues(show(key)));
            }
            self.set(key, value)?;
            bytes = rest;
        }
        if self.sparse.offset.is_some() {
            return Err(TarProblem::Sparse);
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarProblem> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        let number = || decimal(value).ok_or_else(|| TarProblem::Pax(show(key)));
        // An empty value takes back what an earlier header said.
        let unless_empty = |parsed: Result<u64, TarProblem>| {
            if value.is_empty() { Ok(None) } else { parsed.map(Some) }
        };
        // An empty one is the header's name for some readers, and no name for others.
        let name = |field: &'static str| match value {
            b"" => Err(TarProblem::Pax(field.to_owned())),
            _ if value.contains(&0) => Err(TarProblem::Nul(field)),
            _ => Ok(Some(value.to_vec())),
        };
        match key {
            b"path" => self.path = name("path")?,
            b"linkpath" => self.link = name("linkpath")?,
            b"size" => self.size = unless_empty(number())?,
            b"uid" => self.uid = unless_empty(number())?,
            b"gid" => self.gid = unless_empty(number())?,
            b"mtime" => {
                self.mtime = match value {
                    b"" => None,
                    _ => Some(time(value).ok_or_else(|| TarProblem::Pax(show(key)))?),
                }
            }
            b"GNU.sparse.major" => self.sparse.major = Some(number()?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(number()?),
            b"GNU.sparse.name" => self.sparse.name = name("GNU.sparse.name")?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = Some(number()?),
            b"GNU.sparse.numblocks" => self.sparse.pieces = Some(number()?),
            b"GNU.sparse.map" => self.sparse.map = Some(list(value).ok_or(TarProblem::Sparse)?),
            // An offset waits for its length: two in a row have lost one.
            b"GNU.sparse.offset" if self.sparse.offset.is_some() => return Err(TarProblem::Sparse),
            b"GNU.sparse.offset" => self.sparse.offset = Some(number()?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take().ok_or(TarProblem::Sparse)?;
                self.sparse.list.push((offset, number()?));
            }
            // An unknown key that changes how data is read must not be passed over.
            _ if key.starts_with(b"GNU.sparse.") => return Err(TarProblem::Sparse),
            _ => {} // atime, ctime, comment, uname, gname, vendors' own
        }
        Ok(())
    }

    /// A global header can only set what makes sense for all entries.
    pub(crate) fn check_global(&self) -> Result<(), TarProblem> {
        let sparse = &self.sparse;
        let has_sparse = sparse.major.is_some()
            || sparse.real_size.is_some()
            || sparse.name.is_some()
            || sparse.map.is_some()
            || !sparse.list.is_empty()
            || sparse.pieces.is_some();
        let forbidden = [
            (self.path.is_some(), "path"),
            (self.link.is_some(), "linkpath"),
            (self.size.is_some(), "size"),
            (has_sparse, "GNU.sparse"),
            (!self.xattrs.is_empty(), "SCHILY.xattr"),
        ];
        match forbidden.iter().find(|(set, _)| *set) {
            Some((_, key)) => Err(TarProblem::Global((*key).to_owned())),
            None => Ok(()),
        }
    }
}

/// Key, value, and the bytes after the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// `LENGTH KEY=VALUE\n`, and what follows. The length counts the whole record.
fn record(bytes: &[u8]) -> Result<Record<'_>, TarProblem> {
    let bad = || TarProblem::Pax(show(&bytes[..bytes.len().min(64)]));
    let blank = bytes.iter().take(12).position(|byte| *byte == b' ').ok_or_else(bad)?;
    let length =
        decimal(&bytes[..blank]).and_then(|length| usize::try_from(length).ok()).ok_or_else(bad)?;
    if length <= blank + 1 || length > bytes.len() {
        return Err(bad());
    }
    let (whole, rest) = bytes.split_at(length);
    let body = whole[blank + 1..].strip_suffix(b"\n").ok_or_else(bad)?;
    let equals = body.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err(bad());
    }
    Ok((key, value, rest))
}

/// Digits only: no sign, no blanks.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

fn list(value: &[u8]) -> Option<Vec<(u64, u64)>> {
    if value.is_empty() {
        return Some(Vec::new());
    }
    let numbers: Vec<u64> =
        value.split(|byte| *byte == b',').map(decimal).collect::<Option<_>>()?;
    if !numbers.len().is_multiple_of(2) {
        return None;
    }
    Some(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// `SECONDS` or `SECONDS.FRACTION`, maybe negative; digits beyond the nanosecond are cut off.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanos = 0;
    for at in 0..9 {
        nanos = nanos * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    }
    Some(match (negative, nanos) {
        (false, _) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos: 0 },
        (true, _) => Time { seconds: (-seconds).checked_sub(1)?, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let mut pax = Pax::default();
        pax.read(b"30 mtime=1700000000.123456789\n12 path=a/b\n14 size=12345\n").unwrap();
        assert_eq!(pax.mtime, Some(Time { seconds: 1_700_000_000, nanos: 123_456_789 }));
        assert_eq!((pax.path.as_deref(), pax.size), (Some(&b"a/b"[..]), Some(12345)));
        for bad in [
            &b"12 path=a/bX"[..],
            b"99 path=a\n",
            b"5 =a\n",
            b"+9 path=a\n",
            b"0 path=a\n",
            b"8 path\n",
            b"10 size=-1\n",
            b"11 size= 12\n",
            b"path=a\n",
        ] {
            assert!(Pax::default().read(bad).is_err(), "{:?}", show(bad));
        }
        assert_eq!(Pax::default().read(b"12 path=a\0b\n"), Err(TarProblem::Nul("path")));
    }

    #[test]
    fn times() {
        assert_eq!(time(b"-1.5"), Some(Time { seconds: -2, nanos: 500_000_000 }));
        assert_eq!(time(b"-1"), Some(Time { seconds: -1, nanos: 0 }));
        assert_eq!(time(b"1.0000000019"), Some(Time { seconds: 1, nanos: 1 }));
        for bad in [&b""[..], b"1.x", b".5", b"--1", b"99999999999999999999"] {
            assert_eq!(time(bad), None);
        }
    }
}
