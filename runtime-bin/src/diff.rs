//! `diff`: what a container has changed of its image's files.

use std::fmt::Write;
use std::path::Path;

use clap::Args;
use engine::Engine;

use crate::output::{self, printable};

/// `diff`
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Prints a line for each path: A is new, C changed, D gone.
pub(crate) fn diff(root: &Path, args: &DiffArgs) -> anyhow::Result<u8> {
    let mut text = String::new();
    for change in Engine::open(root)?.diff(&args.container)? {
        writeln!(text, "{} {}", change.kind.letter(), printable(&change.path))?;
    }
    output::print(&text)?;
    Ok(0)
}
