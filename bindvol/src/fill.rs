//! The first use of a volume: it gets what the image has at its target.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use sys::erase::{empty, names};
use sys::{Failure, Step, below};

use crate::target::c_string;
use crate::volumes::{DATA, DIRECTORY, Locked};
use crate::words::clean_target;
use crate::{Error, Volume, copy};

/// Beside a volume's content while it is being filled: what is copied is made in here, and moved
/// to the content when it is whole. So while this exists the volume is not filled yet.
const STAGE: &CStr = c"_fill";
/// What is being made in it.
const STAGED: &CStr = c"file";

/// Fills `volume`, if it is empty, with what the image has at `target` below `image_root`, as Docker
/// does on a volume's first use: owners, modes, times, extended attributes, hard and symbolic
/// links, devices, FIFOs and holes are kept, and the volume's own directory takes the attributes of
/// the image's. Symbolic links are followed in `target`, below the image's root, and nowhere else.
/// Returns whether something was copied; the image may have nothing there.
///
/// Of several processes one fills, the others wait. A volume whose filling was cut off, by an error
/// or a crash, is completed at the next call; what is in it by then is never overwritten. The
/// content is on the disk before the volume counts as filled (syncfs(2)).
///
/// Errors: the image has no directory there but something else; a file that cannot be copied, with
/// its path. Linux 5.6 (openat2).
pub fn fill(volume: &Volume, image_root: BorrowedFd<'_>, target: &str) -> Result<bool, Error> {
    let refuse = |reason| Error::Target { target: target.to_owned(), reason };
    let clean = clean_target(target).map_err(refuse)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let from = match below::open(image_root, &c_string("target", &clean)?, flags) {
        Ok(from) => from,
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::NOTDIR) => return Err(Error::NoDirectory { target: clean }),
        Err(errno) => {
            return Err(Error::io("opening, in the image,", Path::new(&clean))(errno));
        }
    };
    let path = volume.path.parent().unwrap_or(&volume.path);
    let io = |op| Error::io::<Errno>(op, path);
    let beside =
        rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(io("opening the volume"))?;
    let beside = Locked::new(beside).map_err(io("locking the volume"))?;
    let data = rustix::fs::openat(&beside, DATA, DIRECTORY, Mode::empty())
        .map_err(io("opening the content of the volume"))?;
    let stage = match rustix::fs::openat(&beside, STAGE, DIRECTORY, Mode::empty()) {
        Ok(stage) => stage,
        Err(Errno::NOENT) => {
            if !names(data.as_fd()).map_err(io("reading the volume"))?.is_empty() {
                return Ok(false);
            }
            make_stage(&beside).map_err(io("making a place to copy to, in the volume"))?
        }
        Err(errno) => return Err(io("opening the place to copy to, in the volume")(errno)),
    };
    empty(stage.as_fd()).map_err(io("removing what was half copied, in the volume"))?;
    let mut fill = Fill {
        from: from.as_fd(),
        data: data.as_fd(),
        stage: stage.as_fd(),
        linked: HashMap::new(),
        copied: false,
    };
    fill.run().map_err(|(below, failure)| Error::Fill {
        name: volume.name.clone(),
        path: Path::new(&clean).join(below),
        failure: Box::new(failure),
    })?;
    if fill.copied {
        rustix::fs::syncfs(&data).map_err(io("writing the volume to the disk"))?;
    }
    rustix::fs::unlinkat(&beside, STAGE, AtFlags::REMOVEDIR)
        .map_err(io("removing the place to copy to, in the volume"))?;
    Ok(fill.copied)
}

/// Copies all that is in the directory `from` to the empty directory `to` on another file system, which
/// nobody else writes to, and gives that `from`'s own attributes; what is kept of each file is what
/// [`fill`] keeps. For a file system that starts with what it covers (`tmpcopyup`).
///
/// The failure's path lies below `from`, on which file systems are not entered.
pub fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), (PathBuf, Failure)> {
    let here = |failure| (PathBuf::new(), failure);
    let from = rustix::fs::openat(from, c".", DIRECTORY, Mode::empty());
    let from = from.step("opening the directory to copy").map_err(here)?;
    let to = rustix::fs::openat(to, c".", DIRECTORY, Mode::empty());
    let to = to.step("opening the directory to copy to").map_err(here)?;
    // A name that is not among those to come.
    let taken = names(from.as_fd()).step("reading the directory to copy").map_err(here)?;
    let mut stage_name = STAGE.to_owned();
    while taken.contains(&stage_name) {
        let mut longer = stage_name.into_bytes();
        longer.push(b'_');
        stage_name =
            CString::new(longer).map_err(|_| here(Failure::new("naming", Errno::INVAL)))?;
    }
    rustix::fs::mkdirat(&to, &stage_name, Mode::RWXU).step("making a directory").map_err(here)?;
    let stage = rustix::fs::openat(&to, &stage_name, DIRECTORY, Mode::empty());
    let stage = stage.step("opening a directory").map_err(here)?;
    let mut fill = Fill {
        from: from.as_fd(),
        data: to.as_fd(),
        stage: stage.as_fd(),
        linked: HashMap::new(),
        copied: false,
    };
    fill.run()?;
    rustix::fs::unlinkat(&to, &stage_name, AtFlags::REMOVEDIR)
        .step("removing a directory")
        .map_err(here)?;
    // Making and removing changed its times.
    copy::directory(from.as_fd(), to.as_fd()).map_err(here)
}

