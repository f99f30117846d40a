//! Images around layers, and layers unpacked to look at.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use image_unpack::{Archive, Digest, Error, Image, Options, Platform, Tally, Unpacked};
use tempfile::TempDir;

use crate::tar::Tar;

pub(crate) fn linux() -> Platform {
    "linux/amd64".parse().unwrap()
}

pub(crate) fn root() -> Options {
    Options { owners: true, ..Options::default() }
}

pub(crate) fn config(diff_ids: &[Digest], architecture: &str) -> Vec<u8> {
    let ids: Vec<String> = diff_ids.iter().map(|id| format!("\"{id}\"")).collect();
    format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{"Cmd":["/bin/sh"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
    .into_bytes()
}

/// An archive as old Dockers save it, of plain tars.
pub(crate) fn docker(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    docker_with(layers, &config(&ids, "amd64"))
}

/// The same with this configuration and these bytes for layers.
pub(crate) fn docker_with(layers: &[Vec<u8>], config: &[u8]) -> Vec<u8> {
    let name = format!("{}.json", Digest::of(config).hex());
    let mut tar = Tar::new().file(&name, config);
    let mut paths = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let path = format!("{at:064x}/layer.tar");
        tar = tar.file(&path, layer);
        paths.push(format!("\"{path}\""));
    }
    let manifest =
        format!(r#"[{{"Config":"{name}","RepoTags":["test:1"],"Layers":[{}]}}]"#, paths.join(","));
    tar.file("manifest.json", manifest.as_bytes()).end()
}

/// An archive on disk, with the directory that holds it.
pub(crate) struct Opened {
    pub(crate) archive: Archive,
    pub(crate) dir: TempDir,
}

pub(crate) fn try_open(bytes: &[u8]) -> Result<Opened, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    File::create(&path).unwrap().write_all(bytes).unwrap();
    Ok(Opened { archive: Archive::open(&path, dir.path())?, dir })
}

pub(crate) fn open(bytes: &[u8]) -> Opened {
    try_open(bytes).unwrap()
}

impl Opened {
    pub(crate) fn image(&self) -> Image {
        self.archive.images(&linux()).unwrap().remove(0)
    }

    /// Unpack one layer into a new directory of that name; nothing of the lower layers is settled.
    pub(crate) fn unpack(&self, at: usize, options: &Options) -> Result<Unpacked, Error> {
        let into = self.dir.path().join(format!("layer{at}"));
        let unpacked = self.unpack_into(at, &into, options);
        // By two threads it comes out the same.
        let other = self.dir.path().join(format!("ahead{at}"));
        let ahead = Options { read_ahead: !options.read_ahead, ..options.clone() };
        let ahead = self.unpack_into(at, &other, &ahead);
        match (&unpacked, &ahead) {
            (Ok(one), Ok(two)) => {
                assert_eq!((one.entries, one.bytes), (two.entries, two.bytes));
                assert_eq!((one.omitted, one.tally), (two.omitted, two.tally));
                assert_eq!(numbered(nodes(&into)), numbered(nodes(&other)));
                assert!(one.tally.is_none_or(|tally| tally == counted(&into)));
            }
            (Err(one), Err(two)) => assert_eq!(one.to_string(), two.to_string()),
            _ => panic!("{unpacked:?} and {ahead:?}"),
        }
        fs::remove_dir_all(other).unwrap();
        unpacked
    }

    fn unpack_into(&self, at: usize, into: &Path, options: &Options) -> Result<Unpacked, Error> {
        fs::create_dir(into).unwrap();
        let open = File::open(into).unwrap();
        self.archive.unpack(&self.image().layers[at], open.as_fd(), options, &|_| ())
    }

    pub(crate) fn layer(&self, at: usize) -> Nodes {
        nodes(&self.dir.path().join(format!("layer{at}")))
    }

    /// Unpack and settle all layers, lowest first.
    pub(crate) fn settle_all(&self, count: usize, options: &Options) -> Result<(), Error> {
        let mut lowers: Vec<File> = Vec::new();
        for at in 0..count {
            let unpacked = self.unpack(at, options)?;
            let own = File::open(self.dir.path().join(format!("layer{at}"))).unwrap();
            let fds: Vec<_> = lowers.iter().rev().map(AsFd::as_fd).collect();
            unpacked.pending.settle(own.as_fd(), &fds)?;
            lowers.push(own);
        }
        Ok(())
    }
}

/// With the numbers of inodes in the order of their first names, and without the times of whiteouts, which nobody sets,
/// and without blocks, which the file system may not have chosen yet.
fn numbered(mut nodes: Nodes) -> Nodes {
    let mut numbers = BTreeMap::new();
    for node in nodes.values_mut() {
        let next = numbers.len() as u64;
        node.ino = *numbers.entry(node.ino).or_insert(next);
        node.blocks = 0;
        let marked = node.xattrs.keys().any(|name| name.ends_with("overlay.whiteout"));
        if marked || (node.kind == 'c' && node.rdev == 0) {
            node.mtime = (0, 0);
        }
    }
    nodes
}

/// What is below a directory.
fn counted(dir: &Path) -> Tally {
    let mut tally = Tally::default();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        tally.names += 1;
        if kind.is_file() {
            tally.bytes += entry.metadata().unwrap().len();
        } else if kind.is_dir() {
            let below = counted(&entry.path());
            tally.names += below.names;
            tally.bytes += below.bytes;
        }
    }
    tally
}

