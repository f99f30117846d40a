//! Loads an image archive into a store and prints what it became: `load ROOT ARCHIVE`. Without
//! arguments, a small archive that it makes for itself, into a store that goes when it ends.
#![allow(clippy::print_stdout, reason = "that is what the example is for")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use image_store::{LoadOptions, Platform, Source, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match &arguments[..] {
        [root, archive] => load(Path::new(root), Path::new(archive)),
        [] => {
            let dir = std::env::temp_dir().join(format!("image-store-{}", std::process::id()));
            fs::create_dir(&dir)?;
            let loaded = small(&dir).and_then(|archive| load(&dir.join("store"), &archive));
            fs::remove_dir_all(&dir)?;
            loaded
        }
        _ => Err("usage: load [ROOT ARCHIVE] (a directory of its own, and a tar or an OCI layout)"
            .into()),
    }
}

fn load(root: &Path, archive: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(root)?;
    for image in store.load(&Source::Path(archive.into()), &LoadOptions::default(), &())? {
        println!("{} {} {} bytes", image.id, image.tags.join(" "), image.size);
        for layer in &image.layers {
            println!("  {} {}", layer.link, layer.diff_id);
        }
    }
    Ok(())
}

/// A docker-archive of an image without layers.
fn small(dir: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let config = serde_json::json!({
        "os": "linux",
        "architecture": Platform::host().architecture,
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": ["small:1"], "Layers": []}]);
    let path = dir.join("small.tar");
    let mut tar = tar::Builder::new(File::create(&path)?);
    for (name, value) in [("config.json", config), ("manifest.json", manifest)] {
        let text = value.to_string();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes())?;
    }
    tar.into_inner()?;
    Ok(path)
}
