//! The work that every load of an image has, each part alone and on one thread: `cargo xtask bench` counts the
//! processor time that they take.
//!
//! ```text
//! limit decode ARCHIVE        decode every compressed layer, to nothing
//! limit hash ARCHIVE          SHA-256 of every layer as it is stored
//! limit hash-at-once ARCHIVE  the same on all processors: what no verified start from the archive can undercut
//! limit create ARCHIVE DIR    the files of every plain layer, and nothing else of what an unpacker does
//! ```

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use sha2::{Digest, Sha256};

type Outcome<T> = Result<T, Box<dyn Error>>;

const BUFFER: usize = 256 << 10;

/// A layer in the archive.
struct Layer {
    offset: u64,
    size: u64,
    format: Format,
}

#[derive(PartialEq)]
enum Format {
    Plain,
    Gzip,
    Zstd,
}

fn main() -> Outcome<()> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&Path> = words.iter().map(Path::new).collect();
    match words[..] {
        [what, archive] if what == Path::new("decode") => each(archive, decode),
        [what, archive] if what == Path::new("hash") => each(archive, hash),
        [what, archive] if what == Path::new("hash-at-once") => hash_at_once(archive),
        [what, archive, into] if what == Path::new("create") => {
            fs::create_dir(into)?;
            let mut number = 0;
            each(archive, |layer, file| {
                number += 1;
                create(layer, file, &into.join(number.to_string()))
            })
        }
        _ => Err("usage: limit decode ARCHIVE | hash ARCHIVE | hash-at-once ARCHIVE | create ARCHIVE DIR".into()),
    }
}

/// Does something with each layer.
fn each(archive: &Path, mut work: impl FnMut(&Layer, File) -> Outcome<()>) -> Outcome<()> {
    for layer in &layers(archive)? {
        work(layer, open(archive, layer)?)?;
    }
    Ok(())
}

fn open(archive: &Path, layer: &Layer) -> Outcome<File> {
    let mut file = File::open(archive)?;
    file.seek(SeekFrom::Start(layer.offset))?;
    Ok(file)
}

/// Each processor takes the next layer, the largest first.
fn hash_at_once(archive: &Path) -> Outcome<()> {
    let mut layers = layers(archive)?;
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), String> {
        while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let done = open(archive, layer).and_then(|file| hash(layer, file));
            done.map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..processors).map(|_| scope.spawn(work)).collect();
        let mut done = vec![work()];
        done.extend(
            others.into_iter().map(|other| {
                other.join().unwrap_or_else(|_| Err("a thread has panicked".to_owned()))
            }),
        );
        Ok(done.into_iter().collect::<Result<(), String>>()?)
    })
}

/// The layers in an archive: what is a tar inside, by its first bytes.
fn layers(archive: &Path) -> Outcome<Vec<Layer>> {
    let mut layers = Vec::new();
    for entry in tar::Archive::new(File::open(archive)?).entries_with_seek()? {
        let mut entry = entry?;
        let mut start = [0; 512];
        if !entry.header().entry_type().is_file() || entry.read(&mut start)? < 4 {
            continue;
        }
        let format = match &start {
            [0x1f, 0x8b, ..] => Format::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
            _ if start[257..262] == *b"ustar" => Format::Plain,
            _ => continue,
        };
        layers.push(Layer { offset: entry.raw_file_position(), size: entry.size(), format });
    }
    Ok(layers)
}

fn decode(layer: &Layer, file: File) -> Outcome<()> {
    let stored = io::BufReader::with_capacity(BUFFER, file.take(layer.size));
    let mut reader: Box<dyn Read> = match layer.format {
        Format::Plain => return Ok(()),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        Format::Zstd => Box::new(zstd::Decoder::with_buffer(stored)?),
    };
    let mut buffer = vec![0; BUFFER];
    while reader.read(&mut buffer)? > 0 {}
    Ok(())
}

fn hash(layer: &Layer, mut file: File) -> Outcome<()> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut left = layer.size;
    while left > 0 {
        let count = (&mut file).take(left).read(&mut buffer)?;
        if count == 0 {
            return Err("the archive is cut off".into());
        }
        hasher.update(&buffer[..count]);
        left -= count as u64;
    }
    io::sink().write_all(&hasher.finalize())?;
    Ok(())
}

/// One layer's files below `into`: by directory descriptor, with as few calls as they can be made with.
fn create(layer: &Layer, file: File, into: &Path) -> Outcome<()> {
    if layer.format != Format::Plain {
        return Err("only files of plain layers can be created without decoding".into());
    }
    fs::create_dir(into)?;
    let root = File::open(into)?;
    let stored = io::BufReader::with_capacity(BUFFER, file.take(layer.size));
    let mut tar = tar::Archive::new(stored);
    let mut buffer = vec![0; BUFFER];
    let mut last = (Vec::new(), root.try_clone()?);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().trim_ascii_end().to_vec();
        let path = path.strip_suffix(b"/").unwrap_or(&path);
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        if name.is_empty() || name == b"." || name.starts_with(b".wh.") {
            continue;
        }
        if last.0 != parent {
            let at = [b"./", parent].concat();
            let open = |root: &File| {
                rustix::fs::openat(root, &at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            };
            let dir = match open(&root) {
                Ok(dir) => dir,
                Err(_) => {
                    fs::create_dir_all(into.join(std::ffi::OsStr::from_bytes(parent)))?;
                    open(&root)?
                }
            };
            last = (parent.to_vec(), File::from(dir));
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            match rustix::fs::mkdirat(&last.1, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            rustix::fs::symlinkat(&target[..], &last.1, name)?;
        } else if kind.is_hard_link() {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            let target = target.strip_prefix(b"./").unwrap_or(&target);
            rustix::fs::linkat(&root, target, &last.1, name, AtFlags::empty())?;
        } else if kind.is_file() {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
            let mut made = File::from(rustix::fs::openat(&last.1, name, flags, mode)?);
            loop {
                match entry.read(&mut buffer)? {
                    0 => break,
                    count => made.write_all(&buffer[..count])?,
                }
            }
            let seconds = i64::try_from(entry.header().mtime()?)?;
            let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::futimens(&made, &times)?;
        }
    }
    Ok(())
}
