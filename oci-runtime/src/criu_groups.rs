//! The options of cgroup v2, which all its mounts of a machine share: CRIU, where it manages cgroups, mounts it once more
//! without any, and then none has them. `nsdelegate` among them keeps containers from what is their host's.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sys::fscontext::FsContext;
use sys::mountinfo::Mount;
use sys::{Failure, Report, Step};

use crate::{Error, external};

/// The options as they are before CRIU is called; `None` where there is no cgroup v2.
#[derive(Debug)]
pub(crate) struct GroupOptions(Option<(PathBuf, OsString)>);

impl GroupOptions {
    /// Looks at them.
    ///
    /// # Errors
    /// The caller's mounts cannot be read.
    pub(crate) fn find() -> Result<Self, Error> {
        let mounts = external::mounts_of("self")?;
        let found = mounts.into_iter().rev().find(|mount| mount.fstype == "cgroup2");
        Ok(Self(found.map(|Mount { target, super_options, .. }| (target, super_options))))
    }

    /// Sets them again where they are others by now. What fails of that is a sentence.
    pub(crate) fn put_back(self) -> Vec<String> {
        let Some((path, wanted)) = self.0 else { return Vec::new() };
        let now = match Self::find() {
            Ok(Self(now)) => now,
            Err(error) => return vec![error.to_string()],
        };
        if now.is_none_or(|(_, options)| options == wanted) {
            return Vec::new();
        }
        let Err(failure) = set(&path, wanted.as_bytes()) else { return Vec::new() };
        vec![format!(
            "CRIU has changed the options of cgroup v2 for all of the machine, and they cannot be set again: {}; do it by \
             `mount -o remount,{} {}`",
            Report::from(failure),
            wanted.display(),
            path.display()
        )]
    }
}

fn set(path: &Path, options: &[u8]) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mount =
        rustix::fs::open(path, flags, Mode::empty()).step("opening the mount of cgroup v2")?;
    let context = FsContext::pick(mount)?;
    // Both are the file system's own.
    let words = options.split(|byte| *byte == b',').filter(|word| !matches!(*word, b"rw" | b"ro"));
    for word in words {
        let word = CString::new(word)
            .map_err(|_| Failure::new("naming an option", rustix::io::Errno::INVAL))?;
        context.flag(&word)?;
    }
    context.reconfigure()
}
