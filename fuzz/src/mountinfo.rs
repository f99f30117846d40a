//! `sys::mountinfo`: what a container's mounts are called is the container's choice, and the host reads it.
//!
//! What is understood, written again as the kernel would, is understood as the same.

use std::os::unix::ffi::OsStrExt;

use sys::mountinfo::{Mount, parse};

/// Bytes as `/proc/PID/mountinfo`.
///
/// # Panics
/// The parser does; or it does not understand its own words.
pub fn run(bytes: &[u8]) {
    let mounts = match parse(bytes) {
        Ok(mounts) => mounts,
        Err(error) => {
            let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let line = lines.nth(error.line - 1).expect("the line that is named");
            assert_eq!(String::from_utf8_lossy(line), error.text);
            return;
        }
    };
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(mounts.len(), lines, "a mount a line");
    let text: Vec<u8> = mounts.iter().flat_map(line).collect();
    assert_eq!(parse(&text).as_ref(), Ok(&mounts), "{}", text.escape_ascii());
}

/// As fs/proc_namespace.c of Linux writes it.
fn line(mount: &Mount) -> Vec<u8> {
    let Mount { id, parent, major, minor, .. } = mount;
    let mut out = format!("{id} {parent} {major}:{minor} ").into_bytes();
    escape(mount.root.as_os_str().as_bytes(), &mut out);
    escape(mount.target.as_os_str().as_bytes(), &mut out);
    for word in [&mount.options].into_iter().chain(&mount.propagation).map(String::as_str) {
        out.extend(word.as_bytes());
        out.push(b' ');
    }
    out.extend(b"- ");
    out.extend(mount.fstype.as_bytes());
    out.push(b' ');
    escape(mount.source.as_bytes(), &mut out);
    escape(mount.super_options.as_bytes(), &mut out);
    out.pop();
    out.push(b'\n');
    out
}

fn escape(field: &[u8], out: &mut Vec<u8>) {
    for byte in field {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => out.extend(format!("\\{byte:03o}").bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b' ');
}
