use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode};

use super::*;

const USERS: &str = "root:x:0:0:root:/root:/bin/sh\n\
    # a comment\n\n\
    www:x:33:34:www:/var/www:/bin/false\n\
    1000:x:5:5::/five:\n\
    nohome:x:7:7\n\
    overflow:x:4294967296:0::/o:\n\
    negative:x:-1:0::/o:\n\
    nobody:x::0::/o:\n\
    badgroup:x:8:x::/o:\n\
    caf\u{e9}:x:9:9::/c:\n";
const GROUPS: &str = "root:x:0:\nwheel:x:10:root,www\ndocker:x:11:www,\nwww:x:34:www\n\
    broken:x:zzz:www\nadm:x:4:root,1000\n";

fn image(passwd: Option<&str>, group: Option<&str>) -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    for (name, text) in [("passwd", passwd), ("group", group)] {
        if let Some(text) = text {
            std::fs::write(dir.path().join("etc").join(name), text).unwrap();
        }
    }
    let fd = open(dir.path());
    (dir, fd)
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn ids(root: &OwnedFd, text: &str) -> (u32, u32, Vec<u32>, String) {
    let user = resolve(root.as_fd(), text).unwrap();
    (user.uid, user.gid, user.groups, user.home)
}

#[test]
fn names_numbers_and_groups() {
    let (_dir, root) = image(Some(USERS), Some(GROUPS));
    for (text, uid, gid, groups, home) in [
        ("", 0, 0, &[0, 10, 4][..], "/root"),
        ("root", 0, 0, &[0, 10, 4], "/root"),
        ("0", 0, 0, &[0, 10, 4], "/root"),
        ("www", 33, 34, &[34, 10, 11], "/var/www"),
        ("33", 33, 34, &[34, 10, 11], "/var/www"),
        ("0033", 33, 34, &[34, 10, 11], "/var/www"),
        // A group that is given is the only one.
        ("www:wheel", 33, 10, &[10], "/var/www"),
        ("www:99", 33, 99, &[99], "/var/www"),
        ("33:0", 33, 0, &[0], "/var/www"),
        // No entry is needed for a number, and a name that looks like one is not looked for.
        ("1000", 1000, 0, &[0], "/"),
        ("4294967294:4294967294", 4_294_967_294, 4_294_967_294, &[4_294_967_294], "/"),
        ("5", 5, 5, &[5, 4], "/five"),
        ("nohome", 7, 7, &[7], "/"),
        ("badgroup:3", 8, 3, &[3], "/o"),
        ("caf\u{e9}", 9, 9, &[9], "/c"),
    ] {
        assert_eq!(ids(&root, text), (uid, gid, groups.to_vec(), home.to_owned()), "{text:?}");
    }
    assert_eq!(resolve(root.as_fd(), "33").unwrap().name.as_deref(), Some("www"));
    assert_eq!(resolve(root.as_fd(), "1000").unwrap().name, None);
}

#[test]
fn an_image_without_the_files_has_numbers_only() {
    let (_dir, root) = image(None, None);
    assert_eq!(ids(&root, ""), (0, 0, vec![0], "/".into()));
    assert_eq!(ids(&root, "5:6"), (5, 6, vec![6], "/".into()));
    let error = resolve(root.as_fd(), "www").unwrap_err().to_string();
    assert!(error.starts_with("unable to find user www: no matching entries in passwd file"));
    assert!(error.contains("no such file"), "{error}");
    let error = resolve(root.as_fd(), "5:www").unwrap_err().to_string();
    assert!(error.starts_with("unable to find group www: no matching entries in group file"));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(ids(&open(empty.path()), "0"), (0, 0, vec![0], "/".into()));
}

