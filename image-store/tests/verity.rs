//! Images that the kernel verifies as they are read: [`LoadOptions::verity`], on an ext4 that has fs-verity. Needs
//! root, mke2fs and loop devices, and a kernel with CONFIG_FS_VERITY, as Debian's are.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Image, assert_whole, layer, quick};
use image_store::{CheckOptions, Error, LayerForm, LoadOptions, Source, Store, StoredImage};

const LARGE: [u8; 9000] = [b'x'; 9000];

/// A small ext4 with the feature `verity`, in a file, mounted while this lives.
struct Disk {
    temp: tempfile::TempDir,
}

fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Disk {
    fn new(features: &str) -> Disk {
        let disk = Disk { temp: tempfile::tempdir().unwrap() };
        fs::File::create(disk.file()).unwrap().set_len(64 << 20).unwrap();
        run("mke2fs", &["-q", "-t", "ext4", "-b", "4096", "-O", features, text(&disk.file())]);
        fs::create_dir(disk.at()).unwrap();
        disk.mount();
        disk
    }

    fn file(&self) -> PathBuf {
        self.temp.path().join("disk")
    }

    fn at(&self) -> PathBuf {
        self.temp.path().join("at")
    }

    fn mount(&self) {
        run("mount", &["-o", "loop", text(&self.file()), text(&self.at())]);
    }

    fn store(&self) -> Store {
        Store::open(&self.at().join("store")).unwrap()
    }

    fn load(&self, options: &LoadOptions) -> Result<StoredImage, Error> {
        let path = self.temp.path().join("two.tar");
        let layers = [layer(&[("large", &LARGE)]), layer(&[("small", b"s")])];
        fs::write(&path, common::archive(&[Image::new("two:1", &layers)])).unwrap();
        Ok(self.store().load(&Source::Path(path), options, &())?.remove(0))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.at()).status();
    }
}

#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn small_blocks(why: &str) {
    println!("SKIPPED: feature erofs_small_blocks: {why}");
}

fn verity() -> LoadOptions {
    LoadOptions { verity: true, ..quick() }
}

/// A disk with the image, protected; `None`, and said, where this kernel has no fs-verity, or cannot mount an index.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn protected() -> Option<(Disk, StoredImage)> {
    // The kernel tells what its ext4 has once that is loaded.
    let other = Disk::new("^verity");
    if !Path::new("/sys/fs/ext4/features/verity").exists() {
        println!("SKIPPED: feature fs_verity: this kernel is built without it");
        return None;
    }
    drop(other);
    let disk = Disk::new("verity");
    match disk.load(&verity()) {
        Ok(image) => Some((disk, image)),
        Err(Error::NoIndex { why }) => {
            small_blocks(&why);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn index(disk: &Disk, image: &StoredImage) -> PathBuf {
    disk.at().join("store/images").join(image.id.hex()).join("index.erofs")
}

fn large(disk: &Disk, image: &StoredImage) -> std::io::Result<Vec<u8>> {
    let store = disk.store();
    let _mounted = store.mount(&image.id).unwrap().unwrap();
    let mut bytes = Vec::new();
    fs::File::open(image.index.as_ref().unwrap().path.join("large"))?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn nobody_changes_the_files_and_another_in_their_place_is_told() {
    let Some((disk, image)) = protected() else { return };
    assert_eq!(large(&disk, &image).unwrap(), LARGE);
    let blob = image.layers[0].path().to_owned();
    let content = CheckOptions { content: true };
    for file in [index(&disk, &image), blob.clone()] {
        let written = fs::File::options().write(true).open(&file);
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(disk.store().check(&content).unwrap().findings, []);
        // The same bytes, and not protected; then others that are.
        let kept = file.with_extension("kept");
        fs::rename(&file, &kept).unwrap();
        fs::copy(&kept, &file).unwrap();
        let said = disk.store().mount(&image.id).unwrap_err().to_string();
        assert!(said.contains("fs-verity does not protect it any more"), "{said}");
        let changed = fs::File::options().write(true).open(&file).unwrap();
        changed.write_all_at(b"?", 600).unwrap();
        drop(changed);
        sys::verity::enable(std::os::fd::AsFd::as_fd(&fs::File::open(&file).unwrap())).unwrap();
        let said = disk.store().mount(&image.id).unwrap_err().to_string();
        assert!(said.contains("fs-verity measures another digest, sha256:"), "{said}");
        let found = disk.store().check(&CheckOptions::default()).unwrap();
        let told = found.findings.iter().find(|told| told.path == file);
        assert!(told.is_some_and(|told| told.what.contains("fs-verity")), "{found:?}");
        fs::rename(&kept, &file).unwrap();
    }
    assert_eq!(large(&disk, &image).unwrap(), LARGE);
    // Loaded again, it is whole: what somebody put in its place is not taken for it.
    fs::copy(&blob, blob.with_extension("other")).unwrap();
    let changed = fs::File::options().write(true).open(blob.with_extension("other")).unwrap();
    changed.write_all_at(b"?", 600).unwrap();
    drop(changed);
    fs::rename(blob.with_extension("other"), &blob).unwrap();
    let again = disk.load(&verity()).unwrap();
    assert_eq!(large(&disk, &again).unwrap(), LARGE);
    assert_whole(&disk.at().join("store"));
    disk.store().remove("two:1", false, &|_| false).unwrap();
}

#[test]
fn a_block_that_changed_on_the_disk_is_not_read() {
    let Some((disk, image)) = protected() else { return };
    run("umount", &[text(&disk.at())]);
    let file = fs::File::options().read(true).write(true).open(disk.file()).unwrap();
    let mut bytes = Vec::new();
    (&file).read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(4096).position(|window| window == &LARGE[..4096]).unwrap();
    file.write_all_at(b"?", at as u64).unwrap();
    file.sync_all().unwrap();
    disk.mount();
    let error = large(&disk, &image).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    let found = disk.store().check(&CheckOptions { content: true }).unwrap();
    assert!(found.is_damaged(), "{found:?}");
}

#[test]
fn an_image_that_is_there_gets_it_too() {
    let Some((disk, _)) = protected() else { return };
    disk.store().remove("two:1", false, &|_| false).unwrap();
    let plain = LoadOptions { layer_form: LayerForm::Index, ..quick() };
    let image = disk.load(&plain).unwrap();
    assert!(fs::File::options().write(true).open(index(&disk, &image)).is_ok());
    let image = disk.load(&verity()).unwrap();
    assert!(fs::File::options().write(true).open(index(&disk, &image)).is_err());
    assert!(fs::File::options().write(true).open(image.layers[0].path()).is_err());
    disk.store().remove("two:1", false, &|_| false).unwrap();

    disk.load(&quick()).unwrap();
    let said = disk.load(&verity()).unwrap_err().to_string();
    assert!(said.contains("it is kept as directories") && said.contains("--verity"), "{said}");
}

/// Also on a kernel that has it nowhere.
#[test]
fn where_it_is_not_to_be_had_that_is_said() {
    let without = Disk::new("^verity");
    let error = match without.load(&verity()) {
        Err(Error::NoIndex { why }) => return small_blocks(&why),
        other => other.unwrap_err(),
    };
    let said = error.to_string();
    assert!(said.contains("has no fs-verity") && said.contains("tune2fs"), "{said}");
    // The image is whole all the same, and used without.
    let image = without.store().find("two:1").unwrap();
    assert_eq!(large(&without, &image).unwrap(), LARGE);
}
