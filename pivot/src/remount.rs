//! A mount that is there already gets other options (`remount`).

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use rustix::fs::OFlags;
use sys::fscontext::FsContext;
use sys::mount::{self, Change};
use sys::{Failure, Step, below};

use crate::Error;
use crate::error::c_string;
use crate::filesystem::{Setting, prepare_data, set_all};
use crate::words::{Attributes, MountWords, SUPERBLOCK};

/// Options for an existing mount, prepared: what they name is changed, all else stays.
#[derive(Debug)]
pub struct Remount {
    target: CString,
    words: MountWords,
    data: Vec<Setting>,
    description: String,
}

impl Remount {
    /// Prepares `options` for the mount on `target` (absolute, in the container). With the word `bind` they
    /// are for this mount alone, and none are for its file system.
    ///
    /// Errors: a NUL byte, a value longer than 255 bytes, an option of the file system beside `bind`.
    pub fn new<S: AsRef<str>>(target: &str, options: &[S]) -> Result<Self, Error> {
        let mut words = MountWords::parse(options);
        if words.bind.is_some() {
            words.data.retain(|datum| !SUPERBLOCK.contains(&datum.key.as_str()));
            if let Some(datum) = words.data.first() {
                let (option, target) = (datum.key.clone(), target.to_owned());
                return Err(Error::NotOfBinds { option, target });
            }
        }
        let given: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        Ok(Self {
            target: c_string("mount target", target)?,
            data: prepare_data(&words.data, target)?,
            words,
            description: format!("the remount of {target} ({})", given.join(",")),
        })
    }

    /// Child side. Changes the mount whose root is the target below `root`; links are followed below the
    /// root. EINVAL: nothing is mounted right there.
    pub fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let mounted =
            below::open(root, &self.target, OFlags::PATH).step("opening the mount to change")?;
        let flags = |Attributes { set, clear }, recursive| Change {
            set: Some(set),
            clear: Some(clear),
            recursive,
            ..Change::default()
        };
        if !self.words.mount.is_empty() {
            mount::change(&mounted, &flags(self.words.mount, false))
                .step("changing the flags of the mount")?;
        }
        if !self.words.tree.is_empty() {
            mount::change(&mounted, &flags(self.words.tree, true))
                .step("changing the flags of the mount and of those below it")?;
        }
        if let Some((propagation, recursive)) = self.words.propagation {
            let change = Change { propagation: Some(propagation), recursive, ..Change::default() };
            mount::change(&mounted, &change).step("changing the propagation of the mount")?;
        }
        if self.data.is_empty() {
            return Ok(());
        }
        let context = FsContext::pick(&mounted)?;
        set_all(&context, &self.data)?;
        context.reconfigure()
    }

    /// `the remount of /proc (ro)`, for sentences about a failure.
    pub fn describe(&self) -> String {
        self.description.clone()
    }
}
