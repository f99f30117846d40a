//! Unpacks the images of an archive: `unpack ARCHIVE DIR`. Without arguments, of a small archive that
//! it makes for itself. Run as root to keep the image's owners and devices.
#![allow(clippy::print_stdout, reason = "that is what the example is for")]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use image_unpack::{Archive, Digest, Options, Platform};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match &arguments[..] {
        [archive, dir] => unpack(Path::new(archive), Path::new(dir)),
        [] => {
            let dir = std::env::temp_dir().join(format!("unpack-{}", std::process::id()));
            fs::create_dir(&dir)?;
            let done = small(&dir).and_then(|archive| unpack(&archive, &dir.join("layers")));
            fs::remove_dir_all(&dir)?;
            done
        }
        _ => Err("usage: unpack [ARCHIVE DIR]".into()),
    }
}

fn unpack(archive: &Path, dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(dir)?;
    let archive = Archive::open(archive, dir)?;
    let options = Options { owners: rustix::process::geteuid().is_root(), ..Options::default() };
    for image in archive.images(&Platform::host())? {
        println!("{} {}", image.id, image.tags.join(" "));
        let mut lowers: Vec<File> = Vec::new();
        for layer in &image.layers {
            // Numbered: an image may hold the same layer twice, each upon others.
            let path = dir.join(format!("{}-{}", image.id.hex(), lowers.len()));
            fs::create_dir(&path)?;
            let into = File::open(&path)?;
            let unpacked = archive.unpack(layer, into.as_fd(), &options, &|_| ())?;
            println!(
                "  {}: {} entries, {} bytes",
                path.display(),
                unpacked.entries,
                unpacked.bytes
            );
            let below: Vec<_> = lowers.iter().map(AsFd::as_fd).collect();
            unpacked.pending.settle(into.as_fd(), &below)?;
            lowers.insert(0, into);
        }
    }
    Ok(())
}

/// A docker-archive of two layers, the second of which removes a file of the first.
fn small(dir: &Path) -> Result<std::path::PathBuf, Box<dyn std::error::Error>> {
    let layers =
        [tar(&[("etc/motd", b"hello\n"), ("etc/old", b"")])?, tar(&[("etc/.wh.old", b"")])?];
    let config = serde_json::json!({
        "os": "linux",
        "architecture": Platform::host().architecture,
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>(),
        },
    });
    let manifest = serde_json::json!([{
        "Config": "config.json",
        "RepoTags": ["small:1"],
        "Layers": ["0/layer.tar", "1/layer.tar"],
    }]);
    let path = dir.join("small.tar");
    let archive = tar(&[
        ("config.json", config.to_string().as_bytes()),
        ("0/layer.tar", &layers[0]),
        ("1/layer.tar", &layers[1]),
        ("manifest.json", manifest.to_string().as_bytes()),
    ])?;
    fs::write(&path, archive)?;
    Ok(path)
}

fn tar(files: &[(&str, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content)?;
    }
    tar.into_inner()
}
