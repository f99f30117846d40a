//! Owner, mode, extended attributes and times onto files, in the order that keeps each:
//! chown first (it clears set-id bits and `security.capability`), then chmod, attributes, times.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::entry::{Meta, Time};
use crate::options::{Options, WhiteoutForm};

/// What was tried, and what the kernel said.
pub(crate) type Failed = (&'static str, Errno);

/// Sets what an entry says, as far as the options go.
pub(crate) struct Setter<'a> {
    options: &'a Options,
    uid: u32,
    gid: u32,
    /// Bits that a file's mode loses when it is made.
    umask: u32,
}

impl<'a> Setter<'a> {
    pub(crate) fn new(options: &'a Options) -> Setter<'a> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Setter { options, uid, gid, umask: 0o7777 }
    }

    /// For files that are made below `root` with [`Setter::first_mode`], whose mode is set only where that is not
    /// enough.
    pub(crate) fn below(self, root: BorrowedFd<'_>) -> Setter<'a> {
        // Default access rights are inherited, and take the umask's place (acl(5)).
        let inherited = rustix::fs::fgetxattr_query(root, "system.posix_acl_default").is_ok();
        let umask = if inherited { None } else { umask() };
        Setter { umask: umask.unwrap_or(self.umask), ..self }
    }

    /// The mode to make a file with. It is never more than the entry's.
    pub(crate) fn first_mode(&self, meta: &Meta) -> Mode {
        Mode::from_raw_mode(meta.mode & 0o777)
    }

    /// On a file that was just made with [`Setter::first_mode`].
    pub(crate) fn on_new(&self, fd: BorrowedFd<'_>, meta: &Meta) -> Result<u64, Failed> {
        self.set(fd, meta, meta.mode & (self.umask | 0o7000) != 0)
    }

    /// On an open file or directory. Returns how many attributes were left out.
    pub(crate) fn on_fd(&self, fd: BorrowedFd<'_>, meta: &Meta) -> Result<u64, Failed> {
        self.set(fd, meta, true)
    }

    fn set(&self, fd: BorrowedFd<'_>, meta: &Meta, mode: bool) -> Result<u64, Failed> {
        if let Some((uid, gid)) = self.owner(meta) {
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(failed("set the owner of"))?;
        }
        if mode {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(meta.mode))
                .map_err(failed("set the mode of"))?;
        }
        let omitted = self.xattrs(meta, |name, value| {
            rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
        })?;
        rustix::fs::futimens(fd, &times(meta.mtime)).map_err(failed("set the times of"))?;
        Ok(omitted)
    }

    /// On something just made that cannot be opened: a symlink, a device or a FIFO.
    pub(crate) fn on_name(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        symlink: bool,
        meta: &Meta,
    ) -> Result<u64, Failed> {
        if let Some((uid, gid)) = self.owner(meta) {
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("set the owner of"))?;
        }
        if !symlink {
            // Follows symlinks on kernels before 6.6, but this is none: it was just made in a directory of ours alone.
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())
                .map_err(failed("set the mode of"))?;
        }
        let omitted = self.xattrs(meta, |attribute, value| {
            // There is no setxattrat before 6.13; the last component is not followed.
            let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
            rustix::fs::lsetxattr(path, attribute, value, XattrFlags::empty())
        })?;
        rustix::fs::utimensat(dir, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the times of"))?;
        Ok(omitted)
    }

    /// None if the file has the owner already, as its maker.
    fn owner(&self, meta: &Meta) -> Option<(Uid, Gid)> {
        let same = meta.uid == self.uid && meta.gid == self.gid;
        (self.options.owners && !same).then(|| (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid)))
    }

    fn xattrs(
        &self,
        meta: &Meta,
        set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>,
    ) -> Result<u64, Failed> {
        let mut omitted = 0;
        for (name, value) in &meta.xattrs {
            // The label of another host's policy means nothing on this one.
            if name == b"security.selinux" {
                continue;
            }
            let privileged = name.starts_with(b"security.") || name.starts_with(b"trusted.");
            if privileged && !self.options.owners {
                omitted += 1;
                continue;
            }
            match set(&escape(name, self.options.form), value) {
                Ok(()) => {}
                // Symlinks and devices can have no user attributes, and not every file system has them.
                Err(Errno::NOTSUP | Errno::PERM) if name.starts_with(b"user.") => omitted += 1,
                Err(e) => return Err(("set an extended attribute of", e)),
            }
        }
        Ok(omitted)
    }
}

/// This thread's umask, which cannot be asked for without changing it elsewhere than in proc_pid_status(5).
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

/// The prefix of overlayfs's own attributes.
pub(crate) fn overlay_prefix(form: WhiteoutForm) -> &'static str {
    match form {
        WhiteoutForm::Device | WhiteoutForm::Xattr { user: false } => "trusted.overlay.",
        WhiteoutForm::Xattr { user: true } => "user.overlay.",
    }
}

/// The name that an image gave an attribute of its unpacked layer: without the escape for one that
/// overlayfs would have taken for its own, `None` for one that is overlayfs's own.
pub fn given_name(name: &[u8], form: WhiteoutForm) -> Option<Vec<u8>> {
    let own = overlay_prefix(form).as_bytes();
    match name.strip_prefix(own) {
        Some(rest) => Some([own, rest.strip_prefix(b"overlay.")?].concat()),
        None => Some(name.to_vec()),
    }
}

/// An image's attribute that overlayfs would take for its own gets one more `overlay.`, which overlayfs strips.
fn escape(name: &[u8], form: WhiteoutForm) -> Vec<u8> {
    let prefix = overlay_prefix(form).as_bytes();
    match name.strip_prefix(prefix) {
        Some(rest) => [prefix, b"overlay.", rest].concat(),
        None => name.to_vec(),
    }
}

pub(crate) fn times(mtime: Time) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: time, last_modification: time }
}

fn failed(op: &'static str) -> impl Fn(Errno) -> Failed {
    move |e| (op, e)
}
