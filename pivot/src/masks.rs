//! Masked and read-only paths.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::fscontext::FsContext;
use sys::mount::{self, Change};
use sys::{Failure, Step, below};

use crate::Error;
use crate::error::c_string;
use crate::target::open_entry;

/// For the mount of a mask: nothing to write, run or escalate with.
const MASK: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY
    .union(MountAttrFlags::MOUNT_ATTR_NOSUID)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Paths to hide and paths to protect, prepared.
#[derive(Debug)]
pub struct Masks {
    read_only: Vec<CString>,
    masked: Vec<CString>,
}

impl Masks {
    /// Prepares both lists; each path is absolute, in the container.
    pub fn prepare<M: AsRef<str>, R: AsRef<str>>(
        masked: &[M],
        read_only: &[R],
    ) -> Result<Self, Error> {
        let masked = masked.iter().map(|path| prepare("masked path", path.as_ref()));
        let read_only = read_only.iter().map(|path| prepare("read-only path", path.as_ref()));
        Ok(Self {
            read_only: read_only.collect::<Result<_, _>>()?,
            masked: masked.collect::<Result<_, _>>()?,
        })
    }

    /// Child side. Makes the read-only paths read-only with all that is mounted below them, then
    /// covers the masked ones: a directory with an empty read-only tmpfs, anything else with the
    /// container's own `/dev/null`. What is missing is skipped; every other error is one. The
    /// failure's index counts the read-only paths first.
    pub fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let mut index = 0;
        for path in &self.read_only {
            if let Some(target) = find(root, path).map_err(|failure| failure.of(0, index))? {
                protect(target).map_err(|failure| failure.of(0, index))?;
            }
            index += 1;
        }
        let mut sources = Sources { root, empty: None, null: None };
        for path in &self.masked {
            if let Some(target) = find(root, path).map_err(|failure| failure.of(0, index))? {
                sources.mask(target).map_err(|failure| failure.of(0, index))?;
            }
            index += 1;
        }
        Ok(())
    }

    /// `the masked path /proc/kcore`: what the failure of `index` is about.
    pub fn describe(&self, index: u32) -> String {
        let index = index as usize;
        let (what, path) = match self.read_only.get(index) {
            Some(path) => ("read-only", Some(path)),
            None => ("masked", self.masked.get(index - self.read_only.len())),
        };
        match path {
            Some(path) => format!("the {what} path {}", path.to_string_lossy()),
            None => "the masked paths".to_owned(),
        }
    }
}

fn prepare(what: &'static str, path: &str) -> Result<CString, Error> {
    if !path.starts_with('/') {
        let reason = "it is not absolute; begin it with a slash";
        return Err(Error::Path { what, path: path.to_owned(), reason });
    }
    c_string(what, path)
}

/// The path below the root; `None` when there is none.
fn find(root: BorrowedFd<'_>, path: &CString) -> Result<Option<OwnedFd>, Failure> {
    match below::open(root, path, OFlags::PATH) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(Failure::new("opening the path to mask or protect", errno)),
    }
}

fn protect(target: OwnedFd) -> Result<(), Failure> {
    // The clone keeps nosuid, nodev and noexec of the mount that it is of.
    let tree = mount::clone_tree(&target, c"", true).step("cloning the path to protect")?;
    let read_only = Change {
        set: Some(MountAttrFlags::MOUNT_ATTR_RDONLY),
        recursive: true,
        ..Change::default()
    };
    mount::change(&tree, &read_only).step("making the path read-only")?;
    mount::attach(tree, target).step("attaching the read-only path")
}

/// What masks are made of; each made when it is first needed.
struct Sources<'fd> {
    root: BorrowedFd<'fd>,
    /// The first directory's tmpfs; attached, since a detached mount cannot be cloned everywhere.
    empty: Option<OwnedFd>,
    null: Option<OwnedFd>,
}

impl Sources<'_> {
    fn mask(&mut self, target: OwnedFd) -> Result<(), Failure> {
        let stat = rustix::fs::fstat(&target).step("looking at the path to mask")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return self.mask_directory(target);
        }
        let null = match &self.null {
            Some(null) => null,
            None => self.null.insert(open_null(self.root)?),
        };
        let tree = mount::clone_tree(null, c"", false).step("cloning /dev/null for a mask")?;
        mount::change(&tree, &Change { set: Some(MASK), ..Change::default() })
            .step("making the mask read-only")?;
        mount::attach(tree, target).step("attaching the mask")
    }

    fn mask_directory(&mut self, target: OwnedFd) -> Result<(), Failure> {
        if let Some(empty) = &self.empty {
            let tree = mount::clone_tree(empty, c"", false).step("cloning the mask's tmpfs")?;
            return mount::attach(tree, target).step("attaching the mask");
        }
        let context = FsContext::open(c"tmpfs")?;
        context.string(c"source", c"tmpfs")?;
        context.string(c"mode", c"755")?;
        context.flag(c"ro")?;
        let empty = context.mount(MASK | MountAttrFlags::MOUNT_ATTR_NODEV)?;
        mount::attach(&empty, target).step("attaching the mask")?;
        self.empty = Some(empty);
        Ok(())
    }
}

/// The container's own `/dev/null`, if it is one: a mask of something else could be written to or
/// read (CVE-2025-31133). The host's would lend the container an inode to chmod.
fn open_null(root: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let dev = open_entry(root, c"dev").step("opening /dev, to mask files with its null")?;
    let null = open_entry(dev.as_fd(), c"null").step("opening /dev/null, to mask files with it")?;
    let stat = rustix::fs::fstat(&null).step("looking at /dev/null")?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if (kind, stat.st_rdev) != (FileType::CharacterDevice, makedev(1, 3)) {
        return Err(Failure::new(
            "masking files with a /dev/null that is not the null device (char 1:3)",
            Errno::NODEV,
        ));
    }
    Ok(null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_has_its_words() {
        let masks = Masks::prepare(&["/proc/kcore"], &["/proc/sys"]).unwrap();
        assert_eq!(masks.describe(0), "the read-only path /proc/sys");
        assert_eq!(masks.describe(1), "the masked path /proc/kcore");
        assert_eq!(masks.describe(2), "the masked paths");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let none: [&str; 0] = [];
        assert!(Masks::prepare(&["proc"], &none).unwrap_err().to_string().contains("not absolute"));
        assert!(Masks::prepare(&none, &["/a\0"]).unwrap_err().to_string().contains("NUL"));
    }
}
