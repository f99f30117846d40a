//! A second opinion: erofs-utils 1.8 accepts what the crate writes and reads the same from it, and makes the same of
//! a tar. `cargo xtask test-host` fetches the programs (Debian 12's are older, and refuse blocks of 512 bytes).

use std::fs;
use std::io::Write;

use erofs_index::{Data, Kind, Layer, Limits, Merged, Meta, Options, Time, Use};

use crate::erofs_utils::{program, run};
use crate::files;
use crate::kernel::Place;
use crate::mounted::{ACL, meaning, merge, rich, with};
use crate::ops::{Op, What, add, file, layer, options};
use crate::tree::{Tree, assert_same, normal, unlinked};

/// Checks and extracts an index, and gives what was extracted, with extended attributes or without.
fn extract(place: &Place, index: &[u8], devices: &[Vec<u8>], xattrs: bool) -> Tree {
    let image = place.write("checked", index);
    let into = place.path("extracted");
    let mut fsck = program("fsck.erofs");
    for (number, device) in devices.iter().enumerate() {
        let path = place.write(&format!("device{number}"), device);
        fsck.arg(format!("--device={}", path.display()));
    }
    fsck.arg(format!("--extract={}", into.display()));
    fsck.arg(if xattrs { "--xattrs" } else { "--no-xattrs" });
    run(fsck.arg(&image));
    let tree = files::tree(&into);
    fs::remove_dir_all(into).unwrap();
    tree
}

#[test]
fn fsck_accepts_and_extracts() {
    let layers = [
        vec![rich()],
        vec![rich(), vec![Op::Whiteout(b"bin".to_vec()), file("bin/new", vec![1; 9000])]],
        vec![(0..2000).map(|n| file(format!("many/{n}"), n.to_string())).collect()],
        vec![vec![]],
    ];
    for layers in layers {
        let place = Place::new();
        let (index, devices) = merge(&layers);
        let mut found = unlinked(extract(&place, &index, &devices, false));
        let mut wanted = unlinked(meaning(&layers));
        for node in wanted.values_mut() {
            node.xattrs.clear();
            if node.kind() == 0o12_0000 {
                node.mode |= 0o777; // Linux makes no other symlinks
            }
        }
        // It extracts no hole at a file's end.
        for (path, node) in &mut found {
            if let Some(other) = wanted.get(path).filter(|other| other.content.ends_with(&[0; 512]))
            {
                node.content.resize(other.content.len(), 0);
            }
        }
        assert_same(&found, &wanted);
    }
}

#[test]
fn fsck_reads_attributes() {
    // Shared and not; the file system that they are extracted to has a place for so many.
    let shared: &[(&str, &[u8])] = &[("user.a", b"1"), ("system.posix_acl_access", ACL)];
    let layers = [vec![
        Op::Add(b"a".to_vec(), with(0o770, shared), What::File(b"a".to_vec())),
        Op::Add(b"b".to_vec(), with(0o770, shared), What::File(vec![1; 2000])),
        Op::Add(b"dir".to_vec(), with(0o755, &[("user.b", &[7; 1000])]), What::Directory),
        Op::Add(
            b"dir/c".to_vec(),
            with(0o600, &[("trusted.c", b"c"), ("user.a", b"1")]),
            What::File(vec![]),
        ),
    ]];
    let place = Place::new();
    let (index, devices) = merge(&layers);
    let found = extract(&place, &index, &devices, true);
    assert_same(&unlinked(found), &unlinked(meaning(&layers)));
}

#[test]
fn fsck_sees_what_is_broken() {
    let place = Place::new();
    let (mut index, _) = merge(&[vec![file("a", "x")]]);
    let root = u16::from_le_bytes([index[1024 + 14], index[1024 + 15]]);
    index[usize::from(root) * 32] |= 0xe; // a layout of data that there is not
    let done = program("fsck.erofs").arg(place.write("broken", &index)).output().unwrap();
    assert!(!done.status.success(), "{done:?}");
}

#[test]
fn a_stacked_layer_is_accepted_too() {
    let place = Place::new();
    let lower = vec![file("a", "a"), file("b/c", "c"), file("d", vec![1; 5000]), file("e", "e")];
    let upper = vec![
        Op::Whiteout(b"a".to_vec()),
        Op::Whiteout(b"e".to_vec()),
        Op::Opaque(b"b".to_vec()),
        Op::Link(b"f".to_vec(), b"d".to_vec()),
    ];
    let mut below = Merged::new(Limits::default());
    let (lower, blob) = layer(&lower, 1).unwrap();
    below.apply(&lower).unwrap();
    let settled = layer(&upper, 2).unwrap().0.settle(&below).unwrap();
    let devices = [blob, Vec::new()];
    let options = options(&devices);
    let index = settled.index(&options).unwrap().to_vec().unwrap();
    let found = extract(&place, &index, &devices, true);
    let whiteouts = [&b"a"[..], b"e"].map(|path| (found[path].kind(), found[path].device));
    assert_eq!(whiteouts, [(0o2_0000, (0, 0)); 2]);
    assert_eq!(found[&b"f"[..]].content, [1; 5000]);
}

