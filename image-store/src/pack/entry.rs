//! Headers of a tar: ustar (POSIX.1-1988), and PAX records (POSIX.1-2001) for what does not fit in them.

use std::io::{self, Write};

use rustix::fs::Stat;

use crate::Error;

/// A block of a tar.
const BLOCK: usize = 512;
/// Longest name and longest link target in a header; more goes to a PAX record.
const NAME: usize = 100;
/// Largest owner number in a header (7 octal digits).
const ID_MAX: u32 = 0o777_7777;
/// Largest size and time in a header (11 octal digits).
const LONG_MAX: u64 = 0o777_7777_7777;

/// An extended attribute: name and value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// One entry, without its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) name: &'a [u8],
    /// The type flag.
    pub(crate) kind: u8,
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Seconds, and nanoseconds to be added.
    pub(crate) mtime: (i64, u32),
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: &'a [Xattr],
}

impl<'a> Header<'a> {
    /// Owner, mode and time of a file.
    pub(crate) fn of(stat: &Stat, xattrs: &'a [Xattr]) -> Header<'a> {
        Header {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            xattrs,
            ..Header::plain(b"", b'0')
        }
    }

    /// Root's, with no permissions, of the beginning of 1970.
    pub(crate) fn plain(name: &'a [u8], kind: u8) -> Header<'a> {
        Header {
            name,
            kind,
            link: b"",
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: &[],
        }
    }

    /// The records for what the header cannot hold, sorted by their keys.
    fn records(&self) -> Vec<u8> {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
        if self.name.len() > NAME {
            add("path", self.name.to_vec());
        }
        if self.link.len() > NAME {
            add("linkpath", self.link.to_vec());
        }
        if self.uid > ID_MAX {
            add("uid", self.uid.to_string().into_bytes());
        }
        if self.gid > ID_MAX {
            add("gid", self.gid.to_string().into_bytes());
        }
        if self.size > LONG_MAX {
            add("size", self.size.to_string().into_bytes());
        }
        let (seconds, nanos) = self.mtime;
        if nanos > 0 || u64::try_from(seconds).is_err() || seconds.unsigned_abs() > LONG_MAX {
            add("mtime", time(seconds, nanos).into_bytes());
        }
        for (name, value) in self.xattrs {
            records.push(([b"SCHILY.xattr.", &name[..]].concat(), value.clone()));
        }
        records.sort_unstable();
        records.iter().flat_map(|(key, value)| record(key, value)).collect()
    }

    /// The header's own block.
    fn block(&self) -> [u8; BLOCK] {
        let mut header = tar::Header::new_ustar();
        let cut = |text: &'a [u8]| &text[..text.len().min(NAME)];
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.name[..cut(self.name).len()].copy_from_slice(cut(self.name));
            ustar.linkname[..cut(self.link).len()].copy_from_slice(cut(self.link));
            ustar.typeflag = [self.kind];
            octal(&mut ustar.mode, self.mode.into());
            octal(&mut ustar.uid, self.uid.min(ID_MAX).into());
            octal(&mut ustar.gid, self.gid.min(ID_MAX).into());
            octal(&mut ustar.size, self.size.min(LONG_MAX));
            octal(&mut ustar.mtime, u64::try_from(self.mtime.0).unwrap_or(0).min(LONG_MAX));
            octal(&mut ustar.dev_major, self.device.0.into());
            octal(&mut ustar.dev_minor, self.device.1.into());
        }
        header.set_cksum();
        *header.as_bytes()
    }
}

/// A tar being written.
pub(crate) struct Archive<W> {
    out: W,
    written: u64,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Archive<W> {
        Archive { out, written: 0 }
    }

