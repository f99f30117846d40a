//! Why a command could not be executed: which of the many reasons behind one errno it was.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::OFlags;
use rustix::io::Errno;
use sys::{Report, below};

use crate::process::Command;
use crate::{CommandProblem, Error};

/// Bytes looked at of a program (BINPRM_BUF_SIZE of linux/binfmts.h is 256).
const HEAD: usize = 4096;

/// The error for a failed exec in `root`.
pub(crate) fn command(command: &Command, root: BorrowedFd<'_>, report: &Report) -> Error {
    let tried = command.candidates.get(report.index as usize).map(|path| path.as_c_str());
    let (reason, problem) = match (report.errno, tried) {
        (Errno::NOENT | Errno::NOTDIR, tried) => not_found(command, root, tried),
        (errno, Some(path)) => (cannot(root, path, errno), CommandProblem::CannotExecute),
        (errno, None) => (said(errno), CommandProblem::CannotExecute),
    };
    Error::Command { command: command.name.clone(), reason, problem }
}

fn said(errno: Errno) -> String {
    // Engines look for these words, which are those of strerror(3) in small letters.
    match errno {
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::NOENT => "no such file or directory".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        errno => std::io::Error::from(errno).to_string(),
    }
}

/// ENOENT is said of the command, and of the interpreter that it asks for.
fn not_found(
    command: &Command,
    root: BorrowedFd<'_>,
    tried: Option<&CStr>,
) -> (String, CommandProblem) {
    if let Some(path) = tried
        && let Ok(head) = Head::read(root, path)
    {
        let why = match head.interpreter() {
            Some(interpreter) => {
                let carriage = match interpreter.ends_with('\r') {
                    true => {
                        "; its first line ends in CR LF as on Windows, and the CR is taken for a \
                         part of the name: convert the file (dos2unix)"
                    }
                    false => "",
                };
                let kind = if head.is_script() { "interpreter" } else { "loader" };
                format!(
                    "exec {}: no such file or directory: the {kind} {interpreter:?} that it \
                     asks for is not in the image{carriage}",
                    path.to_string_lossy()
                )
            }
            None => format!("no such file or directory: {}", path.to_string_lossy()),
        };
        return (why, CommandProblem::NotFound);
    }
    let reason = if command.name.contains('/') {
        "no such file or directory (in the container's root)".to_owned()
    } else {
        format!("executable file not found in $PATH (PATH is {})", command.path)
    };
    (reason, CommandProblem::NotFound)
}

/// Another errno than ENOENT, of a file that is there.
fn cannot(root: BorrowedFd<'_>, path: &CStr, errno: Errno) -> String {
    let words = said(errno);
    let shown = path.to_string_lossy();
    let why = match errno {
        Errno::ACCESS => denied(root, path),
        Errno::NOEXEC => match Head::read(root, path) {
            Ok(head) => head.format(),
            Err(error) => Some(error),
        },
        Errno::ISDIR => Some("it is a directory".to_owned()),
        Errno::TXTBSY => Some("it is open for writing".to_owned()),
        _ => None,
    };
    match why {
        Some(why) => format!("{words}: {shown}: {why}"),
        None => format!("{words}: {shown}"),
    }
}

fn denied(root: BorrowedFd<'_>, path: &CStr) -> Option<String> {
    let entry = match below::open(root, path, OFlags::PATH) {
        Ok(entry) => entry,
        Err(errno) => return Some(said(errno)),
    };
    let metadata = File::from(entry.try_clone().ok()?).metadata().ok()?;
    if metadata.is_dir() {
        return Some("it is a directory".to_owned());
    }
    if !metadata.is_file() {
        return Some("it is no regular file".to_owned());
    }
    if metadata.mode() & 0o111 == 0 {
        let mode = metadata.mode() & 0o7777;
        return Some(format!("its mode {mode:04o} has no x bit (chmod +x)"));
    }
    let flags = rustix::fs::fstatvfs(&entry).ok()?.f_flag;
    if flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        return Some("it lies on a mount with noexec".to_owned());
    }
    if let Ok(head) = Head::read(root, path)
        && let Some(interpreter) = head.interpreter()
    {
        return Some(format!("the user may not execute it, or its interpreter {interpreter:?}"));
    }
    Some("the user may not execute it, or may not search a directory above it".to_owned())
}

/// The beginning of a program.
struct Head {
    bytes: Vec<u8>,
}

