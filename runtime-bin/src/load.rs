//! `load`: images from an archive.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::path::Path;

use engine::{Engine, ImageArg, StoredImage};

use crate::cli::LoadArgs;
use crate::output;
use crate::progress::Bar;
use crate::run::given;

pub(crate) fn load(root: &Path, args: &LoadArgs) -> anyhow::Result<u8> {
    let archive = match &args.input {
        Some(path) if path.as_os_str() != "-" => ImageArg::Archive(path.clone()),
        _ => ImageArg::Stdin,
    };
    if archive == ImageArg::Stdin && io::stdin().is_terminal() {
        anyhow::bail!(
            "requested load from stdin, but stdin is empty: it is a terminal; give a file with -i, \
             or an archive to standard input"
        );
    }
    let platform = given(args.platform.clone()).map(|text| text.parse()).transpose()?;
    let engine =
        Engine::open(root)?.with_durable(args.durable.durable).with_layers(args.layers.into());
    let engine = args.limits.hold(engine)?;
    let images = if args.quiet {
        engine.load(&archive, platform.as_ref(), &())
    } else {
        engine.load(&archive, platform.as_ref(), &Bar::hidden())
    }?;
    output::print(&loaded(&images))?;
    Ok(0)
}

/// Docker's lines: one for each name, or the id of an image without a name.
fn loaded(images: &[StoredImage]) -> String {
    let mut text = String::new();
    for image in images {
        if image.tags.is_empty() {
            let _ = writeln!(text, "Loaded image ID: {}", image.id);
        }
        for tag in &image.tags {
            let _ = writeln!(text, "Loaded image: {}", output::printable(tag));
        }
    }
    text
}
