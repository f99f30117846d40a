//! What this engine makes in a container's root to mount something on, or so that a program finds it.
//!
//! Docker makes it in a layer that neither its diff shows nor its commit keeps.

use std::collections::BTreeSet;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::layers::{Lowers, kind};
use crate::{Container, etc, init_binary};

/// Where kernel file systems are mounted, and the console.
const KERNEL: [&str; 6] =
    ["/dev/console", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys/fs/cgroup"];

/// The paths, absolute.
#[derive(Debug)]
pub(crate) struct Made(BTreeSet<Vec<u8>>);

impl Made {
    /// What is made for a container, with the directories on the way: where the image's links lead.
    pub(crate) fn of(container: &Container, lowers: &Lowers) -> Result<Made, Errno> {
        let files = etc::FILES.iter().map(|(_, target)| *target);
        let init = Some(init_binary::TARGET).filter(|_| container.host_config.init);
        let mut made = BTreeSet::new();
        for target in KERNEL.into_iter().chain(files).chain(init) {
            let path = lowers.resolve(target)?;
            let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            made.extend(slashes.filter(|(at, _)| *at > 0).map(|(at, _)| path[..at].to_vec()));
            made.insert(path);
        }
        Ok(Made(made))
    }

    /// Whether it is one of the directories.
    pub(crate) fn directory(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }

    /// Whether it is one of the files, which are empty, since something is bound over them.
    pub(crate) fn file(&self, path: &[u8], stat: &Stat) -> bool {
        stat.st_size == 0 && kind(stat) == FileType::RegularFile && self.0.contains(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::os::unix::fs::symlink;

    #[test]
    fn targets_are_where_the_images_links_lead() {
        let temp = tempfile::tempdir().unwrap();
        let [top, bottom] = ["top", "bottom"].map(|name| temp.path().join(name));
        for dir in ["top/run", "bottom/usr/sbin", "bottom/etc", "bottom/other"] {
            std::fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        symlink("usr/sbin", bottom.join("sbin")).unwrap();
        symlink("../run/resolve/conf", bottom.join("etc/resolv.conf")).unwrap();
        symlink("/../other/./hosts", bottom.join("etc/hosts")).unwrap();
        symlink("proc", bottom.join("proc")).unwrap();
        let lowers = Lowers::of(&[&top, &bottom]);
        let mut container = testing::container();
        assert!(matches!(Made::of(&container, &lowers), Err(Errno::LOOP)));
        std::fs::remove_file(bottom.join("proc")).unwrap();
        let has = |made: &Made, path: &str| made.directory(path.as_bytes());
        let made = Made::of(&container, &lowers).unwrap();
        for path in [
            "/run/resolve/conf",
            "/run/resolve",
            "/other/hosts",
            "/etc/hostname",
            "/dev",
            "/sys/fs",
        ] {
            assert!(has(&made, path), "{path}: {made:?}");
        }
        assert!(!has(&made, "/usr/sbin/docker-init") && !has(&made, "/etc/hosts"));
        container.host_config.init = true;
        let made = Made::of(&container, &lowers).unwrap();
        assert!(has(&made, "/usr/sbin/docker-init") && !has(&made, "/sbin/docker-init"));
        // A layer above has a directory of its own in place of the link.
        std::fs::create_dir(top.join("sbin")).unwrap();
        assert!(has(&Made::of(&container, &lowers).unwrap(), "/sbin/docker-init"));
    }
}
