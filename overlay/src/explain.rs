//! Why a mount failed: mount(2) tells an errno only.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags};
use rustix::io::Errno;
use sys::{Failure, Report};

use crate::{Error, Overlay};

/// f_type of an overlay (linux/magic.h).
const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

/// What is wrong with an upper directory there.
const OVERLAY: &str = "another overlay mount";

fn is_overlay(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 == OVERLAYFS_SUPER_MAGIC)
}

impl Overlay {
    /// The kernel mounts an overlay whose upper directory cannot keep attributes, and removing and
    /// making a directory again fails there much later; so it is looked at before.
    pub(crate) fn check_upper(&self) -> Result<(), Error> {
        let Some(upper) = &self.upper else { return Ok(()) };
        let name = if self.userxattr { c"user.overlay.opaque" } else { c"trusted.overlay.opaque" };
        match rustix::fs::getxattr(upper, name, &mut [0_u8; 16]) {
            Err(Errno::NOTSUP) => Err(Error::UpperFileSystem {
                upper: upper.clone(),
                what: match is_overlay(upper) {
                    true => OVERLAY,
                    false => "a file system without the extended attributes that overlayfs needs",
                },
            }),
            _ => Ok(()), // whatever else is wrong, the mount says
        }
    }

    /// The error of a mount that failed. Looks at each path, then at the kernel's log.
    pub(crate) fn explain(&self, failure: Failure) -> Error {
        if let Err(error) = self.look() {
            return error;
        }
        let mut report = Report::from(failure);
        // The same mount by fsopen(2), whose log says more (overlayfs writes there from 6.5 on).
        if report.log.is_empty()
            && let Err(again) = self.context()
            && again.errno == failure.errno
        {
            report.log = Report::from(again).log;
        }
        Error::Mount { options: self.options(), report }
    }

    fn look(&self) -> Result<(), Error> {
        for (option, path) in self.paths() {
            let layer = |errno| Error::Layer { option, path: path.to_owned(), errno };
            let stat = rustix::fs::stat(path).map_err(layer)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(layer(Errno::NOTDIR));
            }
        }
        let (Some(upper), Some(work)) = (&self.upper, &self.work) else { return Ok(()) };
        let unsuitable = |what| Error::UpperFileSystem { upper: upper.clone(), what };
        if is_overlay(upper) {
            return Err(unsuitable(OVERLAY));
        }
        if let (Ok(upper_mount), Ok(work_mount)) = (mount_of(upper), mount_of(work))
            && upper_mount != work_mount
        {
            return Err(Error::OtherMount { upper: upper.clone(), work: work.clone() });
        }
        if let (Ok(real_upper), Ok(real_work)) = (upper.canonicalize(), work.canonicalize())
            && (real_upper.starts_with(&real_work) || real_work.starts_with(&real_upper))
        {
            return Err(Error::Nested { upper: upper.clone(), work: work.clone() });
        }
        let mark = work.join("work/incompat/volatile");
        if mark.exists() {
            return Err(Error::Volatile { work: work.clone(), mark });
        }
        if read_only(upper) {
            return Err(unsuitable("a read-only file system"));
        }
        Ok(())
    }
}

/// Device and mount of a path: (major, minor, mount id where the kernel tells it, 5.8).
fn mount_of(path: &Path) -> Result<(u32, u32, u64), Errno> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_mnt_id))
}

fn read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}
