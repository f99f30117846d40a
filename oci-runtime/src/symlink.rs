//! A symbolic link in place of a bind (`copy-symlink`, as crun has it).

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use sys::{Failure, Step, below};

use crate::Error;

/// A link that is to be made, prepared.
#[derive(Debug)]
pub(crate) struct Symlink {
    parent: CString,
    name: CString,
    to: CString,
}

impl Symlink {
    /// At `target` (absolute, in the container), leading `to` where the host's leads.
    pub(crate) fn new(target: &str, to: &Path) -> Result<Self, Error> {
        let target = target.trim_end_matches('/');
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| Error::field("mounts", "a path has a NUL byte"))
        };
        match target.rsplit_once('/') {
            Some((parent, name)) if !matches!(name, "" | "." | "..") => Ok(Self {
                parent: text(if parent.is_empty() { b"/" } else { parent.as_bytes() })?,
                name: text(name.as_bytes())?,
                to: text(to.as_os_str().as_encoded_bytes())?,
            }),
            _ => Err(Error::field("mounts", format!("{target:?} is no place for a link"))),
        }
    }

    /// Child side. One that leads to the same is left as it is.
    pub(crate) fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let mode = Mode::from_raw_mode(0o755);
        let parent = below::make(root, &self.parent, below::Kind::Directory, mode)
            .step("opening or making the directory of a link")?;
        match rustix::fs::symlinkat(&self.to, &parent, &self.name) {
            Err(Errno::EXIST) => {}
            result => return result.step("making the link"),
        }
        let mut buffer = [std::mem::MaybeUninit::<u8>::uninit(); 4096];
        let (found, _) = rustix::fs::readlinkat_raw(&parent, &self.name, &mut buffer)
            .step("reading what has the link's name")?;
        match found == self.to.as_bytes() {
            true => Ok(()),
            false => Err(Failure::new("making the link where another one is", Errno::EXIST)),
        }
    }

    pub(crate) fn describe(&self) -> String {
        let (parent, name) = (self.parent.to_string_lossy(), self.name.to_string_lossy());
        format!("the link {}/{name}", parent.trim_end_matches('/'))
    }
}