    /// Writes an entry's header, and before it what does not fit.
    pub(crate) fn header(&mut self, header: &Header<'_>) -> Result<(), Error> {
        let records = header.records();
        if !records.is_empty() {
            let size = records.len() as u64;
            // Readers show the name only where they do not know these headers.
            let name = header.name.strip_suffix(b"/").unwrap_or(header.name);
            let base = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            let name = [b"PaxHeaders/", &base[..base.len().min(NAME - 11)]].concat();
            let extended = Header { size, mode: 0o644, ..Header::plain(&name, b'x') };
            self.data(&extended.block())?;
            self.data(&records)?;
            self.pad(size)?;
        }
        self.data(&header.block())
    }

    /// Writes an empty file that stands for something else.
    pub(crate) fn mark(&mut self, name: &[u8]) -> Result<(), Error> {
        self.header(&Header::plain(name, b'0'))
    }

    /// Writes bytes of the content of the entry whose header was written last.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(output)
    }

    /// Writes so many zero bytes.
    pub(crate) fn zeros(&mut self, mut count: u64) -> Result<(), Error> {
        const ZEROS: [u8; 8 * BLOCK] = [0; 8 * BLOCK];
        while count > 0 {
            let step = count.min(ZEROS.len() as u64);
            self.data(&ZEROS[..step as usize])?;
            count -= step;
        }
        Ok(())
    }

    /// Fills up the last block of content of `size` bytes.
    pub(crate) fn pad(&mut self, size: u64) -> Result<(), Error> {
        self.zeros(size.next_multiple_of(BLOCK as u64) - size)
    }

    /// What takes bytes of content, for who writes them as a stream.
    pub(crate) fn writer(&mut self) -> impl Write {
        Content(self)
    }

    /// Writes the end mark, and returns the bytes of all.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        self.zeros(2 * BLOCK as u64)?;
        self.out.flush().map_err(output)?;
        Ok(self.written)
    }
}

/// See [`Archive::writer`].
struct Content<'a, W>(&'a mut Archive<W>);

impl<W: Write> Write for Content<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.out.write(bytes)?;
        self.0.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.out.flush()
    }
}

fn output(source: io::Error) -> Error {
    Error::Output { source }
}

/// Octal digits that fill the field but for a NUL.
fn octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}\0", width = field.len() - 1);
    field.copy_from_slice(digits.as_bytes());
}

/// `SECONDS` or `SECONDS.FRACTION`, without zeros at the end.
fn time(seconds: i64, nanos: u32) -> String {
    let (sign, whole, fraction) = match (seconds < 0, nanos) {
        (true, 1..) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (false, _) => ("", seconds.unsigned_abs(), nanos),
    };
    match fraction {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction:09}").trim_end_matches('0').to_owned(),
    }
}

/// `LENGTH KEY=VALUE\n`, whose length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        assert_eq!(record(b"path", b"a/b"), b"12 path=a/b\n");
        for length in 0..2000 {
            let record = record(b"k", &vec![b'v'; length]);
            let text = String::from_utf8(record.clone()).unwrap();
            assert_eq!(text.split(' ').next().unwrap(), record.len().to_string());
        }
    }

    #[test]
    fn times_before_1970_and_parts_of_seconds() {
        for (time_, text) in [
            ((0, 1), "0.000000001"),
            ((1, 500_000_000), "1.5"),
            ((-1, 0), "-1"),
            ((-2, 500_000_000), "-1.5"),
            ((-1, 999_999_999), "-0.000000001"),
            ((1 << 40, 0), "1099511627776"),
        ] {
            assert_eq!(time(time_.0, time_.1), text);
        }
    }

    #[test]
    fn what_fits_needs_no_record() {
        let header = Header { mtime: (1, 0), mode: 0o4755, ..Header::plain(b"x", b'0') };
        assert!(header.records().is_empty());
        let name = [b'n'; NAME + 1];
        let long = Header { name: &name, uid: ID_MAX + 1, size: LONG_MAX + 1, ..header };
        let text = String::from_utf8(long.records()).unwrap();
        for part in ["path=nnn", "uid=2097152\n", "size=8589934592\n"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}
