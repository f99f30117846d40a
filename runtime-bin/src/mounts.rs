//! `mounts`: a picture of a container's mounts, at whose sight it is plain where the volumes are and
//! where each thing comes from.

use std::io::IsTerminal;
use std::path::Path;

use engine::{Engine, MountView, Origin};

use crate::cli::{MountsArgs, MountsFormat};
use crate::inspect::pretty;
use crate::output::{self, printable};

const BOLD: &str = "\u{1b}[1m";
const VOLUME: &str = "\u{1b}[1;32m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Stands before what the user asked for.
const MARK: &str = "\u{25c6} ";
const NO_MARK: &str = "  ";
/// Between two columns.
const GAP: usize = 2;
/// So many layers are all shown; of more, the topmost and the lowest.
const LAYERS_SHOWN: usize = 12;
const LAYERS_AT_THE_END: usize = 2;
/// How many digits of a digest tell it from others.
const DIGITS: usize = "sha256:".len() + 12;

/// Prints the mounts of a container.
pub(crate) fn mounts(root: &Path, args: &MountsArgs) -> anyhow::Result<u8> {
    let views = Engine::open(root)?.mounts(&args.container)?;
    let text = match args.format {
        MountsFormat::Json => pretty(&views)?,
        MountsFormat::Tree => {
            let stdout = std::io::stdout();
            let terminal = stdout.is_terminal();
            let width = rustix::termios::tcgetwinsize(&stdout).ok().filter(|_| terminal);
            let width = width.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0);
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            picture(&views, width, terminal && !no_colour)
        }
    };
    output::print(&text)?;
    Ok(0)
}

/// The tree of `views` (each behind its parent), a line each; where `width` columns are too few for
/// that, each on several lines. Below it what the root consists of. `colour` is for terminals.
pub(crate) fn picture(views: &[MountView], width: Option<usize>, colour: bool) -> String {
    let branches = branches(views);
    let rows: Vec<[String; 5]> = views
        .iter()
        .zip(&branches)
        .map(|(view, branch)| {
            [
                format!("{}{}", branch.first, printable(&view.target)),
                printable(&view.fstype),
                printable(&view.flags),
                printable(&view.propagation),
                from(view),
            ]
        })
        .collect();
    let heading = ["TARGET", "TYPE", "FLAGS", "PROPAGATION", "FROM"].map(str::to_owned);
    let widths: [usize; 5] = std::array::from_fn(|column| {
        let cells = rows.iter().chain([&heading]).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let needed = MARK.chars().count() + widths.iter().sum::<usize>() + 4 * GAP;
    let mut lines = Vec::new();
    if width.is_none_or(|width| needed <= width) {
        lines.push((Style::Heading, format!("{NO_MARK}{}", aligned(&heading, &widths))));
        for (view, row) in views.iter().zip(&rows) {
            lines.push((style(view), format!("{}{}", mark(view), aligned(row, &widths))));
        }
    } else {
        for ((view, branch), row) in views.iter().zip(&branches).zip(&rows) {
            let [target, fstype, flags, propagation, from] = row;
            lines.push((style(view), format!("{}{target}", mark(view))));
            let below = format!("{NO_MARK}{}  ", branch.rest);
            lines.push((style(view), format!("{below}{from}")));
            lines.push((Style::Quiet, format!("{below}{fstype} {flags} {propagation}")));
        }
    }
    lines.extend(views.iter().flat_map(layers));
    let mut text = String::new();
    for (style, line) in lines {
        paint(&mut text, style, &cut(&line, width), colour);
    }
    text
}

/// What a line is to look like.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Heading,
    Volume,
    Normal,
    Quiet,
}

fn style(view: &MountView) -> Style {
    match view.origin {
        _ if view.covered => Style::Quiet,
        Origin::Volume { .. } | Origin::Bind | Origin::Tmpfs => Style::Volume,
        Origin::Root { .. } | Origin::Inside => Style::Normal,
        Origin::Default | Origin::Config | Origin::Mask | Origin::ReadOnlyPath | Origin::Device => {
            Style::Quiet
        }
    }
}

fn mark(view: &MountView) -> &'static str {
    match view.origin {
        Origin::Volume { .. } | Origin::Bind | Origin::Tmpfs => MARK,
        _ => NO_MARK,
    }
}

