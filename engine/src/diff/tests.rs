use super::*;
use overlay::whiteout::{Form, make, set_opaque};
use std::path::Path;

struct Layers(tempfile::TempDir);

impl Layers {
    fn new() -> Layers {
        let layers = Layers(tempfile::tempdir().unwrap());
        for name in ["upper", "middle", "bottom"] {
            std::fs::create_dir(layers.0.path().join(name)).unwrap();
        }
        layers
    }

    fn file(&self, path: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    fn directory(&self, path: &str) -> OwnedFd {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(&path).unwrap();
        open(&path)
    }

    /// Directories that are in several layers have one time: nothing else in them changed.
    fn settle(&self) {
        fn all(dir: &Path) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    all(&entry.path());
                    let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
                    std::fs::File::open(entry.path()).unwrap().set_times(times).unwrap();
                }
            }
        }
        all(self.0.path());
    }

    fn changes(&self) -> Vec<String> {
        let lowers = ["middle", "bottom"].map(|name| open(&self.0.path().join(name)));
        let mut changes = Vec::new();
        directory(&open(&self.0.path().join("upper")), &lowers, "", &mut changes).unwrap();
        changes.iter().map(|change| format!("{} {}", change.kind.letter(), change.path)).collect()
    }
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

#[test]
fn files_come_change_and_go() {
    let layers = Layers::new();
    for file in ["bottom/etc/a", "middle/etc/b", "bottom/etc/deep/c", "bottom/var/log/x"] {
        layers.file(file);
    }
    layers.file("upper/etc/a");
    layers.file("upper/etc/new/file");
    layers.file("upper/etc-2");
    make(layers.directory("upper/etc").as_fd(), c"b", Form::Device).unwrap();
    make(layers.directory("upper/var").as_fd(), c"log", Form::Device).unwrap();
    // Copied up, and nothing is different.
    layers.directory("upper/etc/deep");
    layers.settle();
    assert_eq!(
        layers.changes(),
        [
            "C /etc",
            "C /etc/a",
            "D /etc/b",
            "A /etc/new",
            "A /etc/new/file",
            "A /etc-2",
            "C /var",
            "D /var/log"
        ]
    );
}

#[test]
fn what_a_layer_hides_is_not_the_images() {
    let layers = Layers::new();
    for file in ["bottom/gone", "bottom/dir/old", "bottom/file/was/directory", "middle/dir/kept"] {
        layers.file(file);
    }
    make(open(&layers.0.path().join("middle")).as_fd(), c"gone", Form::Device).unwrap();
    set_opaque(layers.directory("middle/dir").as_fd(), Form::Device).unwrap();
    layers.file("upper/gone");
    layers.file("upper/dir/old");
    layers.file("upper/file");
    layers.settle();
    assert_eq!(layers.changes(), ["C /dir", "A /dir/old", "C /file", "A /gone"]);
}

#[test]
fn an_opaque_directory_has_lost_what_it_had() {
    let layers = Layers::new();
    for file in ["bottom/dir/a", "bottom/dir/b/c", "middle/dir/d"] {
        layers.file(file);
    }
    layers.file("upper/dir/a");
    set_opaque(layers.directory("upper/dir").as_fd(), Form::Device).unwrap();
    layers.settle();
    assert_eq!(layers.changes(), ["C /dir", "C /dir/a", "D /dir/b", "D /dir/d"]);
}

#[test]
fn what_the_engine_makes_is_no_change() {
    let layers = Layers::new();
    layers.file("bottom/etc/passwd");
    layers.directory("upper/proc");
    layers.directory("upper/dev/pts");
    let hosts = layers.directory("upper/etc");
    let flags = OFlags::CREATE | OFlags::WRONLY;
    rustix::fs::openat(&hosts, "hosts", flags, Mode::RUSR).unwrap();
    assert_eq!(layers.changes(), [""; 0]);
    layers.file("upper/dev/own");
    layers.file("upper/etc/hosts");
    assert_eq!(layers.changes(), ["A /dev", "A /dev/own", "C /etc", "A /etc/hosts"]);
}

#[test]
fn mode_owner_and_time_of_a_directory_count() {
    use std::os::unix::fs::PermissionsExt;
    let layers = Layers::new();
    layers.file("bottom/a/x");
    layers.file("bottom/b/x");
    layers.directory("upper/a");
    layers.directory("upper/b");
    layers.settle();
    assert_eq!(layers.changes(), [""; 0]);
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(layers.0.path().join("upper/a"), mode).unwrap();
    let now = std::fs::FileTimes::new().set_modified(std::time::SystemTime::now());
    open_file(&layers.0.path().join("upper/b")).set_times(now).unwrap();
    assert_eq!(layers.changes(), ["C /a", "C /b"]);
}

fn open_file(path: &Path) -> std::fs::File {
    std::fs::File::open(path).unwrap()
}
