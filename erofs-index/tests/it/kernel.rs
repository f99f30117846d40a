//! Mounts.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use crate::erofs_utils::fsck;
use crate::tree::{Tree, parent};

/// A directory of the test's own, and what is mounted below it: all goes with it.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    mounts: Vec<PathBuf>,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap(), mounts: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Has fsck.erofs check an index, and mounts it with its devices at a directory of that name. None, and said, if this kernel cannot mount files.
    pub(crate) fn mount(
        &mut self,
        name: &str,
        index: &[u8],
        devices: &[Vec<u8>],
    ) -> Option<PathBuf> {
        let devices = devices.iter().enumerate();
        let devices: Vec<_> = devices
            .map(|(number, device)| self.write(&format!("{name}.{number}.blob"), device))
            .collect();
        self.mount_with(name, index, &devices)
    }

    /// As `mount`, with devices that are files already.
    pub(crate) fn mount_with(
        &mut self,
        name: &str,
        index: &[u8],
        devices: &[PathBuf],
    ) -> Option<PathBuf> {
        let index = self.write(&format!("{name}.erofs"), index);
        fsck(&index, devices);
        let mut options = vec![("source", index)];
        options.extend(devices.iter().map(|device| ("device", device.clone())));
        let options: Vec<_> =
            options.iter().map(|(key, path)| (*key, path.to_str().unwrap())).collect();
        match self.try_mount(name, "erofs", &options) {
            Ok(at) => Some(at),
            Err((step, Errno::NOTBLK)) => {
                skipped(&format!("{step}: files cannot be mounted without a loop device"));
                None
            }
            Err((step, error)) => panic!("{step}: {error}; see dmesg"),
        }
    }

    /// An overlay of these lower directories, topmost first, alone.
    pub(crate) fn overlay(&mut self, name: &str, lowers: &[PathBuf]) -> PathBuf {
        let lowers: Vec<_> = lowers.iter().map(|path| path.to_str().unwrap()).collect();
        let empty = self.path("empty");
        fs::create_dir_all(&empty).unwrap();
        // An overlay without an upper directory wants two lower ones.
        let lowers = format!("{}:{}", lowers.join(":"), empty.to_str().unwrap());
        let options = [("lowerdir", &lowers[..]), ("redirect_dir", "off"), ("metacopy", "off")];
        self.try_mount(name, "overlay", &options).unwrap()
    }

    fn try_mount(
        &mut self,
        name: &str,
        kind: &str,
        options: &[(&str, &str)],
    ) -> Result<PathBuf, (String, Errno)> {
        let at = self.path(name);
        fs::create_dir(&at).unwrap();
        let step = |what: String| move |error| (what, error);
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(step("fsopen".into()))?;
        for (key, value) in options {
            fsconfig_set_string(&context, *key, *value).map_err(step(format!("{key}={value}")))?;
        }
        fsconfig_set_flag(&context, "ro").map_err(step("ro".into()))?;
        fsconfig_create(&context).map_err(step(format!("creating {kind}")))?;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(step("fsmount".into()))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", CWD, &at, flags).map_err(step("move_mount".into()))?;
        self.mounts.push(at.clone());
        Ok(at)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            unmount(mount, UnmountFlags::DETACH).ok();
        }
    }
}

#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn skipped(why: &str) {
    println!("SKIPPED: feature erofs_file_backed: {why}");
}

/// Looks up each name alone, as `tree` does not: those that are there and as many that are not.
pub(crate) fn look_up(root: &Path, wanted: &Tree) {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let open = |path: &[u8]| {
        let path = root.join(std::ffi::OsStr::from_bytes(path));
        rustix::fs::open(path, flags, rustix::fs::Mode::empty())
    };
    for path in wanted.keys().filter(|path| !path.is_empty()) {
        open(path).unwrap_or_else(|e| panic!("{}: {e}", path.escape_ascii()));
        let other = [&path[..], b"~"].concat();
        if other.len() - parent(&other).len() <= 255 && !wanted.contains_key(&other) {
            assert_eq!(open(&other).err(), Some(Errno::NOENT), "{}", other.escape_ascii());
        }
    }
}
