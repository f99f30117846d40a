//! Images that try to bend paths, and file systems that do not come about.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pivot::{Device, DeviceKind, Devices, Filesystem, Masks, Nodes, console};
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sys::{Failure, Report, Step};

use crate::harness::{Container, Image, nothing};

/// A directory of the host that nothing may touch.
struct Canary {
    directory: tempfile::TempDir,
}

impl Canary {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("canary"), "alive").unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn assert_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(self.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["canary"]);
        assert_eq!(fs::read_to_string(self.path().join("canary")).unwrap(), "alive");
    }
}

fn failure(image: Image, below: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>) -> Report {
    Container::of(image.tree.as_fd(), below, nothing).map(drop).unwrap_err()
}

fn device(path: &str, minor: u32) -> Device {
    let (path, kind) = (path.to_owned(), DeviceKind::Char);
    Device { path, kind, major: 1, minor, mode: 0o640, uid: 7, gid: 8, made_for: None }
}

/// Ends the other side of a race, also where this one has failed: it would go on for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_kernel_file_system_goes_through_no_link() {
    let canary = Canary::new();
    for (fstype, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("tmpfs", "/dev/shm"),
    ] {
        let filesystem = Filesystem::new(fstype, target, None, &[""]).unwrap();
        let name = target.split('/').nth(1).unwrap();
        for to in [canary.path(), Path::new("etc")] {
            let image = Image::new();
            fs::create_dir(image.path("etc")).unwrap();
            symlink(to, image.path(name)).unwrap();
            let report = failure(image, |root| filesystem.apply(root));
            assert_eq!(report.errno, Errno::LOOP, "{fstype} on {target}");
            assert!(report.op.contains("symbolic link"), "{}", report.op);
        }
        let image = Image::new();
        fs::write(image.path(name), "").unwrap();
        assert_eq!(failure(image, |root| filesystem.apply(root)).errno, Errno::NOTDIR);
    }
    canary.assert_untouched();
}

#[test]
fn devices_and_console_go_through_no_link() {
    let canary = Canary::new();
    let bent = || {
        let image = Image::new();
        symlink(canary.path(), image.path("dev")).unwrap();
        image
    };
    let devices = Devices::prepare(&[device("/dev/null", 3)], Nodes::Make).unwrap();
    assert_eq!(failure(bent(), |root| devices.apply(root)).errno, Errno::LOOP);
    assert_eq!(failure(bent(), |root| console::open_pty(root).map(drop)).errno, Errno::LOOP);
    let file = fs::File::open("/dev/null").unwrap();
    assert_eq!(failure(bent(), |root| console::bind(root, file.as_fd())).errno, Errno::LOOP);
    let image = Image::new();
    fs::create_dir(image.path("dev")).unwrap();
    symlink(canary.path().join("canary"), image.path("dev/console")).unwrap();
    assert_eq!(failure(image, |root| console::bind(root, file.as_fd())).errno, Errno::LOOP);
    canary.assert_untouched();
}

#[test]
fn a_dev_that_is_swapped_for_a_link_meanwhile() {
    let canary = Canary::new();
    let image = Image::new();
    fs::create_dir(image.path("dev")).unwrap();
    symlink(canary.path(), image.path("link")).unwrap();
    let devices = Devices::prepare(&[device("/dev/a/b/node", 3)], Nodes::Make).unwrap();
    let stop = AtomicBool::new(false);
    let image_root = fs::File::open(image.path("")).unwrap();
    let (mut made, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let ends = Ends(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flags = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&image_root, "dev", &image_root, "link", flags).unwrap();
            }
        });
        // Not in a child: nothing here needs one, and the host's paths are the worst case.
        let root = image.tree.as_fd();
        let end = Instant::now() + Duration::from_secs(30);
        for round in 0.. {
            if round > 2000 && made > 0 && refused > 0 || Instant::now() > end {
                break;
            }
            match devices.apply(root) {
                Ok(()) => made += 1,
                Err(failure) => {
                    assert_eq!(failure.errno, Errno::LOOP, "{failure:?}");
                    refused += 1;
                }
            }
        }
        drop(ends);
    });
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused: there was no race");
    canary.assert_untouched();
}

