//! Roots that try to lead a bind out of themselves, or into the kernel's own files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::os::fd::AsFd;

use crate::sandbox::{Container, bind, mount_on, open, sandbox, write};

/// A directory of the host that nothing may touch.
fn make_canary() {
    write("/tmp/canary/alive", "alive");
    fs::set_permissions("/tmp/canary", fs::Permissions::from_mode(0o700)).unwrap();
}

fn assert_canary_untouched() {
    let names: Vec<_> =
        fs::read_dir("/tmp/canary").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["alive"]);
    assert_eq!(fs::read_to_string("/tmp/canary/alive").unwrap(), "alive");
    assert_eq!(fs::metadata("/tmp/canary").unwrap().mode() & 0o7777, 0o700);
    assert_eq!(mount_on("/tmp/canary"), None);
}

/// Ends the thread that swaps, in whatever way the test ends.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn links_stay_below_the_root() {
    sandbox(|| {
        make_canary();
        symlink("/tmp/canary", "/tmp/root/absolute").unwrap();
        symlink("../../../../../tmp/canary", "/tmp/root/dots").unwrap();
        symlink("../canary/alive", "/tmp/root/file").unwrap();
        write("/tmp/source/file", "");
        let binds = [
            bind("/tmp/source", "/absolute"),
            bind("/tmp/source", "/dots/made"),
            bind("/tmp/source", "/absolute/deep/er"),
            bind("/tmp/source/file", "/file"),
            bind("/tmp/source", "/../../../tmp/canary"),
        ];
        let container = Container::with(&binds).unwrap();
        for target in ["/tmp/canary", "/canary/alive", "/tmp/canary/made", "/tmp/canary/deep/er"] {
            assert!(container.mount_on(target).is_some(), "{target} inside");
        }
        assert_canary_untouched();
    });
}

#[test]
fn a_link_to_the_root_or_into_proc_is_refused() {
    sandbox(|| {
        fs::create_dir("/tmp/root/proc").unwrap();
        symlink("/", "/tmp/root/top").unwrap();
        symlink("/proc", "/tmp/root/innocent").unwrap();
        let proc = sys::fscontext::FsContext::open(c"proc").unwrap();
        let proc = proc.mount(rustix::mount::MountAttrFlags::empty()).unwrap();
        sys::mount::attach(proc, open("/tmp/root/proc")).unwrap();
        write("/tmp/source/file", "");
        let failed =
            |source, target| Container::with(&[bind(source, target)]).map(drop).unwrap_err();
        let report = failed("/tmp/source", "/top");
        assert_eq!((report.errno, report.op.contains("the root")), (Errno::BUSY, true));
        for (source, target) in [
            ("/tmp/source", "/innocent"),
            ("/tmp/source", "/innocent/sys"),
            ("/tmp/source/file", "/innocent/version"),
        ] {
            let report = failed(source, target);
            assert_eq!((report.errno, report.op.contains("into /proc")), (Errno::PERM, true));
        }
        // What lxcfs does, and a proc on proc.
        let allowed = [bind("/tmp/source/file", "/proc/meminfo"), bind("/proc", "/proc")];
        Container::with(&allowed[..1]).unwrap();
        Container::with(&allowed[1..]).unwrap();
    });
}

#[test]
fn a_directory_that_is_swapped_for_a_link_meanwhile() {
    sandbox(|| {
        make_canary();
        fs::create_dir_all("/tmp/root/data/directory").unwrap();
        symlink("/tmp/canary", "/tmp/root/data/link").unwrap();
        let stop = AtomicBool::new(false);
        let data = fs::File::open("/tmp/root/data").unwrap();
        let root = open("/tmp/root");
        let (mut in_directory, mut in_root) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let flags = RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(&data, "directory", &data, "link", flags).unwrap();
                }
            });
            let _stop = StopAtEnd(&stop);
            let end = Instant::now() + Duration::from_secs(30);
            for round in 0.. {
                if round > 500 && in_directory > 0 && in_root > 0 || Instant::now() > end {
                    break;
                }
                // Not in a child: the sandbox's paths are the worst case.
                bind("/tmp/source", "/data/directory/made/here").apply(root.as_fd()).unwrap();
                in_root += usize::from(clear(Path::new("/tmp/root/tmp/canary/made")));
                for path in ["/tmp/root/data/directory/made", "/tmp/root/data/link/made"] {
                    in_directory += usize::from(clear(Path::new(path)));
                }
            }
        });
        assert!(in_directory > 0 && in_root > 0, "{in_directory}, {in_root}: there was no race");
        assert_canary_untouched();
    });
}

/// Takes off what is mounted on `made/here`, and removes both.
fn clear(made: &Path) -> bool {
    let here = made.join("here");
    let unmounted = rustix::mount::unmount(&here, rustix::mount::UnmountFlags::DETACH).is_ok();
    let _ = fs::remove_dir(&here);
    let _ = fs::remove_dir(made);
    unmounted
}

#[test]
fn a_directory_that_was_just_made_and_is_swapped_for_a_link() {
    sandbox(|| {
        make_canary();
        fs::create_dir("/tmp/root/data").unwrap();
        symlink("/tmp/canary", "/tmp/root/data/link").unwrap();
        let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
        let data = fs::File::open("/tmp/root/data").unwrap();
        let root = open("/tmp/root");
        let swap = || {
            rustix::fs::renameat_with(&data, "made", &data, "link", RenameFlags::EXCHANGE).is_ok()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // ENOENT until there is something to swap.
                    swaps.fetch_add(usize::from(swap()), Ordering::Relaxed);
                }
            });
            let _stop = StopAtEnd(&stop);
            for _ in 0..2000 {
                // It may fail, in whatever way, as long as it touches nothing.
                let _ = bind("/tmp/source", "/data/made/here").apply(root.as_fd());
                assert_canary_untouched();
                for made in ["/tmp/root/data/made", "/tmp/root/data/link", "/tmp/root/tmp/canary"] {
                    clear(Path::new(made));
                }
                // Where the link took the place of what was removed, back to the start.
                let back = RenameFlags::NOREPLACE;
                let _ = rustix::fs::renameat_with(&data, "made", &data, "link", back);
            }
        });
        assert!(swaps.into_inner() > 0, "there was no race");
        assert_canary_untouched();
    });
}
