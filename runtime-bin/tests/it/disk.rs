//! A small disk of a test's own: an ext4 in a file, mounted through a loop device. It can be filled, be made read-only, and
//! lose its power.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::harness::{DEADLINE, arg, wait_until};
use crate::host::{loops_below, mounts_below, processes_with_mount};

/// In what pieces contents are kept, bytes.
const PIECE: usize = 64 << 10;

pub(crate) struct Disk {
    file: PathBuf,
    at: PathBuf,
}

/// What was on a disk at one moment. What two have in common is there once.
#[derive(Clone, PartialEq)]
pub(crate) struct Content(Vec<Arc<[u8]>>);

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

impl Disk {
    /// Of so many MiB, with so many inodes, in `file` and at `at`, which this makes.
    pub(crate) fn new(file: &Path, at: &Path, mebibytes: u64, inodes: u32) -> Disk {
        File::create(file).unwrap().set_len(mebibytes << 20).unwrap();
        run("mke2fs", &["-q", "-F", "-t", "ext4", "-m", "0", "-N", &inodes.to_string(), arg(file)]);
        fs::create_dir(at).unwrap();
        let disk = Disk { file: file.to_owned(), at: at.to_owned() };
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    pub(crate) fn mount(&self) {
        run("mount", &["-o", "loop", arg(&self.file), arg(&self.at)]);
    }

    /// When nobody uses it any more.
    pub(crate) fn unmount(&self) {
        wait_until("nobody uses the disk", || match unmount(&self.at, UnmountFlags::empty()) {
            Err(Errno::BUSY) => false,
            done => {
                done.unwrap();
                true
            }
        });
        self.wait_until_free();
    }

    /// Until it is no file system's: a process on its way into a container, or another with mounts of its own that began
    /// meanwhile, has a copy of this mount, and with it the loop device.
    fn wait_until_free(&self) {
        let start = Instant::now();
        while !loops_below(&self.file).is_empty() {
            assert!(
                start.elapsed() < DEADLINE,
                "after {DEADLINE:?} {} is still a loop device's; these processes have a copy of its mount: {:?}",
                self.file.display(),
                processes_with_mount(&self.at)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn remount(&self, option: &str) {
        run("mount", &["-o", &format!("remount,{option}"), arg(&self.at)]);
    }

    /// Takes all room that is left, to the last byte.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.at.join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        let _ = file.sync_all();
        path
    }

    /// Has all that was written by now put on the disk.
    pub(crate) fn sync(&self) {
        rustix::fs::syncfs(File::open(&self.at).unwrap()).unwrap();
    }

    /// Has the names that were given by now put on the disk, as the kernel does every five seconds, and not what was
    /// written to files meanwhile, which it does later (ext4's delayed allocation).
    pub(crate) fn commit(&self) {
        let mut file = File::create(self.at.join("committed")).unwrap();
        file.write_all(b"x").unwrap();
        file.sync_all().unwrap();
    }

    /// What would be on the disk if the power failed now. `before`: what was there before, which costs less then.
    pub(crate) fn content(&self, before: Option<&Content>) -> Content {
        loop {
            let then = self.writes();
            let content = read(&self.file, before);
            // What is written meanwhile makes it a picture of no moment.
            if then.1 == 0 && self.writes() == then {
                return content;
            }
        }
    }

    /// How many writes the device has done, and how many requests it is at (Documentation/block/stat.rst).
    fn writes(&self) -> (u64, u64) {
        let device = fs::metadata(&self.at).unwrap().dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap();
        let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        (numbers[4], numbers[8])
    }

    /// Puts other content on the disk, which must not be mounted.
    pub(crate) fn put(&self, content: &Content) {
        let now = read(&self.file, Some(content));
        let file = File::options().write(true).open(&self.file).unwrap();
        for (at, (new, old)) in content.0.iter().zip(&now.0).enumerate() {
            if !Arc::ptr_eq(new, old) {
                file.write_all_at(new, (at * PIECE) as u64).unwrap();
            }
        }
    }
}

fn read(file: &Path, before: Option<&Content>) -> Content {
    let mut file = File::open(file).unwrap();
    let mut piece = vec![0; PIECE];
    let mut pieces: Vec<Arc<[u8]>> = Vec::new();
    while file.read(&mut piece[..1]).unwrap() == 1 {
        file.read_exact(&mut piece[1..]).unwrap();
        let known = before.and_then(|before| before.0.get(pieces.len()));
        // Most of a disk is zeros.
        let known = known.or(pieces.last()).filter(|known| ***known == *piece);
        pieces.push(known.map_or_else(|| piece.as_slice().into(), Arc::clone));
    }
    Content(pieces)
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.at, UnmountFlags::DETACH);
        if !std::thread::panicking() {
            self.wait_until_free();
        }
    }
}

#[test]
fn a_disk_goes_with_the_last_copy_of_its_mount() {
    let dir = tempfile::Builder::new().prefix("runtime-bin-disk-").tempdir().unwrap();
    let disk = Disk::new(&dir.path().join("disk"), &dir.path().join("at"), 1, 16);
    let mut other = Command::new("unshare");
    let mut other = other.args(["-m", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let at = disk.at.clone();
    wait_until("a copy", || processes_with_mount(&at).iter().any(|(pid, _)| *pid == other.id()));
    let input = other.stdin.take();
    let end = std::thread::spawn(move || {
        wait_until("it is unmounted here", || mounts_below(&at).is_empty());
        drop(input);
    });
    drop(disk);
    assert_eq!(loops_below(dir.path()), [""; 0]);
    end.join().unwrap();
    assert!(other.wait().unwrap().success());
}
