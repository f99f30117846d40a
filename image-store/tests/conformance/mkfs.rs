//! A second opinion on indexes of real images: mkfs.erofs of erofs-utils makes one of each layer's tar, and an overlay
//! stacks them, where ours is one index of all.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use image_store::{LayerForm, Source};
use overlay::Overlay;
use rustix::mount::{MountAttrFlags, UnmountFlags};
use sys::fscontext::FsContext;

use crate::common::Place;
use crate::common::erofs_utils::{program, run};
use crate::indexed::archive;
use crate::stack::{self, Mount, with};

/// What is mounted, unmounted when dropped, the last one first.
struct Mounts(Vec<PathBuf>);

impl Drop for Mounts {
    fn drop(&mut self) {
        for mount in self.0.iter().rev() {
            let _ = rustix::mount::unmount(mount, UnmountFlags::DETACH);
        }
    }
}

impl Mounts {
    /// Has mkfs.erofs index a layer's tar, and mounts that.
    fn layer(&mut self, place: &Place, number: usize, tar: &Path) -> PathBuf {
        let (index, at) =
            (place.path(&format!("mkfs-{number}")), place.path(&format!("at-{number}")));
        run(program("mkfs.erofs").args(["--quiet", "--tar=i", "--aufs"]).args([&index, tar]));
        let context = FsContext::open(c"erofs").unwrap();
        for (key, path) in [(c"source", &*index), (c"device", tar)] {
            context.string(key, &CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        }
        let mount = context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY);
        let mount = mount.unwrap_or_else(|failure| panic!("{failure:?}"));
        fs::create_dir(&at).unwrap();
        sys::mount::attach(&mount, fs::File::open(&at).unwrap()).unwrap();
        self.0.push(at.clone());
        at
    }
}

fn same(name: &str) {
    if !stack::forms().contains(&LayerForm::Index) {
        return; // `indexed::the_form_is_to_be_had_here` says why
    }
    let place = Place::new();
    let source = Source::Path(archive(name, "docker-legacy"));
    let image = place.store.load(&source, &with(LayerForm::Index), &()).unwrap().remove(0);
    let ours = Mount::new(&place, &image).lines();

    let mut mounts = Mounts(Vec::new());
    let layers = image.layers.iter().enumerate();
    let layers: Vec<_> = layers.map(|(n, layer)| mounts.layer(&place, n, layer.path())).collect();
    // One lower directory alone is no overlay; an empty one below all of them changes nothing.
    let bottom = place.path("mkfs-bottom");
    fs::create_dir(&bottom).unwrap();
    let overlay = Overlay::new().lowers(layers.iter().rev()).lower(&bottom);
    let at = place.path("mkfs-merged");
    fs::create_dir(&at).unwrap();
    overlay.mount_at(fs::File::open(&at).unwrap().as_fd(), place.store.dir()).unwrap();
    mounts.0.push(at.clone());
    let theirs = stack::lines(&at);
    // But for the root, which no layer lists: mkfs.erofs makes one of the moment.
    let other = ours.iter().zip(&theirs).skip(1).find(|(ours, theirs)| ours != theirs);
    assert_eq!((other, ours.len()), (None, theirs.len()), "{name}");
}

#[test]
fn mkfs_makes_the_same_of_nginx() {
    same("nginx");
}

#[test]
fn mkfs_makes_the_same_of_httpd() {
    same("httpd");
}

#[test]
fn mkfs_makes_the_same_of_netshoot() {
    same("netshoot");
}
