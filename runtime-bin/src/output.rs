//! What the program says.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;

use crate::causes;
use crate::log::{self, Level};

/// Writes to standard output, at once. Where nobody reads any more (`| head`), quietly nothing.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Writes one line to standard error: what failed.
pub(crate) fn complain(program: &str, error: &anyhow::Error) {
    let sentence = sentence(error);
    log::write(Level::Error, &sentence, &format!("{program}: {sentence}"));
}

/// Writes a line to standard error for each thing that could not be done, while the others were; the exit status.
pub(crate) fn complain_of_each<'a>(sentences: impl IntoIterator<Item = &'a String>) -> u8 {
    let mut status = 0;
    for sentence in sentences {
        complain("runtime-bin", &anyhow::Error::msg(sentence.clone()));
        status = 1;
    }
    status
}

/// Writes one line to standard error: what was done.
pub(crate) fn tell(message: &str) {
    log::write(Level::Info, message, message);
}

/// An error with its causes, on one line. A cause that the text before it has already is left out.
fn sentence(error: &anyhow::Error) -> String {
    causes::joined(error.chain().map(|cause| printable(&cause.to_string())))
}

/// Text from outside, for one line of a terminal: control characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, |_| false)
}

/// Text of several lines that has words of an image or a container in it, as it is for programs. On a terminal control
/// characters are escaped: an image must not move the cursor there, or change the terminal's settings.
pub(crate) fn as_read(text: String) -> String {
    match io::stdout().is_terminal() {
        true => escaped(&text, |c| matches!(c, '\n' | '\t')),
        false => text,
    }
}

/// With control characters escaped, but for those that are kept.
fn escaped(text: &str, kept: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !kept(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let open = || engine::Error::System {
            op: "open",
            path: "/x".into(),
            source: io::ErrorKind::NotFound.into(),
        };
        let known = open().to_string();
        assert_eq!(sentence(&open().into()), known);
        let error = anyhow::Error::from(open()).context("cannot load it");
        assert_eq!(sentence(&error), format!("cannot load it: {known}"));
        let error = anyhow::anyhow!("last").context("middle").context("first");
        assert_eq!(sentence(&error), "first: middle: last");
    }

    #[test]
    fn an_error_is_one_line_without_escape_sequences() {
        let error = anyhow::anyhow!("no \u{1b}[31mimage\nx\u{9b}");
        assert_eq!(sentence(&error), "no \\u{1b}[31mimage\\nx\\u{9b}");
        assert_eq!(printable("nginx:1.27 – größer"), "nginx:1.27 – größer");
    }
}
