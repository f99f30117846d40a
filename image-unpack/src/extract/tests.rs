use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

struct Place {
    dir: tempfile::TempDir,
    into: OwnedFd,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let into = rustix::fs::open(dir.path().join("in"), flags, Mode::empty()).unwrap();
        Place { dir, into }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("in").join(name)
    }

    fn unpack(&self, tar: &[u8]) -> Result<u64, Error> {
        Extract { what: "the archive", owner: None }.unpack(tar, self.into.as_fd())
    }
}

type Entry<'a> = (&'a str, tar::EntryType, &'a str);

/// A tar of root's entries of mode 0755; the third field is a link's target or a file's content.
fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_ustar();
        let is_file = *kind == tar::EntryType::Regular;
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(1_000_000_000);
        header.set_size(if is_file { text.len() as u64 } else { 0 });
        if !is_file {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        let data = if is_file { text.as_bytes() } else { b"" };
        tar.append(&header, data).unwrap();
    }
    tar.into_inner().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIRECTORY: tar::EntryType = tar::EntryType::Directory;
const LINK: tar::EntryType = tar::EntryType::Link;
const SYMLINK: tar::EntryType = tar::EntryType::Symlink;
const FIFO: tar::EntryType = tar::EntryType::Fifo;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_tree_is_made_and_merged() {
    let place = Place::new();
    std::fs::create_dir(place.at("a")).unwrap();
    std::fs::write(place.at("a/there"), "stays").unwrap();
    std::fs::write(place.at("a/old"), "goes").unwrap();
    let before = std::fs::metadata(place.at("a/old")).unwrap().ino();
    let keep = std::fs::File::open(place.at("a/old")).unwrap();
    let bytes = place.unpack(&archive(&[
        ("a/", DIRECTORY, ""),
        ("a/old", FILE, "new"),
        ("a/.wh.name", FILE, "a name like any other"),
        ("deep/er/file", FILE, "implied"),
        ("a/hard", LINK, "a/old"),
        ("a/soft", SYMLINK, "/nowhere"),
        ("a/fifo", FIFO, ""),
    ]));
    assert_eq!(bytes.unwrap(), 3 + 21 + 7);
    assert_eq!(text(&place.at("a/there")), "stays");
    assert_eq!(text(&place.at("a/old")), "new");
    assert_eq!(text(&place.at("deep/er/file")), "implied");
    assert_eq!(text(&place.at("a/.wh.name")), "a name like any other");
    let old = std::fs::metadata(place.at("a/old")).unwrap();
    assert_ne!(old.ino(), before, "replaced, not written over");
    drop(keep);
    assert_eq!(std::fs::metadata(place.at("a/hard")).unwrap().ino(), old.ino());
    assert_eq!(std::fs::read_link(place.at("a/soft")).unwrap(), Path::new("/nowhere"));
    assert_eq!(std::fs::symlink_metadata(place.at("a/soft")).unwrap().mtime(), 1_000_000_000);
    let directory = std::fs::metadata(place.at("a")).unwrap();
    assert_eq!(directory.mtime(), 1_000_000_000, "set when all was in it");
    assert_eq!(directory.permissions().mode() & 0o7777, 0o755);
}

#[test]
fn nothing_leaves_the_place() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("canary"), "unharmed").unwrap();
    symlink(&outside, place.at("link")).unwrap();
    symlink("../outside/canary", place.at("to-file")).unwrap();
    for (entries, word) in [
        (vec![("../outside/canary", FILE, "x")], ".."),
        (vec![("link/canary", FILE, "x")], "cannot"),
        (vec![("new", SYMLINK, "../outside"), ("new/canary", FILE, "x")], "cannot"),
        (vec![("hard", LINK, "../outside/canary")], ".."),
        (vec![("hard", LINK, "link/canary")], "cannot"),
        (vec![("link/", DIRECTORY, "")], "cannot overwrite non-directory"),
    ] {
        let error = place.unpack(&archive(&entries)).unwrap_err().to_string();
        assert!(error.contains(word), "{entries:?}: {error}");
    }
    // A link at the place itself is replaced, and not followed.
    place.unpack(&archive(&[("to-file", FILE, "x"), ("/absolute", FILE, "y")])).unwrap();
    assert_eq!(text(&place.at("to-file")), "x");
    assert_eq!(text(&place.at("absolute")), "y");
    assert_eq!(text(&outside.join("canary")), "unharmed");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_directory_and_a_file_do_not_replace_each_other() {
    let place = Place::new();
    std::fs::create_dir(place.at("directory")).unwrap();
    std::fs::write(place.at("file"), "").unwrap();
    let error = place.unpack(&archive(&[("directory", FILE, "x")])).unwrap_err().to_string();
    assert!(error.contains("cannot overwrite directory with non-directory"), "{error}");
    let error = place.unpack(&archive(&[("file/", DIRECTORY, "")])).unwrap_err().to_string();
    assert!(error.contains("cannot overwrite non-directory with directory"), "{error}");
    assert!(place.at("directory").is_dir() && place.at("file").is_file());
}

#[test]
fn what_is_no_tar_is_an_error() {
    let place = Place::new();
    for bytes in [&b"no tar"[..], &[7; 2000], &archive(&[("a", FILE, "content")])[..515]] {
        place.unpack(bytes).unwrap_err();
    }
    assert_eq!(place.unpack(b"").unwrap_or(0), 0);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..2000), at in 0_usize..1500
    ) {
        let place = Place::new();
        let _ = place.unpack(&noise);
        let mut tar = archive(&[("a/", DIRECTORY, ""), ("a/b", FILE, "content"), ("c", LINK, "a/b")]);
        let end = tar.len().min(at + noise.len().min(100));
        tar[at..end].copy_from_slice(&noise[..end - at]);
        let _ = place.unpack(&tar);
        proptest::prop_assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 1);
    }
}
