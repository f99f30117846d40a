//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)), parsed. Allocates.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount of a mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount's own number.
    pub id: u32,
    /// That of the mount it sits on.
    pub parent: u32,
    /// Major number of the device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// What of the file system is mounted: a path in it.
    pub root: PathBuf,
    /// Where, seen from the reading process's root.
    pub target: PathBuf,
    /// The mount's own flags, `rw,relatime`.
    pub options: String,
    /// The optional fields: `shared:N`, `master:N`, `propagate_from:N`, `unbindable`.
    pub propagation: Vec<String>,
    /// The file system's type, `overlay`.
    pub fstype: String,
    /// What was given as the source, `/dev/sda2`.
    pub source: OsString,
    /// The superblock's options, `rw,lowerdir=…`.
    pub super_options: OsString,
}

/// The line that is no mountinfo line, and its number from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} of a mountinfo file is not of the form that proc_pid_mountinfo(5) describes: {text:?}"
)]
pub struct ParseError {
    /// Its number, from 1.
    pub line: usize,
    /// What stands there.
    pub text: String,
}

/// All mounts of the file's bytes, in its order (parents before children).
pub fn parse(bytes: &[u8]) -> Result<Vec<Mount>, ParseError> {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(number, line)| {
            parse_line(line).ok_or_else(|| ParseError {
                line: number + 1,
                text: String::from_utf8_lossy(line).into_owned(),
            })
        })
        .collect()
}

/// Shows `look` the mounts of a mountinfo file, one after the other, until it has seen enough. Nothing is kept: a host that
/// shows a thousand containers' roots has a long table, and its own mounts first in it.
///
/// # Errors
/// It cannot be read, or is not of the form ([`ParseError`], [`io::ErrorKind::InvalidData`]).
pub fn visit(file: impl Read, mut look: impl FnMut(Mount) -> ControlFlow<()>) -> io::Result<()> {
    for (number, line) in BufReader::with_capacity(4096, file).split(b'\n').enumerate() {
        let line = line?;
        let mount = parse_line(&line).ok_or_else(|| {
            let text = String::from_utf8_lossy(&line).into_owned();
            io::Error::new(io::ErrorKind::InvalidData, ParseError { line: number + 1, text })
        })?;
        if look(mount).is_break() {
            break;
        }
    }
    Ok(())
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut next = || fields.next();
    let id = number(next()?)?;
    let parent = number(next()?)?;
    let mut device = next()?.split(|&byte| byte == b':');
    let (major, minor) = (number(device.next()?)?, number(device.next()?)?);
    let root = unescape(next()?).into();
    let target = unescape(next()?).into();
    let options = text(next()?)?;
    let mut propagation = Vec::new();
    loop {
        match next()? {
            b"-" => break,
            field => propagation.push(text(field)?),
        }
    }
    let fstype = text(next()?)?;
    let source = unescape(next()?);
    let super_options = unescape(next()?);
    Some(Mount {
        id,
        parent,
        major,
        minor,
        root,
        target,
        options,
        propagation,
        fstype,
        source,
        super_options,
    })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> Option<String> {
    String::from_utf8(field.to_owned()).ok()
}

/// `\040` is a blank: the kernel writes blank, tab, newline, backslash and `#` as three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => out.push(*first),
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_everything() {
        let line = b"36 35 98:0 /mnt1 /a\\040b rw,noatime shared:1 master:2 - overlay over rw,lowerdir=/x\\012y\n";
        let mounts = parse(line).unwrap();
        assert_eq!(mounts[0].target, PathBuf::from("/a b"));
        assert_eq!(mounts[0].propagation, ["shared:1", "master:2"]);
        assert_eq!((mounts[0].major, mounts[0].fstype.as_str()), (98, "overlay"));
        assert_eq!(mounts[0].super_options, "rw,lowerdir=/x\ny");
    }

    #[test]
    fn this_machine_parses() {
        let mounts = parse(&std::fs::read("/proc/self/mountinfo").unwrap()).unwrap();
        assert!(mounts.iter().any(|mount| mount.target == std::path::Path::new("/")));
    }

    #[test]
    fn no_more_is_read_than_is_looked_for() {
        // What comes after it would be an error.
        let text = b"1 2 0:3 / / rw - ext4 x rw\n4 1 0:5 / /sys rw - cgroup2 none rw\nnonsense\n";
        let read = |what: &str| {
            let mut seen = 0;
            visit(&text[..], |mount| {
                seen += 1;
                if mount.fstype == what {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .map(|()| seen)
        };
        assert_eq!(read("cgroup2").unwrap(), 2);
        assert_eq!(read("ext4").unwrap(), 1);
        let error = read("overlay").unwrap_err();
        assert!(error.to_string().starts_with("line 3 of a mountinfo file"), "{error}");
    }

    #[test]
    fn garbage_names_its_line() {
        let error = parse(b"36 35 98:0 / / rw - ext4 x rw\nnonsense\n").unwrap_err();
        assert_eq!((error.line, error.text.as_str()), (2, "nonsense"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
