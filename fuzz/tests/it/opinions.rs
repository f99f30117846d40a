//! What others say of the corpora: GNU tar, erofs-utils, the kernel.

use std::cell::Cell;
use std::process::{Command, Stdio};

use crate::corpora::corpus;
use crate::files;
use crate::kernel::Place;
use crate::reader::Reader;
use crate::tree::{assert_same, unlinked};

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
        let lines = names.iter().flat_map(|name| name.split(|byte| *byte == b'\n'));
        let ours: Vec<_> = lines.filter(|line| !line.is_empty()).map(without_slash).collect();
        assert_eq!(listed(&place, &tar), Ok(ours), "{path}");
        compared += 1;
    }
    assert!(compared >= 5, "{compared} of the corpus are tars");
}

#[test]
fn erofs_utils_and_the_kernel_read_the_same() {
    let count = Cell::new(0);
    for (_, bytes) in corpus("index_writer") {
        let raw = fuzz::index_writer::is_raw(&bytes);
        fuzz::index_writer::run_with(&bytes, &|index, devices| {
            let mut place = Place::new();
            // fsck.erofs is asked on the way; what a layer of anything at all says of attributes, the kernel may refuse to show.
            if let Some(at) = place.mount("index", index, devices)
                && !raw
            {
                let (found, wanted) = (files::tree(&at), Reader::tree(index, devices));
                assert_same(&unlinked(found), &unlinked(wanted));
            }
            count.set(count.get() + 1);
        });
    }
    assert!(count.get() >= 20, "{} images", count.get());
}
