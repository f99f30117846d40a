//! `check`: what is damaged in the store, and what is left over; `--repair`: what is damaged goes.

use std::fmt::Write;
use std::path::Path;

use clap::Args;
use engine::{CheckOptions, Checked, Engine, Grade, Repaired};

use crate::output;

/// `check`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CheckArgs {
    /// Read the files of all layers too, and compare those with their digests that can be
    #[arg(long)]
    content: bool,
    /// Remove what is damaged and no container is of, so that the next load brings it back
    #[arg(long)]
    repair: bool,
    /// Only tell what is damaged
    #[arg(short, long)]
    quiet: bool,
}

/// Looks through the store. The status is 1 where something is damaged; with `--repair` where it still is.
pub(crate) fn check(root: &Path, args: &CheckArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let options = CheckOptions { content: args.content };
    if !args.repair {
        let checked = engine.check(&options)?;
        output::print(&report(&checked, args))?;
        return Ok(u8::from(checked.is_damaged()));
    }
    let (before, done) = engine.repair(&options)?;
    let mut text = String::new();
    findings(&mut text, &before, true);
    text += &repaired(&done);
    let checked = engine.check(&options)?;
    text += &report(&checked, args);
    output::print(&text)?;
    Ok(u8::from(checked.is_damaged()))
}

fn report(checked: &Checked, args: &CheckArgs) -> String {
    let mut text = String::new();
    let damaged = findings(&mut text, checked, args.quiet);
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

/// A line for each; how many are damages.
fn findings(text: &mut String, checked: &Checked, only_damage: bool) -> usize {
    let mut damaged = 0;
    for finding in &checked.findings {
        let word = match finding.grade {
            Grade::Damage => "damaged",
            Grade::Leftover if only_damage => continue,
            Grade::Leftover => "left over",
        };
        damaged += usize::from(finding.grade == Grade::Damage);
        let line = format!("{word}: {} {}", finding.path.display(), finding.what);
        let _ = writeln!(text, "{}", output::printable(&line));
    }
    damaged
}

/// A line for each thing that was done, and for each that was not.
fn repaired(done: &Repaired) -> String {
    let mut lines = Vec::new();
    for (id, names) in &done.images {
        let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
        lines.push(format!("removed: image {id} ({names}); load it again"));
    }
    lines.extend(done.layers.iter().map(|layer| format!("removed: layer {layer}")));
    lines.extend(done.names.iter().map(|name| format!("removed: name {name}")));
    if done.all_names {
        lines.push("removed: all names; load the images again, or name them with tag".to_owned());
    }
    lines.extend(done.links.iter().map(|link| format!("made anew: link l/{link}")));
    for id in &done.kept {
        lines.push(format!("kept: image {id}; remove the container that is of it before"));
    }
    lines.iter().fold(String::new(), |text, line| text + &output::printable(line) + "\n")
}
