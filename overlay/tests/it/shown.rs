//! What the mount shows, and what the mount table says of it.

use std::fs;
use std::os::fd::AsRawFd;

use overlay::{Form, Overlay};

use crate::place::{Place, names, skipped};

#[test]
fn the_topmost_layer_is_seen_and_the_upper_directory_written() {
    let place = Place::new();
    place.write("a/same", "a");
    place.write("b/same", "b");
    place.write("b/below/file", "b");
    assert_eq!(place.mount(&place.overlay()).unwrap(), Form::OneString);
    let merged = place.path("merged");
    assert_eq!(names(&merged), ["below", "same"]);
    assert_eq!(fs::read_to_string(merged.join("same")).unwrap(), "a");
    fs::write(merged.join("same"), "new").unwrap();
    fs::remove_dir_all(merged.join("below")).unwrap();
    assert_eq!(fs::read_to_string(place.path("upper/same")).unwrap(), "new");
    assert_eq!(fs::read_to_string(place.path("a/same")).unwrap(), "a");
    assert_eq!(
        (names(&merged), names(&place.path("b"))),
        (vec!["same".to_owned()], vec!["below".to_owned(), "same".to_owned()])
    );
}

#[test]
fn without_an_upper_directory_it_is_read_only() {
    let place = Place::new();
    place.write("b/file", "");
    place.mount(&Overlay::new().lowers([place.path("a"), place.path("b")])).unwrap();
    let error = fs::write(place.path("merged/new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(names(&place.path("merged")), ["file"]);
}

#[test]
fn a_detached_mount_is_nowhere_and_goes_with_its_descriptor() {
    let place = Place::new();
    place.write("a/file", "x");
    // The new interface takes 255 bytes of lower directories before Linux 6.8: these have less.
    let mount = place.overlay().detached().unwrap();
    let path = format!("/proc/self/fd/{}/file", mount.as_raw_fd());
    assert_eq!(fs::read_to_string(path).unwrap(), "x");
    let table = fs::read("/proc/self/mountinfo").unwrap();
    let place_of = place.path("").display().to_string();
    assert!(!String::from_utf8_lossy(&table).contains(&place_of));
    drop(mount);
    // Free again: the same directories can be mounted once more.
    place.mount(&place.overlay()).unwrap();
}

/// Layers with colons, commas and backslashes in their names, and a file in each but the work directory.
fn special() -> (Place, Overlay) {
    let place = Place::new();
    let lowers = ["l:1", "l,2", "l\\3", "l 4"];
    let (upper, work) = ("u:p,p\\er", "w,o:r\\k");
    fs::create_dir(place.path(work)).unwrap();
    for name in lowers.iter().chain([&upper]) {
        place.write(&format!("{name}/of {name}"), "");
    }
    let overlay = Overlay::new()
        .lowers(lowers.map(|name| place.path(name)))
        .upper(place.path(upper))
        .work(place.path(work));
    (place, overlay)
}

const SPECIAL: [&str; 5] = ["of l 4", "of l,2", "of l:1", "of l\\3", "of u:p,p\\er"];

#[test]
fn special_bytes_in_paths() {
    let (place, overlay) = special();
    place.mount(&overlay).unwrap();
    assert_eq!(names(&place.path("merged")), SPECIAL);
}

#[test]
fn special_bytes_in_paths_of_a_detached_mount() {
    let (_place, overlay) = special();
    match overlay.detached() {
        Ok(mount) => {
            let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
            assert_eq!(names(path.as_ref()), SPECIAL);
        }
        Err(error) if error.to_string().contains("contained comma") => {
            skipped("overlay_fsconfig", "this kernel takes no comma in a mount option");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn relative_paths_are_taken_from_the_base() {
    let place = Place::new();
    place.write("b/file", "x");
    let overlay = Overlay::new().lowers(["a", "b"]).upper("upper").work("work");
    place.mount(&overlay).unwrap();
    assert_eq!(fs::read_to_string(place.path("merged/file")).unwrap(), "x");
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let merged = place.path("merged").display().to_string();
    let line = text.lines().find(|line| line.contains(&merged)).unwrap();
    assert!(line.contains("lowerdir=a:b,upperdir=upper,workdir=work"), "{line}");
}

/// layers.md: "a mountinfo line can be longer than 4,096 bytes".
#[test]
fn the_longest_stack_there_is() {
    let place = Place::new();
    let lowers: Vec<_> =
        (0..overlay::MAX_LOWERS).map(|at| place.path(&format!("{at:03}"))).collect();
    for lower in &lowers {
        fs::create_dir(lower).unwrap();
        fs::write(lower.join(lower.file_name().unwrap()), "").unwrap();
    }
    let overlay =
        Overlay::new().lowers(&lowers).upper(place.path("upper")).work(place.path("work"));
    // Absolute they are 10,000 bytes and more, relative to the base 2,000.
    let form = place.mount(&overlay).unwrap();
    assert!(matches!(form, Form::PerLayer | Form::Relative), "{form:?}");
    assert_eq!(names(&place.path("merged")).len(), overlay::MAX_LOWERS);
    let table = fs::read("/proc/self/mountinfo").unwrap();
    let mounts = sys::mountinfo::parse(&table).unwrap();
    let mount = mounts.iter().find(|mount| mount.target == place.path("merged")).unwrap();
    assert_eq!(mount.fstype, "overlay");
    assert_eq!(mount.super_options.len() > 4096, form == Form::PerLayer);
}
