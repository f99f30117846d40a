//! The root: what is left of the host, and how mounts spread.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use pivot::{Filesystem, RootPropagation};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use sys::mount::{Change, Propagation, attach, clone_tree};

use crate::harness::{Container, Image, nothing};

#[test]
fn only_what_lies_below_is_left() {
    let image = Image::new();
    fs::create_dir_all(image.path("etc")).unwrap();
    fs::write(image.path("etc/marker"), "mine").unwrap();
    let tmpfs = Filesystem::new("tmpfs", "/run/x", Some("mine"), &["mode=700"]).unwrap();
    let proc = Filesystem::new("proc", "/proc", Some("proc"), &["nosuid"]).unwrap();
    let container = Container::of(
        image.tree.as_fd(),
        |root| tmpfs.apply(root).and_then(|()| proc.apply(root)),
        nothing,
    )
    .unwrap();
    let mounts = container.mounts();
    let seen: Vec<_> =
        mounts.iter().map(|m| (m.target.to_str().unwrap(), m.source.to_str().unwrap())).collect();
    assert_eq!(seen, [("/", "image"), ("/run/x", "mine"), ("/proc", "proc")]);
    // The root's own parent is the namespace's hidden root and no mount of the list.
    assert!(mounts.iter().all(|mount| mount.id != mounts[0].parent));
    assert!(mounts.iter().all(|mount| mount.propagation.is_empty()), "{mounts:?}");
    assert_eq!(fs::read_to_string(container.path("etc/marker")).unwrap(), "mine");
    let mut names: Vec<_> =
        fs::read_dir(container.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["etc", "proc", "run"]);
    // The working directory is in the new root; one in the old root would be called "/" as well.
    for link in ["cwd", "root"] {
        assert_eq!(fs::read_link(container.proc(link)).unwrap(), Path::new("/"), "{link}");
        assert!(container.proc(link).join("etc/marker").exists(), "{link}");
    }
    // What proc says of process 1 in there: it is in the PID namespace of the container.
    let status = fs::read_to_string(container.path("proc/1/status")).unwrap();
    assert!(status.contains("\nNSpid:\t"), "{status}");
    assert!(!container.path("proc/2").exists());
}

#[test]
fn the_child_starts_with_a_copy_of_the_hosts_mounts() {
    let container = Container::start(|| Ok(())).unwrap();
    // Others' tests mount and unmount meanwhile; what stands for long is in both.
    let host = sys::mountinfo::parse(&fs::read("/proc/self/mountinfo").unwrap()).unwrap();
    let copy = container.mounts();
    for target in ["/", "/proc", "/dev"] {
        let of = |mounts: &[sys::mountinfo::Mount]| {
            mounts.iter().find(|m| m.target == Path::new(target)).map(|m| (m.major, m.minor))
        };
        assert_eq!(of(&host), of(&copy), "{target}");
    }
}

#[test]
fn a_read_only_root_leaves_what_is_below_writable() {
    let image = Image::new();
    let run = Filesystem::new("tmpfs", "/run", None, &["mode=755"]).unwrap();
    let container =
        Container::of(image.tree.as_fd(), |root| run.apply(root), pivot::read_only).unwrap();
    let error = fs::write(container.path("file"), "").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    fs::write(container.path("run/file"), "").unwrap();
    assert!(container.mount_on("/").options.starts_with("ro,"));
}

#[test]
fn a_tree_that_is_no_mount_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let tree = rustix::fs::open(directory.path(), OFlags::PATH, Mode::empty()).unwrap();
    let report = Container::of(tree.as_fd(), nothing, nothing).map(drop).unwrap_err();
    assert_eq!(report.op, "cutting the root's mounts off the host's");
    assert_eq!(report.errno, Errno::INVAL);
}

/// A shared mount on the host, gone with the value.
struct HostMount {
    directory: tempfile::TempDir,
}

impl HostMount {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let target = rustix::fs::open(directory.path(), OFlags::PATH, Mode::empty()).unwrap();
        let image = Image::new();
        let shared = Change { propagation: Some(Propagation::Shared), ..Change::default() };
        fs::create_dir(image.path("before")).unwrap();
        fs::create_dir(image.path("later")).unwrap();
        fs::create_dir(image.path("inner")).unwrap();
        attach(&image.tree, &target).unwrap();
        let mount = Self { directory };
        sys::mount::change(&image.tree, &shared).unwrap();
        // The child's copy of it is a peer: unmounting this there would unmount it here.
        attach(&Image::new().tree, mount.open("before")).unwrap();
        mount
    }

    fn open(&self, name: &str) -> std::os::fd::OwnedFd {
        rustix::fs::open(self.directory.path().join(name), OFlags::PATH, Mode::empty()).unwrap()
    }

    fn is_mounted(&self, name: &str) -> bool {
        let target = self.directory.path().join(name);
        let mounts = sys::mountinfo::parse(&fs::read("/proc/self/mountinfo").unwrap()).unwrap();
        mounts.iter().any(|mount| mount.target == target)
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(self.directory.path(), flags).unwrap();
    }
}

/// The root's optional fields, and whether what the host mounts later appears inside, and the reverse.
fn spread(propagation: RootPropagation) -> (Vec<String>, bool, bool) {
    let host = HostMount::new();
    let tree = clone_tree(host.open(""), c"", true).unwrap();
    let inner = Filesystem::new("tmpfs", "/inner", None, &[""]).unwrap();
    let container = Container::start(|| {
        let root = pivot::enter(tree.as_fd(), propagation)?;
        inner.apply(root.as_fd())?;
        pivot::pivot(root.as_fd(), propagation)
    })
    .unwrap();
    let later = Image::new();
    attach(&later.tree, host.open("later")).unwrap();
    assert!(host.is_mounted("later"));
    assert!(host.is_mounted("before"), "the end of the old root reached the host");
    let inwards = container.mounts().iter().any(|mount| mount.target == Path::new("/later"));
    let kinds = container.mount_on("/").propagation;
    let kinds = kinds.iter().map(|kind| kind.split(':').next().unwrap().to_owned()).collect();
    (kinds, inwards, host.is_mounted("inner"))
}

#[test]
fn a_private_root() {
    assert_eq!(spread(RootPropagation::Private), (vec![], false, false));
}

#[test]
fn a_slave_root() {
    assert_eq!(spread(RootPropagation::Slave), (vec!["master".to_owned()], true, false));
}

#[test]
fn a_shared_root() {
    assert_eq!(spread(RootPropagation::Shared), (vec!["shared".to_owned()], false, false));
}

#[test]
fn an_unbindable_root() {
    let kinds = vec!["unbindable".to_owned()];
    assert_eq!(spread(RootPropagation::Unbindable), (kinds, false, false));
}
