use super::*;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

/// `d/f`, `f`, and links to them: `to-d`, `to-f`, `dangling`, `out`, `loop`.
fn tree() -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join("root").join(name);
    std::fs::create_dir_all(at("d")).unwrap();
    std::fs::write(at("d/f"), "").unwrap();
    std::fs::write(at("f"), "").unwrap();
    for (to, name) in [
        ("d", "to-d"),
        ("/d/f", "to-f"),
        ("d/new", "dangling"),
        ("../../../outside", "out"),
        ("loop", "loop"),
    ] {
        symlink(to, at(name)).unwrap();
    }
    std::fs::create_dir(dir.path().join("outside")).unwrap();
    let root = rustix::fs::open(at(""), OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    (dir, root)
}

fn source(root: &OwnedFd, path: &str, follow: bool) -> Result<(String, String, bool), String> {
    let source = Source::find(Side::Container(root.as_fd()), path.as_bytes(), follow);
    let source = source.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ok((text(source.entry.to_bytes()), text(&source.name), source.is_directory))
}

#[test]
fn a_source_is_found_as_docker_finds_it() {
    let (_dir, root) = tree();
    for (path, follow, entry, name, is_directory) in [
        ("/d", false, "d", "d", true),
        ("d", false, "d", "d", true),
        ("/d/", false, "d", "d", true),
        ("/d/.", false, "d", "", true),
        ("/d/x/../f", false, "f", "f", false),
        ("/../../d", false, "d", "d", true),
        ("/", false, ".", "", true),
        ("/.", false, ".", "", true),
        ("/to-d", false, "to-d", "to-d", false),
        ("/to-d", true, "d", "to-d", true),
        ("/to-d/", false, "d", "to-d", true),
        ("/to-d/.", false, "d", "", true),
        ("/to-f", true, "f", "to-f", false),
        ("/to-d/f", false, "f", "f", false),
        ("/dangling", false, "dangling", "dangling", false),
    ] {
        let expected = (entry.to_owned(), name.to_owned(), is_directory);
        assert_eq!(source(&root, path, follow), Ok(expected), "{path}");
    }
    for (path, follow, word) in [
        ("", false, "empty"),
        ("/nothing", false, "could not find"),
        ("/nothing/f", false, "no such file"),
        ("/f/", false, "not a directory"),
        ("/f/.", false, "not a directory"),
        ("/f/x", false, "not a directory"),
        ("/to-f/", false, "not a directory"),
        ("/dangling", true, "could not find"),
        ("/out", true, "could not find"),
        ("/loop", true, "too many"),
        ("/a\0b", false, "NUL"),
    ] {
        let error = source(&root, path, follow).unwrap_err();
        assert!(error.contains(word), "{path:?}: {error}");
    }
}

#[test]
fn a_target_is_what_docker_makes_of_it() {
    let (_dir, root) = tree();
    let side = Side::Container(root.as_fd());
    let target = |path: &str, from: &str| {
        let source = Source::find(side, from.as_bytes(), false).unwrap();
        let target = Target::find(side, path.as_bytes(), &source);
        let target = target.map_err(|error| error.to_string())?;
        let name = target.name.map(|name| String::from_utf8(name).unwrap());
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        Ok::<_, String>((name, inode(&target.into) == inode(&root)))
    };
    let named = |name: &str| Some(name.to_owned());
    for (path, from, name, in_root) in [
        ("/d", "/f", None, false),
        ("/d/", "/f", None, false),
        ("/d", "/d", None, false),
        ("/", "/f", None, true),
        ("/to-d", "/f", None, false),
        ("/f", "/d/f", named("f"), true),
        ("/new", "/f", named("new"), true),
        ("/new", "/d", named("new"), true),
        ("/new/", "/d", named("new"), true),
        ("/dangling", "/f", named("new"), false),
        ("/to-f", "/f", named("f"), false),
    ] {
        assert_eq!(target(path, from), Ok((name, in_root)), "{from} to {path}");
    }
    for (path, from, word) in [
        ("/f", "/d", "cannot copy directory"),
        ("/f/", "/f", "not a directory"),
        ("/new/", "/f", "no such directory"),
        ("/no/such", "/f", "no such file or directory"),
        ("/out/x", "/f", "no such file or directory"),
    ] {
        let error = target(path, from).unwrap_err();
        assert!(error.contains(word), "{from} to {path}: {error}");
    }
    let error = Target::directory(side, b"/f").unwrap_err().to_string();
    assert!(error.contains("must be a directory"), "{error}");
    assert!(Target::directory(side, b"/nothing").is_err());
}

proptest::proptest! {
    #[test]
    fn nothing_outside_is_found(path in "[a-z./-]{0,20}") {
        let (dir, root) = tree();
        let side = Side::Container(root.as_fd());
        if let Ok(found) = Source::find(side, path.as_bytes(), true) {
            let there = sys::process::proc_path(&found.dir);
            let there = std::fs::read_link(there).unwrap();
            proptest::prop_assert!(there.starts_with(dir.path().join("root")), "{}", there.display());
        }
    }
}
