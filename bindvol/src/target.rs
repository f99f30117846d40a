//! Where a bind goes: a path in the container, and none that the container trusts the kernel with.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::below;

use crate::Error;
use crate::words::clean_target;

/// statfs(2) of proc (linux/magic.h).
pub(crate) const PROC_MAGIC: u64 = 0x9fa0;

/// The inode of a proc file system's root (PROC_ROOT_INO of linux/proc_ns.h).
const PROC_ROOT: u64 = 1;

/// What may be bound below `/proc`: files that lxcfs shows a container its own limits with. Nothing
/// that labels, sysctls or ids are written to (CVE-2019-16884, CVE-2019-19921).
const IN_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// A target that was looked at.
#[derive(Debug)]
pub(crate) struct Target {
    /// Absolute and clean, as a C string.
    pub(crate) path: CString,
    /// Its parent, and its name there.
    parent: CString,
    name: CString,
    /// The same as text.
    pub(crate) text: String,
    /// It may lie in a proc file system.
    pub(crate) in_proc: bool,
}

impl Target {
    /// Of the path as it was given; `source` is what will be bound there.
    pub(crate) fn new(target: &str, source: BorrowedFd<'_>, shown: &Path) -> Result<Self, Error> {
        let refuse = |reason| Err(Error::Target { target: target.to_owned(), reason });
        let text = match clean_target(target) {
            Ok(text) => text,
            Err(reason) => return refuse(reason),
        };
        let path = c_string("target", &text)?;
        let in_proc = if text == "/proc" {
            if !is_proc_root(source).map_err(Error::io("looking at the source", shown))? {
                return refuse(
                    "is trusted with sysctls and labels, and the source is no proc file system; \
                     choose another target",
                );
            }
            true
        } else if text.starts_with("/proc/") {
            if !IN_PROC.contains(&text.as_str()) {
                return refuse(
                    "lies in /proc, of which only files like /proc/meminfo can be covered; choose \
                     another target",
                );
            }
            true
        } else {
            false
        };
        let (parent, name) = text.rsplit_once('/').unwrap_or(("", &text));
        let parent = c_string("target", if parent.is_empty() { "/" } else { parent })?;
        let name = c_string("target", name)?;
        Ok(Self { path, parent, name, text, in_proc })
    }

    /// Child side. As [`below::make`], of the target itself where it is a symbolic link.
    pub(crate) fn make_itself(
        &self,
        root: BorrowedFd<'_>,
        kind: below::Kind,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = below::make(root, &self.parent, below::Kind::Directory, mode)?;
        match rustix::fs::openat(&parent, &self.name, flags, Mode::empty()) {
            Err(Errno::NOENT) => below::make(&parent, &self.name, kind, mode),
            result => result,
        }
    }
}

fn is_proc_root(source: BorrowedFd<'_>) -> Result<bool, Errno> {
    let is_proc = rustix::fs::fstatfs(source)?.f_type as u64 == PROC_MAGIC;
    Ok(is_proc && rustix::fs::fstat(source)?.st_ino == PROC_ROOT)
}

/// `value` as a C string; `what` names it in the error.
pub(crate) fn c_string(what: &'static str, value: &str) -> Result<CString, Error> {
    CString::new(value).map_err(|_| Error::Nul { what, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn of(target: &str, source: &str) -> Result<Target, Error> {
        let fd = rustix::fs::open(source, OFlags::PATH, Mode::empty()).unwrap();
        Target::new(target, fd.as_fd(), Path::new(source))
    }

    #[test]
    fn the_kernels_own_stays_the_kernels() {
        assert!(!of("/data/./x/", "/tmp").unwrap().in_proc);
        assert_eq!(of("/data/./x/", "/tmp").unwrap().text, "/data/x");
        assert!(of("/proc/meminfo", "/tmp").unwrap().in_proc);
        assert!(of("/proc", "/proc").unwrap().in_proc);
        let error = |target, source| of(target, source).unwrap_err().to_string();
        assert!(error("/proc", "/tmp").contains("no proc file system"));
        assert!(error("/proc", "/proc/sys").contains("no proc file system"));
        assert!(error("//x/../proc/", "/tmp").contains("no proc file system"));
        for target in ["/proc/sys", "/proc/self/attr/exec", "/proc/meminfo/x", "/proc/1"] {
            assert!(error(target, "/proc").contains("lies in /proc"), "{target}");
        }
        assert!(error("/", "/tmp").contains("container's root"));
        assert!(error("x", "/tmp").contains("not absolute"));
        assert!(error("/x\0", "/tmp").contains("NUL"));
    }
}
