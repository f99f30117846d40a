//! A picture of what starts take: bars below each other, for each kind of work on a scale of its own. It has no fonts,
//! scripts or colours of others, and follows the reader's light or dark theme.

use std::fmt::Write as _;

/// Bars of one scale.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) milliseconds: f64,
    pub(super) kind: Kind,
}

/// How it is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Floor,
    Ours,
    Peer,
}

const WIDTH: f64 = 760.0;
/// Where bars begin, and how long the longest is: its number has to fit behind it.
const LEFT: f64 = 220.0;
const LONGEST: f64 = 420.0;
const ROW: f64 = 24.0;
const BAR: f64 = 16.0;
const TITLE: f64 = 34.0;
const MARGIN: f64 = 16.0;
/// The first line of text, and what is between a panel's title and its bars.
const FIRST: f64 = 30.0;
const GAP: f64 = 10.0;

const STYLE: &str = "
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.small { font-size: 11px; fill: #57606a }
.floor { fill: #afb8c1 } .ours { fill: #1a7f37 } .peer { fill: #6e7fa3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9da7b3 }
.floor { fill: #6e7681 } .ours { fill: #3fb950 } .peer { fill: #7d8fb8 }
}
";

/// The picture, with a line of small text at its end.
pub(super) fn draw(title: &str, panels: &[Panel], foot: &str) -> String {
    let rows: usize = panels.iter().map(|panel| panel.bars.len()).sum();
    let height = FIRST + (TITLE + GAP) * panels.len() as f64 + ROW * (rows as f64 + 1.0) + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n",
        title = escape(title),
    );
    let mut y = FIRST;
    text(&mut svg, MARGIN, y, "title", "start", title);
    for panel in panels {
        y += TITLE;
        text(&mut svg, MARGIN, y, "title", "start", &panel.title);
        y += GAP;
        let most = panel.bars.iter().map(|bar| bar.milliseconds).fold(f64::MIN_POSITIVE, f64::max);
        for bar in &panel.bars {
            // What is too short to be seen is a line.
            let length = (bar.milliseconds / most * LONGEST).max(1.0);
            let class = match bar.kind {
                Kind::Floor => "floor",
                Kind::Ours => "ours",
                Kind::Peer => "peer",
            };
            text(&mut svg, LEFT - 10.0, y + 13.0, "", "end", &bar.label);
            // Writing to a string does not fail.
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>"
            );
            let number = format!("{:.1} ms", bar.milliseconds);
            text(&mut svg, LEFT + length + 8.0, y + 13.0, "", "start", &number);
            y += ROW;
        }
    }
    text(&mut svg, MARGIN, height - MARGIN, "small", "start", foot);
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<text{class} x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escape(text)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_numbers() {
        let bar =
            |label: &str, milliseconds, kind| Bar { label: label.to_owned(), milliseconds, kind };
        let panel = Panel {
            title: "work <1> & 2".to_owned(),
            bars: vec![
                bar("ours", 2.0, Kind::Ours),
                bar("peer", 8.0, Kind::Peer),
                bar("floor", 0.0, Kind::Floor),
            ],
        };
        let svg = draw("title", &[panel], "foot");
        assert!(svg.contains("class=\"ours\" x=\"220\" y=\"74\" width=\"105.0\""), "{svg}");
        assert!(svg.contains("class=\"peer\" x=\"220\" y=\"98\" width=\"420.0\""), "{svg}");
        assert!(svg.contains("class=\"floor\" x=\"220\" y=\"122\" width=\"1.0\""), "{svg}");
        assert!(svg.contains("work &lt;1&gt; &amp; 2") && svg.contains("8.0 ms"), "{svg}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
}
