//! Files without a name, in memory.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::MemfdFlags;

/// A file of these bytes, at its beginning.
pub(crate) fn file(bytes: &[u8]) -> File {
    let mut file: File = memfd().into();
    file.write_all(bytes).expect("writing to memory");
    file.rewind().expect("rewinding a file in memory");
    file
}

fn memfd() -> OwnedFd {
    rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file in memory")
}

/// A path that leads to an open file of this process.
pub(crate) fn path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
