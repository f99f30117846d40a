//! Each reason for which there is no mount is told, with the path that it is about.

use std::fs;
use std::os::fd::AsFd;

use overlay::{Error, MAX_LOWERS, Overlay};

use crate::place::Place;

/// The error of a mount, and that nothing is mounted.
fn refused(place: &Place, overlay: &Overlay) -> Error {
    let error = place.mount(overlay).expect_err("it must fail");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(place.path("merged").to_str().unwrap()), "{table}");
    error
}

#[test]
fn what_is_missing_in_the_request() {
    let place = Place::new();
    let none = Overlay::new().upper(place.path("upper")).work(place.path("work"));
    assert_eq!(refused(&place, &none), Error::NoLower);
    let one = Overlay::new().lower(place.path("a"));
    assert_eq!(refused(&place, &one), Error::OneLower { lower: place.path("a") });
    let upper = Overlay::new().lower(place.path("a")).upper(place.path("upper"));
    assert_eq!(refused(&place, &upper), Error::Incomplete { missing: "workdir" });
    let work = Overlay::new().lower(place.path("a")).work(place.path("work"));
    assert_eq!(refused(&place, &work), Error::Incomplete { missing: "upperdir" });
    let many = place.overlay().lowers((0..MAX_LOWERS).map(|at| format!("/{at}")));
    assert_eq!(refused(&place, &many), Error::TooManyLowers { layers: MAX_LOWERS + 2 });
}

#[test]
fn a_layer_that_is_none() {
    let place = Place::new();
    place.write("file", "");
    for (overlay, option, name, words) in [
        (place.overlay().lower(place.path("gone")), "lowerdir", "gone", "has to be made first"),
        (place.overlay().lower(place.path("file")), "lowerdir", "file", "has to be a directory"),
        (place.overlay().upper(place.path("gone")), "upperdir", "gone", "has to be made first"),
        (place.overlay().work(place.path("file")), "workdir", "file", "has to be a directory"),
    ] {
        let said = refused(&place, &overlay).to_string();
        let path = format!("{:?}", place.path(name));
        for part in [option, &path, words] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn an_upper_directory_that_does_not_fit_its_work_directory() {
    let place = Place::new();
    place.tmpfs(false);
    fs::create_dir(place.path("other/work")).unwrap();
    let apart = place.overlay().work(place.path("other/work"));
    let (upper, work) = (place.path("upper"), place.path("other/work"));
    assert_eq!(refused(&place, &apart), Error::OtherMount { upper: upper.clone(), work });

    fs::create_dir(place.path("upper/work")).unwrap();
    let nested = place.overlay().work(place.path("upper/work"));
    let work = place.path("upper/work");
    assert_eq!(refused(&place, &nested), Error::Nested { upper, work });
}

#[test]
fn an_upper_directory_on_an_unsuitable_file_system() {
    let place = Place::new();
    place.tmpfs(true);
    let said = |place: &Place| {
        let overlay = place.overlay().upper(place.path("other")).work(place.path("other"));
        refused(place, &overlay).to_string()
    };
    assert!(said(&place).contains("must not lie in each other"), "{}", said(&place));
    drop(place);

    let place = Place::new();
    place.mount(&place.overlay()).unwrap();
    for name in ["merged/upper", "merged/work"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    let upon = Overlay::new()
        .lower(place.path("a"))
        .upper(place.path("merged/upper"))
        .work(place.path("merged/work"));
    let other =
        rustix::fs::open(place.path("other"), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
            .unwrap();
    let error = upon.mount_at(other.as_fd(), other.as_fd()).unwrap_err();
    assert!(error.to_string().contains("lies on another overlay mount"), "{error}");
}

#[test]
fn a_read_only_upper_directory() {
    let place = Place::new();
    place.tmpfs(false);
    for name in ["other/upper", "other/work"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    let flags = rustix::mount::MountFlags::RDONLY;
    rustix::mount::mount_remount(place.path("other"), flags, c"").unwrap();
    let overlay = place.overlay().upper(place.path("other/upper")).work(place.path("other/work"));
    let said = refused(&place, &overlay).to_string();
    assert!(
        said.contains("lies on a read-only file system") && said.contains("other/upper"),
        "{said}"
    );
}

#[test]
fn what_a_volatile_mount_left() {
    let place = Place::new();
    place.mount(&place.overlay().volatile(true)).unwrap();
    rustix::mount::unmount(place.path("merged"), rustix::mount::UnmountFlags::DETACH).unwrap();
    let mark = place.path("work/work/incompat/volatile");
    let work = place.path("work");
    assert_eq!(refused(&place, &place.overlay()), Error::Volatile { work, mark: mark.clone() });
    // The way out that the sentence tells.
    fs::remove_dir_all(&mark).unwrap();
    place.mount(&place.overlay()).unwrap();
}

#[test]
fn a_refusal_of_the_kernels_own_names_the_options_and_a_way_out() {
    let place = Place::new();
    fs::create_dir(place.path("a/inner")).unwrap();
    // One layer in another, which the kernel takes for a loop.
    let overlay =
        Overlay::new().lower(place.path("a/inner")).upper(place.path("a")).work(place.path("work"));
    let error = refused(&place, &overlay);
    let said = error.to_string();
    assert!(matches!(error, Error::Mount { .. }), "{said}");
    assert!(said.contains("lowerdir=") && said.contains("a/inner"), "{said}");
    assert!(said.contains("one lies in another"), "{said}");
}
