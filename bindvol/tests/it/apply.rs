//! Binds of directories and files, and targets of the wrong kind.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use bindvol::{Attributes, Bind, VolumeSpec, Volumes};
use rustix::io::Errno;
use std::os::fd::AsFd;

use crate::sandbox::{Container, bind, mount_on, open, read, sandbox, write};

#[test]
fn a_directory_is_seen_from_both_sides() {
    sandbox(|| {
        write("/tmp/source/nginx_file", "there");
        let spec = VolumeSpec::parse_volume("/tmp/source:/nginx_volume").unwrap();
        let prepared = Bind::prepare(
            Path::new("/tmp/source"),
            &spec.target,
            spec.options.recursive,
            &spec.attributes(),
        )
        .unwrap();
        assert_eq!(prepared.describe(), "the bind of /tmp/source on /nginx_volume (rw)");
        let container = Container::with(&[prepared]).unwrap();
        assert_eq!(read(container.path("nginx_volume/nginx_file")), "there");
        write(container.path("nginx_volume/made"), "inside");
        assert_eq!(read("/tmp/source/made"), "inside");
        let mount = container.mount_on("/nginx_volume").unwrap();
        assert_eq!((mount.fstype.as_str(), mount.root.to_str()), ("tmpfs", Some("/source")));
        assert_eq!(mount.propagation, [""; 0]);
        assert_eq!(mount_on("/tmp/root/nginx_volume"), None, "it is the container's alone");
    });
}

#[test]
fn files_and_missing_targets() {
    sandbox(|| {
        write("/tmp/source/hosts", "hosts");
        fs::create_dir("/tmp/root/etc").unwrap();
        write("/tmp/root/etc/hosts", "of the image");
        let binds = [
            bind("/tmp/source/hosts", "/etc/hosts"),
            bind("/tmp/source/hosts", "/new/place/file"),
            bind("/tmp/source", "/a/./b/../deep//er/"),
            bind("/dev/null", "/dev/nothing"),
        ];
        let container = Container::with(&binds).unwrap();
        assert_eq!(read(container.path("etc/hosts")), "hosts");
        assert_eq!(read(container.path("new/place/file")), "hosts");
        assert_eq!(read(container.path("a/deep/er/hosts")), "hosts");
        let null = fs::metadata(container.path("dev/nothing")).unwrap();
        assert!(null.file_type().is_char_device());
        for made in ["new", "new/place", "a", "dev"] {
            let mode = fs::metadata(Path::new("/tmp/root").join(made)).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o755, "{made}");
        }
        assert_eq!(read("/tmp/root/etc/hosts"), "of the image", "covered, not changed");
        assert_eq!(fs::metadata("/tmp/root/new/place/file").unwrap().len(), 0);
    });
}

#[test]
fn a_source_may_be_a_link_of_the_host_or_a_descriptor() {
    sandbox(|| {
        write("/tmp/source/file", "there");
        symlink("source", "/tmp/link").unwrap();
        let opened = open("/tmp/source");
        // What the name means later does not matter.
        fs::rename("/tmp/source", "/tmp/elsewhere").unwrap();
        let of_descriptor = Bind::of_descriptor(
            opened.as_fd(),
            Path::new("/tmp/source"),
            "/b",
            false,
            &Attributes::default(),
        )
        .unwrap();
        fs::rename("/tmp/elsewhere", "/tmp/source").unwrap();
        let container = Container::with(&[bind("/tmp/link", "/a"), of_descriptor]).unwrap();
        assert_eq!(read(container.path("a/file")), "there");
        assert_eq!(read(container.path("b/file")), "there");
    });
}

#[test]
fn only_a_recursive_bind_brings_what_is_mounted_below() {
    sandbox(|| {
        fs::create_dir("/tmp/source/below").unwrap();
        crate::sandbox::mount_tmpfs("/tmp/source/below");
        write("/tmp/source/below/file", "there");
        let prepare = |target, recursive| {
            Bind::prepare(Path::new("/tmp/source"), target, recursive, &Attributes::default())
        };
        let binds = [prepare("/all", true).unwrap(), prepare("/one", false).unwrap()];
        let container = Container::with(&binds).unwrap();
        assert_eq!(read(container.path("all/below/file")), "there");
        assert!(!container.path("one/below/file").exists());
        assert!(container.path("one/below").is_dir());
    });
}

#[test]
fn a_named_volume_and_a_part_of_it() {
    sandbox(|| {
        let volume = Volumes::open(Path::new("/tmp/volumes")).unwrap().ensure("data").unwrap();
        fs::create_dir_all(volume.path.join("a/b")).unwrap();
        write(volume.path.join("a/b/file"), "there");
        symlink("/tmp/canary", volume.path.join("out")).unwrap();
        symlink("/a", volume.path.join("in")).unwrap();
        let of = |subpath, target| {
            let opened = volume.open(subpath).unwrap();
            let shown = volume.path.join(subpath.unwrap_or_default());
            Bind::of_descriptor(opened.as_fd(), &shown, target, true, &Attributes::default())
                .unwrap()
        };
        let binds = [of(None, "/whole"), of(Some("a/b"), "/part"), of(Some("in/b"), "/linked")];
        let container = Container::with(&binds).unwrap();
        for path in ["whole/a/b/file", "part/file", "linked/file"] {
            assert_eq!(read(container.path(path)), "there", "{path}");
        }
        let error = volume.open(Some("out")).unwrap_err().to_string();
        assert!(error.contains("\"out\" of the volume \"data\""), "{error}");
        assert!(volume.open(Some("a\0")).unwrap_err().to_string().contains("NUL"));
        // `..` of a volume is itself.
        let above = rustix::fs::fstat(volume.open(Some("../../..")).unwrap()).unwrap();
        assert_eq!(above.st_ino, fs::metadata(&volume.path).unwrap().ino());
    });
}

#[test]
fn a_target_of_the_wrong_kind_is_said() {
    sandbox(|| {
        write("/tmp/source/file", "");
        fs::create_dir("/tmp/root/directory").unwrap();
        write("/tmp/root/file", "");
        let failed = |source, target| {
            let report = Container::with(&[bind(source, target)]).map(drop).unwrap_err();
            (report.errno, report.op)
        };
        let (errno, op) = failed("/tmp/source", "/file");
        assert_eq!(errno, Errno::NOTDIR);
        assert!(op.contains("target of a directory, where the root has a file"), "{op}");
        let (errno, op) = failed("/tmp/source/file", "/directory");
        assert_eq!(errno, Errno::ISDIR);
        assert!(op.contains("target of a file, where the root has a directory"), "{op}");
        let (errno, op) = failed("/tmp/source/file", "/file/below");
        assert_eq!(errno, Errno::NOTDIR);
        assert!(op.contains("a file in place of a directory"), "{op}");
        symlink("loop", "/tmp/root/loop").unwrap();
        assert_eq!(
            failed("/tmp/source", "/loop/x"),
            (Errno::LOOP, "opening or making the target".into())
        );
    });
}

#[test]
fn a_bind_is_attached_once() {
    sandbox(|| {
        let once = bind("/tmp/source", "/a");
        let report =
            Container::start(|root| once.apply(root).and_then(|()| once.apply(root))).map(drop);
        let report = report.unwrap_err();
        assert!(report.op.contains("attaching"), "{report}");
    });
}
