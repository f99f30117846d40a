//! The standard mounts, devices and masks, as a container of Docker has them.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pivot::{Cgroups, Devices, Masks, Nodes, console, standard};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::Failure;
use sys::fscontext::FsContext;

use crate::harness::{Container, Image, nothing, shown};

/// For who makes a hierarchy of cgroups, and who counts those of the machine.
fn hierarchies() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn container(nodes: Nodes) -> Container {
    let mounts: Vec<_> = standard::MOUNTS.iter().map(|mount| mount.prepare().unwrap()).collect();
    let cgroup = standard::CGROUP;
    let cgroups = Cgroups::prepare_for_namespace(cgroup.target, cgroup.options).unwrap();
    let devices = Devices::prepare(&standard::devices(), nodes).unwrap();
    let masks = Masks::prepare(&standard::masked_paths(), &standard::READ_ONLY).unwrap();
    let image = Image::new();
    let kept = std::cell::Cell::new(None); // a terminal goes when its master is closed
    let below = |root: BorrowedFd<'_>| -> Result<(), Failure> {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        mounts.iter().try_for_each(|mount| mount.apply(root))?;
        cgroups.apply(root)?;
        devices.apply(root)?;
        let pty = console::open_pty(root)?;
        console::bind(root, pty.slave.as_fd())?;
        rustix::io::write(&pty.slave, b"hello").map_err(|e| Failure::new("writing", e))?;
        let mut echo = [0_u8; 5];
        rustix::io::read(&pty.master, &mut echo).map_err(|e| Failure::new("reading", e))?;
        kept.set(Some(pty));
        if echo == *b"hello" { Ok(()) } else { Err(Failure::new("comparing", Errno::IO)) }
    };
    Container::of(image.tree.as_fd(), below, |root| masks.apply(root)).unwrap()
}

/// The host's own mounts of cgroup file systems, with their options.
fn of_cgroups() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(" - cgroup")).map(str::to_owned).collect()
}

/// `expected` as mount(8) prints it; the kernel may add options of its own.
fn assert_line(container: &Container, expected: &str) {
    let (before, options) = expected.trim_end_matches(')').split_once(" (").unwrap();
    let words: Vec<&str> = before.split(' ').collect();
    let [source, "on", target, "type", fstype] = words[..] else { panic!("{expected}") };
    let mount = container.mount_on(target);
    assert_eq!((mount.source.to_str().unwrap(), mount.fstype.as_str()), (source, fstype));
    let shown = shown(&mount);
    for option in options.split(',') {
        assert!(shown.iter().any(|word| word == option), "{target}: {option} is not in {shown:?}");
    }
    const OF_KERNEL: [&str; 4] = ["inode64", "nsdelegate", "memory_recursiveprot", "seclabel"];
    for word in &shown {
        let known = options.split(',').any(|option| option == word);
        assert!(known || OF_KERNEL.contains(&word.as_str()), "{target}: {word} in {shown:?}");
    }
    assert_eq!(mount.propagation, [""; 0], "{target}");
}

#[test]
fn the_mounts_are_those_of_docker() {
    let container = container(Nodes::Make);
    for line in [
        "proc on /proc type proc (rw,nosuid,nodev,noexec,relatime)",
        "tmpfs on /dev type tmpfs (rw,nosuid,size=65536k,mode=755)",
        "devpts on /dev/pts type devpts (rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666)",
        "sysfs on /sys type sysfs (ro,nosuid,nodev,noexec,relatime)",
        "mqueue on /dev/mqueue type mqueue (rw,nosuid,nodev,noexec,relatime)",
        "shm on /dev/shm type tmpfs (rw,nosuid,nodev,noexec,relatime,size=65536k)",
        "devpts on /dev/console type devpts \
         (rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666)",
        "proc on /proc/sys type proc (ro,nosuid,nodev,noexec,relatime)",
        "proc on /proc/bus type proc (ro,nosuid,nodev,noexec,relatime)",
    ] {
        assert_line(&container, line);
    }
    // Only what this crate mounts, and nothing of the host's devices.
    let own = ["image", "proc", "tmpfs", "devpts", "sysfs", "mqueue", "shm", "cgroup"];
    for mount in container.mounts() {
        let source = mount.source.to_str().unwrap();
        assert!(own.contains(&source), "{source} on {}", mount.target.display());
    }
}

