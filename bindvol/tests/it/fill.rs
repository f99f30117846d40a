//! The first use of a volume.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use bindvol::{Error, Volume, Volumes, fill};
use rustix::fs::{AtFlags, FileType, Mode, XattrFlags, makedev};

use crate::sandbox::{mount_tmpfs, read, sandbox, write};

struct World {
    dir: tempfile::TempDir,
    volume: Volume,
    image: File,
}

/// An image with `/data`, and a new volume.
fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("image/data")).unwrap();
    let volume = Volumes::open(&dir.path().join("volumes")).unwrap().ensure("v").unwrap();
    let image = File::open(dir.path().join("image")).unwrap();
    World { dir, volume, image }
}

impl World {
    fn image(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("image").join(path)
    }

    fn volume(&self, path: &str) -> std::path::PathBuf {
        self.volume.path.join(path)
    }

    fn fill(&self) -> Result<bool, Error> {
        fill(&self.volume, self.image.as_fd(), "/data")
    }

    fn stage(&self) -> std::path::PathBuf {
        self.volume.path.with_file_name("_fill")
    }
}

#[test]
fn everything_is_kept() {
    let world = world();
    let mode = |path: &str, mode| {
        fs::set_permissions(world.image(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir_all(world.image("data/a/b")).unwrap();
    write(world.image("data/a/file"), "content");
    chown(world.image("data/a/file"), Some(7), Some(8)).unwrap();
    mode("data/a/file", 0o6751);
    fs::hard_link(world.image("data/a/file"), world.image("data/a/b/same")).unwrap();
    symlink("/etc/passwd", world.image("data/link")).unwrap();
    lchown(world.image("data/link"), Some(9), Some(9)).unwrap();
    let node = |name, kind, dev| {
        let mode = Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(&world.image, name, kind, mode, dev).unwrap();
    };
    node("data/null", FileType::CharacterDevice, makedev(1, 3));
    node("data/fifo", FileType::Fifo, 0);
    node("data/socket", FileType::Socket, 0);
    let sparse = File::create_new(world.image("data/sparse")).unwrap();
    rustix::io::pwrite(&sparse, b"end", 32 << 20).unwrap();
    let set = |path: &str, name, value: &[u8]| {
        rustix::fs::lsetxattr(world.image(path), name, value, XattrFlags::empty()).unwrap();
    };
    // cap_net_bind_service=ep, version 2 (linux/capability.h)
    let mut capability = [0_u8; 20];
    capability[..6].copy_from_slice(&[1, 0, 0, 2, 0, 4]);
    write(world.image("data/server"), "");
    set("data/server", "security.capability", &capability);
    set("data/a", "user.long", &[b'x'; 3000]);
    set("data/link", "trusted.of-link", b"1");
    set("data/a", "trusted.overlay.opaque", b"y");
    chown(world.image("data"), Some(33), Some(34)).unwrap();
    mode("data", 0o1770);
    mode("data/a/b", 0o500);
    let time = rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    for path in ["data/a/file", "data/link", "data/fifo", "data/a/b", "data/a", "data"] {
        rustix::fs::utimensat(&world.image, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    assert!(world.fill().unwrap());

    for path in
        ["", "a", "a/b", "a/file", "a/b/same", "link", "null", "fifo", "socket", "sparse", "server"]
    {
        let of = fs::symlink_metadata(world.image("data").join(path)).unwrap();
        let made = fs::symlink_metadata(world.volume(path)).unwrap();
        let shape = |of: &fs::Metadata| {
            let directory = of.is_dir();
            let (size, links) = if directory { (0, 0) } else { (of.size(), of.nlink()) };
            (of.mode(), of.uid(), of.gid(), of.rdev(), size, links, of.mtime(), of.mtime_nsec())
        };
        assert_eq!(shape(&made), shape(&of), "{path}");
    }
    assert_eq!(read(world.volume("a/file")), "content");
    assert_eq!(fs::read_link(world.volume("link")).unwrap(), Path::new("/etc/passwd"));
    let inode = |path| fs::metadata(world.volume(path)).unwrap().ino();
    assert_eq!(inode("a/file"), inode("a/b/same"));
    assert!(fs::metadata(world.volume("fifo")).unwrap().file_type().is_fifo());
    assert!(fs::metadata(world.volume("sparse")).unwrap().blocks() * 512 < 1 << 20);
    let get = |path, name| {
        let mut buffer = [0_u8; 4096];
        let n = rustix::fs::lgetxattr(world.volume(path), name, &mut buffer[..])?;
        Ok(buffer[..n].to_vec())
    };
    assert_eq!(get("server", "security.capability"), Ok(capability.to_vec()));
    assert_eq!(get("a", "user.long"), Ok(vec![b'x'; 3000]));
    assert_eq!(get("link", "trusted.of-link"), Ok(b"1".to_vec()));
    assert_eq!(get("a", "trusted.overlay.opaque"), Err(rustix::io::Errno::NODATA));
    assert!(!world.stage().exists());
}

#[test]
fn only_an_empty_volume_is_filled() {
    let world = world();
    write(world.image("data/file"), "of the image");
    write(world.volume("mine"), "mine");
    assert!(!world.fill().unwrap());
    assert!(!world.volume("file").exists());
    fs::remove_file(world.volume("mine")).unwrap();
    assert!(world.fill().unwrap());
    write(world.volume("file"), "changed");
    assert!(!world.fill().unwrap());
    assert_eq!(read(world.volume("file")), "changed");
}

#[test]
fn an_image_may_have_nothing_there_or_something_else() {
    let world = world();
    let image = world.image.as_fd();
    assert!(!fill(&world.volume, image, "/data/not/there").unwrap());
    // An empty directory gives its attributes.
    fs::set_permissions(world.image("data"), fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(!world.fill().unwrap());
    assert_eq!(fs::metadata(&world.volume.path).unwrap().mode() & 0o7777, 0o1777);
    write(world.image("file"), "");
    for target in ["/file", "/file/x"] {
        let error = fill(&world.volume, image, target).unwrap_err().to_string();
        assert!(error.contains(&format!("no directory at {target:?}")), "{error}");
    }
    assert!(fill(&world.volume, image, "/").unwrap_err().to_string().contains("root"));
    assert!(fill(&world.volume, image, "/a\0").unwrap_err().to_string().contains("NUL"));
    symlink("loop", world.image("loop")).unwrap();
    let error = fill(&world.volume, image, "/loop").unwrap_err().to_string();
    assert!(error.starts_with("opening, in the image, \"/loop\""), "{error}");
    Volumes::open(&world.dir.path().join("volumes")).unwrap().remove("v").unwrap();
    let error = world.fill().unwrap_err().to_string();
    assert!(error.starts_with("opening the volume"), "{error}");
}

#[test]
fn links_of_the_image_lead_nowhere() {
    let world = world();
    let canary = world.dir.path().join("canary");
    fs::create_dir(&canary).unwrap();
    write(canary.join("secret"), "secret");
    symlink(&canary, world.image("out")).unwrap();
    assert!(!fill(&world.volume, world.image.as_fd(), "/out").unwrap(), "absent below the root");
    symlink(&canary, world.image("data/directory")).unwrap();
    symlink(canary.join("secret"), world.image("data/file")).unwrap();
    symlink("../image/data", world.image("inside")).unwrap();
    assert!(fill(&world.volume, world.image.as_fd(), "/inside/../data").unwrap());
    assert!(fs::symlink_metadata(world.volume("directory")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(world.volume("file")).unwrap().is_symlink());
}

#[test]
fn a_filling_that_was_cut_off_is_completed() {
    let world = world();
    fs::create_dir_all(world.image("data/a/b")).unwrap();
    for name in ["data/one", "data/two", "data/a/three", "data/a/b/four"] {
        write(world.image(name), name);
    }
    fs::hard_link(world.image("data/one"), world.image("data/a/same")).unwrap();
    fs::create_dir(world.image("data/taken")).unwrap();
    write(world.image("data/taken/five"), "five");
    // As a crash leaves it: some is there, something is half made, and the mark says so.
    fs::create_dir(world.stage()).unwrap();
    write(world.stage().join("file"), "ha");
    fs::create_dir(world.volume("a")).unwrap();
    write(world.volume("one"), "data/one");
    // Somebody did not ask for the image's content and wrote before.
    write(world.volume("two"), "mine");
    write(world.volume("taken"), "mine");
    assert!(world.fill().unwrap());
    assert_eq!(read(world.volume("a/b/four")), "data/a/b/four");
    assert_eq!(read(world.volume("two")), "mine");
    assert_eq!(read(world.volume("taken")), "mine");
    assert_eq!(read(world.volume("a/same")), "data/one");
    assert!(!world.stage().exists());
    assert!(!world.fill().unwrap());
}

#[test]
fn a_failure_names_the_file_and_is_made_up_for() {
    sandbox(|| {
        mount_tmpfs("/tmp/source");
        let context = sys::fscontext::FsContext::open(c"tmpfs").unwrap();
        context.string(c"size", c"1m").unwrap();
        let small = context.mount(rustix::mount::MountAttrFlags::empty()).unwrap();
        fs::create_dir("/tmp/volumes").unwrap();
        sys::mount::attach(&small, crate::sandbox::open("/tmp/volumes")).unwrap();
        let volume = Volumes::open(Path::new("/tmp/volumes")).unwrap().ensure("v").unwrap();
        fs::create_dir_all("/tmp/source/data/a").unwrap();
        write("/tmp/source/data/a/big", &"x".repeat(2 << 20));
        write("/tmp/source/data/small", "small");
        let image = File::open("/tmp/source").unwrap();
        let error = fill(&volume, image.as_fd(), "/data").unwrap_err().to_string();
        let what = "filling the volume \"v\" from the image's \"/data/a/big\": copying the content";
        assert!(error.starts_with(what), "{error}");
        assert!(error.contains("No space left") && error.contains("is full"), "{error}");
        // It does not count as filled, whatever is in it.
        write("/tmp/source/data/a/big", "smaller");
        assert!(fill(&volume, image.as_fd(), "/data").unwrap());
        assert_eq!(read(volume.path.join("a/big")), "smaller");
        assert_eq!(read(volume.path.join("small")), "small");
    });
}

#[test]
fn another_file_system_in_the_image_is_not_entered() {
    sandbox(|| {
        fs::create_dir_all("/tmp/source/data/below").unwrap();
        mount_tmpfs("/tmp/source/data/below");
        let volume = Volumes::open(Path::new("/tmp/volumes")).unwrap().ensure("v").unwrap();
        let image = File::open("/tmp/source").unwrap();
        let error = fill(&volume, image.as_fd(), "/data").unwrap_err().to_string();
        assert!(
            error.contains("\"/data/below\"") && error.contains("another file system"),
            "{error}"
        );
    });
}

#[test]
fn of_many_who_fill_at_once_one_does() {
    let world = world();
    for n in 0..50 {
        write(world.image(&format!("data/{n}")), "content");
    }
    let filled = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| world.fill().unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|filled| *filled).count()
    });
    assert_eq!(filled, 1);
    assert_eq!(fs::read_dir(&world.volume.path).unwrap().count(), 50);
}

#[test]
fn depth_does_not_matter() {
    let world = world();
    // Near PATH_MAX: more levels than descriptors.
    let deep = "d/".repeat(1500);
    fs::create_dir_all(world.image("data").join(&deep)).unwrap();
    assert!(world.fill().unwrap());
    assert!(world.volume(&deep).is_dir());
    // What the standard library would leave behind, for want of descriptors.
    sys::erase::empty(File::open(world.dir.path()).unwrap().as_fd()).unwrap();
}