/// Where a mount comes from, with what the host has there.
fn from(view: &MountView) -> String {
    let source = view.source.as_deref().map(printable).unwrap_or_default();
    let device = printable(&view.device);
    let mut text = match &view.origin {
        Origin::Root { layers, .. } => {
            let plural = if layers.len() == 1 { "" } else { "s" };
            format!("image ({} layer{plural}) and changes: {source}", layers.len())
        }
        Origin::Volume { name, anonymous: false } => {
            format!("volume {}: {source} on {device}", printable(name))
        }
        Origin::Volume { anonymous: true, .. } => format!("anonymous volume: {source} on {device}"),
        Origin::Bind => format!("bind: {source} on {device}"),
        Origin::Tmpfs => "tmpfs: in memory".to_owned(),
        Origin::Default => "default".to_owned(),
        Origin::Config => format!("config: {source}"),
        Origin::Mask => "mask".to_owned(),
        Origin::ReadOnlyPath => "read-only path".to_owned(),
        Origin::Device => "device".to_owned(),
        Origin::Inside => format!("made in the container: {device}"),
    };
    if view.covered {
        text.push_str(" (hidden by another mount)");
    }
    text
}

/// The lines of a tree before a mount's first line and before its further ones.
struct Branch {
    first: String,
    rest: String,
}

fn branches(views: &[MountView]) -> Vec<Branch> {
    // For each level on the way to the mount: whether more of it is to come.
    let mut more: Vec<bool> = Vec::new();
    let mut branches = Vec::with_capacity(views.len());
    for (index, view) in views.iter().enumerate() {
        let mut later = views[index + 1..].iter().map(|other| other.depth);
        let has_sibling = later.find(|&depth| depth <= view.depth) == Some(view.depth);
        let has_child = views.get(index + 1).is_some_and(|next| next.depth > view.depth);
        more.truncate(view.depth);
        more.push(has_sibling);
        // What stands at the top has nothing to hang on.
        let levels = more.get(1..).unwrap_or_default();
        let bar = |&more: &bool| if more { "\u{2502}  " } else { "   " };
        let above: String = levels.iter().rev().skip(1).rev().map(bar).collect();
        let (own, below) = match levels.last() {
            None => ("", ""),
            Some(true) => ("\u{251c}\u{2500} ", "\u{2502}  "),
            Some(false) => ("\u{2514}\u{2500} ", "   "),
        };
        let child = if has_child { "\u{2502}" } else { " " };
        let (first, rest) = (format!("{above}{own}"), format!("{above}{below}{child}"));
        branches.push(Branch { first, rest });
    }
    branches
}

/// What a root consists of, the topmost first.
fn layers(view: &MountView) -> Vec<(Style, String)> {
    let Origin::Root { upper, layers } = &view.origin else { return Vec::new() };
    let name = |number: usize| format!("layer {number}");
    let width = layers.first().map_or(0, |top| name(top.number).len()).max("changes".len());
    let line = |name: &str, rest: &str| format!("{NO_MARK}{name:<width$}{:GAP$}{rest}", "");
    let mut lines = vec![
        (Style::Normal, String::new()),
        (Style::Heading, format!("{NO_MARK}{} FROM THE TOP", printable(&view.target))),
        (Style::Normal, line("changes", &printable(upper))),
    ];
    let left_out = if layers.len() > LAYERS_SHOWN {
        LAYERS_SHOWN - LAYERS_AT_THE_END - 1..layers.len() - LAYERS_AT_THE_END
    } else {
        0..0
    };
    for (index, layer) in layers.iter().enumerate() {
        if !left_out.contains(&index) {
            let digest = layer.diff_id.get(..DIGITS).unwrap_or(&layer.diff_id);
            let rest = format!("{}  {}", printable(&layer.path), printable(digest));
            lines.push((Style::Normal, line(&name(layer.number), &rest)));
        } else if index == left_out.start {
            let rest = format!("{} more; --format json has them all", left_out.len());
            lines.push((Style::Quiet, line("\u{2026}", &rest)));
        }
    }
    lines
}

fn aligned(cells: &[String; 5], widths: &[usize; 5]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
    }
    line.truncate(line.trim_end().len());
    line
}

/// The line, or its start and an ellipsis.
fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            line.chars().take(width.saturating_sub(1)).chain(['\u{2026}']).collect()
        }
        _ => line.trim_end().to_owned(),
    }
}

fn paint(text: &mut String, style: Style, line: &str, colour: bool) {
    let start = match style {
        _ if !colour || line.is_empty() => "",
        Style::Normal => "",
        Style::Heading => BOLD,
        Style::Volume => VOLUME,
        Style::Quiet => DIM,
    };
    let end = if start.is_empty() { "" } else { PLAIN };
    for part in [start, line, end, "\n"] {
        text.push_str(part);
    }
}

#[cfg(test)]
mod tests;
