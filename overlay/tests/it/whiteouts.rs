//! Whiteouts and opaque directories, as overlayfs reads them and as it writes them.

use std::fs;
use std::os::fd::AsFd;

use overlay::Overlay;
use overlay::whiteout::{self, Form};
use rustix::io::Errno;

use crate::place::{Place, c_string, names, open, skipped};

#[test]
fn the_device_form_hides_what_is_below() {
    let place = Place::new();
    place.write("b/gone", "");
    place.write("b/dir/hidden", "");
    place.write("a/dir/shown", "");
    let (a, dir) = (open(&place.path("a")), open(&place.path("a/dir")));
    whiteout::make(a.as_fd(), c"gone", Form::Device).unwrap();
    whiteout::set_opaque(dir.as_fd(), Form::Device).unwrap();
    assert_eq!(whiteout::make(a.as_fd(), c"gone", Form::Device), Err(Errno::EXIST));
    assert_eq!(whiteout::is_whiteout(a.as_fd(), c"gone", false), Ok(true));
    assert_eq!(whiteout::is_opaque(dir.as_fd(), false), Ok(true));
    place.mount(&place.overlay()).unwrap();
    assert_eq!(names(&place.path("merged")), ["dir"]);
    assert_eq!(names(&place.path("merged/dir")), ["shown"]);
}

#[test]
fn the_attribute_form_hides_what_is_below() {
    for user in [false, true] {
        let place = Place::new();
        place.write("b/dir/gone", "");
        place.write("b/dir/kept", "");
        fs::create_dir(place.path("a/dir")).unwrap();
        let dir = open(&place.path("a/dir"));
        let form = Form::Xattr { user };
        whiteout::make(dir.as_fd(), c"gone", form).unwrap();
        assert_eq!(whiteout::is_whiteout(dir.as_fd(), c"gone", user), Ok(true));
        assert_eq!(whiteout::is_whiteout(dir.as_fd(), c"gone", !user), Ok(false));
        assert_eq!(whiteout::is_opaque(dir.as_fd(), user), Ok(false));
        let lowers = [place.path("a"), place.path("b")];
        place.mount(&Overlay::new().lowers(lowers).userxattr(user)).unwrap();
        let shown = names(&place.path("merged/dir"));
        if shown == ["gone", "kept"] {
            skipped("overlay_xattr_whiteout", "this kernel shows such a whiteout as a file");
            return;
        }
        assert_eq!(shown, ["kept"], "user attributes: {user}");
    }
}

#[test]
fn an_opaque_directory_takes_no_attribute_whiteout() {
    let place = Place::new();
    let (a, form) = (open(&place.path("a")), Form::Xattr { user: false });
    whiteout::set_opaque(a.as_fd(), form).unwrap();
    assert_eq!(whiteout::make(a.as_fd(), c"x", form), Err(Errno::INVAL));
    assert_eq!(names(&place.path("a")), [""; 0]);
}

#[test]
fn what_overlayfs_writes_is_recognised() {
    let place = Place::new();
    place.write("b/gone", "");
    place.write("b/dir/file", "");
    place.mount(&place.overlay()).unwrap();
    fs::remove_file(place.path("merged/gone")).unwrap();
    fs::remove_dir_all(place.path("merged/dir")).unwrap();
    fs::create_dir(place.path("merged/dir")).unwrap();
    let upper = open(&place.path("upper"));
    assert_eq!(whiteout::is_whiteout(upper.as_fd(), c"gone", false), Ok(true));
    assert_eq!(whiteout::is_opaque(open(&place.path("upper/dir")).as_fd(), false), Ok(true));
}

#[test]
fn other_things_are_no_whiteouts() {
    let place = Place::new();
    place.write("a/file", "text");
    place.write("a/empty", "");
    fs::create_dir(place.path("a/dir")).unwrap();
    std::os::unix::fs::symlink("gone", place.path("a/link")).unwrap();
    let a = open(&place.path("a"));
    for name in ["file", "empty", "dir", "link"] {
        assert_eq!(whiteout::is_whiteout(a.as_fd(), &c_string(name), false), Ok(false), "{name}");
    }
    assert_eq!(whiteout::is_whiteout(a.as_fd(), c"none", false), Err(Errno::NOENT));
    assert_eq!(whiteout::is_opaque(open(&place.path("a/dir")).as_fd(), false), Ok(false));
}
