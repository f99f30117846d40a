//! `check`: what is damaged in the store, and what is left over.

use std::fmt::Write;
use std::path::Path;

use clap::Args;
use engine::{CheckOptions, Checked, Engine, Grade};

use crate::output;

/// `check`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CheckArgs {
    /// Read the files of all layers too, and compare those with their digests that can be
    #[arg(long)]
    content: bool,
    /// Only tell what is damaged
    #[arg(short, long)]
    quiet: bool,
}

/// Looks through the store. The status is 1 where something is damaged.
pub(crate) fn check(root: &Path, args: &CheckArgs) -> anyhow::Result<u8> {
    let checked = Engine::open(root)?.check(&CheckOptions { content: args.content })?;
    output::print(&report(&checked, args))?;
    Ok(u8::from(checked.is_damaged()))
}

fn report(checked: &Checked, args: &CheckArgs) -> String {
    let mut text = String::new();
    let mut damaged = 0;
    for finding in &checked.findings {
        let word = match finding.grade {
            Grade::Damage => "damaged",
            Grade::Leftover if args.quiet => continue,
            Grade::Leftover => "left over",
        };
        damaged += usize::from(finding.grade == Grade::Damage);
        let line = format!("{word}: {} {}", finding.path.display(), finding.what);
        let _ = writeln!(text, "{}", output::printable(&line));
    }
    if args.quiet {
        return text;
    }
    let Checked { images, layers, names, verified, .. } = checked;
    let _ = write!(text, "Images: {images}, layers: {layers}, names: {names}, damaged: {damaged}");
    if args.content {
        let _ = write!(text, ", layers compared with their digests: {verified}");
    }
    text + "\n"
}