#[test]
fn the_cgroups_have_the_hosts_form() {
    let _alone = hierarchies();
    let before = of_cgroups();
    let container = container(Nodes::Make);
    // From its namespace it cannot switch off what the host's cgroup2 has (nsdelegate).
    assert_eq!(of_cgroups(), before);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let cgroup = container.path("sys/fs/cgroup");
    if host.contains(" - cgroup ") {
        let line = "tmpfs on /sys/fs/cgroup type tmpfs (ro,nosuid,nodev,noexec,relatime,mode=755)";
        assert_line(&container, line);
        for line in fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
            let [_, controllers, group] = line.splitn(3, ':').collect::<Vec<_>>()[..] else {
                panic!()
            };
            let name = match controllers {
                "" if !host.contains(" - cgroup2 ") => continue,
                "" => "unified",
                _ => controllers.trim_start_matches("name="),
            };
            // Of a hierarchy in whose root it is, it would see the groups of all.
            let of_host = Path::new("/sys/fs/cgroup").join(name).join(&group[1..]);
            let is_whole = match name {
                "unified" => !of_host.join("cgroup.type").exists(),
                _ => of_host.join("release_agent").exists(),
            };
            let there = cgroup.join(name).join("cgroup.procs").exists();
            assert_eq!(there, !is_whole, "{name}");
            assert!(cgroup.join(name).is_dir());
            if is_whole {
                continue;
            }
            let mount = container.mount_on(&format!("/sys/fs/cgroup/{name}"));
            assert!(mount.options.starts_with("ro,nosuid,nodev,noexec"), "{mount:?}");
            // Its own group is the namespace's root: nothing of the host's groups above.
            assert_eq!(mount.root, Path::new(group));
        }
    } else {
        let line = "cgroup on /sys/fs/cgroup type cgroup2 (ro,nosuid,nodev,noexec,relatime)";
        assert_line(&container, line);
        assert!(cgroup.join("cgroup.procs").exists());
    }
    let error = fs::create_dir(cgroup.join("mine")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
}

/// Somebody takes a hierarchy away after it was found and before it is mounted: it is going then, or gone.
#[test]
fn a_hierarchy_that_goes_meanwhile_is_left_out() {
    let _alone = hierarchies();
    let host = b"30 23 0:26 / /mnt rw - cgroup cgroup rw,name=pivot-test\n";
    let host = sys::mountinfo::parse(host).unwrap();
    let found = "1:name=pivot-test:/\n";
    let (target, options) = (standard::CGROUP.target, standard::CGROUP.options);
    let cgroups = Cgroups::of_host(target, options, &host, found).unwrap();
    for _ in 0..20 {
        let image = Image::new();
        let hierarchy = FsContext::open(c"cgroup").unwrap();
        hierarchy.flag(c"none").unwrap();
        hierarchy.string(c"name", c"pivot-test").unwrap();
        // That of the round before may be going still.
        drop(hierarchy.mount(MountAttrFlags::empty()));
        drop(hierarchy);
        let container = Container::of(image.tree.as_fd(), |root| cgroups.apply(root), nothing);
        let container = container.unwrap();
        let dir = container.path("sys/fs/cgroup/pivot-test");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    }
}

#[test]
fn the_devices_are_made_whatever_the_umask() {
    let container = container(Nodes::Make);
    for device in standard::devices() {
        let stat = fs::symlink_metadata(container.path(&device.path[1..])).unwrap();
        assert!(stat.file_type().is_char_device(), "{}", device.path);
        assert_eq!(stat.rdev(), rustix::fs::makedev(device.major, device.minor), "{}", device.path);
        assert_eq!(stat.mode() & 0o7777, 0o666, "{}", device.path);
        assert_eq!((stat.uid(), stat.gid()), (0, 0), "{}", device.path);
    }
    for (name, to) in standard::LINKS {
        let link = container.path("dev").join(name);
        assert_eq!(fs::read_link(link).unwrap(), Path::new(to), "{name}");
    }
    let mut zeros = [1_u8; 4];
    fs::File::open(container.path("dev/zero")).unwrap().read_exact(&mut zeros).unwrap();
    assert_eq!(zeros, [0; 4]);
}

