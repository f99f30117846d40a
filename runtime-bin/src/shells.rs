//! The shells that complete a program's command line.

use anyhow::Context as _;
use clap::{Command, ValueEnum};
use clap_complete::Shell;

/// Those that there is a script for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

impl KnownShell {
    /// The script that completes the words of `command`, which is called `name`.
    ///
    /// With a hyphen in the name, clap_complete 4.6's function for bash does not find its own verbs; the name is
    /// taken from how the function is called, so any does: for bash the hyphen is an underscore in all of it.
    pub(crate) fn script(self, mut command: Command, name: &str) -> anyhow::Result<String> {
        let (shell, name) = match self {
            KnownShell::Bash => (Shell::Bash, name.replace('-', "_")),
            KnownShell::Zsh => (Shell::Zsh, name.to_owned()),
            KnownShell::Fish => (Shell::Fish, name.to_owned()),
        };
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut bytes);
        String::from_utf8(bytes).context("the script is no text")
    }
}
