//! What others say of the corpora: GNU tar, erofs-utils, the kernel.

use std::cell::Cell;
use std::process::{Command, Stdio};

use crate::corpora::corpus;
use crate::files;
use crate::kernel::Place;
use crate::reader::Reader;
use crate::tree::{Node, assert_same, unlinked};

/// What GNU tar lists, but for a slash behind directories.
fn listed(place: &Place, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let tar = place.write("a.tar", bytes);
    let done = Command::new("tar")
        .env("LC_ALL", "C")
        .args(["--list", "--absolute-names", "--quoting-style=literal", "--file"])
        .arg(tar)
        .stdin(Stdio::null())
        .output()
        .expect("GNU tar");
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    let names = done.stdout.split(|byte| *byte == b'\n').filter(|name| !name.is_empty());
    Ok(names.map(without_slash).collect())
}

fn without_slash(name: &[u8]) -> Vec<u8> {
    let end = name.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    name[..end].to_vec()
}

#[test]
fn gnu_tar_lists_the_same_entries() {
    let place = Place::new();
    let mut compared = 0;
    for (path, bytes) in corpus("tar_reader") {
        let Some((tar, names)) = fuzz::tar_reader::names(&bytes) else { continue };
        // It takes some names for those of compressed archives.
        if tar.starts_with(b"\x28\xb5\x2f\xfd") || tar.starts_with(b"\x1f\x8b") {
            continue;
        }
        let lines = names.iter().flat_map(|name| name.split(|byte| *byte == b'\n'));
        let ours: Vec<_> = lines.filter(|line| !line.is_empty()).map(without_slash).collect();
        assert_eq!(listed(&place, &tar), Ok(ours), "{path}");
        compared += 1;
    }
    assert!(compared >= 5, "{compared} of the corpus are tars");
}

/// Whether the kernel shows a file's attributes: it wants to understand a capability, and has no `user.` ones but of
/// files and directories.
fn shows_attributes(node: &Node) -> bool {
    let plain = matches!(node.kind(), 0o4_0000 | 0o10_0000);
    let hidden =
        |name: &[u8]| name == b"security.capability" || !plain && name.starts_with(b"user.");
    !node.xattrs.keys().any(|name| hidden(name))
}

#[test]
fn erofs_utils_and_the_kernel_read_the_same() {
    let (images, read) = (Cell::new(0), Cell::new(0));
    for (_, bytes) in corpus("index_writer") {
        let raw = fuzz::index_writer::is_raw(&bytes);
        fuzz::index_writer::run_with(&bytes, &|index, devices| {
            images.set(images.get() + 1);
            let mut place = Place::new();
            let wanted = Reader::tree(index, devices);
            // fsck.erofs is asked on the way. What a layer of anything at all has for attributes, nobody knows.
            let Some(at) = place.mount("index", index, devices) else { return };
            read.set(read.get() + 1);
            if !raw && wanted.values().all(shows_attributes) {
                assert_same(&unlinked(files::tree(&at)), &unlinked(wanted));
            }
        });
    }
    assert!(images.get() >= 20, "{} images", images.get());
    assert!(read.get() == images.get() || read.get() == 0, "{} mounted", read.get());
}
