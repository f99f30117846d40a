//! The program behind `--init`: this one, bound into the container.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// Where the container has it, by Docker's name; by that name it is an init.
pub(crate) const TARGET: &str = "/sbin/docker-init";

/// The path of this program, which can run in any container: nothing of the image is loaded.
///
/// # Errors
/// It is linked dynamically ([`Error::InitNotStatic`]), or cannot be found or read
/// ([`Error::System`]).
pub(crate) fn program() -> Result<PathBuf, Error> {
    let path = oci_runtime::own_path()?;
    check(&path)?;
    Ok(path)
}

/// Checks that a program has no interpreter.
fn check(path: &Path) -> Result<(), Error> {
    // What says "(deleted)" in the link is not there: an upgrade replaced the running program.
    let failed = |error| Error::system("read, for --init,", path, error);
    let file = File::open(path).map_err(failed)?;
    match has_interpreter(|bytes, offset| file.read_exact_at(bytes, offset)).map_err(failed)? {
        Some(false) => Ok(()),
        Some(true) => Err(Error::InitNotStatic { path: path.to_owned() }),
        None => {
            let path = path.to_string_lossy();
            Err(Error::invalid("program for --init", &path, "it is no ELF program of this machine"))
        }
    }
}

/// Whether an ELF program has a program header PT_INTERP (elf(5)); `None` where it is none of this
/// machine's word size and byte order, as the running program is.
fn has_interpreter<E>(read: impl Fn(&mut [u8], u64) -> Result<(), E>) -> Result<Option<bool>, E> {
    const PT_INTERP: u32 = 3;
    const WIDE: bool = cfg!(target_pointer_width = "64");
    let class = if WIDE { 2 } else { 1 };
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    let mut header = [0; if WIDE { 64 } else { 52 }];
    read(&mut header, 0)?;
    if header[..6] != [0x7f, b'E', b'L', b'F', class, order] {
        return Ok(None);
    }
    // e_phoff is a word at 32 or 28; e_phentsize and e_phnum are shorts at 54 or 42.
    let short = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let (table, size, count) = if WIDE {
        let mut word = [0; 8];
        word.copy_from_slice(&header[32..40]);
        (u64::from_ne_bytes(word), short(54), short(56))
    } else {
        let mut word = [0; 4];
        word.copy_from_slice(&header[28..32]);
        (u64::from(u32::from_ne_bytes(word)), short(42), short(44))
    };
    for index in 0..u64::from(count) {
        let mut kind = [0; 4];
        read(&mut kind, table.saturating_add(index * u64::from(size)))?;
        if u32::from_ne_bytes(kind) == PT_INTERP {
            return Ok(Some(true));
        }
    }
    Ok(Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit header with program headers of these types.
    #[cfg(target_pointer_width = "64")]
    fn elf(kinds: &[u32]) -> Vec<u8> {
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, order]);
        bytes[32..40].copy_from_slice(&64_u64.to_ne_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_ne_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(kinds.len()).unwrap().to_ne_bytes());
        for kind in kinds {
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    fn checked(bytes: &[u8]) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        check(file.path()).map_err(|error| error.to_string())
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn an_interpreter_is_found() {
        checked(&elf(&[6, 1, 1])).unwrap();
        checked(&elf(&[])).unwrap();
        let error = checked(&elf(&[6, 1, 3])).unwrap_err();
        assert!(error.contains("PT_INTERP") && error.contains("release binary"), "{error}");
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn what_is_no_program_is_said() {
        for bytes in [&b"#!/bin/sh\n"[..], b"", &elf(&[1, 1])[..100]] {
            let error = checked(bytes).unwrap_err();
            assert!(error.contains("--init"), "{error}");
        }
        let other = [&elf(&[1])[..5], &[9], &elf(&[1])[6..]].concat();
        assert!(checked(&other).unwrap_err().contains("no ELF program of this machine"));
        assert!(check(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }

    #[test]
    fn this_program_is_judged_as_it_was_linked() {
        let result = program();
        assert_eq!(result.is_ok(), cfg!(target_feature = "crt-static"), "{result:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(tail in proptest::collection::vec(proptest::num::u8::ANY, 58)) {
            let bytes = [&b"\x7fELF\x02\x01"[..], &tail].concat();
            let read = |into: &mut [u8], offset: u64| {
                let from = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
                match from.and_then(|from| from.get(..into.len())) {
                    Some(part) => { into.copy_from_slice(part); Ok(()) }
                    None => Err(()),
                }
            };
            let _ = has_interpreter(read);
        }
    }
}