impl Head {
    fn read(root: BorrowedFd<'_>, path: &CStr) -> Result<Self, String> {
        let entry = below::open(root, path, OFlags::PATH).map_err(said)?;
        let Some(file) = below::open_regular(entry).map_err(said)? else {
            return Err("it is no regular file".to_owned());
        };
        let file = File::from(file);
        let mut bytes = Vec::with_capacity(HEAD);
        (&file).take(HEAD as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let mut head = Self { bytes };
        head.read_interpreter(&file);
        Ok(head)
    }

    fn is_script(&self) -> bool {
        self.bytes.starts_with(b"#!")
    }

    /// Appends the loader's name where it lies beyond what was read.
    fn read_interpreter(&mut self, file: &File) {
        if let Some((offset, size)) = self.program_interpreter()
            && size <= HEAD
            && offset.saturating_add(size) > self.bytes.len()
        {
            let mut name = vec![0; size];
            if file.read_exact_at(&mut name, offset as u64).is_ok() {
                self.bytes.resize(offset.min(1 << 20), 0);
                self.bytes.extend_from_slice(&name);
            }
        }
    }

    /// What the kernel starts in its place: the word behind `#!`, or the loader of a dynamic program.
    fn interpreter(&self) -> Option<String> {
        if let Some(line) = self.bytes.strip_prefix(b"#!") {
            let line = line.split(|&byte| byte == b'\n').next()?;
            let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
            let word = line.split(blank).find(|word| !word.is_empty())?;
            return Some(String::from_utf8_lossy(word).into_owned());
        }
        let (offset, size) = self.program_interpreter()?;
        let name = self.bytes.get(offset..offset.checked_add(size)?)?;
        let name = name.split(|&byte| byte == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Offset and size of PT_INTERP (elf(5)), of a program with this machine's byte order.
    fn program_interpreter(&self) -> Option<(usize, usize)> {
        const PT_INTERP: u64 = 3;
        if !self.bytes.starts_with(b"\x7fELF") {
            return None;
        }
        let wide = *self.bytes.get(4)? == 2;
        let little = *self.bytes.get(5)? == 1;
        let number = |at: usize, size: usize| number(&self.bytes, at, size, little);
        let (table, entry, count) = match wide {
            true => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
            false => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
        };
        (0..count).find_map(|index| {
            let at = usize::try_from(table.checked_add(index.checked_mul(entry)?)?).ok()?;
            if number(at, 4)? != PT_INTERP {
                return None;
            }
            let (offset, size) = match wide {
                true => (number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?),
                false => (number(at.checked_add(4)?, 4)?, number(at.checked_add(16)?, 4)?),
            };
            Some((usize::try_from(offset).ok()?, usize::try_from(size).ok()?))
        })
    }

    /// What is wrong with the format.
    fn format(&self) -> Option<String> {
        if self.bytes.is_empty() {
            return Some("the file is empty".to_owned());
        }
        if self.is_script() {
            return Some("its first line names no interpreter behind \"#!\"".to_owned());
        }
        if !self.bytes.starts_with(b"\x7fELF") {
            return Some(
                "it is neither a program nor a script that begins with \"#!\" (add #!/bin/sh as \
                 its first line)"
                    .to_owned(),
            );
        }
        let little = *self.bytes.get(5)? == 1;
        let machine = machine(number(&self.bytes, 18, 2, little)?);
        let own = std::env::consts::ARCH;
        if machine == own {
            return Some("it is a damaged program, or one for another system".to_owned());
        }
        Some(format!(
            "it is a program for {machine}, and this machine is {own}; use an image for this \
             machine's platform"
        ))
    }
}

fn number(bytes: &[u8], at: usize, size: usize, little: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(match little {
        true => bytes.iter().rev().fold(0, add),
        false => bytes.iter().fold(0, add),
    })
}

/// e_machine of elf(5), by the names of Rust's targets.
fn machine(number: u64) -> String {
    match number {
        3 => "x86".to_owned(),
        8 => "mips".to_owned(),
        20 => "powerpc".to_owned(),
        21 => "powerpc64".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv64".to_owned(),
        258 => "loongarch64".to_owned(),
        other => format!("machine {other} (elf(5), e_machine)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: &[u8]) -> Head {
        Head { bytes: bytes.to_vec() }
    }

    #[test]
    fn scripts_name_their_interpreter() {
        assert_eq!(head(b"#! /bin/sh -e\n").interpreter().unwrap(), "/bin/sh");
        assert_eq!(head(b"#!/bin/bash\r\necho").interpreter().unwrap(), "/bin/bash\r");
        assert_eq!(head(b"#!\n").interpreter(), None);
        assert!(head(b"#!\n").format().unwrap().contains("names no interpreter"));
        assert!(head(b"echo hello\n").format().unwrap().contains("#!/bin/sh"));
        assert!(head(b"").format().unwrap().contains("empty"));
    }

    #[test]
    fn programs_name_their_loader_and_machine() {
        let own = std::fs::read("/bin/ls").unwrap();
        let head = head(&own[..HEAD]);
        assert!(head.interpreter().unwrap().contains("ld-linux"), "{:?}", head.interpreter());
        let mut other = own[..HEAD].to_vec();
        other[18..20].copy_from_slice(&183_u16.to_le_bytes());
        let text = Head { bytes: other }.format().unwrap();
        assert!(text.contains("for aarch64"), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), elf in proptest::bool::ANY
        ) {
            let mut all = if elf { b"\x7fELF\x02\x01".to_vec() } else { Vec::new() };
            all.extend(bytes);
            let head = Head { bytes: all };
            let _ = (head.interpreter(), head.format());
        }
    }
}