fn make_stage(beside: &Locked) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(beside, STAGE, Mode::RWXU)?;
    // It must be on the disk before anything that it says is incomplete.
    rustix::fs::fsync(beside)?;
    rustix::fs::openat(beside, STAGE, DIRECTORY, Mode::empty())
}

/// A failure, and the path below the target that it is about.
type Failed = (PathBuf, Failure);

struct Fill<'fd> {
    from: BorrowedFd<'fd>,
    data: BorrowedFd<'fd>,
    stage: BorrowedFd<'fd>,
    /// Where the first name of a file with several is: directory and name.
    linked: HashMap<(u64, u64), (PathBuf, CString)>,
    copied: bool,
}

impl Fill<'_> {
    /// Copies all; directories are opened by their paths from the top, without links, so that
    /// neither their depth nor what others do in the volume meanwhile matters.
    fn run(&mut self) -> Result<(), Failed> {
        let mut pending = vec![PathBuf::new()];
        let mut done = Vec::new();
        while let Some(path) = pending.pop() {
            self.directory(&path, &mut pending)?;
            done.push(path);
        }
        // Deepest first: what is made in a directory changes its times.
        for path in done.iter().rev() {
            let finish = || {
                let (from, to) = self.both(path)?;
                copy::directory(from.as_fd(), to.as_fd())
            };
            finish().map_err(|failure| (path.clone(), failure))?;
        }
        Ok(())
    }

    fn both(&self, path: &Path) -> Result<(OwnedFd, OwnedFd), Failure> {
        let from = open_directory(self.from, path).step("opening the image's directory")?;
        let to = open_directory(self.data, path).step("opening the volume's directory")?;
        Ok((from, to))
    }

    fn directory(&mut self, path: &Path, pending: &mut Vec<PathBuf>) -> Result<(), Failed> {
        let here = |failure| (path.to_owned(), failure);
        let (from, to) = self.both(path).map_err(here)?;
        let entries = names(from.as_fd()).step("reading the image's directory").map_err(here)?;
        for name in entries {
            let below = path.join(OsStr::from_bytes(name.as_bytes()));
            match self.entry(path, from.as_fd(), to.as_fd(), &name) {
                Ok(true) => pending.push(below),
                Ok(false) => {}
                Err(failure) => return Err((below, failure)),
            }
        }
        Ok(())
    }

    /// Copies `name`, and says whether it is a directory that remains to be filled.
    fn entry(
        &mut self,
        path: &Path,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CString,
    ) -> Result<bool, Failure> {
        let stat = look(from, name).step("looking at the file")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match rustix::fs::mkdirat(to, name, Mode::RWXU) {
                Ok(()) => self.copied = true,
                Err(Errno::EXIST) => {
                    // Of the last time, or somebody else's, which stays what it is.
                    let there = look(to, name).step("looking at what the volume has")?;
                    return Ok(FileType::from_raw_mode(there.st_mode) == FileType::Directory);
                }
                Err(errno) => return Err(Failure::new("making the directory", errno)),
            }
            return Ok(true);
        }
        let id = (stat.st_dev, stat.st_ino);
        let several = stat.st_nlink > 1;
        let first = self.linked.get(&id);
        let made = match first {
            Some((directory, first)) => self.link(directory, first, to, name)?,
            None => self.place(from, &stat, to, name)?,
        };
        if several && first.is_none() {
            self.linked.insert(id, (path.to_owned(), name.clone()));
        }
        self.copied |= made;
        Ok(false)
    }

    /// Makes the file beside the volume and moves it in; not where something is already.
    fn place(
        &self,
        from: BorrowedFd<'_>,
        stat: &Stat,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<bool, Failure> {
        match look(to, name) {
            Err(Errno::NOENT) => {}
            result => return result.step("looking at what the volume has").map(|_| false),
        }
        copy::file(from, name, stat, self.stage, STAGED)?;
        match rustix::fs::renameat_with(self.stage, STAGED, to, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(self.stage, STAGED, AtFlags::empty())
                    .step("removing a copy that is not needed")?;
                Ok(false)
            }
            Err(errno) => Err(Failure::new("moving the copy to the volume", errno)),
        }
    }

    fn link(
        &self,
        directory: &Path,
        first: &CStr,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<bool, Failure> {
        let directory = open_directory(self.data, directory)
            .step("opening the directory of the file's other name")?;
        match rustix::fs::linkat(&directory, first, to, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(Failure::new("linking the file to its other name", errno)),
        }
    }
}

/// `path` (relative; empty for itself) below `top`, through no symbolic link and into no other mount.
fn open_directory(top: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(top, path, DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            result => return result,
        }
    }
}

fn look(dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}
