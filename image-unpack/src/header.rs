//! The fields of a tar header, read strictly.
//!
//! `tar::Header` names the fields; their values are read here, since that crate takes what GNU tar and Go
//! refuse (blanks in numbers, PAX records that do not fit), and each difference between readers hides entries.

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use crate::error::TarProblem;
use crate::sparse::Map;

/// A block of a tar.
pub(crate) const BLOCK: usize = 512;

/// A header whose checksum is right.
pub(crate) struct Fields<'a> {
    header: &'a Header,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(block: &'a [u8; BLOCK]) -> Result<Fields<'a>, TarProblem> {
        let header = Header::from_byte_slice(block);
        let stated =
            number(&header.as_old().cksum, "checksum").map_err(|_| TarProblem::Checksum)?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8); // old tars summed signed bytes
        }
        let stated = i64::try_from(stated).map_err(|_| TarProblem::Checksum)?;
        if stated != unsigned && stated != signed {
            return Err(TarProblem::Checksum);
        }
        Ok(Fields { header })
    }

    pub(crate) fn kind(&self) -> u8 {
        self.header.as_old().linkflag[0]
    }

    /// An extended header of a format that has them, and no prefix where some readers see one and others do not: many
    /// look at the magic only, or only at its first bytes.
    pub(crate) fn check_magic(&self) -> Result<(), TarProblem> {
        let known = self.header.as_ustar().is_some() || self.header.as_gnu().is_some();
        let bytes = self.header.as_bytes();
        let (magic, prefix) = (&bytes[257..262], bytes[345]);
        let extended = matches!(self.kind(), b'x' | b'X' | b'g' | b'L' | b'K');
        if known || !extended && (magic != b"ustar" || prefix == 0) {
            Ok(())
        } else {
            Err(TarProblem::Magic)
        }
    }

    /// The name, with the prefix of a POSIX header (GNU's has other fields there).
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = text(&self.header.as_old().name);
        match self.header.as_ustar().map(|ustar| text(&ustar.prefix)) {
            Some(prefix) if !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    pub(crate) fn link(&self) -> Vec<u8> {
        text(&self.header.as_old().linkname).to_vec()
    }

    /// Permission bits; the bits of the file's type, which some writers set, are left out.
    pub(crate) fn mode(&self) -> Result<u32, TarProblem> {
        Ok((number(&self.header.as_old().mode, "mode")? & 0o7777) as u32)
    }

    pub(crate) fn uid(&self) -> Result<u64, TarProblem> {
        number(&self.header.as_old().uid, "uid")
    }

    pub(crate) fn gid(&self) -> Result<u64, TarProblem> {
        number(&self.header.as_old().gid, "gid")
    }

    pub(crate) fn size(&self) -> Result<u64, TarProblem> {
        number(&self.header.as_old().size, "size")
    }

    /// Seconds; before 1970 they are negative, in base 256 only.
    pub(crate) fn mtime(&self) -> Result<i64, TarProblem> {
        signed(&self.header.as_old().mtime, "mtime")
    }

    /// Major and minor number.
    pub(crate) fn device(&self) -> Result<(u64, u64), TarProblem> {
        // POSIX and GNU headers have these two fields at one place.
        let (major, minor) = match (self.header.as_ustar(), self.header.as_gnu()) {
            (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
            (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
            (None, None) => return Ok((0, 0)),
        };
        Ok((number(major, "device major")?, number(minor, "device minor")?))
    }

    /// Of GNU's old sparse format: the pieces in this header, the file's real size, and whether a block with more pieces follows.
    pub(crate) fn sparse(&self) -> Result<(Map, u64, bool), TarProblem> {
        let gnu = self.header.as_gnu().ok_or(TarProblem::Sparse)?;
        Ok((pieces(&gnu.sparse)?, number(&gnu.realsize, "realsize")?, gnu.isextended[0] != 0))
    }
}

/// A block of more pieces, and whether one more follows.
pub(crate) fn more_pieces(block: &[u8; BLOCK]) -> Result<(Map, bool), TarProblem> {
    let mut header = GnuExtSparseHeader::new();
    header.as_mut_bytes().copy_from_slice(block);
    Ok((pieces(&header.sparse)?, header.isextended[0] != 0))
}

fn pieces(table: &[GnuSparseHeader]) -> Result<Vec<(u64, u64)>, TarProblem> {
    let used = table.iter().take_while(|piece| piece.offset[0] != 0 && piece.numbytes[0] != 0);
    used.map(|piece| {
        Ok((number(&piece.offset, "sparse offset")?, number(&piece.numbytes, "sparse size")?))
    })
    .collect()
}

/// The bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits, blanks before them, a NUL or blank after them; or base 256 if the first bit is set (GNU).
fn number(field: &[u8], name: &'static str) -> Result<u64, TarProblem> {
    u64::try_from(signed(field, name)?).map_err(|_| TarProblem::Range(name))
}

fn signed(field: &[u8], name: &'static str) -> Result<i64, TarProblem> {
    if field[0] & 0x80 != 0 {
        return base256(field, name);
    }
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(digits.len());
    // What follows the digits ends the field; only NULs and blanks may stand there.
    if digits[end..].iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err(TarProblem::Number(name));
    }
    digits[..end]
        .iter()
        .try_fold(0_i64, |value, digit| value.checked_mul(8)?.checked_add(i64::from(digit - b'0')))
        .ok_or(TarProblem::Range(name))
}

/// Two's complement, with the marking first bit taken for the sign bit beside it.
fn base256(field: &[u8], name: &'static str) -> Result<i64, TarProblem> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let mut value = if negative { -1_i64 } else { 0 };
    for byte in std::iter::once(first).chain(field[1..].iter().copied()) {
        value = value.checked_mul(256).ok_or(TarProblem::Range(name))? | i64::from(byte);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(signed(b"0000755\0", "mode"), Ok(0o755));
        assert_eq!(signed(b"   755 \0", "mode"), Ok(0o755));
        assert_eq!(signed(b"77777777", "mode"), Ok(0o7777_7777));
        assert_eq!(signed(&[0; 8], "mode"), Ok(0));
        for bad in [b"000 755\0", b"-000755\0", b"0x00755\0", b"755\x00755\0", b"9999999\0"] {
            assert_eq!(signed(bad, "mode"), Err(TarProblem::Number("mode")), "{bad:?}");
        }
    }

    #[test]
    fn base_256() {
        assert_eq!(signed(b"\x80\0\0\0\0\0\0\x01\0\0\0\0", "size"), Ok(1 << 32));
        assert_eq!(signed(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", "mtime"), Ok(-2));
        assert_eq!(
            number(b"\xff\xff\xff\xff\xff\xff\xff\xfe", "uid"),
            Err(TarProblem::Range("uid"))
        );
        assert_eq!(
            number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "size"),
            Err(TarProblem::Range("size"))
        );
        assert_eq!(
            number(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", "size"),
            Ok(i64::MAX as u64)
        );
    }
}
