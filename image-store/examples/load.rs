//! Loads an image archive into a store and prints what it became: `load ROOT ARCHIVE`.
#![allow(clippy::print_stdout, reason = "that is what the example is for")]

use std::path::{Path, PathBuf};

use image_store::{LoadOptions, Source, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(root), Some(archive), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(
            "usage: load ROOT ARCHIVE (a directory of its own, and a tar or an OCI layout)".into(),
        );
    };
    let store = Store::open(Path::new(&root))?;
    let source = Source::Path(PathBuf::from(archive));
    for image in store.load(&source, &LoadOptions::default(), &())? {
        println!("{} {} {} bytes", image.id, image.tags.join(" "), image.size);
        for layer in &image.layers {
            println!("  {} {}", layer.link, layer.diff_id);
        }
    }
    Ok(())
}
