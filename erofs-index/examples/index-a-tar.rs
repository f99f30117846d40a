//! The index of a plain tar, to be mounted with the tar as its data device.
//! `cargo run -p erofs-index --example index-a-tar -- TAR INDEX`; without arguments it makes a tar for itself.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use erofs_index::{Data, Device, Kind, Layer, Limits, Merged, Meta, Options, Time, Use};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let given: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if let [tar, index] = &given[..] {
        return show(tar, index);
    }
    let dir = std::env::temp_dir().join(format!("erofs-index-example-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let shown = small(&dir.join("layer.tar"))
        .and_then(|()| show(&dir.join("layer.tar"), &dir.join("index")));
    std::fs::remove_dir_all(dir)?;
    shown
}

fn small(path: &Path) -> Outcome<()> {
    let mut tar = tar::Builder::new(File::create(path)?);
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(70_000);
    tar.append_data(&mut header, "usr/bin/server", &[b'x'; 70_000][..])?;
    Ok(tar.finish()?)
}

fn show(tar: &Path, to: &Path) -> Outcome<()> {
    let mut layer = Layer::new(Limits::default());
    for entry in tar::Archive::new(BufReader::new(File::open(tar)?)).entries()? {
        add(&mut layer, &entry?)?;
    }
    let mut image = Merged::new(Limits::default());
    image.apply(&layer)?;
    let device = Device::of_size(tar.metadata()?.len()).ok_or("a device has 2 TiB at most")?;
    let options = Options { devices: vec![device], ..Options::default() };
    let index = image.index(Use::Alone, &options)?;
    index.write_to(&mut File::create(to)?)?;
    writeln!(
        std::io::stdout(),
        "{} inodes in {} bytes: mount -t erofs -o device={} {} /mnt",
        index.inodes(),
        index.size(),
        tar.display(),
        to.display()
    )?;
    Ok(())
}

/// Whiteouts, device nodes and attributes are left to a reader of image layers; this shows what an entry becomes.
fn add<R: std::io::Read>(layer: &mut Layer, entry: &tar::Entry<'_, R>) -> Outcome<()> {
    let header = entry.header();
    let path = clean(&entry.path_bytes());
    let link = entry.link_name_bytes().unwrap_or_default();
    let meta = Meta {
        mode: (header.mode()? & 0o7777) as u16,
        uid: header.uid()?.try_into()?,
        gid: header.gid()?.try_into()?,
        mtime: Time { seconds: header.mtime()?.try_into()?, nanos: 0 },
        xattrs: &[],
    };
    match header.entry_type() {
        tar::EntryType::Link => layer.link(&path, &clean(&link))?,
        tar::EntryType::Directory => layer.add(&path, &meta, Kind::Directory)?,
        tar::EntryType::Symlink => layer.add(&path, &meta, Kind::Symlink(&link))?,
        tar::EntryType::Regular => {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            layer.add(&path, &meta, Kind::File(Data::Extent { device: 1, offset, size }))?;
        }
        other => writeln!(std::io::stderr(), "left out: an entry of type {other:?}")?,
    }
    Ok(())
}

fn clean(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}