#[test]
fn a_proc_that_is_moved_away_meanwhile_is_noticed() {
    let image = Image::new();
    fs::create_dir(image.path("proc")).unwrap();
    fs::create_dir(image.path("other")).unwrap();
    let image_root = fs::File::open(image.path("")).unwrap();
    let proc = Filesystem::new("proc", "/proc", None, &[""]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = Ends(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flags = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&image_root, "proc", &image_root, "other", flags)
                    .unwrap();
            }
        });
        let apply_until_noticed = |root: BorrowedFd<'_>| {
            let end = Instant::now() + Duration::from_secs(30);
            while Instant::now() < end {
                match proc.apply(root) {
                    Err(failure) if failure.errno == Errno::STALE => return Ok(()),
                    result => result?,
                }
                // Off again, wherever it is by now: with one left on each, no exchange would be seen any more.
                for name in [c"proc", c"other"] {
                    let there = sys::below::open(root, name, OFlags::PATH).step("opening it")?;
                    rustix::process::fchdir(&there).step("entering it")?;
                    let _ = sys::mount::detach(c".");
                }
            }
            Err(Failure::new("noticing", Errno::TIMEDOUT))
        };
        let container = Container::of(image.tree.as_fd(), apply_until_noticed, nothing);
        drop(ends);
        container.unwrap();
    });
}

#[test]
fn other_targets_follow_links_below_the_root() {
    let canary = Canary::new();
    let image = Image::new();
    fs::create_dir(image.path("var")).unwrap();
    symlink("/run", image.path("var/run")).unwrap();
    symlink(canary.path(), image.path("out")).unwrap();
    symlink("../../../../up", image.path("dots")).unwrap();
    let on = |target| Filesystem::new("tmpfs", target, None, &["mode=711"]).unwrap();
    let (run, out, dots) = (on("/var/run/x"), on("/out/x"), on("/dots"));
    let below = |root: BorrowedFd<'_>| {
        run.apply(root)?;
        out.apply(root)?;
        dots.apply(root)
    };
    let container = Container::of(image.tree.as_fd(), below, nothing).unwrap();
    container.mount_on("/run/x");
    container.mount_on("/up");
    container.mount_on(canary.path().join("x").to_str().unwrap()); // a directory of that name inside
    assert_eq!(fs::metadata(container.path("run/x")).unwrap().mode() & 0o777, 0o711);
    canary.assert_untouched();
}

#[test]
fn the_kernels_words_come_along() {
    let wrong = Filesystem::new("tmpfs", "/x", None, &["nonsense=1"]).unwrap();
    let image = Image::new();
    // A second descriptor of the same file system, which stays when the child's mount is gone.
    let image_root = fs::File::open(image.path("")).unwrap();
    let report = failure(image, |root| wrong.apply(root));
    assert_eq!((report.op.as_str(), report.errno), ("setting a mount option", Errno::INVAL));
    assert!(report.log.contains("nonsense"), "{report:?}");
    let left = fs::read_dir(sys::process::proc_path(&image_root)).unwrap().count();
    assert_eq!(left, 0, "no target is left behind");
    let unknown = Filesystem::new("no-such-fs", "/x", None, &[""]).unwrap();
    assert_eq!(failure(Image::new(), |root| unknown.apply(root)).errno, Errno::NODEV);
}