#[test]
fn an_id_that_overflows_is_no_root() {
    let (_dir, root) = image(Some(USERS), Some(GROUPS));
    for text in [
        "4294967296",
        "4294967295",
        "-1",
        "-0",
        "1:",
        "1:4294967296",
        "1:4294967295",
        "1:-1",
        ":",
        ":1",
        "1:2:3",
        "18446744073709551616",
        "99999999999999999999999999",
        "root:",
        "www:-5",
    ] {
        let error = resolve(root.as_fd(), text).unwrap_err().to_string();
        assert!(error.starts_with("invalid user"), "{text:?}: {error}");
    }
    // The same in the image's own files.
    for text in ["overflow", "negative", "nobody", "badgroup", "0:broken"] {
        let error = resolve(root.as_fd(), text).unwrap_err().to_string();
        assert!(error.contains("0 to 4294967294"), "{text:?}: {error}");
    }
    for text in ["+1", " 0", "0 ", "0x0", "\u{661}"] {
        assert!(matches!(resolve(root.as_fd(), text), Err(Error::UnknownUser { .. })), "{text:?}");
    }
}

#[test]
fn an_unknown_name_is_shown_with_those_that_are_near() {
    let (_dir, root) = image(Some(USERS), Some(GROUPS));
    let error = resolve(root.as_fd(), "wwww").unwrap_err().to_string();
    assert!(error.contains("find user wwww") && error.ends_with(": www"), "{error}");
    let error = resolve(root.as_fd(), "root:nope").unwrap_err().to_string();
    assert!(error.contains("find group nope") && error.contains("wheel"), "{error}");
}

#[test]
fn only_regular_files_of_the_image_are_read() {
    let fifo = tempfile::tempdir().unwrap();
    std::fs::create_dir(fifo.path().join("etc")).unwrap();
    let etc = open(&fifo.path().join("etc"));
    rustix::fs::mknodat(&etc, "passwd", FileType::Fifo, Mode::RWXU, 0).unwrap();
    let error = resolve(open(fifo.path()).as_fd(), "root").unwrap_err().to_string();
    assert!(error.contains("/etc/passwd") && error.contains("not a regular file"), "{error}");

    let (dir, root) = image(Some(USERS), None);
    std::fs::create_dir(dir.path().join("etc/group")).unwrap();
    let error = resolve(root.as_fd(), "root").unwrap_err().to_string();
    assert!(error.contains("/etc/group") && error.contains("not a regular file"), "{error}");

    // Of no use, and not read: the file is sparse.
    let (dir, root) = image(None, None);
    let file = std::fs::File::create(dir.path().join("etc/passwd")).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = resolve(root.as_fd(), "5").unwrap_err().to_string();
    assert!(error.contains("larger than"), "{error}");
}

#[test]
fn links_do_not_lead_out_of_the_image() {
    let outside = tempfile::tempdir().unwrap();
    let host = outside.path().join("passwd");
    std::fs::write(&host, "canary:x:66:66::/:\n").unwrap();
    for target in [host.clone(), "../../../../../../..".into(), "/proc/self/root/etc/passwd".into()]
    {
        let (dir, root) = image(None, None);
        std::os::unix::fs::symlink(&target, dir.path().join("etc/passwd")).unwrap();
        assert!(resolve(root.as_fd(), "canary").is_err(), "{}", target.display());
    }
    // One that stays inside is followed.
    let (dir, root) = image(None, None);
    std::fs::write(dir.path().join("users"), USERS).unwrap();
    std::os::unix::fs::symlink("/users", dir.path().join("etc/passwd")).unwrap();
    assert_eq!(ids(&root, "www").0, 33);
}

proptest::proptest! {
    #[test]
    fn no_text_and_no_file_makes_it_panic(
        text in "[a-z0-9:+-]{0,12}", passwd in "[ -~\n]{0,80}", group in "[a-c:,0-9\n-]{0,60}"
    ) {
        let (_dir, root) = image(Some(&passwd), Some(&group));
        if let Ok(user) = resolve(root.as_fd(), &text) {
            proptest::prop_assert!(user.uid != u32::MAX && user.gid != u32::MAX);
            proptest::prop_assert_eq!(user.groups[0], user.gid);
        }
    }

    #[test]
    fn numbers_are_taken_exactly(uid: u32, gid: u32) {
        let (_dir, root) = image(None, None);
        match resolve(root.as_fd(), &format!("{uid}:{gid}")) {
            Ok(user) => proptest::prop_assert_eq!((user.uid, user.gid), (uid, gid)),
            Err(_) => proptest::prop_assert!(uid == u32::MAX || gid == u32::MAX),
        }
    }
}
