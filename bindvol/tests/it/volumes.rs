//! Named volumes: made once, whoever asks; removed whole.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use bindvol::{Error, Volume, Volumes};

use crate::sandbox::{mount_tmpfs, read, sandbox, write};

#[test]
fn a_volume_is_made_found_listed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(&dir.path().join("a/volumes")).unwrap();
    let root = dir.path().canonicalize().unwrap().join("a/volumes");
    assert_eq!(volumes.list().unwrap(), []);
    let made = volumes.ensure("data").unwrap();
    let path = root.join("data/_data");
    assert_eq!(made, Volume { name: "data".to_owned(), path: path.clone(), new: true });
    let modes = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((modes(&root), modes(&root.join("data")), modes(&path)), (0o700, 0o700, 0o755));
    let again = Volume { new: false, ..made };
    assert_eq!(volumes.ensure("data").unwrap(), again);
    assert_eq!(volumes.get("data").unwrap().unwrap(), again);
    assert_eq!(volumes.get("other").unwrap(), None);
    let anonymous = volumes.anonymous().unwrap();
    assert!(anonymous.new && anonymous.name.len() == 64);
    assert!(anonymous.name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    // Not volumes: what else lies around.
    write(root.join("file"), "");
    fs::create_dir(root.join("half")).unwrap();
    let names: Vec<String> =
        volumes.list().unwrap().into_iter().map(|volume| volume.name).collect();
    let mut expected = vec![anonymous.name, "data".to_owned()];
    expected.sort();
    assert_eq!(names, expected);
    assert!(volumes.ensure("half").unwrap().new, "what was made half is completed");
    write(path.join("file"), "");
    symlink("/etc", path.join("link")).unwrap();
    assert!(!volumes.remove_if("data", || false).unwrap(), "somebody uses it");
    assert!(volumes.content("data").unwrap().join("file").exists());
    assert!(volumes.remove_if("data", || true).unwrap());
    assert!(!root.join("data").exists());
    assert_eq!(volumes.get("data").unwrap(), None);
    assert!(matches!(volumes.remove("data"), Err(Error::NoVolume { .. })));
    assert!(volumes.ensure("data").unwrap().new);
}

#[test]
fn paths_of_volumes_have_no_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    fs::create_dir(root.join("disk")).unwrap();
    symlink("disk", root.join("link")).unwrap();
    symlink("link/volumes", root.join("volumes")).unwrap();
    fs::create_dir(root.join("disk/volumes")).unwrap();
    let volumes = Volumes::open(&root.join("volumes")).unwrap();
    assert_eq!(volumes.ensure("data").unwrap().path, root.join("disk/volumes/data/_data"));
}

#[test]
fn what_is_wrong_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(dir.path()).unwrap();
    for name in ["", "..", "a/b", ".hidden"] {
        let errors =
            [volumes.ensure(name).map(drop), volumes.get(name).map(drop), volumes.remove(name)];
        for error in errors {
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name:?} is no name for a volume")), "{error}");
        }
    }
    assert_eq!(volumes.remove("gone").unwrap_err().to_string(), "there is no volume \"gone\"");
    write(dir.path().join("file"), "");
    let error = volumes.ensure("file").unwrap_err().to_string();
    assert!(error.contains("opening the volume") && error.contains("file"), "{error}");
    let error = Volumes::open(&dir.path().join("file/x")).unwrap_err().to_string();
    assert!(error.starts_with("making the directory of volumes"), "{error}");
    let gone = Volume { name: "x".to_owned(), path: dir.path().join("x/_data"), new: false };
    assert!(gone.open(None).unwrap_err().to_string().contains("x/_data"));
}

#[test]
fn of_many_who_ask_at_once_one_has_it_as_new() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let name = format!("volume-{round}");
        let ask = || Volumes::open(dir.path()).unwrap().ensure(&name).unwrap().new;
        let new = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|new| *new).count()
        });
        assert_eq!(new, 1);
    }
}

#[test]
fn making_and_removing_at_once_leaves_whole_volumes() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let volumes = Volumes::open(dir.path()).unwrap();
                for _ in 0..200 {
                    volumes.ensure("data").unwrap();
                }
            });
            scope.spawn(|| {
                let volumes = Volumes::open(dir.path()).unwrap();
                for _ in 0..200 {
                    match volumes.remove("data") {
                        Ok(()) | Err(Error::NoVolume { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let volume = Volumes::open(dir.path()).unwrap().ensure("data").unwrap();
    assert!(volume.path.is_dir());
    let left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["data"]);
}

#[test]
fn a_removal_that_was_cut_off_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(".removed-123/_data/a/b")).unwrap();
    write(dir.path().join(".removed-123/_data/a/b/file"), "");
    let volumes = Volumes::open(dir.path()).unwrap();
    assert_eq!(volumes.list().unwrap(), []);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_mount_in_a_volume_is_not_emptied() {
    sandbox(|| {
        let volumes = Volumes::open(Path::new("/tmp/volumes")).unwrap();
        let volume = volumes.ensure("data").unwrap();
        let below = volume.path.join("below");
        fs::create_dir(&below).unwrap();
        mount_tmpfs(below.to_str().unwrap());
        write(below.join("canary"), "alive");
        let error = volumes.remove("data").unwrap_err().to_string();
        assert!(error.contains("busy"), "{error}");
        // The mount has moved with its directory.
        let left = fs::read_dir("/tmp/volumes").unwrap().next().unwrap().unwrap().path();
        let canary = ["_data/below/canary", ".1/canary", "below/canary"]
            .iter()
            .find(|path| left.join(path).exists())
            .unwrap();
        assert_eq!(read(left.join(canary)), "alive");
        // It blocks nothing, and goes when it can.
        let volumes = Volumes::open(Path::new("/tmp/volumes")).unwrap();
        assert_eq!(volumes.list().unwrap(), []);
        let mount = left.join(canary).parent().unwrap().to_owned();
        rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).unwrap();
        Volumes::open(Path::new("/tmp/volumes")).unwrap();
        assert!(!left.exists());
    });
}