#[test]
fn a_mask_is_made_of_the_null_device_only() {
    let none: [&str; 0] = [];
    let mask = |path, image| {
        let masks = Masks::prepare(&[path], &none).unwrap();
        failure(image, |root| masks.apply(root))
    };
    let image = || {
        let image = Image::new();
        fs::write(image.path("secret"), "secret").unwrap();
        fs::create_dir(image.path("dev")).unwrap();
        image
    };
    assert_eq!(mask("/secret", image()).errno, Errno::NOENT);
    let planted = image();
    fs::write(planted.path("dev/null"), "planted").unwrap();
    let report = mask("/secret", planted);
    assert_eq!((report.errno, report.index), (Errno::NODEV, 0));
    assert!(report.op.contains("not the null device"), "{}", report.op);
    let linked = image();
    symlink("/dev/zero", linked.path("dev/null")).unwrap();
    assert_eq!(mask("/secret", linked).errno, Errno::NODEV);
    // A loop of links is no missing path.
    let looped = image();
    symlink("loop", looped.path("loop")).unwrap();
    assert_eq!(mask("/loop", looped).errno, Errno::LOOP);
}

#[test]
fn a_terminal_comes_from_devpts_only() {
    let open = |root: BorrowedFd<'_>| console::open_pty(root).map(drop);
    assert_eq!(failure(Image::new(), open).errno, Errno::NOENT);
    let file = Image::new();
    fs::create_dir_all(file.path("dev/pts")).unwrap();
    fs::write(file.path("dev/pts/ptmx"), "").unwrap();
    assert_eq!(failure(file, open).errno, Errno::NODEV);
    // The right numbers on the wrong file system.
    let ptmx = Device { major: 5, minor: 2, ..device("/dev/pts/ptmx", 2) };
    let devices = Devices::prepare(&[ptmx], Nodes::Make).unwrap();
    let both = |root: BorrowedFd<'_>| devices.apply(root).and_then(|()| open(root));
    assert_eq!(failure(Image::new(), both).errno, Errno::NODEV);
}

#[test]
fn devices_elsewhere_and_what_is_there_already() {
    let image = Image::new();
    fs::create_dir_all(image.path("data/real")).unwrap();
    symlink("/data/real", image.path("link")).unwrap();
    let fifo = Device { kind: DeviceKind::Fifo, ..device("/dev/net/pipe", 0) };
    let list = [device("/dev/null", 3), device("/link/zero", 5), fifo];
    let devices = Devices::prepare(&list, Nodes::Make).unwrap();
    // Twice: what is there and the same is accepted.
    let twice = |root: BorrowedFd<'_>| {
        rustix::process::umask(Mode::from_raw_mode(0o077));
        devices.apply(root)?;
        devices.apply(root)
    };
    let container = Container::of(image.tree.as_fd(), twice, nothing).unwrap();
    for (path, rdev) in [("dev/null", (1, 3)), ("data/real/zero", (1, 5)), ("dev/net/pipe", (0, 0))]
    {
        let stat = fs::symlink_metadata(container.path(path)).unwrap();
        assert_eq!(stat.rdev(), rustix::fs::makedev(rdev.0, rdev.1), "{path}");
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o640, 7, 8), "{path}");
    }
    for made in ["dev", "dev/net"] {
        assert_eq!(fs::metadata(container.path(made)).unwrap().mode() & 0o7777, 0o755, "{made}");
    }
    drop(container);

    let image = Image::new();
    fs::create_dir(image.path("dev")).unwrap();
    fs::write(image.path("dev/null"), "planted").unwrap();
    let report = failure(image, |root| devices.apply(root));
    assert_eq!((report.errno, report.index), (Errno::EXIST, 0));
    assert_eq!(devices.describe(report.index), "the device /dev/null (char 1:3)");
    let image = Image::new();
    fs::create_dir(image.path("dev")).unwrap();
    symlink("/etc", image.path("dev/fd")).unwrap();
    let report = failure(image, |root| devices.apply(root));
    assert_eq!(
        (report.errno, devices.describe(report.index)),
        (Errno::EXIST, "the link /dev/fd".into())
    );
}