#[test]
fn bound_devices_are_the_hosts() {
    let container = container(Nodes::Bind);
    for device in standard::devices() {
        let inside = fs::symlink_metadata(container.path(&device.path[1..])).unwrap();
        let host = fs::symlink_metadata(&device.path).unwrap();
        assert_eq!((inside.rdev(), inside.ino()), (host.rdev(), host.ino()), "{}", device.path);
        container.mount_on(&device.path);
    }
}

#[test]
fn the_console_is_a_terminal_of_the_container() {
    let container = container(Nodes::Make);
    let console = fs::metadata(container.path("dev/console")).unwrap();
    assert!(console.file_type().is_char_device());
    assert_eq!(rustix::fs::major(console.rdev()), 136); // devices.txt of Linux
    assert_eq!(console.rdev(), fs::metadata(container.path("dev/pts/0")).unwrap().rdev());
}

#[test]
fn masked_paths_show_nothing_and_read_only_ones_cannot_be_changed() {
    let container = container(Nodes::Make);
    let mut masked = 0;
    for path in standard::masked_paths() {
        let Ok(host) = fs::metadata(&path) else { continue };
        let inside = container.path(&path[1..]);
        masked += 1;
        if host.is_dir() {
            assert_eq!(fs::read_dir(&inside).unwrap().count(), 0, "{path}");
            let error = fs::write(inside.join("x"), "").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()), "{path}");
        } else {
            assert_eq!(fs::metadata(&inside).unwrap().rdev(), rustix::fs::makedev(1, 3), "{path}");
            let mut text = String::new();
            fs::File::open(&inside).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "", "{path}");
        }
        assert!(container.mount_on(&path).options.starts_with("ro,nosuid"), "{path}");
    }
    assert!(masked >= 2, "this kernel has hardly any of the paths: the test shows nothing");
    for path in standard::READ_ONLY {
        if Path::new(path).exists() {
            assert!(
                container.mount_on(path).options.starts_with("ro,nosuid,nodev,noexec"),
                "{path}"
            );
        }
    }
    let sysctl = container.path("proc/sys/kernel/domainname");
    let error = fs::OpenOptions::new().write(true).open(sysctl).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    // What is not protected can be written to.
    let score = container.path("proc/1/oom_score_adj");
    fs::OpenOptions::new().write(true).open(score).unwrap().write_all(b"500").unwrap();
}

#[test]
fn one_empty_superblock_serves_all_masked_directories() {
    let image = Image::new();
    for name in ["a", "b/inner", "dev"] {
        fs::create_dir_all(image.path(name)).unwrap();
    }
    fs::write(image.path("b/inner/secret"), "secret").unwrap();
    std::os::unix::fs::symlink("b/inner", image.path("link")).unwrap();
    let none: [&str; 0] = [];
    let masks = Masks::prepare(&["/a", "/missing", "/a/missing/x", "/link"], &none).unwrap();
    let container = Container::of(image.tree.as_fd(), nothing, |root| masks.apply(root)).unwrap();
    let (a, b) = (container.mount_on("/a"), container.mount_on("/b/inner"));
    assert_eq!((a.major, a.minor), (b.major, b.minor));
    assert!(!container.path("b/inner/secret").exists());
    assert_eq!(container.mounts().len(), 3);
}

#[test]
fn a_read_only_path_takes_what_is_mounted_below_it_along() {
    let image = Image::new();
    let outer = pivot::Filesystem::new("tmpfs", "/data", None, &["noexec"]).unwrap();
    let inner = pivot::Filesystem::new("tmpfs", "/data/inner", None, &["nodev"]).unwrap();
    let none: [&str; 0] = [];
    let masks = Masks::prepare(&none, &["/data"]).unwrap();
    let below = |root: BorrowedFd<'_>| outer.apply(root).and_then(|()| inner.apply(root));
    let container = Container::of(image.tree.as_fd(), below, |root| masks.apply(root)).unwrap();
    for (path, options) in [("data", "ro,noexec,relatime"), ("data/inner", "ro,nodev,relatime")] {
        let error = fs::write(container.path(path).join("x"), "").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()), "{path}");
        assert_eq!(container.mount_on(&format!("/{path}")).options, options);
    }
}