/// One layer, unpacked as root, and settled with nothing below.
pub(crate) fn layer(tar: Tar) -> Nodes {
    try_layer(tar).unwrap()
}

pub(crate) fn try_layer(tar: Tar) -> Result<Nodes, Error> {
    let opened = open(&docker(&[tar.end()]));
    opened.settle_all(1, &root())?;
    Ok(opened.layer(0))
}

/// One layer, unpacked and not settled: whiteouts are still there.
pub(crate) fn unsettled(tar: Tar, options: &Options) -> Nodes {
    let opened = open(&docker(&[tar.end()]));
    opened.unpack(0, options).unwrap();
    opened.layer(0)
}

/// Layers, settled upon each other.
pub(crate) fn layers(tars: Vec<Tar>) -> Vec<Nodes> {
    let count = tars.len();
    let opened = open(&docker(&tars.into_iter().map(Tar::end).collect::<Vec<_>>()));
    opened.settle_all(count, &root()).unwrap();
    (0..count).map(|at| opened.layer(at)).collect()
}

/// What a tree has: an independent reading, by paths and std.
pub(crate) type Nodes = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: char,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, i64),
    pub(crate) content: Vec<u8>,
    pub(crate) rdev: u64,
    pub(crate) ino: u64,
    pub(crate) blocks: u64,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Node {
    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind == 'c' && self.rdev == 0
    }
    pub(crate) fn is_opaque(&self) -> bool {
        self.xattrs.get("trusted.overlay.opaque").is_some_and(|value| value == b"y")
    }
}

pub(crate) fn nodes(root: &Path) -> Nodes {
    let mut nodes = Nodes::new();
    read(root, "", &mut nodes);
    nodes
}

fn read(path: &Path, name: &str, nodes: &mut Nodes) {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let mut content = Vec::new();
    let kind = if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let inner = String::from_utf8_lossy(entry.file_name().as_bytes()).into_owned();
            read(
                &entry.path(),
                &if name.is_empty() { inner } else { format!("{name}/{inner}") },
                nodes,
            );
        }
        'd'
    } else if kind.is_symlink() {
        content = fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec();
        'l'
    } else if kind.is_file() {
        if meta.size() < 1 << 24 {
            content = fs::read(path).unwrap();
        }
        'f'
    } else if kind.is_char_device() {
        'c'
    } else if kind.is_block_device() {
        'b'
    } else if kind.is_fifo() {
        'p'
    } else {
        '?'
    };
    let node = Node {
        kind,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        content,
        rdev: meta.rdev(),
        ino: meta.ino(),
        blocks: meta.blocks(),
        xattrs: xattrs(path),
    };
    nodes.insert(name.to_owned(), node);
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0_u8; 65536];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0_u8; 65536];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            (String::from_utf8(name.to_vec()).unwrap(), value[..length].to_vec())
        })
        .collect()
}

/// The sentence of an error.
pub(crate) fn sentence<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("it must fail").to_string()
}

/// What overlayfs shows of layers settled upon each other.
pub(crate) fn merged(tars: Vec<Tar>) -> Nodes {
    let count = tars.len();
    let opened = open(&docker(&tars.into_iter().map(Tar::end).collect::<Vec<_>>()));
    opened.settle_all(count, &root()).unwrap();
    opened.mount(count)
}

impl Opened {
    /// Mount the first `count` layers, detached: the mount is nowhere, and ends with its descriptor.
    pub(crate) fn mount(&self, count: usize) -> Nodes {
        use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
        let path = |name: String| self.dir.path().join(name).display().to_string();
        // overlayfs wants two lower directories; the lowest must not be the top's.
        let bottom = path("bottom".into());
        fs::create_dir(&bottom).unwrap();
        let mut lowers: Vec<String> =
            (0..count).rev().map(|at| path(format!("layer{at}"))).collect();
        lowers.push(bottom);
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", "overlay").unwrap();
        rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", lowers.join(":")).unwrap();
        rustix::mount::fsconfig_create(context.as_fd()).unwrap();
        let mount = rustix::mount::fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
        .unwrap();
        nodes(Path::new(&format!("/proc/self/fd/{}/.", std::os::fd::AsRawFd::as_raw_fd(&mount))))
    }
}