#[test]
fn dump_knows_the_numbers() {
    let place = Place::new();
    let layers = [vec![file("a", "x"), add("dir", What::Directory), file("dir/b", vec![1; 1000])]];
    let (index, devices) = merge(&layers);
    let image = place.write("image", &index);
    let device = place.write("device", &devices[0]);
    let device = format!("--device={}", device.display());
    let said = run(program("dump.erofs").arg("-s").arg(&device).arg(&image));
    let line = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {said}")).trim().to_owned()
    };
    assert_eq!(line("Filesystem inode count:"), "4");
    assert_eq!(line("Filesystem blocksize:"), "512");
    let blocks = (index.len() + devices[0].len()) / 512;
    assert_eq!(line("Filesystem blocks:").split(' ').next(), Some(&*blocks.to_string()));
    let said = run(program("dump.erofs").arg("-e").arg("--path=/dir/b").arg(&device).arg(&image));
    assert!(said.contains("dir/b") && said.contains("1000"), "{said}");
}

/// A tar with what tars have, all parents listed.
fn tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |kind, path: &str, mode: u32, mtime: u64, content: &[u8], link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(mtime);
        header.set_uid(mtime % 70_000);
        header.set_gid(mode.into());
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        if link.is_empty() {
            tar.append_data(&mut header, path, content).unwrap();
        } else {
            tar.append_link(&mut header, path, link).unwrap();
        }
    };
    use tar::EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    append(Directory, "./", 0o755, 1_700_000_000, b"", "");
    for dir in 0..40 {
        append(Directory, &format!("d{dir}/"), 0o750, 1_700_000_000 + dir % 3, b"", "");
        for n in 0..dir {
            let content = vec![n as u8; (n * 733 + dir) as usize];
            append(Regular, &format!("d{dir}/file{n}"), 0o644, 1_700_000_000 + n, &content, "");
        }
    }
    let long = format!("d1/{}", "long".repeat(60));
    append(Regular, &long, 0o4755, 5, b"content", "");
    append(Link, "d1/hard", 0o4755, 5, b"", &long);
    append(Symlink, "d2/soft", 0o777, 6, b"", "../d1/hard");
    append(Char, "d3/null", 0o666, 7, b"", "");
    append(Fifo, "d3/fifo", 0o600, 8, b"", "");
    tar.into_inner().unwrap()
}

/// The index of a tar that is its own data device, by the crate of that name.
fn index_of(tar: &[u8]) -> Vec<u8> {
    let mut layer = Layer::new(Limits::default());
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let name = entry.path_bytes();
        let name = name.strip_suffix(b"/").unwrap_or(&name);
        let path = if name == b"." { b"" } else { name };
        let link = entry.link_name_bytes().unwrap_or_default();
        if header.entry_type() == tar::EntryType::Link {
            layer.link(path, &link).unwrap();
            continue;
        }
        let meta = Meta {
            mode: header.mode().unwrap() as u16,
            uid: header.uid().unwrap() as u32,
            gid: header.gid().unwrap() as u32,
            mtime: Time { seconds: header.mtime().unwrap() as i64, nanos: 0 },
            xattrs: &[],
        };
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Symlink(&link),
            tar::EntryType::Char => Kind::Character { major: 1, minor: 3 },
            tar::EntryType::Fifo => Kind::Fifo,
            _ => {
                let offset = entry.raw_file_position();
                Kind::File(Data::Extent { device: 1, offset, size: entry.size() })
            }
        };
        layer.add(path, &meta, kind).unwrap();
    }
    let mut merged = Merged::new(Limits::default());
    merged.apply(&layer).unwrap();
    let options: Options = options(&[tar.to_vec()]);
    merged.index(Use::Alone, &options).unwrap().to_vec().unwrap()
}

#[test]
fn mkfs_makes_the_same_of_a_tar() {
    let tar = tar();
    let mut place = Place::new();
    let source = place.write("layer.tar", &tar);
    let theirs = place.path("theirs");
    let said = run(program("mkfs.erofs").arg("--tar=i").arg(&theirs).arg(&source));
    let theirs = fs::read(theirs).unwrap_or_else(|error| panic!("{error}: {said}"));
    let ours = index_of(&tar);
    writeln!(std::io::stderr(), "indexes of {} and {} bytes", ours.len(), theirs.len()).unwrap();
    let Some(ours_at) = place.mount("ours", &ours, std::slice::from_ref(&tar)) else { return };
    let Some(theirs_at) = place.mount("theirs-mounted", &theirs, &[tar]) else { return };
    let (found, wanted) = (files::tree(&ours_at), files::tree(&theirs_at));
    assert_eq!(found.len(), wanted.len());
    assert_same(&normal(found), &normal(wanted));
    assert!(
        ours.len() <= theirs.len(),
        "{} bytes, and mkfs.erofs takes {}",
        ours.len(),
        theirs.len()
    );
}
